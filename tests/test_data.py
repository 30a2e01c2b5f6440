"""Pictures from every source: the right pixels, the same batches at any start and in any layout."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganattn import data
from ganattn.config import base
from ganattn.data import images as pictures
from ganattn.data import palettes, procedural
from ganattn.data.sampling import StepDraws
from ganattn.errors import ConfigError, DataError

SIZE = 24


@pytest.fixture(autouse=True)
def _imports_of_tensorflow():
    """TensorFlow and its data sets warn about their own code while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def picture(seed, height=SIZE, width=SIZE):
    """Smooth, so that decoders and resizing have something other than noise to agree on."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * (x + 1) * (channel + 1) + 3 * y * (seed + 1)) for channel in range(3)]
    return np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        save(tmp_path / "trainA" / f"{i}.jpg", picture(i), quality=95)
    for i in range(3):
        save(tmp_path / "trainB" / "deep" / f"{i}.png", picture(i + 9, 20, 30))
    save(tmp_path / "testA" / "0.png", picture(20))
    return tmp_path


def configure(source, path="", **fields):
    config = base()
    config.data.update(source=source, path=str(path), batch_size=4, load_size=20, crop_size=16)
    config.data.update(fields)
    return config.lock()


def arrays_file(tmp_path):
    path = tmp_path / "pictures.npz"
    np.savez(path, a=np.stack([picture(i) for i in range(5)]), b=np.stack([picture(7)] * 3))
    return path


def sources(tmp_path, folder):
    return {
        "folder": configure("folder", folder),
        "cache": configure("folder", folder, cache=True),
        "arrays": configure("arrays", arrays_file(tmp_path)),
        "procedural": configure("procedural"),
    }


@pytest.mark.parametrize("source", ["folder", "cache", "arrays", "procedural"])
def test_batches_are_a_function_of_step_and_process(tmp_path, folder, source):
    config = sources(tmp_path, folder)[source]
    whole = data.create(config)
    seen = [whole(step) for step in range(4)]
    assert seen[0]["a"].shape == (4, 16, 16, 3) and seen[0]["a"].dtype == np.float32
    assert all(np.abs(batch["b"]).max() <= 1 for batch in seen)
    jumped = data.create(config)
    parts = [data.create(config, process_index=i, process_count=2) for i in range(2)]
    for step in (3, 0, 1):
        halves = [part(step) for part in parts]
        for domain in "ab":
            np.testing.assert_array_equal(jumped(step)[domain], seen[step][domain])
            joined = np.concatenate([half[domain] for half in halves])
            np.testing.assert_array_equal(joined, seen[step][domain])
    for each in (whole, jumped, *parts):
        each.close()


def test_every_picture_once_an_epoch_and_domains_apart():
    sampler = StepDraws({"a": 10, "b": 7}, 5, seed=3, flip=True)
    draws = [sampler(step) for step in range(14)]
    order = {d: np.concatenate([draw[d].example for draw in draws]) for d in "ab"}
    for domain, size in (("a", 10), ("b", 7)):
        epochs = order[domain][: 70 // size * size].reshape(-1, size)
        assert (np.sort(epochs) == np.arange(size)).all()
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    flips = np.concatenate([draw["a"].flip for draw in draws])
    assert 0.3 < flips.mean() < 0.7
    offsets = np.concatenate([draw["a"].offset for draw in draws])
    assert offsets.min() < 0.1 and offsets.max() > 0.9
    other = StepDraws({"a": 10, "b": 7}, 5, seed=4, flip=False)
    assert not other(0)["a"].flip.any()
    assert (other(0)["a"].example != draws[0]["a"].example).any()


def test_unshuffled_examples_come_in_their_order():
    """An epoch is as long as the largest domain; a smaller one starts over within it."""
    sizes = {"a": 2, "b": 5}
    draws = [StepDraws(sizes, 2, 0, True, shuffle=False)(step) for step in range(5)]
    order = {d: np.concatenate([draw[d].example for draw in draws]).tolist() for d in sizes}
    assert order == {"a": [0, 1, 0, 1, 0] * 2, "b": [0, 1, 2, 3, 4] * 2}
    halves = [StepDraws(sizes, 2, 0, True, p, 2, shuffle=False)(1)["b"].example for p in (0, 1)]
    assert np.concatenate(halves).tolist() == [2, 3]


def test_crops_reach_every_corner():
    draws = StepDraws({"a": 3}, 500, seed=0, flip=True)(0)["a"]
    corners = draws.corners((20, 20), (16, 16))
    assert corners.min() == 0 and corners.max() == 4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("load_size", [14, 24, 40])
def test_tensorflow_makes_the_pixels_that_pillow_makes(folder, interpolation, load_size):
    fields = {"load_size": load_size, "crop_size": 12, "interpolation": interpolation}
    with_tensorflow = data.create(configure("folder", folder, **fields))
    with_pillow = data.create(configure("folder", folder, cache=True, **fields))
    for step in range(3):
        for domain in "ab":
            one, other = with_tensorflow(step)[domain], with_pillow(step)[domain]
            # Pillow rounds between its two passes: one level of 255.
            assert np.abs(one - other).max() <= 1.01 / 127.5
    with_tensorflow.close()


def odd_files(folder):
    """Name -> (path, expected pixels) of what is no plain 8-bit RGB file."""
    array = picture(1, 16, 16)
    grey = array[..., 0]
    made = {
        "grey.jpg": (Image.fromarray(grey), {}, np.repeat(grey[..., None], 3, -1)),
        "alpha.png": (Image.fromarray(np.dstack([array, grey])), {}, array),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}, grey[..., None]),
        "cmyk.jpg": (Image.fromarray(array).convert("CMYK"), {}, array),
        "palette.png": (Image.fromarray(array).quantize(255), {}, array),
    }
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    made["turned.jpg"] = (Image.fromarray(np.rot90(array)), {"exif": exif}, array)
    for name, (file, options, expected) in made.items():
        if name.endswith("jpg"):
            options.update(quality=95, subsampling=0)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.save(folder / name, **options)
        yield name, folder / name, np.broadcast_to(expected, (16, 16, 3)).astype(int)


def test_unusual_files_become_upright_rgb(tmp_path):
    for domain in "AB":
        odd = list(odd_files(tmp_path / f"train{domain}"))
    for name, path, expected in odd:
        read = pictures.read_rgb(path).astype(int)
        assert read.shape == (16, 16, 3)
        assert np.abs(read - expected).mean() < 6, name
        assert pictures.inspect(path) == (8 * (name == "grey.jpg"), 0, 0)
    fields = {"load_size": 16, "crop_size": 16, "flip": False, "batch_size": len(odd)}
    for cache in (False, True):
        batches = data.create(configure("folder", tmp_path, cache=cache, **fields))
        means = {round(float(each.mean()), 4) for each in batches(0)["a"]}
        expected = [pictures.to_float(pictures.read_rgb(path)).mean() for _, path, _ in odd]
        assert means == {round(float(mean), 4) for mean in expected}
        batches.close()


def test_test_pictures_are_whole_and_always_the_same(folder):
    batches = data.create(configure("folder", folder))
    shown = batches.test_batch(3)
    expected = pictures.resize(picture(20), 16, 16, "bilinear")
    for each in shown["a"]:  # one test picture: it is repeated
        np.testing.assert_array_equal(each, pictures.to_float(expected))
    assert shown["b"].shape == (3, 16, 16, 3)  # no testB: the first of trainB
    batches.close()


def test_broken_pictures_stop_or_are_skipped(folder):
    broken = folder / "trainA" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(
        DataError, match=r"trainA/1\.jpg cannot be decoded as an image.*on_error=\"skip\""
    ):
        data.create(configure("folder", folder))
    batches = data.create(configure("folder", folder, on_error="skip"))
    assert batches.sizes == {"a": 4, "b": 3}
    assert len(batches.skipped) == 1 and "1.jpg" in batches.skipped[0]
    batches(0)
    batches.close()
    for path in (folder / "trainA").iterdir():
        path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"none of the 5 examples in .*trainA is intact"):
        data.create(configure("folder", folder, on_error="skip"))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"path": ""}, ConfigError, "config.data.path is empty"),
        ({"path": "/nowhere"}, DataError, "no folder /nowhere"),
        ({"path": "EMPTY"}, DataError, "no folder .*trainA"),
        ({"path": "TEXT"}, DataError, "no images in .*trainA"),
        ({"source": "cloud"}, ConfigError, "config.data.source is 'cloud': use one of folder"),
        ({"interpolation": "cubic"}, ConfigError, "config.data.interpolation is 'cubic'"),
        ({"aspect_ratio": 2.0}, ConfigError, "config.data.aspect_ratio is 2.0: only"),
        ({"on_error": "ignore"}, ConfigError, "config.data.on_error is 'ignore'"),
        (
            {"crop_size": 21},
            ConfigError,
            "config.data.crop_size is 21 and config.data.load_size 20",
        ),
        ({"source": "arrays", "path": "x.npz"}, DataError, "cannot read x.npz"),
        ({"source": "tfds", "path": "no_such_set"}, DataError, "TFDS knows no data set"),
        ({"source": "tfds", "path": "cycle_gan/horse2zebra"}, DataError, "download=True"),
    ],
)
def test_bad_data_is_named_in_one_line(tmp_path, monkeypatch, fields, error, message):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXT" / "trainA").mkdir(parents=True)
    (tmp_path / "TEXT" / "trainA" / "notes.txt").write_text("no picture")
    if fields.get("path") in ("EMPTY", "TEXT"):
        fields = {**fields, "path": str(tmp_path / fields["path"])}
    with pytest.raises(error, match=message) as caught:
        data.create(configure(**{"source": "folder", "path": str(tmp_path), **fields}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((2, 8, 8, 3), np.uint8)}, "no array 'b'"),
        ({"a": np.zeros((2, 8, 8, 1), np.uint8)}, "array 'a' has shape"),
        ({"a": np.full((2, 8, 8, 3), 255.0)}, "neither uint8 nor float"),
        ({"a": np.full((2, 8, 8, 3), np.nan)}, "neither uint8 nor float"),
    ],
)
def test_arrays_are_checked(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message):
        data.create(configure("arrays", tmp_path / "bad.npz"))


def test_tfds_data_set(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    import tensorflow as tf

    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3))})
    splits = {
        split: tf.data.Dataset.from_tensor_slices(
            {"image": np.stack([picture(i) for i in range(n)])}
        )
        for split, n in (("trainA", 4), ("trainB", 3), ("testA", 2))
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        "two_domains", version="1.0.0", data_dir=str(tmp_path), split_datasets=splits,
        features=features,
    )  # fmt: skip
    path = tmp_path / "two_domains" / "1.0.0"
    batches = data.create(configure("tfds", path, flip=False, load_size=SIZE, crop_size=SIZE))
    assert batches.sizes == {"a": 4, "b": 3}
    known = [pictures.to_float(picture(i)) for i in range(4)]
    for each in batches(0)["a"]:
        assert min(np.abs(each - one).max() for one in known) == 0
    batches.close()


def test_procedural_truth_differs_only_inside_the_mask():
    test = procedural.test_set(6, 32, seed=1)
    for domain in "ab":
        changed = (test[domain] != test[f"{domain}_truth"]).any(-1)
        assert not (changed & ~test[f"{domain}_mask"]).any()
        assert changed[test[f"{domain}_mask"]].mean() > 0.9
    again, other = procedural.test_set(6, 32, seed=1), procedural.test_set(6, 32, seed=2)
    np.testing.assert_array_equal(test["a"], again["a"])
    assert (test["a"] != other["a"]).any()
    train = procedural.train_set(6, 32, seed=1)
    assert all((train[domain][0] != test[domain]).any() for domain in "ab")


def test_training_from_arrays_and_caches_needs_no_tensorflow(folder):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "sys.modules['tensorflow'] = None\n"
        "from ganattn import data; from test_data import configure\n"
        f"print(data.create(configure('folder', {str(folder)!r}, cache=True))(0)['a'].shape)\n"
        f"data.create(configure('folder', {str(folder)!r}))(0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "(4, 16, 16, 3)\n"
    assert "pip install 'ganattn[tf]'" in run.stderr.splitlines()[-1]


def pairs(root, part="train", count=4):
    """Two folders whose pictures of one name show the same, and the same side by side."""
    for i in range(count):
        left, right = picture(i), 255 - picture(i)
        save(root / f"{part}A" / f"{i}.png", left)
        save(root / f"{part}B" / f"{i}.jpg", right, quality=95, subsampling=0)
        save(root / part / f"{i}.png", np.concatenate([left, right], 1))
    return root


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(("layout", "tolerance"), [("paired", 0.08), ("aligned", 2.01 / 127.5)])
def test_pairs_are_drawn_and_cut_alike(tmp_path, layout, tolerance, cache):
    pairs(pairs(tmp_path), "val", 2)
    batches = data.create(configure("folder", tmp_path, layout=layout, cache=cache))
    for step in range(3):
        batch = batches(step)
        np.testing.assert_array_equal(batch["index_a"], batch["index_b"])
        assert np.abs(batch["a"] + batch["b"]).max() <= tolerance  # one is the other's negative
    shown = batches.test_batch(2)
    assert np.abs(shown["a"] + shown["b"]).max() <= tolerance
    swapped = data.create(configure("folder", tmp_path, layout=layout, cache=cache, swap=True))
    np.testing.assert_array_equal(swapped(2)["b"], batch["a"])
    np.testing.assert_array_equal(swapped(2)["a"], batch["b"])
    batches.close()
    swapped.close()


def test_a_picture_without_partner_is_named_or_left_out(tmp_path):
    pairs(tmp_path)
    (tmp_path / "trainB" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"trainA/2\.png has no namesake in the other folder"):
        data.create(configure("folder", tmp_path, layout="paired"))
    batches = data.create(configure("folder", tmp_path, layout="paired", on_error="skip"))
    assert batches.sizes == {"a": 3, "b": 3}
    assert np.abs(batches(0)["a"] + batches(0)["b"]).max() <= 0.08
    batches.close()


def test_label_ids_become_colours(tmp_path):
    ids = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 13 // SIZE**2
    for i in range(2):
        save(tmp_path / "train_label" / f"{i}.png", ids.astype(np.uint8))
        save(tmp_path / "train_img" / f"{i}.jpg", picture(i))
    fields = {"layout": "paired", "folders": ("_label", "_img"), "palette": "facades"}
    fields |= {"load_size": SIZE, "crop_size": SIZE, "flip": False}
    batches = data.create(configure("folder", tmp_path, **fields))
    expected = pictures.to_float(palettes.palette("facades")[ids])
    np.testing.assert_allclose(batches(0)["a"][0], expected, atol=1e-6)
    batches.close()
    save(tmp_path / "train_label" / "1.png", np.full((SIZE, SIZE), 40, np.uint8))
    with pytest.raises(DataError, match=r"1\.png has the label id 40: data.palette has 13 ids"):
        data.create(configure("folder", tmp_path, cache=True, **fields))


def test_test_images_do_not_depend_on_the_cache(folder):
    one, other = (data.create(configure("folder", folder, cache=cache)) for cache in (False, True))
    for name, images in one.test_batch(3).items():
        np.testing.assert_array_equal(other.test_batch(3)[name], images)
    assert one.tests.names == other.tests.names == {"a": ["0"], "b": ["0", "1", "2"]}
    assert not one.tests.held_out
    one.close()
    other.close()


def test_arrays_may_be_given(folder):
    images = {name: np.stack([picture(i) for i in range(4)]) for name in ("a", "b", "test_a")}
    batches = data.create(configure("folder", folder), arrays=images)
    assert batches.sizes == {"a": 4, "b": 4} and list(batches.tests.names["a"])[-1] == "00003"
    assert batches(0)["b"].shape == (4, 16, 16, 3)
    batches.close()


def test_indices_name_the_pictures(folder):
    config = configure("folder", folder, load_size=SIZE, crop_size=SIZE, flip=False, cache=True)
    batch = data.create(config)(0)
    for index, each in zip(batch["index_a"], batch["a"], strict=True):
        read = pictures.read_rgb(folder / "trainA" / f"{index}.jpg")
        np.testing.assert_array_equal(each, pictures.to_float(read))
