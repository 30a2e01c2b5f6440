"""The layouts unpaired, paired and aligned: two domains of images, one example a file or two.

unpaired: folders trainA trainB and, optionally, testA testB; `data.folders` names the endings.
paired: the same, and every image has a namesake in the other folder. aligned: folders train and,
optionally, test or val, whose files hold both domains side by side.

With `data.smooth_edges`, training has a further array "b_smooth": the images of domain b with
smoothed edges.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import procedural as synthetic
from ganattn.data import tfds
from ganattn.data.examples import ArrayExamples, DataSet, FileExamples, scan_images
from ganattn.data.images import find_images, to_float
from ganattn.data.in_memory import read_images
from ganattn.data.palettes import palette
from ganattn.data.sampling import DOMAINS
from ganattn.errors import DataError

SMOOTH = "b_smooth"  # the array of domain b's images with smoothed edges
TEST_FOLDERS = ("test", "val")  # the first one that exists is read
Domains = Mapping[str, FileExamples | ArrayExamples]


def from_folder(path: Path, data: ConfigDict) -> DataSet:
    """Raises DataError for an empty folder, an image without partner, and a broken one."""
    endings = ("",) if data.layout == "aligned" else data.folders
    tests = [p for p in TEST_FOLDERS if any((path / f"{p}{end}").is_dir() for end in endings)]
    test = _part(path, tests[0], data) if tests else {}
    return _data_set(_part(path, "train", data), test, data, data.layout != "unpaired")


def _part(path: Path, part: str, data: ConfigDict) -> dict[str, FileExamples]:
    """The images of the folders of "train" or "test", by domain."""
    domains = tuple(reversed(DOMAINS)) if data.swap else DOMAINS
    if data.layout == "aligned":
        files = scan_folder(path / part, data)
        halves = zip(domains, ("left", "right"), strict=True)
        return {domain: dataclasses.replace(files, half=half) for domain, half in halves}
    folders = {d: path / f"{part}{end}" for d, end in zip(domains, data.folders, strict=True)}
    examples = {
        domain: scan_folder(folder, data)
        for domain, folder in folders.items()
        if part == "train" or folder.is_dir()
    }
    if data.layout == "paired" and len(examples) == len(DOMAINS):
        examples = _pair(examples, data)
    if data.palette and "a" in examples:
        plain, colors = np.zeros(len(examples["a"]), bool), palette(data.palette)
        examples["a"] = dataclasses.replace(examples["a"], plain=plain, palette=colors)
    return examples


def scan_folder(folder: Path, data: ConfigDict) -> FileExamples:
    """The images below a folder; see `scan`."""
    return scan_images([str(folder / name) for name in find_images(folder)], data)


def _pair(examples: Mapping[str, FileExamples], data: ConfigDict) -> dict[str, FileExamples]:
    """The same images in the order of their names; each must have a partner."""
    stems = {
        domain: {name: i for i, name in enumerate(files.names())}
        for domain, files in examples.items()
    }
    alone = sorted(set(stems["a"]) ^ set(stems["b"]))
    if alone and data.on_error == "stop":
        domain = "a" if alone[0] in stems["a"] else "b"
        file = examples[domain].content[stems[domain][alone[0]]]
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
        for domain, files in examples.items()
    }


def from_tfds(data: ConfigDict) -> DataSet:
    """Of a builder with splits trainA and trainB, and optionally testA and testB."""
    splits = [f"{part}{d.upper()}" for part in ("train", "test") for d in DOMAINS]
    encoded = tfds.read(
        data,
        splits={name: (name,) for name in splits},
        features={"image": ("image",)},
        remedy="use one with trainA and trainB, such as cycle_gan/horse2zebra",
    )
    examples = {name: scan_images(split["image"], data) for name, split in encoded.items()}
    train, test = (
        {name[-1].lower(): each for name, each in examples.items() if name.startswith(part)}
        for part in ("train", "test")
    )
    return _data_set(train, test, data, paired=False)


def from_arrays(arrays: Mapping[str, np.ndarray], data: ConfigDict, where: str) -> DataSet:
    """Of "a", "b" and, optionally, "test_a", "test_b".

    Where the true translation of every test image is known, it is "test_a_truth" (as "test_a"), and
    "test_a_mask" (n, h, w) bool is true where the two differ; so for b.
    """
    train = {domain: read_images(arrays, domain, where) for domain in DOMAINS}
    tests = [domain for domain in DOMAINS if f"test_{domain}" in arrays]
    test = {domain: read_images(arrays, f"test_{domain}", where) for domain in tests}
    truth = None
    if "test_a_truth" in arrays:
        names = [f"{domain}{kind}" for domain in DOMAINS for kind in ("", "_truth", "_mask")]
        truth = {name: arrays[f"test_{name}"] for name in names}
        truth = {name: x if x.dtype == bool else to_float(x) for name, x in truth.items()}
    return _data_set(train, test, data, data.layout != "unpaired", truth)


def procedural(config: ConfigDict) -> dict[str, np.ndarray]:
    """Generated images for `from_arrays`."""
    size, seed = config.data.crop_size, config.seed
    generate = synthetic.train_set if config.data.layout == "unpaired" else synthetic.pairs
    test = synthetic.test_set(synthetic.TEST_COUNT, size, seed)
    train = generate(synthetic.TRAIN_COUNT, size, seed)
    return train | {f"test_{name}": array for name, array in test.items()}


def _data_set(
    train: Domains,
    test: Domains,
    data: ConfigDict,
    paired: bool,
    truth: dict[str, np.ndarray] | None = None,
) -> DataSet:
    train_by_domain, test_by_domain = ({d: {d: x[d]} for d in sorted(x)} for x in (train, test))
    if data.smooth_edges:
        train_by_domain["b"][SMOOTH] = dataclasses.replace(train["b"], smoothed=True)
    return DataSet(train_by_domain, test_by_domain, paired, truth)
