"""The layout semantic: label maps, optional instance maps, and images of the same scenes.

On disk it is SPADE's, Cityscapes' or ADE20K's; `find` tells which.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.data import procedural, tfds
from ganattn.data.examples import (
    ArrayExamples,
    Content,
    DataSet,
    Domain,
    FileExamples,
    Inspection,
    LabelIds,
    inspect,
    inspect_ids,
    report_broken,
)
from ganattn.data.images import find_images, is_plain
from ganattn.data.in_memory import read_npz
from ganattn.errors import ConfigError, DataError

SCENES = "image"  # the one domain
ARRAYS = ("label", "instance", "image")
PARTS = {"train": ("train", "training"), "test": ("test", "val", "validation")}
TFDS_SPLITS = {"train": ("train",), "test": ("test", "validation")}
TFDS_FEATURES = {
    "label": ("annotation", "segmentation_label", "segmentation_mask"),
    "image": ("image", "image_left"),
}
Files = dict[str, list[Path]]
_ENDING = re.compile("_(leftImg8bit|gt(Fine|Coarse)_(labelIds|labelTrainIds|instanceIds))$")


def create(config: ConfigDict, arrays: Mapping[str, np.ndarray] | None = None) -> DataSet:
    """The domain "image" with arrays "label", "image" and, if `data.use_instances`, "instance".

    "image" may be missing from test scenes. With `data.condition_channels`, "label" holds images,
    or arrays of other channels. arrays: see `data.create`. Raises ConfigError without
    `data.num_classes`; DataError for missing files, label ids out of range, and for broken files
    unless `data.on_error` is "skip".
    """
    data = config.data
    if not data.condition_channels and data.num_classes < 1:
        raise ConfigError(
            f"config.data.layout is 'semantic' and config.data.num_classes {data.num_classes}: set "
            "it to the number of label ids, and use a method that takes label maps"
        )
    if arrays is not None:
        return _from_arrays(arrays, data)
    if data.source == "arrays":
        return _from_arrays(read_npz(data.path), data, data.path)
    if data.source == "procedural":
        return _procedural(config)
    return _folder(config) if data.source == "folder" else _tfds(config)


def _folder(config: ConfigDict) -> DataSet:
    check(config, "data.path", required="the folder that holds label maps and images")
    found = find(Path(config.data.path))
    parts = {
        part: {name: list(map(str, paths)) for name, paths in files.items()}
        for part, files in found.items()
    }
    return _from_files(parts, config.data)


def _tfds(config: ConfigDict) -> DataSet:
    check(config, "data.path", required="a TFDS name such as scene_parse150")
    remedy = "use one with images and label maps"
    return _from_files(tfds.read(config.data, TFDS_SPLITS, TFDS_FEATURES, remedy), config.data)


def _from_files(parts: Mapping[str, Mapping[str, Sequence[Content]]], data: ConfigDict) -> DataSet:
    skipped: list[str] = []
    found = {}
    for part, files in parts.items():
        inspections = {
            name: _inspect(files[name], _ids(name, data), data.workers)
            for name in _needed(part, files, data)
        }
        broken = {i: line for each in inspections.values() for i, line in each.broken.items()}
        report_broken(broken.values(), data, skipped)
        intact = np.array([i for i in range(len(files["label"])) if i not in broken], int)
        if not len(intact):
            raise DataError(f"all {len(files['label'])} scenes have broken files: replace them")
        found[part] = {
            name: _examples(files[name], inspection, intact, _ids(name, data))
            for name, inspection in inspections.items()
        }
    return _data_set(found)._replace(skipped=skipped)


def _inspect(content: Sequence[Content], ids: LabelIds | None, threads: int) -> Inspection:
    if ids is None:
        return inspect(content, is_plain, threads)
    return inspect_ids(content, ids, threads)


def _examples(
    content: Sequence[Content], inspection: Inspection, intact: np.ndarray, ids: LabelIds | None
) -> FileExamples:
    content = [content[i] for i in intact]
    results = [inspection.results[i] for i in intact]
    if ids is None:
        return FileExamples(content, np.array(results, bool))
    bits, *sizes = np.array(results, int).T
    deep = bool(bits[0] == 16)
    plain = bits == (16 if deep else 8)
    return FileExamples(content, plain, ids=ids, sizes=np.stack(sizes, 1), deep=deep)


def _from_arrays(
    arrays: Mapping[str, np.ndarray], data: ConfigDict, where: str = "the data set"
) -> DataSet:
    """Of "label" (n, h, w[, c]), "instance" and "image" (n, h, w, 3); of tests "test_label" ..."""
    found = {}
    for part, prefix in (("train", ""), ("test", "test_")):
        scenes = {n: arrays[f"{prefix}{n}"] for n in ARRAYS if f"{prefix}{n}" in arrays}
        if not {"label", "image"} <= set(scenes):
            if part == "train":
                raise DataError(f"{where} lacks an array label or image: give (n, h, w) and more")
            continue
        if len({array.shape[:3] for array in scenes.values()}) > 1:
            shapes = {name: array.shape for name, array in scenes.items()}
            raise DataError(f"{where}: arrays differ in number or size: {shapes}")
        if scenes["image"].dtype != np.uint8 or scenes["image"].shape[3:] != (3,):
            raise DataError(f"{where}: array {prefix}image must be uint8 (n, h, w, 3)")
        domain = {
            name: ArrayExamples(scenes[name], _ids(name, data), f"{prefix}{name}")
            for name in _needed(part, scenes, data)
        }
        for source in domain.values():
            if source.ids is not None:
                for i in range(len(source)):
                    source.read(i)  # checks the ids
        found[part] = domain
    return _data_set(found)


def _procedural(config: ConfigDict) -> DataSet:
    width, seed = config.data.load_size, config.seed
    height = round(width / config.data.aspect_ratio)
    train = procedural.scenes(procedural.TRAIN_COUNT, height, width, seed)
    test = procedural.scenes(procedural.TEST_COUNT, height, width, seed + 1)
    return _from_arrays({**train, **{f"test_{name}": x for name, x in test.items()}}, config.data)


def _data_set(found: Mapping[str, Domain]) -> DataSet:
    test = {SCENES: found["test"]} if "test" in found else {}
    return DataSet({SCENES: found["train"]}, test, paired=True)


def _ids(name: str, data: ConfigDict) -> LabelIds | None:
    """What the ids of an array are; None for images."""
    if name == "instance":
        return LabelIds()
    if name == "label" and not data.condition_channels:
        return LabelIds(data.num_classes + data.use_dontcare, data.use_dontcare)
    return None


def _needed(part: str, found: Mapping[str, object], data: ConfigDict) -> list[str]:
    """The names of the arrays that a part has; raises DataError for one that is missing."""
    names = [name for name in ARRAYS if name != "instance" or data.use_instances]
    if part == "test" and "image" not in found:  # published without, as those of Cityscapes are
        names.remove("image")
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"the data set has no {missing[0]} maps: add them (SPADE's layout calls the folders "
            "train_label, train_inst and train_img), or set config.method.use_instances=False"
        )
    return names


def find(path: Path) -> dict[str, Files]:
    """{"train", "test"}: {"label", "instance", "image"}: paths in the order of their names.

    A folder gtFine marks the layout of Cityscapes, annotations that of ADE20K; otherwise it is
    SPADE's: PART_label, PART_inst and PART_img with files of the same names (up to the endings that
    Cityscapes gives to its kinds of files). "test", its "image" and every "instance" may be
    missing. Raises DataError for a missing folder, or a file without partner.
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with label maps")
    layout: Callable[[Path, str], Files | None] = _spade
    if (path / "gtFine").is_dir():
        layout = _cityscapes
    elif (path / "annotations").is_dir():
        layout = _ade20k
    found = {}
    for part, names in PARTS.items():
        files = next(filter(None, (layout(path, name) for name in names)), None)
        if files:
            found[part] = files
    if "train" not in found:
        raise DataError(
            f"no training images in {path}: add train_label and train_img, gtFine and "
            "leftImg8bit (Cityscapes), or annotations and images (ADE20K)"
        )
    if "image" not in found["train"]:
        raise DataError(
            f"{path} has training label maps without their images: add train_img, leftImg8bit "
            "(Cityscapes) or images (ADE20K)"
        )
    return found


def _spade(path: Path, part: str) -> Files | None:
    folders = {"label": f"{part}_label", "instance": f"{part}_inst", "image": f"{part}_img"}
    if not (path / folders["label"]).is_dir():
        return None
    return _join({k: _by_stem(path / f) for k, f in folders.items() if (path / f).is_dir()})


def _cityscapes(path: Path, part: str) -> Files | None:
    if part == "test":  # its labels are not published
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
    return _join(found) if "label" in found else None


def _ade20k(path: Path, part: str) -> Files | None:
    folders = {"label": path / "annotations" / part, "image": path / "images" / part}
    if not folders["label"].is_dir():
        return None
    return _join({kind: _by_stem(each) for kind, each in folders.items() if each.is_dir()})


def _by_stem(folder: Path) -> dict[str, Path]:
    return {_ENDING.sub("", path.stem): folder / path for path in find_images(folder)}


def _join(found: Mapping[str, Mapping[str, Path]]) -> Files:
    """Paths in the order of their stems, which must be the same for every kind."""
    for kind, files in found.items():
        alone = sorted(set(files) ^ set(found["label"]))
        if alone:
            file = found["label"].get(alone[0]) or files[alone[0]]
            missing = kind if alone[0] in found["label"] else "label"
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DataError(f"{file} has no {missing} of the same name{more}: add or remove files")
    return {kind: [files[stem] for stem in sorted(files)] for kind, files in found.items()}
