"""Where label maps, instance maps and pictures lie on disk: SPADE's folders, Cityscapes, ADE20K."""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from ganattn.data.images import find_pictures
from ganattn.errors import DataError

Files = dict[str, list[Path]]
_ENDING = re.compile("_(leftImg8bit|gt(Fine|Coarse)_(labelIds|labelTrainIds|instanceIds))$")
PARTS = {"train": ("train", "training"), "test": ("test", "val", "validation")}


def find(path: Path) -> dict[str, Files]:
    """{"train", "test"}: {"label", "instance", "image"}: paths in the order of their names.

    The tree is known by its folders: gtFine is Cityscapes', annotations ADE20K's; else SPADE's,
    PART_label, PART_inst and PART_img with files of the same names (up to the endings that
    Cityscapes gives to its kinds of files). "test", its "image" and every "instance" may be
    missing. Raises DataError for a missing folder, or a file without partner.
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with label maps")
    tree: Callable[[Path, str], Files | None] = _spade
    if (path / "gtFine").is_dir():
        tree = _cityscapes
    elif (path / "annotations").is_dir():
        tree = _ade20k
    found = {}
    for part, names in PARTS.items():
        files = next(filter(None, (tree(path, name) for name in names)), None)
        if files:
            found[part] = files
    if "train" not in found:
        raise DataError(
            f"no training pictures in {path}: there must be train_label and train_img, gtFine and "
            "leftImg8bit (Cityscapes), or annotations and images (ADE20K)"
        )
    if "image" not in found["train"]:
        raise DataError(
            f"{path} has training label maps without their pictures: add train_img, leftImg8bit "
            "(Cityscapes) or images (ADE20K)"
        )
    return found


def opened(content: str | Path | bytes) -> str | Path | IO[bytes]:
    """Bytes as a file, a path as it is."""
    return io.BytesIO(content) if isinstance(content, bytes) else content


def _spade(path: Path, part: str) -> Files | None:
    folders = {"label": f"{part}_label", "instance": f"{part}_inst", "image": f"{part}_img"}
    if not (path / folders["label"]).is_dir():
        return None
    found = {k: _by_stem(path / f) for k, f in folders.items() if (path / f).is_dir()}
    return _joined(found)


def _cityscapes(path: Path, part: str) -> Files | None:
    if part == "test":  # its labels are kept back
        return None
    folders = {
        "label": ("gtFine", "_gtFine_labelIds.png"),
        "instance": ("gtFine", "_gtFine_instanceIds.png"),
        "image": ("leftImg8bit", "_leftImg8bit.png"),
    }
    found = {
        kind: {
            file.name.removesuffix(ending): file
            for file in (path / folder / part).glob(f"*/*{ending}")
        }
        for kind, (folder, ending) in folders.items()
    }
    found = {kind: files for kind, files in found.items() if files}
    return _joined(found) if "label" in found else None


def _ade20k(path: Path, part: str) -> Files | None:
    folders = {"label": path / "annotations" / part, "image": path / "images" / part}
    if not folders["label"].is_dir():
        return None
    return _joined({k: _by_stem(f) for k, f in folders.items() if f.is_dir()})


def _by_stem(folder: Path) -> dict[str, Path]:
    return {_ENDING.sub("", path.stem): folder / path for path in find_pictures(folder)}


def _joined(found: Mapping[str, Mapping[str, Path]]) -> Files:
    for kind, files in found.items():
        alone = sorted(set(files) ^ set(found["label"]))
        if alone:
            there = found["label"].get(alone[0]) or files[alone[0]]
            missing = kind if alone[0] in found["label"] else "label"
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DataError(f"{there} has no {missing} of the same name{more}: add or remove files")
    return {kind: [files[stem] for stem in sorted(files)] for kind, files in found.items()}
