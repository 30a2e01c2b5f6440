"""Label maps, instance maps and pictures of the same scenes, resized, cropped and mirrored alike.

Decoding is Pillow's in a few threads, so that no TensorFlow is needed.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ganattn.data import label_maps as trees
from ganattn.data.batches import Tests, numbered
from ganattn.data.images import INTERPOLATIONS, read_ids, read_rgb, to_float
from ganattn.data.sampling import Draws
from ganattn.errors import ConfigError, DataError
from ganattn.processes import own_share

VOID = 255  # what label files call pixels that count as no class
SCENES = "image"  # the one domain


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Files (paths or bytes) or arrays of the same scenes, by kind: "label", "instance", "image".

    "instance" is missing where a data set has none, "image" where test label maps have none.
    """

    content: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.content["label"])

    def read(self, kind: str, index: int, ids: bool) -> np.ndarray:
        """(h, w) int64 of ids, or (h, w, 3) uint8; arrays may have other channels."""
        content = self.content[kind][index]
        if isinstance(content, np.ndarray):
            return content.astype(np.int64).reshape(content.shape[:2]) if ids else content
        return read_ids(content) if ids else read_rgb(trees.opened(content))

    def names(self) -> list[str]:
        """The stems of the label files, or numbers."""
        content = self.content["label"]
        return [
            Path(each).stem if isinstance(each, str | Path) else number
            for each, number in zip(content, numbered(len(self)), strict=True)
        ]

    def name(self, kind: str, index: int) -> str:
        """What a message calls a file or array."""
        content = self.content[kind][index]
        return str(content) if isinstance(content, str | Path) else f"{kind} {index}"


class Semantic:
    """A `Pipeline` of {"label", "instance", "image"}; see `create`."""

    paired = True

    def __init__(self, train: Scenes, test: Scenes, config: ConfigDict):
        self._train, self._test, self._data = train, test, config.data
        self._held_out = train is not test
        self._classes = config.method.num_classes
        self._void = config.method.use_dontcare
        self._as_picture = bool(config.method.condition_channels)
        self.sizes = {SCENES: len(train)}

    def stream(
        self, draws: Iterator[Mapping[str, Draws]], share: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `Pipeline`: "label" and "instance" are (share, h, w, 1) int32."""
        with ThreadPoolExecutor(self._data.workers or os.cpu_count()) as pool:
            for step in draws:
                draw = step[SCENES]
                yield _stacked(pool.map(self._augmented, draw.example, draw.flip, draw.offset))

    def test_pictures(self, count: int) -> dict[str, np.ndarray]:
        """See `Pipeline`."""
        shown = np.resize(np.arange(len(self._test)), count)
        crop = self._size(self._data.crop_size)
        return _stacked(self._resized(self._test, int(i), crop) for i in shown)

    @property
    def tests(self) -> Tests:
        """See `Pipeline`."""
        names = {SCENES: self._test.names()}
        crop = self._size(self._data.crop_size)
        return Tests(names, lambda _, i: self._resized(self._test, i, crop), self._held_out)

    def _augmented(self, example, flip, offset):
        load, crop = self._size(self._data.load_size), self._size(self._data.crop_size)
        scene = self._resized(self._train, int(example), load)
        top, left = (int(o * (x - y + 1)) for o, x, y in zip(offset, load, crop, strict=True))
        cut = {k: x[top : top + crop[0], left : left + crop[1]] for k, x in scene.items()}
        return {kind: x[:, ::-1] if flip else x for kind, x in cut.items()}

    def _resized(self, scenes: Scenes, index: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """One scene at (height, width): ids by their nearest pixel, pictures smoothly."""
        result = {}
        for kind in scenes.content:
            ids = kind == "instance" or (kind == "label" and not self._as_picture)
            array = scenes.read(kind, index, ids)
            if kind == "label" and ids:
                array = checked(array, self._classes, self._void, scenes.name(kind, index))
            result[kind] = self._scaled(array, size, ids)
        return result

    def _scaled(self, array: np.ndarray, size: tuple[int, int], ids: bool) -> np.ndarray:
        height, width = size
        if ids:
            picture = Image.fromarray(array.astype(np.int32))
            nearest = picture.resize((width, height), Image.Resampling.NEAREST)
            return np.asarray(nearest, np.int32)[..., None]
        if array.dtype != np.uint8 or array.shape[-1] != 3:  # channels of any meaning
            if array.shape[:2] != size:
                raise DataError(f"an array has {array.shape[:2]} pixels: give {size}, or pictures")
            return array.astype(np.float32)
        method = INTERPOLATIONS[self._data.interpolation]
        return to_float(np.asarray(Image.fromarray(array).resize((width, height), method)))

    def _size(self, width: int) -> tuple[int, int]:
        return round(width / self._data.aspect_ratio), width


def create(found: Mapping[str, Scenes], config: ConfigDict) -> Semantic:
    """The pipeline over training and, if there are, test scenes.

    Every label file is checked, by one process of several.

    found: "train" and perhaps "test". Raises DataError for a label that is no class, or an instance
    map that is missing; ConfigError for a method without classes.
    """
    method = config.method
    if "num_classes" not in method:
        raise ConfigError(
            f"config.data.layout is 'semantic', but {method.name} takes no label maps"
        )
    parts = {part: _needed(part, scenes, method) for part, scenes in found.items()}
    if not method.condition_channels:
        for scenes in parts.values():
            check = partial(_check, scenes, method)
            with ThreadPoolExecutor(config.data.workers or os.cpu_count()) as pool:
                list(pool.map(check, own_share(range(len(scenes)))))
    return Semantic(parts["train"], parts.get("test", parts["train"]), config)


def checked(ids: np.ndarray, classes: int, void: bool, name: str) -> np.ndarray:
    """Ids in [0, classes), or to `classes` where there is a class for void pixels.

    Raises DataError that names the file and its first id out of range.
    """
    ids = np.where(ids == VOID, classes, ids) if void else ids
    wrong = ids[(ids < 0) | (ids >= classes + void)]
    if wrong.size:
        raise DataError(
            f"{name} has the label id {wrong[0]}: config.method.num_classes is {classes}, so ids "
            f"are 0 to {classes + void - 1}{' and 255' if void else ''}"
        )
    return ids


def _check(scenes: Scenes, method: ConfigDict, index: int) -> None:
    name = scenes.name("label", index)
    label = scenes.read("label", index, ids=True)
    checked(label, method.num_classes, method.use_dontcare, name)


def _needed(part: str, scenes: Scenes, method: ConfigDict) -> Scenes:
    kinds = ["label", "instance", "image"] if method.use_instances else ["label", "image"]
    if part == "test" and "image" not in scenes.content:  # published without, as Cityscapes' are
        kinds.remove("image")
    missing = [kind for kind in kinds if kind not in scenes.content]
    if missing:
        raise DataError(
            f"the data set has no {missing[0]} maps: add them (SPADE's layout calls the folders "
            "train_label, train_inst and train_img), or set config.method.use_instances=False"
        )
    return Scenes({kind: scenes.content[kind] for kind in kinds})


def _stacked(scenes: Any) -> dict[str, np.ndarray]:
    whole = list(scenes)
    return {kind: np.stack([scene[kind] for scene in whole]) for kind in whole[0]}
