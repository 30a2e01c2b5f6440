"""Label maps, instance maps and pictures: found, checked, and changed alike."""

import contextlib
import shutil

import numpy as np
import pytest
from PIL import Image

from ganattn import data
from ganattn.config import find, load
from ganattn.data import label_maps as trees
from ganattn.errors import DataError

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
    city, ade = trees.find(tmp_path / "city"), trees.find(tmp_path / "ade")
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
    with pytest.raises(DataError, match="no training pictures"):
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
    with pytest.raises(DataError, match="no instance maps"):
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
        shown = batches.test_pictures(2)
    assert set(shown) == {"label", "instance"}
    shutil.rmtree(tmp_path / "train_img")
    with pytest.raises(DataError, match="training label maps without their pictures"):
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
    shown = batches.test_pictures(4)
    batches.close()
    np.testing.assert_array_equal(shown["label"][0], shown["label"][3])
    assert shown["image"].shape == (4, 32, 32, 3)
    np.savez(tmp_path / "scenes.npz", label=label, image=image[:2])
    with pytest.raises(DataError, match="differ in number or size"):
        data.create(config)
