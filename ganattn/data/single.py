"""The layout single: unlabelled images of one domain, for methods that generate them from noise.

Where a source has no test part of its own, the images whose names have the lowest SHA-256 are never
trained on: the choice depends on nothing but the names (of TFDS and arrays: the positions).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import procedural as synthetic
from ganattn.data import tfds
from ganattn.data.examples import ArrayExamples, DataSet, FileExamples, scan_images
from ganattn.data.in_memory import read_images
from ganattn.data.sampling import DOMAINS
from ganattn.data.two_domains import TEST_FOLDERS, scan_folder

IMAGE = "image"  # the one domain, and its array
Examples = FileExamples | ArrayExamples


def held_out(names: Sequence[str], percent: float) -> np.ndarray:
    """(n,) bool: which names are kept for testing, `percent` of them, rounded."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    result = np.zeros(len(names), bool)
    result[order[: round(len(names) * percent / 100)]] = True
    return result


def from_folder(path: Path, data: ConfigDict) -> DataSet:
    """Folders train and, optionally, test or val; or just images, at any depth."""
    root = path / "train" if (path / "train").is_dir() else path
    train = scan_folder(root, data)
    tests = [path / name for name in TEST_FOLDERS if (path / name).is_dir()]
    test = scan_folder(tests[0], data) if tests and root != path else None
    names = [Path(str(each)).relative_to(root).as_posix() for each in train.content]
    return _data_set(train, test, data, names)


def from_tfds(data: ConfigDict) -> DataSet:
    """Of a builder with the split train and, optionally, test."""
    encoded = tfds.read(
        data,
        splits={"train": ("train",), "test": ("test",)},
        features={IMAGE: (IMAGE,)},
        remedy="use one such as celeb_a_hq/128",
    )
    parts = {name: scan_images(split[IMAGE], data) for name, split in encoded.items()}
    return _data_set(parts["train"], parts.get("test"), data)


def from_arrays(arrays: Mapping[str, np.ndarray], data: ConfigDict, where: str) -> DataSet:
    """Of "image" and, optionally, "test_image"."""
    test_name = f"test_{IMAGE}"
    test = read_images(arrays, test_name, where) if test_name in arrays else None
    return _data_set(read_images(arrays, IMAGE, where), test, data)


def procedural(config: ConfigDict) -> dict[str, np.ndarray]:
    """Generated images of both domains, for `from_arrays`."""
    size, seed = config.data.crop_size, config.seed
    parts = {
        IMAGE: synthetic.train_set(synthetic.TRAIN_COUNT, size, seed),
        f"test_{IMAGE}": synthetic.test_set(synthetic.TEST_COUNT, size, seed),
    }
    return {
        name: np.concatenate([part[domain] for domain in DOMAINS]) for name, part in parts.items()
    }


def _data_set(
    train: Examples, test: Examples | None, data: ConfigDict, names: Sequence[str] | None = None
) -> DataSet:
    """Without a test part, the examples that `held_out` chooses by their names or positions."""
    if test is None:
        out = held_out(names or [str(i) for i in range(len(train))], data.held_out_percent)
        if out.any():
            train, test = train.select(np.flatnonzero(~out)), train.select(np.flatnonzero(out))
    return DataSet({IMAGE: {IMAGE: train}}, {} if test is None else {IMAGE: {IMAGE: test}})
