"""Label maps: sets of classes, true label maps, and the metrics of segmented or painted labels."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ganattn.data.images import find_images, read_ids
from ganattn.data.palettes import palette
from ganattn.errors import ConfigError, DataError
from ganattn.evaluation.examples import Example, ExampleStream, as_uint8
from ganattn.evaluation.metrics import Metric
from ganattn.evaluation.options import Settings
from ganattn.runs.results import Result

VOID = 255
SMALL = 1e-12  # keeps the authors' quotients finite, so that an absent class counts as 0

# Cityscapes: label id, name and colour of the 19 classes of the benchmark, in order.
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
    """The classes of a metric.

    names: of the classes. colours: (classes, 3) uint8, or None. ids: ids of the classes in label
    files, in order; None where they are 0, 1, 2 and so on. Other ids are void.
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
    """The set of classes of that name.

    "cityscapes": the 19 classes of label ids (7 is road), "cityscapes-train": of train ids (0 is
    road). "facades": the 12 of CMP, 1 to 12. "plain": `classes` classes without names or colours.
    Raises ConfigError for another name, or where the number of classes is unknown.
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
        raise ConfigError("the classes of the label maps are unknown: name a --label-set")
    return LabelSet(tuple(map(str, range(classes))))


class LabelFolder:
    """True label maps in files with the stems of the images that they belong to.

    A file name may continue after the stem with _labelIds, _gtFine_labelIds or similar.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._files = {path.stem: self._folder / path for path in find_images(folder)}

    def read(self, stem: str) -> np.ndarray:
        """(h, w) int64; raises DataError when the image has no file."""
        if stem in self._files:
            return read_ids(self._files[stem])
        base = stem.removesuffix("_leftImg8bit")
        longer = [name for name in self._files if name.startswith(f"{base}_") and "abelIds" in name]
        if not longer:
            raise DataError(f"{self._folder} has no label map {stem}.png: name files like images")
        return read_ids(self._files[longer[0]])


@dataclasses.dataclass(frozen=True)
class LabelAccuracy:
    """Pixel accuracy, and means over classes of accuracy and intersection over union, in [0, 1].

    per_class_accuracy, per_class_iou: (classes,), NaN for a class that is left out of the means.
    """

    pixel_accuracy: float
    class_accuracy: float
    class_iou: float
    per_class_accuracy: np.ndarray
    per_class_iou: np.ndarray


def confusion(truth: ArrayLike, labels: ArrayLike, classes: int) -> np.ndarray:
    """(classes + 1, classes) int64: pixels of each true class by predicted class.

    truth, labels: ids of equal shape. The last row holds the pixels whose true id is no class
    (void). Matrices of several images may be added up. Raises DataError for a predicted id that is
    no class, or different shapes.
    """
    truth, labels = (np.asarray(x).astype(np.int64) for x in (truth, labels))
    if truth.shape != labels.shape:
        raise DataError(
            f"label maps have shapes {truth.shape} and {labels.shape}: resize the predicted one"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"predicted labels are {labels.min()} to {labels.max()}: they must be 0 to "
            f"{classes - 1}"
        )
    rows = np.where((truth >= 0) & (truth < classes), truth, classes)
    counts = np.bincount((rows * classes + labels).ravel(), minlength=(classes + 1) * classes)
    return counts.reshape(classes + 1, classes)


def label_accuracy(
    counts: ArrayLike,
    absent: Literal["zero", "skip"] = "zero",
    void: Literal["ignore", "wrong"] = "ignore",
) -> LabelAccuracy:
    """Accuracies and intersection over union of a `confusion` matrix.

    absent: a class that is in no true map counts as 0, as in pix2pix's FCN score, or is left out of
    the means, as in SPADE's. void: pixels of no class are ignored, or count as wrong, in pixel
    accuracy and where a class is predicted there.
    """
    counts = np.asarray(counts, np.float64)
    matrix, outside = counts[:-1], counts[-1]
    if void == "ignore":
        outside = np.zeros_like(outside)
    elif void != "wrong":
        raise ConfigError(f"void is {void!r}: use ignore or wrong")
    if absent not in ("zero", "skip"):
        raise ConfigError(f"absent is {absent!r}: use zero or skip")
    hit, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0) + outside
    accuracy = hit / (true + SMALL)
    iou = hit / (true + predicted - hit + SMALL)
    if absent == "skip":
        accuracy, iou = (np.where(true > 0, x, np.nan) for x in (accuracy, iou))
    everything = matrix.sum() + outside.sum() + SMALL
    means = (_mean(accuracy), _mean(iou))
    return LabelAccuracy(float(hit.sum() / everything), *means, accuracy, iou)


def _mean(values: np.ndarray) -> float:
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if finite.size else float("nan")


def nearest_labels(images: ArrayLike, palette: ArrayLike) -> np.ndarray:
    """(n, h, w) int32: the id whose colour is nearest to each pixel, the lower one of two.

    images: (n, h, w, 3) uint8. palette: (classes, 3) uint8.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[-1:] != (3,):
        raise DataError(f"images are {images.dtype} {images.shape}: give (n, h, w, 3) uint8")
    colours = np.asarray(palette, np.int32)
    pixels = images.reshape(-1, 3).astype(np.int32)
    nearest = np.full(len(pixels), np.iinfo(np.int32).max)
    labels = np.zeros(len(pixels), np.int32)
    for label, colour in enumerate(colours):  # one class at a time, to save memory
        distance = ((pixels - colour) ** 2).sum(1)
        labels[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
    return labels.reshape(images.shape[:-1])


def _resized(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(h, w, 3) uint8 resized bilinearly, as pix2pix's script does for its FCN."""
    if image.shape[:2] == size:
        return image
    height, width = size
    bilinear = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((width, height), bilinear))


def _resized_ids(labels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(h, w) ids resized to (height, width) by the nearest pixel."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def true_labels(
    examples: ExampleStream, settings: Settings, side: Literal["source", "target"]
) -> tuple[LabelSet, Callable[[Example], np.ndarray]]:
    """The classes, and a function from an example to its true class numbers (h, w).

    They come from the folder `settings.labels`, the example's label map, or the colours of its
    image `side`. Raises DataError where there is none of these.
    """
    classes = label_set(settings.label_set, examples.classes)
    if settings.labels is not None:
        folder = LabelFolder(settings.labels)
        return classes, lambda example: classes.classes(folder.read(example.name))
    if "label" in examples.fields:
        return classes, lambda example: classes.classes(example.label)
    if side not in examples.fields or classes.colours is None:
        raise DataError("there are no true label maps: give --labels FOLDER, or evaluate pairs")
    colours = classes.colours
    return classes, lambda e: nearest_labels(as_uint8(getattr(e, side))[None], colours)[0]


class _PredictedLabels(Metric):
    """Accuracies and IoU of label maps that `predict` finds in generated images."""

    side: Literal["source", "target"]

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        self._set, self._read = true_labels(examples, settings, self.side)
        self._counts = np.zeros((len(self._set) + 1, len(self._set)), np.int64)
        self._images = 0

    def predict(self, image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Class numbers of that size for an image (h, w, 3) uint8."""
        raise NotImplementedError

    def add(self, example: Example) -> None:
        """Counts the pixels of one image."""
        label = self._read(example)
        predicted = self.predict(example.generated, label.shape)
        self._counts += confusion(label, predicted, len(self._set))
        self._images += 1

    def results(self) -> list[Result]:
        """Three results, two of them with the values of every class."""
        absent, void = self.settings.absent, self.settings.void
        means = label_accuracy(self._counts, absent, void)  # type: ignore[arg-type]
        values: dict[str, tuple[float, Any]] = {
            "pixel_accuracy": (means.pixel_accuracy, None),
            "class_accuracy": (means.class_accuracy, means.per_class_accuracy),
            "class_iou": (means.class_iou, means.per_class_iou),
        }
        return [
            {
                "metric": f"{self.names[0]}_{metric}",
                "value": value,
                **({} if each is None else {"per_class": by_class(self._set.names, each)}),
                "convention": f"absent classes {absent}, void {void}",
                "label_set": self.settings.label_set,
                "samples": [self._images, self._images],
            }
            for metric, (value, each) in values.items()
        ]


class SegmentedLabels(_PredictedLabels):
    """The FCN score: classes that a segmenter predicts for generated photos (pix2pix, 2017)."""

    side = "source"

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        if settings.segmenter is None:
            raise ConfigError(
                "fcn needs a segmenter with weights of your own: --segmenter MODULE:FUNCTION, from "
                "(n, h, w, 3) uint8 images to (n, h, w) class numbers"
            )
        super().__init__(names, examples, settings)

    def predict(self, image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """The segmenter's class numbers for the resized image."""
        assert self.settings.segmenter is not None
        return np.asarray(self.settings.segmenter(_resized(image, size)[None]))[0]


class PaintedLabels(_PredictedLabels):
    """Label maps that a translator paints, by the nearest colour of the label set."""

    side = "target"

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        if self._set.colours is None:
            raise ConfigError("labels needs a --label-set with colours, such as cityscapes")

    def predict(self, image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """The classes of the nearest colours, resized by the nearest pixel."""
        assert self._set.colours is not None
        return _resized_ids(nearest_labels(image[None], self._set.colours)[0], size)


def by_class(names: Sequence[str], values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Class name -> value, None for NaN."""
    pairs = zip(names, map(float, values), strict=True)
    return {name: None if np.isnan(value) else value for name, value in pairs}
