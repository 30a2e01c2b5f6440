"""Two domains as folders of pictures: unpaired, paired by name, or side by side in one file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import images as pictures
from ganattn.data.batches import Pipeline
from ganattn.data.in_memory import Memory
from ganattn.data.palettes import palette
from ganattn.data.sampling import DOMAINS
from ganattn.data.tfdata import Encoded, Pictures
from ganattn.errors import DataError

LAYOUTS = ("unpaired", "paired", "aligned")
TEST = ("test", "val")  # the first that is there


def create(path: Path, data: ConfigDict) -> tuple[Pipeline, list[str]]:
    """The pipeline, and a line for every broken picture that was left out.

    unpaired: trainA trainB and, if there are, testA testB; `data.folders` names the endings.
    paired: the same, and every picture has a namesake in the other folder. aligned: train and, if
    there is, test or val, each file with both domains side by side. Every file is decoded once, at
    reduced size. Raises DataError for a missing or empty folder, for a picture without partner, or
    for a broken one unless `data.on_error` is "skip".
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with training pictures")
    skipped: list[str] = []
    train = _part(path, "train", data, skipped)
    test = next(
        (_part(path, name, data, skipped) for name in TEST if _exists(path, name, data)), {}
    )
    encoded = Encoded(train, test, data, paired=data.layout != "unpaired")
    return (Memory(encoded.decoded(), data, encoded.paired) if data.cache else encoded), skipped


def _exists(path: Path, part: str, data: ConfigDict) -> bool:
    endings = ("",) if data.layout == "aligned" else data.folders
    return any((path / f"{part}{ending}").is_dir() for ending in endings)


def _part(path: Path, part: str, data: ConfigDict, skipped: list[str]) -> dict[str, Pictures]:
    """The pictures of "train" or "test", domain by domain."""
    domains = tuple(reversed(DOMAINS)) if data.swap else DOMAINS
    if data.layout == "aligned":
        files, plain = scan_folder(path / part, data, skipped)
        halves = zip(domains, ("left", "right"), strict=True)
        return dict(sorted((d, Pictures(files, plain, half=half)) for d, half in halves))
    found: dict[str, Pictures] = {}
    for domain, ending in zip(domains, data.folders, strict=True):
        folder = path / f"{part}{ending}"
        if part == "train" or folder.is_dir():
            found[domain] = Pictures(*scan_folder(folder, data, skipped))
    if data.layout == "paired" and len(found) == len(DOMAINS):
        found = _pair(found, data)
    if data.palette and "a" in found:
        ids = found["a"].content
        found["a"] = Pictures(ids, np.zeros(len(ids), bool), palette=palette(data.palette))
    return dict(sorted(found.items()))


def _pair(found: Mapping[str, Pictures], data: ConfigDict) -> dict[str, Pictures]:
    """The same pictures in the order of their names; each must have a partner."""
    stems = {d: {Path(str(p)).stem: i for i, p in enumerate(found[d].content)} for d in found}
    alone = sorted(set(stems["a"]) ^ set(stems["b"]))
    if alone and data.on_error == "stop":
        domain = "a" if alone[0] in stems["a"] else "b"
        file = str(found[domain].content[stems[domain][alone[0]]])
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise DataError(
            f'{file} has no namesake in the other folder{more}: add it, or set data.on_error="skip"'
        )
    common = sorted(set(stems["a"]) & set(stems["b"]))
    if not common:
        raise DataError("no picture has a namesake in the other folder: name pairs alike")
    result = {}
    for domain, pictures_ in found.items():
        order = [stems[domain][stem] for stem in common]
        result[domain] = Pictures(
            [str(pictures_.content[i]) for i in order], pictures_.plain[order]
        )
    return result


def scan_folder(folder: Path, data: ConfigDict, skipped: list[str]) -> tuple[list[str], np.ndarray]:
    """Paths of the pictures below a folder, and which of them are plain (see `Pictures`).

    Broken ones are added to `skipped`; raises DataError as `create` does.
    """
    paths = [folder / name for name in pictures.find_pictures(folder)]
    scan = pictures.scan(paths, data.workers or None)
    if scan.broken and data.on_error == "stop":
        more = f" (and {len(scan.broken) - 1} more)" if len(scan.broken) > 1 else ""
        raise DataError(
            f'{scan.broken[0]}{more}: replace or remove it, or set config.data.on_error="skip"'
        )
    if not scan.paths:
        raise DataError(f"no whole picture in {folder}: all {len(paths)} are broken")
    skipped += scan.broken
    return [str(path) for path in scan.paths], scan.plain
