"""Label maps: sets of classes, true label maps, and the metrics of segmented or painted labels."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ganattn.data.images import VOID, find_images, read_ids, resize, resize_ids
from ganattn.data.palettes import palette
from ganattn.errors import ConfigError, DataError
from ganattn.evaluation.examples import Example, ExampleStream
from ganattn.evaluation.metrics import Metric
from ganattn.evaluation.settings import Settings
from ganattn.figures import to_uint8
from ganattn.runs.results import Result

LABEL_SETS = ("cityscapes", "cityscapes-train", "facades", "plain")
SMALL = 1e-12  # keeps the authors' quotients finite, so that an absent class counts as 0

# Cityscapes: label id, name and color of the 19 classes of the benchmark, in order.
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

    names: of the classes. colors: (classes, 3) uint8, or None. ids: ids of the classes in label
    files, in order; None where they are 0, 1, 2 and so on. Other ids are void.
    """

    names: tuple[str, ...]
    colors: np.ndarray | None = None
    ids: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def classes(self, ids: np.ndarray) -> np.ndarray:
        """Class numbers for the ids of label files, VOID for ids of no class."""
        known = self.ids or range(len(self))
        table = np.full(max(known) + 2, VOID)  # the last entry is that of ids outside the table
        table[list(known)] = np.arange(len(self))
        return table[np.where((ids >= 0) & (ids < len(table)), ids, -1)]


def label_set(name: str, classes: int = 0) -> LabelSet:
    """The set of classes of that name.

    "cityscapes": the 19 classes of label ids (7 is road), "cityscapes-train": of train ids (0 is
    road). "facades": the 12 of CMP, 1 to 12. "plain": `classes` classes without names or colors.
    Raises ConfigError for another name, or where the number of classes is unknown.
    """
    if name in ("cityscapes", "cityscapes-train"):
        ids, names, colors = zip(*CITYSCAPES, strict=True)
        return LabelSet(names, np.array(colors, np.uint8), ids if name == "cityscapes" else None)
    if name == "facades":
        numbers = tuple(range(1, 13))
        return LabelSet(tuple(map(str, numbers)), palette("facades")[1:], numbers)
    if name != "plain":
        raise ConfigError(f"no label set {name!r}: use one of {', '.join(LABEL_SETS)}")
    if classes < 1:
        raise ConfigError("the classes of the label maps are unknown: name a --label-set")
    return LabelSet(tuple(map(str, range(classes))))


def label_reader(folder: Path) -> Callable[[str], np.ndarray]:
    """A function from the stem of an image's file to its true label map (h, w) int64.

    The label map is the file in `folder` with that stem; its name may continue with _labelIds,
    _gtFine_labelIds or similar. The function raises DataError when there is none.
    """
    files = {path.stem: folder / path for path in find_images(folder)}

    def read(stem: str) -> np.ndarray:
        start = stem.removesuffix("_leftImg8bit") + "_"
        longer = [name for name in files if name.startswith(start) and "abelIds" in name]
        for name in (stem, *longer):
            if name in files:
                return read_ids(files[name])
        raise DataError(f"{folder} has no label map {stem}.png: name files like images")

    return read


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
    pixel_accuracy = float(hit.sum() / (matrix.sum() + outside.sum() + SMALL))
    means = mean_over_classes(accuracy), mean_over_classes(iou)
    return LabelAccuracy(pixel_accuracy, *means, accuracy, iou)


def mean_over_classes(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN where there is none."""
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if finite.size else float("nan")


def nearest_labels(images: ArrayLike, palette: ArrayLike) -> np.ndarray:
    """(n, h, w) int32: the id whose color is nearest to each pixel, the lower one of two.

    images: (n, h, w, 3) uint8. palette: (classes, 3) uint8.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[-1:] != (3,):
        raise DataError(f"images are {images.dtype} {images.shape}: give (n, h, w, 3) uint8")
    colors = np.asarray(palette, np.int32)
    pixels = images.reshape(-1, 3).astype(np.int32)
    nearest = np.full(len(pixels), np.iinfo(np.int32).max)
    labels = np.zeros(len(pixels), np.int32)
    for label, color in enumerate(colors):  # one class at a time, to save memory
        distance = ((pixels - color) ** 2).sum(1)
        labels[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
    return labels.reshape(images.shape[:-1])


def true_labels(
    examples: ExampleStream, settings: Settings, side: Literal["source", "target"]
) -> tuple[LabelSet, Callable[[Example], np.ndarray]]:
    """The classes, and a function from an example to its true class numbers (h, w).

    They come from the folder `settings.labels`, the example's label map, or the colors of its
    image `side`. Raises DataError where there is none of these.
    """
    classes = label_set(settings.label_set, examples.classes)
    if settings.labels is not None:
        read = label_reader(settings.labels)
        return classes, lambda example: classes.classes(read(example.name))
    if "label" in examples.fields:
        return classes, lambda example: classes.classes(example.label)
    if side not in examples.fields or classes.colors is None:
        raise DataError("there are no true label maps: give --labels FOLDER, or evaluate pairs")
    colors = classes.colors
    return classes, lambda e: nearest_labels(to_uint8(getattr(e, side))[None], colors)[0]


class _PredictedLabels(Metric):
    """Accuracies and IoU of label maps that `predict` finds in generated images."""

    side: Literal["source", "target"]

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        self._set, self._read = true_labels(examples, settings, self.side)
        self._counts = np.zeros((len(self._set) + 1, len(self._set)), np.int64)
        self._images = 0

    @abstractmethod
    def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Class numbers of that size for an image (h, w, 3) uint8."""

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
        names = self._set.names
        values: dict[str, Result] = {
            "pixel_accuracy": {"value": means.pixel_accuracy},
            "class_accuracy": by_class(names, means.per_class_accuracy),
            "class_iou": by_class(names, means.per_class_iou),
        }
        return [
            {
                "metric": f"{self.names[0]}_{metric}",
                **value,
                "convention": f"absent classes {absent}, void {void}",
                "label_set": self.settings.label_set,
                "samples": [self._images, self._images],
            }
            for metric, value in values.items()
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

    def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The segmenter's class numbers for the image, resized as in pix2pix's script."""
        assert self.settings.segmenter is not None
        return np.asarray(self.settings.segmenter(resize(image, *size, "bilinear")[None]))[0]


class PaintedLabels(_PredictedLabels):
    """Label maps that a translator paints, by the nearest color of the label set."""

    side = "target"

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        if self._set.colors is None:
            raise ConfigError("labels needs a --label-set with colors, such as cityscapes")

    def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The classes of the nearest colors, resized by the nearest pixel."""
        assert self._set.colors is not None
        return resize_ids(nearest_labels(image[None], self._set.colors)[0], *size)


def by_class(names: Sequence[str], values: np.ndarray) -> Result:
    """ "value", the mean, and "per_class": class name -> value, None for NaN."""
    pairs = zip(names, map(float, values), strict=True)
    per_class = {name: None if np.isnan(value) else value for name, value in pairs}
    return {"value": mean_over_classes(values), "per_class": per_class}
