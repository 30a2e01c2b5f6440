"""The layout semantic: label maps, optional instance maps, and images of the same scenes.

On disk it is SPADE's, Cityscapes' or ADE20K's; `find` tells which.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import procedural as synthetic
from ganattn.data import tfds
from ganattn.data.examples import ArrayExamples, Content, DataSet, Domain, LabelIds, scan
from ganattn.data.images import find_images
from ganattn.errors import DataError

SCENES = "image"  # the one domain
ARRAYS = ("label", "instance", "image")
PARTS = {"train": ("train", "training"), "test": ("test", "val", "validation")}
# By the folder that only this layout has: for each array, the folder of a part, and how the names
# of its files end.
FOLDERS = {
    "gtFine": {  # Cityscapes
        "label": ("gtFine/{}", "_gtFine_labelIds.png"),
        "instance": ("gtFine/{}", "_gtFine_instanceIds.png"),
        "image": ("leftImg8bit/{}", "_leftImg8bit.png"),
    },
    "annotations": {"label": ("annotations/{}", ""), "image": ("images/{}", "")},  # ADE20K
    "": {"label": ("{}_label", ""), "instance": ("{}_inst", ""), "image": ("{}_img", "")},  # SPADE
}
TFDS_SPLITS = {"train": ("train",), "test": ("test", "validation")}
TFDS_FEATURES = {
    "label": ("annotation", "segmentation_label", "segmentation_mask"),
    "image": ("image", "image_left"),
}
Files = dict[str, Sequence[Content]]
_ENDING = re.compile("_(leftImg8bit|gt(Fine|Coarse)_(labelIds|labelTrainIds|instanceIds))$")


def from_folder(path: Path, data: ConfigDict) -> DataSet:
    """See `find`."""
    return _from_files(find(path), data)


def from_tfds(data: ConfigDict) -> DataSet:
    """Of a builder with images and label maps; instance maps are not read."""
    remedy = "use one with images and label maps, such as scene_parse150"
    return _from_files(tfds.read(data, TFDS_SPLITS, TFDS_FEATURES, remedy), data)


def _from_files(parts: Mapping[str, Mapping[str, Sequence[Content]]], data: ConfigDict) -> DataSet:
    ids, scenes = _ids(data), {}
    for part, files in parts.items():
        scenes[part] = scan({n: files[n] for n in _needed(part, files, data)}, data, ids)
    return _data_set(scenes)


def from_arrays(arrays: Mapping[str, np.ndarray], data: ConfigDict, where: str) -> DataSet:
    """Of "label" (n, h, w[, c]), "instance" and "image" (n, h, w, 3); of tests "test_label" ..."""
    ids, parts = _ids(data), {}
    for part, prefix in (("train", ""), ("test", "test_")):
        scenes = {n: arrays[f"{prefix}{n}"] for n in ARRAYS if f"{prefix}{n}" in arrays}
        if part == "test" and "label" not in scenes:
            continue
        if len({array.shape[:3] for array in scenes.values()}) > 1:
            shapes = {name: array.shape for name, array in scenes.items()}
            raise DataError(f"{where}: arrays differ in number or size: {shapes}")
        domain = {
            name: ArrayExamples(scenes[name], ids.get(name), f"{prefix}{name}")
            for name in _needed(part, scenes, data)
        }
        images = scenes.get("image", np.empty((0, 1, 1, 3), np.uint8))
        if images.dtype != np.uint8 or images.shape[3:] != (3,):
            raise DataError(f"{where}: array {prefix}image must be uint8 (n, h, w, 3)")
        for name in ids.keys() & domain.keys():
            for i in range(len(domain[name])):
                domain[name].read(i)  # checks the ids
        parts[part] = domain
    return _data_set(parts)


def procedural(config: ConfigDict) -> dict[str, np.ndarray]:
    """Generated scenes for `from_arrays`."""
    width, seed = config.data.load_size, config.seed
    height = round(width / config.data.aspect_ratio)
    train = synthetic.scenes(synthetic.TRAIN_COUNT, height, width, seed)
    test = synthetic.scenes(synthetic.TEST_COUNT, height, width, seed + 1)
    return train | {f"test_{name}": array for name, array in test.items()}


def _data_set(parts: Mapping[str, Domain]) -> DataSet:
    test = {SCENES: parts["test"]} if "test" in parts else {}
    return DataSet({SCENES: parts["train"]}, test, paired=True)


def _ids(data: ConfigDict) -> dict[str, LabelIds]:
    """The ids of the arrays that hold ids."""
    ids = {"instance": LabelIds()}
    if not data.condition_channels:
        ids["label"] = LabelIds(data.num_classes + data.use_dontcare, data.use_dontcare)
    return ids


def _needed(part: str, present: Mapping[str, object], data: ConfigDict) -> list[str]:
    """The names of the arrays that a part has; raises DataError for one that is missing."""
    names = [name for name in ARRAYS if name != "instance" or data.use_instances]
    if part == "test" and "image" not in present:  # published without, as those of Cityscapes are
        names.remove("image")
    missing = [name for name in names if name not in present]
    if missing:
        remedy = ", or set config.method.use_instances=False" if missing == ["instance"] else ""
        raise DataError(
            f"the {part} part has no {missing[0]} files or arrays: add them (SPADE's layout calls "
            f"the folders train_label, train_inst and train_img){remedy}"
        )
    return names


def find(path: Path) -> dict[str, Files]:
    """{"train", "test"}: {"label", "instance", "image"}: paths in the order of their names.

    A folder gtFine marks the layout of Cityscapes, annotations that of ADE20K; otherwise it is
    SPADE's: PART_label, PART_inst and PART_img with files of the same names (up to the endings that
    Cityscapes gives to its kinds of files). "test", its "image" and every "instance" may be
    missing. Raises DataError for a missing folder, or a file without partner.
    """
    layout = next(folder for folder in FOLDERS if (path / folder).is_dir())
    parts: dict[str, Files] = {}
    for part, names in PARTS.items():
        for name in names:
            if part in parts or (layout, name) == ("gtFine", "test"):  # its labels are unpublished
                continue
            files = {
                kind: _by_stem(path / folder.format(name), ending)
                for kind, (folder, ending) in FOLDERS[layout].items()
            }
            if files["label"]:
                parts[part] = _join({kind: each for kind, each in files.items() if each})
    if "train" not in parts:
        raise DataError(
            f"no training images in {path}: add train_label and train_img, gtFine and "
            "leftImg8bit (Cityscapes), or annotations and images (ADE20K)"
        )
    return parts


def _by_stem(folder: Path, ending: str) -> dict[str, Path]:
    """The images below a folder whose names have an ending; none where it does not exist."""
    names = [n for n in find_images(folder) if n.name.endswith(ending)] if folder.is_dir() else []
    return {_ENDING.sub("", name.stem): folder / name for name in names}


def _join(kinds: Mapping[str, Mapping[str, Path]]) -> Files:
    """Paths in the order of their stems, which must be the same for every kind."""
    for kind, files in kinds.items():
        alone = sorted(set(files) ^ set(kinds["label"]))
        if alone:
            file = kinds["label"].get(alone[0]) or files[alone[0]]
            missing = kind if alone[0] in kinds["label"] else "label"
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DataError(f"{file} has no {missing} of the same name{more}: add or remove files")
    return {kind: [str(files[n]) for n in sorted(files)] for kind, files in kinds.items()}
