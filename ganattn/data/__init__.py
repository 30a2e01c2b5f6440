"""Where pictures come from and how they reach a step: `create(config)` gives `batches(step)`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import folder, procedural, semantic, single
from ganattn.data import in_memory as arrays
from ganattn.data import label_maps as trees
from ganattn.data import tfds as catalog
from ganattn.data.batches import Batches, Pipeline
from ganattn.data.images import INTERPOLATIONS, to_float
from ganattn.data.palettes import PALETTES
from ganattn.errors import ConfigError

__all__ = ["Batches", "create"]


def create(config: ConfigDict, process_index: int = 0, process_count: int = 1) -> Batches:
    """The batches that `config.data` describes, as process `process_index` sees them.

    Every file is looked at before the first batch. Raises ConfigError for values out of range,
    DataError for data that is missing, empty or broken.
    """
    _check(config.data)
    sources = {"semantic": SEMANTIC_SOURCES, "single": SINGLE_SOURCES}
    found = sources.get(config.data.layout, SOURCES)[config.data.source](config)
    return Batches(found.pipeline, config, process_index, process_count, found.skipped, found.truth)


class _Found(NamedTuple):
    pipeline: Pipeline
    skipped: Sequence[str] = ()
    truth: Mapping[str, np.ndarray] | None = None


def _folder(config: ConfigDict) -> _Found:
    path = Path(_required(config.data.path, "the folder that holds the training pictures"))
    return _Found(*folder.create(path, config.data))


def _tfds(config: ConfigDict) -> _Found:
    name = _required(config.data.path, "a TFDS name such as cycle_gan/horse2zebra")
    return _Found(catalog.create(name, config.data))


def _arrays(config: ConfigDict) -> _Found:
    path = _required(config.data.path, "an .npz file with arrays a and b")
    return _Found(
        arrays.Memory(arrays.load_npz(path), config.data, paired=config.data.layout != "unpaired")
    )


def _procedural(config: ConfigDict) -> _Found:
    size, seed = config.data.crop_size, config.seed
    paired = config.data.layout != "unpaired"
    make = procedural.pairs if paired else procedural.train_set
    pictures = make(procedural.TRAIN_COUNT, size, seed)
    test = procedural.test_set(procedural.TEST_COUNT, size, seed)
    shown = {f"test_{domain}": test[domain] for domain in procedural.DOMAINS}
    truth = {k: v if v.dtype == bool else to_float(v) for k, v in test.items()}
    return _Found(arrays.Memory({**pictures, **shown}, config.data, paired), truth=truth)


def _semantic_folder(config: ConfigDict) -> _Found:
    path = Path(_required(config.data.path, "the folder that holds label maps and pictures"))
    found = {part: semantic.Scenes(files) for part, files in trees.find(path).items()}
    return _Found(semantic.create(found, config))


def _semantic_tfds(config: ConfigDict) -> _Found:
    name = _required(config.data.path, "a TFDS name such as scene_parse150")
    found = {k: semantic.Scenes(v) for k, v in catalog.read_scenes(name, config.data).items()}
    return _Found(semantic.create(found, config))


def _semantic_arrays(config: ConfigDict) -> _Found:
    path = _required(config.data.path, "an .npz file with arrays label, image and maybe instance")
    found = {k: semantic.Scenes(v) for k, v in arrays.load_scenes(path).items()}
    return _Found(semantic.create(found, config))


def _semantic_procedural(config: ConfigDict) -> _Found:
    width, seed = config.data.load_size, config.seed
    height = round(width / config.data.aspect_ratio)
    counts = {"train": procedural.TRAIN_COUNT, "test": procedural.TEST_COUNT}
    found = {
        part: semantic.Scenes(procedural.scenes(count, height, width, seed + i))
        for i, (part, count) in enumerate(counts.items())
    }
    return _Found(semantic.create(found, config))


def _single_folder(config: ConfigDict) -> _Found:
    path = Path(_required(config.data.path, "the folder that holds the training pictures"))
    return _Found(*single.from_folder(path, config.data))


def _single_tfds(config: ConfigDict) -> _Found:
    name = _required(config.data.path, "a TFDS name such as celeb_a_hq/128")
    return _Found(single.from_tfds(name, config.data))


def _single_arrays(config: ConfigDict) -> _Found:
    path = _required(config.data.path, "an .npz file with an array image")
    return _Found(single.from_arrays(path, config.data))


def _single_procedural(config: ConfigDict) -> _Found:
    return _Found(single.from_formula(config.data.crop_size, config.seed, config.data))


SINGLE_SOURCES: dict[str, Callable[[ConfigDict], _Found]] = {
    "folder": _single_folder,
    "tfds": _single_tfds,
    "arrays": _single_arrays,
    "procedural": _single_procedural,
}
SEMANTIC_SOURCES: dict[str, Callable[[ConfigDict], _Found]] = {
    "folder": _semantic_folder,
    "tfds": _semantic_tfds,
    "arrays": _semantic_arrays,
    "procedural": _semantic_procedural,
}
SOURCES: dict[str, Callable[[ConfigDict], _Found]] = {
    "folder": _folder,
    "tfds": _tfds,
    "arrays": _arrays,
    "procedural": _procedural,
}


def _check(data: ConfigDict) -> None:
    choices: dict[str, Iterable[str]] = {
        "source": SOURCES,
        "layout": (*folder.LAYOUTS, "semantic", "single"),
        "palette": PALETTES,
        "interpolation": INTERPOLATIONS,
        "on_error": ("stop", "skip"),
    }
    for field, known in choices.items():
        if data[field] not in list(known):
            raise ConfigError(
                f"config.data.{field} is {data[field]!r}: use one of {', '.join(known)}"
            )
    if not 0 < data.crop_size <= data.load_size:
        raise ConfigError(
            f"config.data.crop_size is {data.crop_size} and load_size {data.load_size}: "
            "a crop is at least one pixel and fits inside the loaded picture"
        )


def _required(path: str, what: str) -> str:
    if not path:
        raise ConfigError(f"config.data.path is empty: set it to {what}")
    return path
