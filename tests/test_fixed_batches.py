"""The batches of a seed never change: digests of a few, as the first release computed them.

All images are PNG files, and none is resized by TensorFlow, so that no version of a codec and no
rounding of a processor takes part.
"""

import contextlib
import hashlib

import numpy as np
import pytest
from PIL import Image

from ganattn import data
from ganattn.config import base, find, load

SIDE = 24


def digest(batch):
    """Of names, shapes, types and values."""
    total = hashlib.sha256()
    for name, array in sorted(batch.items()):
        total.update(f"{name} {array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def two_domains(root):
    """Folders for the layouts unpaired, paired and aligned; one file is no plain RGB."""
    for i in range(6):
        left, right = pixels([i, 0], SIDE, SIDE, 3), pixels([i, 1], SIDE, SIDE, 3)
        save(root / "trainA" / f"{i}.png", left[..., 0] if i == 1 else left)
        save(root / "trainB" / f"{i}.png", right)
        save(root / "train" / f"{i}.png", np.concatenate([left, right], 1))
    for i in range(2):
        save(root / "testA" / f"{i}.png", pixels([i, 2], 31, 40, 3))
        save(root / "testB" / f"{i}.png", pixels([i, 3], 17, 19, 3))
        save(root / "test" / f"{i}.png", pixels([i, 4], 17, 40, 3))
    return root


def scenes(root, height, width):
    """SPADE's folders: 8-bit labels with 255, 16-bit instances, and images."""
    for part, count in (("train", 5), ("val", 2)):
        for i in range(count):
            random = np.random.default_rng([i, count])
            label = random.integers(0, 5, (height, width), np.uint8)
            label[label == 4] = 255
            save(root / f"{part}_label" / f"{i}.png", label)
            save(
                root / f"{part}_inst" / f"{i}.png",
                random.integers(0, 40_000, (height, width), "<u2"),
            )
            save(root / f"{part}_img" / f"{i}.png", pixels([i, count], height, width, 3))
    return root


def digests(config, count=3):
    """Of steps 0, 7 and 31, and of the first test images."""
    with contextlib.closing(data.create(config)) as batches:
        steps = [digest(batches(step)) for step in (0, 7, 31)]
        return [*steps, digest(batches.test_batch(count))]


def configure(**fields):
    config = base()
    config.seed = 3
    config.data.update(source="folder", batch_size=4, load_size=SIDE, crop_size=16)
    config.data.update(fields)
    return config


FOLDERS = {
    "unpaired": {},
    "paired": {"layout": "paired"},
    "aligned": {"layout": "aligned", "swap": True},
    "single": {"layout": "single"},
    "resized": {"cache": True, "load_size": 30, "crop_size": 27, "interpolation": "bicubic"},
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(tmp_path, case):
    fields = FOLDERS[case]
    root = two_domains(tmp_path)
    path = root / "trainA" if case == "single" else root
    assert digests(configure(path=str(path), **fields)) == EXPECTED[case]


@pytest.mark.parametrize("layout", ["unpaired", "paired", "single"])
def test_procedural(layout):
    config = configure(source="procedural", layout=layout)
    assert digests(config) == EXPECTED[f"procedural {layout}"]


def labels(path, **fields):
    config = load(find("spade"), "tiny")
    config.seed = 3
    config.data.update(path=str(path), batch_size=4, **fields)
    config.method.update(use_dontcare=True)
    return config


@pytest.mark.parametrize("layout", ["plain", "wide"])
def test_label_maps(tmp_path, layout):
    fields = {
        "plain": {"load_size": 40, "crop_size": 32},
        "wide": {"load_size": 40, "crop_size": 32, "aspect_ratio": 2.0},
    }[layout]
    height = round(40 / fields.get("aspect_ratio", 1.0))
    config = labels(scenes(tmp_path, height, 40), source="folder", **fields)
    assert digests(config) == EXPECTED[f"labels {layout}"]


@pytest.mark.parametrize("load", [23, 57])
def test_resized_label_maps(tmp_path, load):
    """Ids alone: images are resized by TensorFlow."""
    config = labels(scenes(tmp_path, 37, 41), source="folder", load_size=load, crop_size=21)
    with contextlib.closing(data.create(config)) as batches:
        ids = [{n: x for n, x in batches(s).items() if n != "image"} for s in (0, 7, 31)]
    assert [digest(each) for each in ids] == EXPECTED[f"ids {load}"]


def test_procedural_label_maps():
    config = labels("", source="procedural", load_size=40, crop_size=32)
    assert digests(config) == EXPECTED["labels procedural"]


EXPECTED = {
    "unpaired": ["a899667eb271df6b", "989ec3f5b854482d", "7f2666eda23c8523", "c9719c94d9f51721"],
    "paired": ["eb8ac60d03c58d7c", "7daf1c681d6bd1b3", "ff493c1e65f83fd8", "c9719c94d9f51721"],
    "aligned": ["502dfc2fac512c8c", "7dcda185e13c8ae1", "3182682cbad0c991", "086773223a75f644"],
    "single": ["5499ee4cae32c96e", "a044e4a339f1a73e", "e34cfcb5857b1964", "11a42d434cef2d38"],
    "resized": ["3e0127f1739a0e03", "3a488978b788318b", "d2422cbaf04c05d7", "01033081661469ce"],
    "procedural unpaired": [
        "291d10793c1fdf98",
        "bee402f62469633c",
        "ba58921471efc147",
        "d30a885b8899f8c6",
    ],
    "procedural paired": [
        "68ac8dedde1119b3",
        "f622d8d3ee307f2c",
        "62bc22fe4ab32c26",
        "d30a885b8899f8c6",
    ],
    "procedural single": [
        "d9f9ae769e8b9344",
        "0dc932efb3513636",
        "818ac87a74485af3",
        "f55618872c7a1771",
    ],
    "labels plain": [
        "de9cc7bcff5345be",
        "81a3f1c8e612b522",
        "00a6124c2d3efec9",
        "2902d32537b2a1fa",
    ],
    "labels wide": ["4451205b55f13986", "1ec1cd986f5c1ab9", "fb0ac0565af158d5", "b4a00a0fec62456a"],
    "ids 23": ["82ac63afa3470022", "cb1842a4127c20f5", "af89f164b6747e9b"],
    "ids 57": ["9df4ae5c5aabd556", "2b92a1cf105989bf", "4a3275e0b48b3d81"],
    "labels procedural": [
        "f20eb218a1e9d5ca",
        "00a7558f876356cd",
        "674cb65502a666c0",
        "24e06db3f5d1f6e4",
    ],
}
