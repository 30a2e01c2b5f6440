"""Figures for people: pixel values, scaling of heat maps, and the layout of grids."""

import base64
import io
import re

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from ganattn import figures
from ganattn.inference.sampler import Sampled


@pytest.mark.parametrize(
    ("value", "pixel"),
    [(-1, 0), (1, 255), (0, 128), (-3, 0), (7, 255), (100 / 127.5 - 1, 100), (0.9999, 255)],
)
def test_to_uint8_rounds_and_clips(value, pixel):
    assert figures.to_uint8(np.full((1, 2, 2, 3), value, np.float32)).tolist() == [
        [[[pixel] * 3] * 2] * 2
    ]


def test_to_uint8_inverts_the_scaling_of_every_pixel():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        figures.to_uint8(pixels.astype(np.float32) / 127.5 - 1), pixels, strict=True
    )


def test_what_is_not_finite_is_drawn():
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert figures.to_uint8(values).tolist() == [0, 255, 0]
    unit = figures.to_unit(np.array([np.nan, np.inf, 1, -3]).reshape(1, 2, 2, 1))
    np.testing.assert_allclose(unit.ravel(), [0.75, 0.75, 1, 0])


def test_each_heat_map_is_scaled_to_its_own_range():
    ramp = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    unit = figures.to_unit(np.stack([ramp, 100 * ramp - 7, np.full_like(ramp, 5)]))
    np.testing.assert_allclose(unit[0], ramp / 5, rtol=1e-6)
    np.testing.assert_allclose(unit[1], ramp / 5, rtol=1e-6)
    np.testing.assert_array_equal(unit[2], np.zeros_like(ramp), strict=True)


@pytest.mark.parametrize(
    ("value", "rgb"),
    [
        (0, (0, 0, 128)),
        (0.125, (0, 0, 255)),
        (0.25, (0, 128, 255)),
        (0.5, (128, 255, 128)),
        (0.75, (255, 128, 0)),
        (1, (128, 0, 0)),
    ],
)
def test_colours_run_from_blue_over_green_to_red(value, rgb):
    found = figures.color(np.full((1, 1, 2, 1), value))
    assert found.dtype == np.uint8
    assert found.tolist() == [[[list(rgb)] * 2]]


@pytest.mark.parametrize("opacity", [0, 0.25, 1])
def test_an_overlay_mixes_the_picture_and_the_resized_map(opacity):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 6, 8, 3), np.uint8)
    heatmap = np.stack([np.array([[0.0, 3.0]]), np.array([[5.0, -1.0]])])[..., None]
    found = figures.overlay(images, heatmap, opacity)
    # Centre-aligned bilinear from two to eight pixels.
    rises = np.clip((np.arange(8) + 0.5) / 4 - 0.5, 0, 1)
    maps = np.broadcast_to(np.stack([rises, 1 - rises])[:, None, :, None], (2, 6, 8, 1))
    expected = (1 - opacity) * images + opacity * figures.color(maps).astype(float)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=1)


def test_overlay_takes_pictures_of_either_kind():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    heatmap = np.eye(4, dtype=ml_dtypes.bfloat16).reshape(1, 4, 4, 1)
    floats = pixels.astype(np.float32) / 127.5 - 1
    np.testing.assert_array_equal(
        figures.overlay(pixels, heatmap), figures.overlay(floats, heatmap)
    )


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    source = rng.integers(0, 256, (3, 50, 60, 3), np.uint8)
    return {
        "source": source,
        "attention": rng.normal(size=(3, 5, 6, 1)).astype(np.float32),
        "translation": rng.uniform(-1, 1, (3, 50, 60, 3)).astype(np.float32),
    }


def cell(picture: Image.Image, rows: int, row: int, column: int) -> np.ndarray:
    """The pixels of one cell of a grid whose cells are 150 x 180."""
    top = picture.height - (rows - row) * (150 + figures.GAP)
    left = figures.GAP + column * (180 + figures.GAP)
    return np.asarray(picture)[top : top + 150, left : left + 180]


def test_a_grid_shows_every_picture_in_its_place():
    given = columns()
    picture = figures.grid(given)
    expected = {
        "source": given["source"],
        "attention": figures.overlay(given["source"], given["attention"]),
        "translation": figures.to_uint8(given["translation"]),
    }
    assert picture.mode == "RGB"
    for index, pictures in enumerate(expected.values()):
        for row in range(3):
            found = cell(picture, 3, row, index)
            np.testing.assert_array_equal(found[1::3, 1::3], pictures[row])
            np.testing.assert_array_equal(found[::3, ::3], pictures[row])


def test_a_grid_has_titles_above_and_white_between():
    picture = figures.grid(columns())
    pixels = np.asarray(picture)
    assert picture.width == 3 * (180 + figures.GAP) + figures.GAP
    title = pixels[: picture.height - 3 * (150 + figures.GAP)]
    for column in range(3):
        left = figures.GAP + column * (180 + figures.GAP)
        dark = (title[:, left : left + 180].max(-1) < 100).any(1)
        assert dark.sum() >= 9, "letters are at least nine pixels high"
        assert (pixels[:, left - figures.GAP : left] == 255).all()
    assert (pixels[-figures.GAP :] == 255).all()


def test_a_long_title_is_not_cut():
    name = "a title that is much wider than its picture"
    narrow = figures.grid({"x": columns()["source"]})
    wide = figures.grid({name: columns()["source"]})
    assert wide.width > narrow.width


@pytest.mark.parametrize(
    ("size", "side"), [((32, 32), 128), ((100, 100), 200), ((128, 128), 128), ((200, 130), 200)]
)
def test_small_pictures_are_enlarged_by_a_whole_factor(size, side):
    picture = figures.grid({"x": np.zeros((1, *size, 3), np.uint8)})
    pixels = np.asarray(picture)[-side - figures.GAP :]
    black_rows = (pixels == 0).all(-1).any(1)
    assert black_rows.sum() == side


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"x": np.zeros((0, 8, 8, 3), np.uint8)},
        {"map": np.zeros((2, 8, 8, 1))},
        {"x": np.zeros((2, 8, 8, 3)), "y": np.zeros((3, 8, 8, 3))},
        {"x": np.zeros((2, 8, 8, 3)), "y": np.zeros((2, 8, 8))},
        {"x": np.zeros((2, 8, 8, 3)), "y": np.zeros((2, 8, 8, 2))},
    ],
    ids=["nothing", "no picture", "a map first", "other number", "no channel", "two channels"],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="there are"):
        figures.save_grid(tmp_path / "x.png", wrong)
    assert not list(tmp_path.iterdir())


def test_a_saved_grid_is_the_grid(tmp_path):
    figures.save_grid(tmp_path / "x.png", columns())
    with Image.open(tmp_path / "x.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(figures.grid(columns())))
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("name", ["x.png", "deep/er/x.jpg", "x.JPEG", "x.webp"])
def test_a_saved_picture_is_the_picture(tmp_path, name):
    rows, columns = np.mgrid[:30, :40]
    pixels = np.stack([4 * rows, 3 * columns, rows + columns], -1).astype(np.uint8)
    figures.save_image(tmp_path / name, pixels)
    with Image.open(tmp_path / name) as picture:
        found = np.asarray(picture.convert("RGB"))
    np.testing.assert_allclose(found, pixels, atol=0 if name == "x.png" else 12)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_failed_save_keeps_the_old_file(tmp_path):
    figures.save_grid(tmp_path / "x.png", columns())
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(ValueError, match="there are"):
        figures.save_grid(tmp_path / "x.png", {})
    with pytest.raises(ValueError, match="extension"):
        figures.save_grid(tmp_path / "x.unknown", columns())
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == before


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OSError, match=r"x\.png"):
        figures.save_grid(tmp_path / "x.png", columns())
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


class Result(figures.Drawn):
    def __init__(self, count):
        self._count = count

    def columns(self):
        return {name: columns()[name][:1].repeat(self._count, 0) for name in columns()} | {
            '<b> & "x"': np.zeros((self._count, 50, 60, 3), np.uint8)
        }


@pytest.mark.parametrize("count", [1, figures.SHOWN, figures.SHOWN + 5])
def test_a_notebook_shows_the_first_rows_and_says_how_many_there_are(count):
    result = Result(count)
    html = result._repr_html_()
    encoded = re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]
    assert base64.b64decode(encoded) == result._repr_png_()
    shown = np.asarray(Image.open(io.BytesIO(result._repr_png_())))
    np.testing.assert_array_equal(shown, np.asarray(Result(min(count, figures.SHOWN)).figure()))
    assert result.figure().height - shown.shape[0] == max(0, count - figures.SHOWN) * 154
    assert ("of 17 images" in html) == (count > figures.SHOWN)
    assert 'alt="source, attention, translation, &lt;b&gt; &amp; &quot;x&quot;"' in html


@pytest.mark.parametrize(("maps", "per_row"), [(True, None), (True, 6), (False, None), (False, 6)])
def test_samples_stand_beside_their_maps_or_side_by_side(maps, per_row):
    images = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), np.uint8)
    heatmap = np.tile(np.eye(8, dtype=np.float32)[None, ..., None], (100, 1, 1, 1))
    attentions = {"c3d5": heatmap, "c1": heatmap.copy()} if maps else {}
    made = Sampled(images, np.zeros((100, 2), np.float32), attentions, per_row)
    if maps and per_row is None:
        columns = {"sample": images[:12], **{n: made.heatmaps[n][:12] for n in attentions}}
        expected, note = figures.grid(columns), "the first 12 of 100"
    else:
        wide = per_row or 10
        expected = figures.mosaic(images[: 12 * wide], wide)
        note = "the first 72 of 100" if per_row else ""
    shown = Image.open(io.BytesIO(made._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))
    html = made._repr_html_()
    assert note in html and ("of 100" in html) == bool(note)
