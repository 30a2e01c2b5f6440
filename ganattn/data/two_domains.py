"""The layouts unpaired, paired and aligned: two domains of images, one example a file or two.

unpaired: folders trainA trainB and, optionally, testA testB; `data.folders` names the endings.
paired: the same, and every image has a namesake in the other folder. aligned: folders train and,
optionally, test or val, whose files hold both domains side by side.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.data import procedural, tfds
from ganattn.data.examples import ArrayExamples, DataSet, Domain, FileExamples, scan_images
from ganattn.data.images import find_images, to_float
from ganattn.data.in_memory import read_images, read_npz
from ganattn.data.palettes import palette
from ganattn.data.sampling import DOMAINS
from ganattn.errors import DataError

TEST_FOLDERS = ("test", "val")  # the first one that exists is read


def create(config: ConfigDict, arrays: Mapping[str, np.ndarray] | None = None) -> DataSet:
    """The domains "a" and "b"; arrays: see `data.create`.

    Raises DataError for a missing or empty folder, for an image without partner, or for a broken
    one unless `data.on_error` is "skip".
    """
    if arrays is not None:
        return _from_arrays(arrays, config)
    sources = {"folder": _folder, "tfds": _tfds, "arrays": _npz, "procedural": _procedural}
    return sources[config.data.source](config)


def _folder(config: ConfigDict) -> DataSet:
    check(config, "data.path", required="the folder that holds the training images")
    path, data, skipped = Path(config.data.path), config.data, list[str]()
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with training images")
    endings = ("",) if data.layout == "aligned" else data.folders
    parts = [p for p in TEST_FOLDERS if any((path / f"{p}{end}").is_dir() for end in endings)]
    train = _part(path, "train", data, skipped)
    test = _part(path, parts[0], data, skipped) if parts else {}
    return DataSet(_by_domain(train), _by_domain(test), data.layout != "unpaired", skipped)


def _part(path: Path, part: str, data: ConfigDict, skipped: list[str]) -> dict[str, FileExamples]:
    """The images of the folders of "train" or "test", by domain."""
    domains = tuple(reversed(DOMAINS)) if data.swap else DOMAINS
    if data.layout == "aligned":
        files = scan_folder(path / part, data, skipped)
        halves = zip(domains, ("left", "right"), strict=True)
        return {domain: FileExamples(files.content, files.plain, half) for domain, half in halves}
    folders = {d: path / f"{part}{end}" for d, end in zip(domains, data.folders, strict=True)}
    found = {
        domain: scan_folder(folder, data, skipped)
        for domain, folder in folders.items()
        if part == "train" or folder.is_dir()
    }
    if data.layout == "paired" and len(found) == len(DOMAINS):
        found = _pair(found, data)
    if data.palette and "a" in found:
        ids = found["a"].content
        plain = np.zeros(len(ids), bool)
        found["a"] = FileExamples(ids, plain, palette=palette(data.palette))
    return found


def scan_folder(folder: Path, data: ConfigDict, skipped: list[str]) -> FileExamples:
    """The images below a folder; see `scan_images`."""
    return scan_images([str(folder / name) for name in find_images(folder)], data, skipped)


def _pair(found: Mapping[str, FileExamples], data: ConfigDict) -> dict[str, FileExamples]:
    """The same images in the order of their names; each must have a partner."""
    stems = {
        domain: {name: i for i, name in enumerate(files.names())} for domain, files in found.items()
    }
    alone = sorted(set(stems["a"]) ^ set(stems["b"]))
    if alone and data.on_error == "stop":
        domain = "a" if alone[0] in stems["a"] else "b"
        file = found[domain].content[stems[domain][alone[0]]]
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise DataError(
            f"{file!s} has no namesake in the other folder{more}: add it, or set "
            'config.data.on_error="skip"'
        )
    common = sorted(set(stems["a"]) & set(stems["b"]))
    if not common:
        raise DataError("no image has a namesake in the other folder: give pairs equal names")
    return {
        domain: files.select(np.array([stems[domain][stem] for stem in common]))
        for domain, files in found.items()
    }


def _tfds(config: ConfigDict) -> DataSet:
    check(config, "data.path", required="a TFDS name such as cycle_gan/horse2zebra")
    splits = {f"{part}{d.upper()}": part for d in DOMAINS for part in ("train", "test")}
    found = tfds.read(
        config.data,
        splits={name: (name,) for name in splits},
        features={"image": ("image",)},
        remedy="use one with trainA and trainB, such as cycle_gan/horse2zebra",
    )
    skipped: list[str] = []
    examples = {
        name: scan_images(part["image"], config.data, skipped) for name, part in found.items()
    }
    train, test = (
        {d: examples[f"{part}{d.upper()}"] for d in DOMAINS if f"{part}{d.upper()}" in examples}
        for part in ("train", "test")
    )
    return DataSet(_by_domain(train), _by_domain(test), skipped=skipped)


def _npz(config: ConfigDict) -> DataSet:
    return _from_arrays(read_npz(config.data.path), config, config.data.path)


def _from_arrays(
    arrays: Mapping[str, np.ndarray], config: ConfigDict, where: str = "the data set"
) -> DataSet:
    train = {domain: read_images(arrays, domain, where) for domain in DOMAINS}
    test = {
        domain: read_images(arrays, f"test_{domain}", where)
        for domain in DOMAINS
        if f"test_{domain}" in arrays
    }
    return DataSet(_by_domain(train), _by_domain(test), config.data.layout != "unpaired")


def _procedural(config: ConfigDict) -> DataSet:
    size, seed = config.data.crop_size, config.seed
    paired = config.data.layout != "unpaired"
    create_images = procedural.pairs if paired else procedural.train_set
    train = create_images(procedural.TRAIN_COUNT, size, seed)
    test = procedural.test_set(procedural.TEST_COUNT, size, seed)
    data_set = _from_arrays({**train, **{f"test_{d}": test[d] for d in DOMAINS}}, config)
    truth = {name: x if x.dtype == bool else to_float(x) for name, x in test.items()}
    return data_set._replace(truth=truth)


def _by_domain(examples: Mapping[str, FileExamples | ArrayExamples]) -> dict[str, Domain]:
    return {domain: {domain: examples[domain]} for domain in sorted(examples)}
