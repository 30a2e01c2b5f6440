"""Sets of label classes, and true label maps from folders."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from ganattn.data.images import find_pictures, read_ids
from ganattn.data.palettes import palette
from ganattn.errors import ConfigError, DataError

VOID = 255

# Cityscapes: label id, name and colour of the 19 classes that are scored, in their order.
CITYSCAPES = (
    (7, "road", (128, 64, 128)), (8, "sidewalk", (244, 35, 232)), (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)), (13, "fence", (190, 153, 153)), (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)), (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)), (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)), (24, "person", (220, 20, 60)), (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)), (27, "truck", (0, 0, 70)), (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)), (32, "motorcycle", (0, 0, 230)), (33, "bicycle", (119, 11, 32)),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """The classes that are scored.

    names: of the classes. colours: (classes, 3) uint8, or None. ids: what label files call the
    classes, in their order; None where they are 0, 1, 2 and so on. Other ids are void.
    """

    names: tuple[str, ...]
    colours: np.ndarray | None = None
    ids: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def classes(self, ids: np.ndarray) -> np.ndarray:
        """Class numbers for the ids of label files, VOID for ids of no class."""
        ids = np.asarray(ids).astype(np.int64)
        if self.ids is None:
            return np.where((ids >= 0) & (ids < len(self)), ids, VOID)
        table = np.full(max(self.ids) + 1, VOID)
        table[list(self.ids)] = np.arange(len(self))
        inside = (ids >= 0) & (ids < len(table))
        return np.where(inside, table[np.where(inside, ids, 0)], VOID)


def label_set(name: str, classes: int = 0) -> LabelSet:
    """A set of classes by name.

    "cityscapes": the 19 classes of label ids (7 is road), "cityscapes-train": of train ids (0 is
    road). "facades": the 12 of CMP, 1 to 12. "plain": `classes` classes without names or colours.
    Raises ConfigError for another name, or no number of classes.
    """
    if name.startswith("cityscapes"):
        ids, names, colours = zip(*CITYSCAPES, strict=True)
        known = {"cityscapes": ids, "cityscapes-train": None}
        if name in known:
            return LabelSet(names, np.array(colours, np.uint8), known[name])
    if name == "facades":
        numbers = tuple(range(1, 13))
        return LabelSet(tuple(map(str, numbers)), palette("facades")[1:], numbers)
    if name != "plain":
        raise ConfigError(
            f"there is no label set {name!r}: use cityscapes, cityscapes-train, facades or plain"
        )
    if classes < 1:
        raise ConfigError("the data does not say which classes there are: name a --label-set")
    return LabelSet(tuple(map(str, range(classes))))


class LabelFolder:
    """True label maps in files, found by the stems of the pictures that they belong to.

    A file may go on after its stem with _labelIds, _gtFine_labelIds or the like.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._files = {path.stem: self._folder / path for path in find_pictures(folder)}

    def read(self, stem: str) -> np.ndarray:
        """(h, w) int64; raises DataError when there is no file for the picture."""
        if stem in self._files:
            return read_ids(self._files[stem])
        base = stem.removesuffix("_leftImg8bit")
        longer = [name for name in self._files if name.startswith(f"{base}_") and "abelIds" in name]
        if not longer:
            raise DataError(f"{self._folder} has no label map {stem}.png: name files like pictures")
        return read_ids(self._files[longer[0]])
