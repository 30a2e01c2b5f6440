"""The layout single: unlabelled images of one domain, for methods that generate them from noise.

Where a source has no test part of its own, the images whose names have the lowest SHA-256 are never
trained on: the choice depends on nothing but the names (of TFDS and arrays: the positions).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.data import procedural, tfds
from ganattn.data.examples import (
    ArrayExamples,
    DataSet,
    ExampleSource,
    FileExamples,
    scan_images,
)
from ganattn.data.in_memory import read_images, read_npz
from ganattn.data.two_domains import TEST_FOLDERS, scan_folder
from ganattn.errors import DataError

IMAGE = "image"  # the one domain, and its array


def create(config: ConfigDict, arrays: Mapping[str, np.ndarray] | None = None) -> DataSet:
    """The domain "image"; arrays: see `data.create`.

    Raises DataError for a missing or empty folder, or a broken image unless `data.on_error` is
    "skip".
    """
    if arrays is not None:
        return _from_arrays(arrays, config)
    sources = {"folder": _folder, "tfds": _tfds, "arrays": _npz, "procedural": _procedural}
    return sources[config.data.source](config)


def held_out(names: Sequence[str], percent: float) -> np.ndarray:
    """(n,) bool: which names are kept for testing, `percent` of them, rounded."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    result = np.zeros(len(names), bool)
    result[order[: round(len(names) * percent / 100)]] = True
    return result


def _folder(config: ConfigDict) -> DataSet:
    """Folders train and, optionally, test or val; or just images, at any depth."""
    check(config, "data.path", required="the folder that holds the training images")
    path, data, skipped = Path(config.data.path), config.data, list[str]()
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with training images")
    root = path / "train" if (path / "train").is_dir() else path
    train = scan_folder(root, data, skipped)
    folders = [path / name for name in TEST_FOLDERS if (path / name).is_dir()]
    if folders and root != path:
        return _data_set(train, scan_folder(folders[0], data, skipped))._replace(skipped=skipped)
    names = [Path(str(each)).relative_to(root).as_posix() for each in train.content]
    return _divide(train, names, data)._replace(skipped=skipped)


def _tfds(config: ConfigDict) -> DataSet:
    check(config, "data.path", required="a TFDS name such as celeb_a_hq/128")
    found = tfds.read(
        config.data,
        splits={"train": ("train",), "test": ("test",)},
        features={IMAGE: (IMAGE,)},
        remedy="use one such as celeb_a_hq/128",
    )
    skipped: list[str] = []
    parts = {name: scan_images(part[IMAGE], config.data, skipped) for name, part in found.items()}
    train = parts["train"]
    if "test" in parts:
        return _data_set(train, parts["test"])._replace(skipped=skipped)
    return _divide(train, [str(i) for i in range(len(train))], config.data)


def _npz(config: ConfigDict) -> DataSet:
    return _from_arrays(read_npz(config.data.path), config, config.data.path)


def _from_arrays(
    arrays: Mapping[str, np.ndarray], config: ConfigDict, where: str = "the data set"
) -> DataSet:
    train = read_images(arrays, IMAGE, where)
    if f"test_{IMAGE}" in arrays:
        return _data_set(train, read_images(arrays, f"test_{IMAGE}", where))
    return _divide(train, [str(i) for i in range(len(train))], config.data)


def _procedural(config: ConfigDict) -> DataSet:
    """The images of both domains of `procedural`."""
    size, seed = config.data.crop_size, config.seed
    parts = {
        IMAGE: procedural.train_set(procedural.TRAIN_COUNT, size, seed),
        f"test_{IMAGE}": procedural.test_set(procedural.TEST_COUNT, size, seed),
    }
    joined = {
        name: np.concatenate([part[domain] for domain in procedural.DOMAINS])
        for name, part in parts.items()
    }
    return _from_arrays(joined, config)


def _divide(found: FileExamples | ArrayExamples, names: list[str], data: ConfigDict) -> DataSet:
    out = held_out(names, data.held_out_percent)
    if not out.any():
        return _data_set(found)
    return _data_set(found.select(np.flatnonzero(~out)), found.select(np.flatnonzero(out)))


def _data_set(train: ExampleSource, test: ExampleSource | None = None) -> DataSet:
    return DataSet({IMAGE: {IMAGE: train}}, {} if test is None else {IMAGE: {IMAGE: test}})
