"""`Translator` and export: any input, any number of pictures, the same pictures out."""

import io
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

from ganattn import Translator, figures, methods
from ganattn.config import find, load
from ganattn.errors import CheckpointError, ConfigError, DataError
from ganattn.inference import export
from ganattn.runs.checkpoints import Checkpoints

SIZE = 32


@pytest.fixture(scope="module")
def translator() -> Translator:
    """The small checkpoint of all six networks, at its size."""
    file = Path(__file__).parent / "golden" / "torch" / "ugatit_tiny.pt"
    loaded = Translator.from_authors(file)
    assert loaded.size == 256  # a light checkpoint does not say its size
    return Translator(loaded.method, loaded.variables, SIZE)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)


def close(one, other):
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_any_number_of_pictures(translator, pictures):
    single = [translator(picture) for picture in pictures]
    for count in (1, 3, 9):
        made = translator(pictures[:count])
        assert made.images.shape == (count, SIZE, SIZE, 3) and made.images.dtype == np.uint8
        assert made.attention.shape == (count, SIZE // 4, SIZE // 4, 1)
        assert made.heatmaps.shape == made.images.shape and made.heatmaps.dtype == np.uint8
        close(made.images, np.concatenate([each.images for each in single[:count]]))
        expected = np.concatenate([each.attention for each in single[:count]])
        np.testing.assert_allclose(made.attention, expected, rtol=1e-3, atol=1e-4)


def test_any_kind_of_picture(translator, pictures, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, pictures, strict=False):
        Image.fromarray(picture).save(path)
    expected = translator(pictures[:3]).images
    close(translator(paths).images, expected)
    close(translator([str(path) for path in paths]).images, expected)
    close(translator([Image.open(path) for path in paths]).images, expected)
    close(translator([paths[0], pictures[1], Image.open(paths[2])]).images, expected)
    Image.fromarray(np.dstack([pictures[0], pictures[1][..., 0]])).save(tmp_path / "alpha.png")
    close(translator(tmp_path / "alpha.png").images, expected[:1])


def test_other_sizes_become_the_size(translator):
    made = translator([np.zeros((50, 40, 3), np.uint8), np.zeros((20, 90, 3), np.uint8)])
    assert made.sources.shape == (2, SIZE, SIZE, 3)
    own = Translator(translator.method, translator.variables)
    assert own(np.zeros((50, 41, 3), np.uint8)).images.shape == (1, 48, 40, 3)


def test_directions_differ(translator, pictures):
    there, back = (translator(pictures[:1], direction).images for direction in ("a2b", "b2a"))
    assert (there != back).any()


def test_notebooks_show_source_heat_map_and_translation(translator, pictures):
    made = translator(pictures[:2])
    columns = {"source": made.sources, "attention": made.heatmaps, "translation": made.images}
    expected = np.asarray(figures.grid(columns))
    np.testing.assert_array_equal(np.asarray(made.figure()), expected)
    shown = np.asarray(Image.open(io.BytesIO(made._repr_png_())))
    np.testing.assert_array_equal(shown, expected)
    assert "data:image/png;base64," in made._repr_html_()


def test_rho_of_every_layer(translator):
    layers = ["decode1/norm1", "decode1/norm2", "up1_norm", "up2_norm"]
    expected = [f"generator_{d}/{layer}" for d in ("a2b", "b2a") for layer in layers]
    assert list(translator.rho) == expected
    up = translator.variables["generator_b2a"]["rho"]["up2_norm"]["rho"]
    np.testing.assert_array_equal(translator.rho["generator_b2a/up2_norm"], up)
    critic = {"discriminator_local_a": translator.variables["discriminator_local_a"]}
    assert Translator(translator.method, critic, SIZE).rho == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8), np.uint8), "a picture has shape"),
        (np.zeros((8, 8, 4), np.uint8), "a picture has shape"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        ([], "no pictures to translate"),
        ("nowhere.png", "no picture nowhere.png"),
    ],
)
def test_what_is_no_picture_is_refused(translator, given, message):
    with pytest.raises(DataError, match=message) as caught:
        translator(given)
    assert "\n" not in str(caught.value)


def test_a_generator_that_is_not_there_is_named(translator, pictures):
    one = {"generator_a2b": translator.variables["generator_a2b"]}
    half = Translator(translator.method, one, SIZE)
    close(half(pictures[:1]).images, translator(pictures[:1]).images)
    with pytest.raises(ConfigError, match="no generator for direction 'b2a': there are a2b"):
        half(pictures[:1], "b2a")


def test_from_workdir_takes_the_newest_or_a_given_step(translator, pictures, tmp_path):
    config = load(find("ugatit"), "tiny")
    method = methods.create(config)
    state = method.create_state(jax.random.key(0), translator.variables)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Translator.from_workdir(tmp_path)
    store = Checkpoints(tmp_path / "checkpoints", 3)
    store.save(1, state, config)
    zeros = jax.tree.map(lambda x: 0 * x, state.variables)
    store.save(2, state.replace(variables=zeros), config)
    store.close()
    close(Translator.from_workdir(tmp_path, 1)(pictures).images, translator(pictures).images)
    assert np.ptp(Translator.from_workdir(tmp_path)(pictures).images.astype(int)) <= 1


def test_export_gives_the_same_pictures_at_any_batch(translator, tmp_path):
    path = tmp_path / "new" / "generator.stablehlo"
    export.export_translator(translator.method, translator.variables, SIZE, path)
    reloaded = jax.export.deserialize(bytearray(path.read_bytes()))
    assert set(reloaded.platforms) == {"cpu", "cuda", "tpu"}
    images = np.random.default_rng(0).uniform(-1, 1, (5, SIZE, SIZE, 3)).astype(np.float32)
    for count in (1, 5):
        expected = translator.method.translate(translator.variables, images[:count]).images
        np.testing.assert_allclose(reloaded.call(images[:count]), expected, atol=1e-4)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_wrong_export_is_not_written(translator, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    path = tmp_path / "generator.stablehlo"
    with pytest.raises(CheckpointError, match="the file was not written"):
        export.export_translator(translator.method, translator.variables, SIZE, path)
    assert not list(tmp_path.iterdir())
