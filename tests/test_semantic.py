"""Label maps, instance maps and pictures: found, checked, and changed alike."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganattn import data
from ganattn.config import find, load
from ganattn.data import label_maps
from ganattn.data.tfdata import nearest_pixels
from ganattn.errors import ConfigError, DataError

SIDE = 40


def scene(index):
    """A picture that shows its own label map: grey levels are ids times 20."""
    random = np.random.default_rng(index)
    label = random.integers(0, 4, (SIDE // 4, SIDE // 2), np.uint8).repeat(4, 0).repeat(4, 1)
    instance = 1000 + label.astype(np.uint16)
    return label, instance, (label * 20)[..., None].repeat(3, -1)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def spade_folders(root, count=3):
    for part in ("train", "val"):
        for i in range(count):
            for kind, array in zip(("label", "inst", "img"), scene(i), strict=True):
                write(root / f"{part}_{kind}" / f"{i}.png", array)
    return root


def configure(path, **fields):
    config = load(find("spade"), "tiny")
    with config.unlocked():
        config.data.update(
            source="folder", path=str(path), load_size=40, crop_size=32, batch_size=4
        )
        config.data.update(interpolation="bilinear")
        for name, value in fields.items():
            config.method[name] = value
    return config


def batch_of(config, step=0):
    batches = data.create(config)
    batch = batches(step)
    batches.close()
    return batch


def test_all_three_are_cut_and_mirrored_alike(tmp_path):
    config = configure(spade_folders(tmp_path))
    seen = set()
    for step in range(3):
        batch = batch_of(config, step)
        assert batch["label"].shape == batch["instance"].shape == (4, 32, 32, 1)
        assert batch["image"].shape == (4, 32, 32, 3) and batch["image"].dtype == np.float32
        assert batch["label"].dtype == batch["instance"].dtype == np.int32
        np.testing.assert_array_equal(batch["instance"], 1000 + batch["label"])  # 16 bits
        shown = np.rint((batch["image"][..., :1] + 1) * 127.5 / 20)
        assert (shown == batch["label"]).mean() > 0.9  # the width of 80 is halved, by other pixels
        seen |= {crop.tobytes() for crop in batch["label"]}
    assert len(seen) > 3


def test_a_step_is_a_pure_function_of_its_number(tmp_path):
    config = configure(spade_folders(tmp_path))
    one, other = batch_of(config, 5), batch_of(config, 5)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_pictures_twice_as_wide_as_high(tmp_path):
    config = configure(spade_folders(tmp_path))
    with config.unlocked():
        config.data.update(aspect_ratio=2.0, load_size=80, crop_size=64)
    batch = batch_of(config)
    assert batch["label"].shape == (4, 32, 64, 1)
    shown = np.rint((batch["image"][..., :1] + 1) * 127.5 / 20)
    np.testing.assert_array_equal(shown, batch["label"])  # nothing was resized


def test_cityscapes_and_ade20k_are_found_by_their_folders(tmp_path):
    for i in range(2):
        stem, (label, instance, image) = f"aachen_00000{i}", scene(i)
        for split in ("train", "val"):
            fine = tmp_path / "city" / "gtFine" / split / "aachen"
            write(fine / f"{stem}_gtFine_labelIds.png", label)
            write(fine / f"{stem}_gtFine_instanceIds.png", instance)
            picture = tmp_path / "city" / "leftImg8bit" / split / "aachen"
            write(picture / f"{stem}_leftImg8bit.png", image)
        for split in ("training", "validation"):
            write(tmp_path / "ade" / "annotations" / split / f"{i}.png", label)
            write(tmp_path / "ade" / "images" / split / f"{i}.jpg", image)
    city, ade = label_maps.find(tmp_path / "city"), label_maps.find(tmp_path / "ade")
    assert [len(city[part][kind]) for part in city for kind in city[part]] == [2] * 6
    assert [len(ade[part][kind]) for part in ade for kind in ade[part]] == [2] * 4
    assert batch_of(configure(tmp_path / "city"))["instance"].max() >= 1000
    assert "instance" not in batch_of(configure(tmp_path / "ade", use_instances=False))


def test_ids_out_of_range_are_named_before_training(tmp_path):
    spade_folders(tmp_path)
    with pytest.raises(DataError, match=r"train_label/\d.png has the label id 3: .*ids are 0 to 2"):
        data.create(configure(tmp_path, num_classes=3))
    label = scene(0)[0].copy()
    label[:4] = 255
    write(tmp_path / "train_label" / "0.png", label)
    with pytest.raises(DataError, match=r"0.png has the label id 255"):
        data.create(configure(tmp_path))
    batch = batch_of(configure(tmp_path, use_dontcare=True))
    assert batch["label"].max() <= 4


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        data.create(configure(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no training images"):
        data.create(configure(tmp_path))
    spade_folders(tmp_path)
    (tmp_path / "train_img" / "1.png").rename(tmp_path / "train_img" / "9.png")
    with pytest.raises(DataError, match=r"train_label/1.png has no image of the same name"):
        data.create(configure(tmp_path))
    (tmp_path / "train_img" / "9.png").rename(tmp_path / "train_img" / "1.png")
    write(tmp_path / "train_label" / "2.png", scene(2)[2])
    with pytest.raises(DataError, match=r"2.png holds RGB and no ids"):
        data.create(configure(tmp_path))
    write(tmp_path / "train_label" / "2.png", scene(2)[0])
    for part in ("train", "val"):
        shutil.rmtree(tmp_path / f"{part}_inst")
    with pytest.raises(DataError, match="the train part has no instance files"):
        data.create(configure(tmp_path))


def test_flat_folders_may_keep_the_names_of_cityscapes(tmp_path):
    """And test label maps may come without pictures, as theirs do."""
    for part in ("train", "test"):
        for i in range(2):
            label, instance, image = scene(i)
            name = f"aachen_{i}_000019_"
            write(tmp_path / f"{part}_label" / f"{name}gtFine_labelIds.png", label)
            write(tmp_path / f"{part}_inst" / f"{name}gtFine_instanceIds.png", instance)
            if part == "train":
                write(tmp_path / "train_img" / f"{name}leftImg8bit.png", image)
    with contextlib.closing(data.create(configure(tmp_path))) as batches:
        assert batches.sizes == {"image": 2}
        assert set(batches(0)) >= {"label", "instance", "image"}
        shown = batches.test_batch(2)
    assert set(shown) == {"label", "instance"}
    shutil.rmtree(tmp_path / "train_img")
    with pytest.raises(DataError, match="the train part has no image files"):
        data.create(configure(tmp_path))


def test_conditions_may_be_pictures(tmp_path):
    spade_folders(tmp_path)
    for i in range(3):
        for part in ("train", "val"):
            write(tmp_path / f"{part}_label" / f"{i}.png", scene(i)[2])
    batch = batch_of(configure(tmp_path, condition_channels=3, use_instances=False))
    assert batch["label"].shape == (4, 32, 32, 3) and batch["label"].dtype == np.float32
    np.testing.assert_array_equal(batch["label"], batch["image"])


def test_arrays_and_test_pictures(tmp_path):
    label, instance, image = map(np.stack, zip(*(scene(i) for i in range(3)), strict=True))
    arrays = {"label": label, "instance": instance, "image": image}
    np.savez(tmp_path / "scenes.npz", **arrays)
    config = configure(tmp_path / "scenes.npz")
    with config.unlocked():
        config.data.source = "arrays"
    batches = data.create(config)
    shown = batches.test_batch(4)
    batches.close()
    np.testing.assert_array_equal(shown["label"][0], shown["label"][3])
    assert shown["image"].shape == (4, 32, 32, 3)
    np.savez(tmp_path / "scenes.npz", label=label, image=image[:2])
    with pytest.raises(DataError, match="differ in number or size"):
        data.create(config)


def test_the_nearest_pixels_are_those_of_pillow():
    sizes = [(n, m) for n in range(1, 60) for m in range(1, 60)]
    random = np.random.default_rng(0)
    for size, new_size in [*sizes, *random.integers(1, 3_000, (300, 2)).tolist()]:
        row = Image.fromarray(np.arange(size, dtype=np.int32)[None])
        expected = np.asarray(row.resize((new_size, 1), Image.Resampling.NEAREST))[0]
        np.testing.assert_array_equal(nearest_pixels(size, new_size), expected)


def unusual_files(root, deep):
    """SPADE's folders with files of every kind that holds ids, none of a common size.

    deep: the first instance map has 16 bits, otherwise 8.
    """
    random = np.random.default_rng(4)
    for i in range(8):
        height, width = (int(n) for n in random.integers(17, 60, 2))
        label = random.integers(0, 4, (height, width), np.uint8)
        image = Image.fromarray(label)
        options = {}
        if i == 1:
            image.putpalette(bytes(range(255, 243, -1)))  # not the grey levels of the indices
        elif i == 2:
            image = Image.fromarray(label.astype(np.uint16))
        elif i == 3:
            image = Image.fromarray(label > 1)  # one bit
        elif i == 4:
            options["transparency"] = 2
        label[: height // 2] = 255 if i not in (1, 3) else label[: height // 2]
        if i in (0, 5):
            image = Image.fromarray(label)
        path = root / "train_label" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
        has_16_bits = (i % 2 == 0) == deep
        instance = random.integers(0, 60_000 if has_16_bits else 256, label.shape)
        write(root / "train_inst" / f"{i}.png", instance.astype("<u2" if has_16_bits else np.uint8))
        smooth = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
        write(root / "train_img" / f"{i}.png", smooth.astype(np.uint8))
    return root


@pytest.mark.parametrize("load_size", [19, 33, 71])
def test_tensorflow_reads_the_ids_that_pillow_reads(tmp_path, load_size):
    config = configure(unusual_files(tmp_path, deep=load_size != 33), use_dontcare=True)
    with config.unlocked():
        config.data.update(load_size=load_size, crop_size=17, batch_size=8, aspect_ratio=1.3)
    with contextlib.closing(data.create(config)) as batches:
        with_tensorflow = [batches(step) for step in range(3)]
    with config.unlocked():
        config.data.cache = True
    with contextlib.closing(data.create(config)) as batches:
        with_pillow = [batches(step) for step in range(3)]
    for one, other in zip(with_tensorflow, with_pillow, strict=True):
        assert one.keys() == other.keys() == {"label", "instance", "image", "index_image"}
        for name in ("label", "instance", "index_image"):
            assert one[name].dtype == other[name].dtype == np.int32
            np.testing.assert_array_equal(one[name], other[name])
        # Pillow rounds between its two passes: one level of 255.
        assert np.abs(one["image"] - other["image"]).max() <= 1.01 / 127.5
    assert with_pillow[0]["label"].max() == 4 and with_pillow[0]["instance"].max() > 255


def test_broken_scenes_stop_or_are_skipped(tmp_path):
    spade_folders(tmp_path)
    broken = tmp_path / "train_img" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"train_img/1\.png cannot be decoded as an image"):
        data.create(configure(tmp_path))
    config = configure(tmp_path)
    with config.unlocked():
        config.data.on_error = "skip"
    with contextlib.closing(data.create(config)) as batches:
        assert batches.sizes == {"image": 2}
        assert len(batches.skipped) == 1 and "1.png" in batches.skipped[0]
        assert list(batches.tests.names["image"]) == ["0", "1", "2"]
    with pytest.raises(DataError, match="has the label id 3"):  # no broken file: a wrong config
        config.method.num_classes = 3
        data.create(config)


def test_label_maps_in_memory_need_no_tensorflow(tmp_path):
    spade_folders(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "sys.modules['tensorflow'] = None\n"
        "from ganattn import data; from test_semantic import configure\n"
        f"config = configure({str(tmp_path)!r})\n"
        "config.data.cache = True\n"
        "print(data.create(config)(0)['label'].shape)\n"
        "config.data.cache = False\n"
        "data.create(config)(0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "(4, 32, 32, 1)\n"
    assert "config.data.cache=True" in run.stderr.splitlines()[-1]


def test_the_layout_needs_classes(tmp_path):
    config = load(find("pix2pix"), "tiny")
    with config.unlocked():
        config.data.update(layout="semantic", source="folder", path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"config\.data\.num_classes is 0"):
        data.create(config)


def test_tfds_scenes(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    import tensorflow as tf

    label, _, image = map(np.stack, zip(*(scene(i) for i in range(3)), strict=True))
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_label": tfds.features.Image(shape=(None, None, 1)),
        }
    )
    examples = {"image": image, "segmentation_label": label[..., None]}
    tfds.dataset_builders.store_as_tfds_dataset(
        "scenes", version="1.0.0", data_dir=str(tmp_path), features=features,
        split_datasets={"train": tf.data.Dataset.from_tensor_slices(examples)},
    )  # fmt: skip
    config = configure(tmp_path / "scenes" / "1.0.0", use_instances=False)
    with config.unlocked():
        config.data.update(source="tfds", load_size=80, crop_size=80, aspect_ratio=2.0, flip=False)
    with contextlib.closing(data.create(config)) as batches:
        batch = batches(0)
        assert not batches.tests.held_out
    for index, ids, shown in zip(batch["index_image"], batch["label"], batch["image"], strict=True):
        np.testing.assert_array_equal(ids[..., 0], label[index])
        np.testing.assert_allclose(shown, image[index] / 127.5 - 1, atol=1e-6)
    with config.unlocked():
        config.data.layout = "unpaired"
    with pytest.raises(DataError, match="no split trainA, no split trainB"):
        config.data.aspect_ratio = 1.0
        data.create(config)
