"""Pictures of one kind, for methods that make them from noise; a tenth is kept for testing.

Where a source has no test part of its own, the pictures whose names have the lowest SHA-256 are
never trained on: the choice depends on nothing but the names (of TFDS and arrays: the positions).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import in_memory as arrays
from ganattn.data import procedural
from ganattn.data import tfds as catalog
from ganattn.data.batches import Pipeline
from ganattn.data.folder import TEST, scan_folder
from ganattn.data.in_memory import Memory
from ganattn.data.tfdata import Encoded, Pictures
from ganattn.errors import ConfigError, DataError

IMAGE = "image"  # the one domain


def held_out(names: Sequence[str], percent: float) -> np.ndarray:
    """(n,) bool: which names are kept for testing, `percent` of them, rounded."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    result = np.zeros(len(names), bool)
    result[order[: round(len(names) * percent / 100)]] = True
    return result


def from_folder(path: Path, data: ConfigDict) -> tuple[Pipeline, list[str]]:
    """The pipeline, and a line for every broken picture that was left out.

    path holds train and, if there are, test or val; or just pictures, at any depth. Raises
    DataError for a missing or empty folder, or a broken picture unless `data.on_error` is "skip".
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with training pictures")
    skipped: list[str] = []
    root = path / "train" if (path / "train").is_dir() else path
    found = Pictures(*scan_folder(root, data, skipped))
    folders = [path / name for name in TEST if (path / name).is_dir()] if root != path else []
    if folders:
        return _encoded(found, Pictures(*scan_folder(folders[0], data, skipped)), data), skipped
    names = [Path(str(each)).relative_to(root).as_posix() for each in found.content]
    return _encoded(*_divide(found, names, data), data), skipped


def from_tfds(name: str, data: ConfigDict) -> Pipeline:
    """The pipeline over a builder with a split train of pictures, such as celeb_a_hq/128.

    Raises DataError as `catalog.create` does.
    """
    found = catalog.read_pictures(name, data)
    if "test" in found:
        return _encoded(found["train"], found["test"], data)
    names = [str(i) for i in range(len(found["train"].content))]
    return _encoded(*_divide(found["train"], names, data), data)


def from_arrays(path: str, data: ConfigDict) -> Pipeline:
    """The pipeline over array "image" and maybe "test_image" of an .npz file.

    Raises DataError when the file is missing or damaged.
    """
    found = arrays.load_npz(path, (IMAGE,))
    test = f"test_{IMAGE}"
    if test not in found:
        out = held_out([str(i) for i in range(len(found[IMAGE]))], _percent(data))
        if out.any():
            found = {IMAGE: found[IMAGE][~out], test: found[IMAGE][out]}
    return Memory(found, data)


def from_formula(size: int, seed: int, data: ConfigDict) -> Pipeline:
    """The pipeline over the pictures of both domains of `procedural`."""
    train = procedural.train_set(procedural.TRAIN_COUNT, size, seed)
    test = procedural.test_set(procedural.TEST_COUNT, size, seed)
    joined = {
        name: np.concatenate([pictures[domain] for domain in procedural.DOMAINS])
        for name, pictures in ((IMAGE, train), (f"test_{IMAGE}", test))
    }
    return Memory(joined, data)


def _encoded(train: Pictures, test: Pictures, data: ConfigDict) -> Pipeline:
    parts = {IMAGE: train}, {IMAGE: test} if len(test.content) else {}
    encoded = Encoded(*parts, data)
    return Memory(encoded.decoded(), data) if data.cache else encoded


def _divide(found: Pictures, names: list[str], data: ConfigDict) -> tuple[Pictures, Pictures]:
    out = held_out(names, _percent(data))
    content = np.array(found.content, object)
    train, test = (Pictures(content[part].tolist(), found.plain[part]) for part in (~out, out))
    return train, test


def _percent(data: ConfigDict) -> float:
    percent = data.get("held_out_percent", 0)
    if not 0 <= percent < 100:
        raise ConfigError(
            f"config.data.held_out_percent is {percent}: give a number from 0 to below 100"
        )
    return percent
