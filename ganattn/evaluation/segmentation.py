"""Scores of label maps: what a segmenter finds in made pictures, or what a translator painted."""

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ganattn.errors import ConfigError, DataError

FCN_MEAN_BGR = (72.78044, 83.21195, 73.45286)  # of Cityscapes, as its Caffe network was trained
SMALL = 1e-12  # keeps the authors' quotients finite, so that an absent class counts as 0


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """Pixel accuracy, and means over classes of accuracy and intersection over union, in [0, 1].

    per_class_accuracy, per_class_iou: (classes,), NaN for a class that is left out of the means.
    """

    pixel_accuracy: float
    class_accuracy: float
    class_iou: float
    per_class_accuracy: np.ndarray
    per_class_iou: np.ndarray


def confusion(truth: ArrayLike, labels: ArrayLike, classes: int) -> np.ndarray:
    """(classes + 1, classes) int64: pixels of each true class by the class that was found.

    truth, labels: ids of equal shape. The last row holds the pixels whose true id is no class
    (void). Matrices of several pictures may be added up. Raises DataError for a found id that is
    no class, or different shapes.
    """
    truth, labels = (np.asarray(x).astype(np.int64) for x in (truth, labels))
    if truth.shape != labels.shape:
        raise DataError(
            f"label maps have shapes {truth.shape} and {labels.shape}: resize the found one"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"found labels are {labels.min()} to {labels.max()}: they must be 0 to {classes - 1}"
        )
    rows = np.where((truth >= 0) & (truth < classes), truth, classes)
    counts = np.bincount((rows * classes + labels).ravel(), minlength=(classes + 1) * classes)
    return counts.reshape(classes + 1, classes)


def label_scores(
    counts: ArrayLike,
    absent: Literal["zero", "skip"] = "zero",
    void: Literal["ignore", "wrong"] = "ignore",
) -> LabelScores:
    """The scores of a `confusion` matrix.

    absent: a class that is in no true map counts as 0, as in pix2pix's FCN score, or is left out of
    the means, as in SPADE's. void: pixels of no class are ignored, or count as wrong, in pixel
    accuracy and where a class was found there.
    """
    counts = np.asarray(counts, np.float64)
    matrix, outside = counts[:-1], counts[-1]
    if void == "ignore":
        outside = np.zeros_like(outside)
    elif void != "wrong":
        raise ConfigError(f"void is {void!r}: use ignore or wrong")
    if absent not in ("zero", "skip"):
        raise ConfigError(f"absent is {absent!r}: use zero or skip")
    hit, true, found = np.diag(matrix), matrix.sum(1), matrix.sum(0) + outside
    accuracy = hit / (true + SMALL)
    iou = hit / (true + found - hit + SMALL)
    if absent == "skip":
        accuracy, iou = (np.where(true > 0, x, np.nan) for x in (accuracy, iou))
    everything = matrix.sum() + outside.sum() + SMALL
    means = (_mean(accuracy), _mean(iou))
    return LabelScores(float(hit.sum() / everything), *means, accuracy, iou)


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")


def nearest_labels(pictures: ArrayLike, palette: ArrayLike) -> np.ndarray:
    """(n, h, w) int32: the id whose colour is nearest to each pixel, the lower one of two.

    pictures: (n, h, w, 3) uint8. palette: (classes, 3) uint8.
    """
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.shape[-1:] != (3,):
        raise DataError(f"pictures are {pictures.dtype} {pictures.shape}: give (n, h, w, 3) uint8")
    colours = np.asarray(palette, np.int32)
    pixels = pictures.reshape(-1, 3).astype(np.int32)
    nearest = np.full(len(pixels), np.iinfo(np.int32).max)
    labels = np.zeros(len(pixels), np.int32)
    for label, colour in enumerate(colours):  # one class at a time, to hold little memory
        distance = ((pixels - colour) ** 2).sum(1)
        labels[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
    return labels.reshape(pictures.shape[:-1])


def enlarged(pictures: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(n, h, w, 3) uint8 resized bilinearly, as pix2pix's script does for its FCN."""
    if pictures.shape[1:3] == size:
        return pictures
    height, width = size
    whole = (Image.fromarray(each) for each in pictures)
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(picture.resize((width, height), bilinear)) for picture in whole])


def nearest_sized(labels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(n, h, w) ids resized to (height, width) by the nearest pixel."""
    rows, columns = (
        (2 * np.arange(there) + 1) * here // (2 * there)
        for here, there in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows[:, None], columns]


def caffe_input(pictures: np.ndarray) -> np.ndarray:
    """(n, h, w, 3) uint8 RGB as the FCN-8s of Cityscapes takes it: BGR float32 minus its mean."""
    return pictures[..., ::-1].astype(np.float32) - np.array(FCN_MEAN_BGR, np.float32)
