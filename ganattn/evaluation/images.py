"""Metrics against true images: PSNR, SSIM, and L1 inside and outside the mask of an object."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from ganattn.data.images import to_float
from ganattn.errors import DataError
from ganattn.evaluation.attention import heatmap_iou
from ganattn.evaluation.examples import Example, ExampleStream
from ganattn.evaluation.metrics import MeanOverImages, Metric
from ganattn.evaluation.settings import Settings
from ganattn.figures import to_uint8
from ganattn.runs.results import Result

WINDOW = 7  # pixels, scikit-image's default
SIGMA, RADIUS = 1.5, 5  # of the Gaussian of Wang et al. 2004
K1, K2 = 0.01, 0.03


def psnr(images: ArrayLike, truth: ArrayLike, data_range: float | None = None) -> np.ndarray:
    """Peak signal to noise ratio in dB of each image: (n,) float64; infinite where equal.

    images, truth: (n, h, w, c). data_range: largest minus smallest possible value (default: 255
    for uint8, 2 for floats in [-1, 1]). Raises DataError for different shapes.
    """
    x, y, span = _pair(images, truth, data_range)
    error = ((x - y) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(span**2 / error)


def ssim(
    images: ArrayLike,
    truth: ArrayLike,
    window: Literal["uniform", "gaussian"] = "uniform",
    data_range: float | None = None,
) -> np.ndarray:
    """Structural similarity of each image, the mean over its channels: (n,) float64.

    images, truth, data_range: as `psnr`. "uniform": scikit-image's default, 7x7 pixels of equal
    weight and sample covariances. "gaussian": Wang et al. 2004, 11x11 pixels, sigma 1.5. The border
    that the window does not fit is left out. Images in [-1, 1] have other values than the same in
    uint8, which papers use. Raises DataError for images smaller than the window.
    """
    x, y, span = _pair(images, truth, data_range)
    weights = _weights(window)
    side = len(weights)
    if min(x.shape[1:3]) < side:
        raise DataError(f"images of {x.shape[1:3]} pixels are smaller than SSIM's {side}x{side}")
    samples = side**2
    unbiased = samples / (samples - 1) if window == "uniform" else 1.0
    values = []
    for one, other in zip(x, y, strict=True):  # one by one, to save memory
        m1, m2 = _smooth(one, weights), _smooth(other, weights)
        v1 = unbiased * (_smooth(one * one, weights) - m1 * m1)
        v2 = unbiased * (_smooth(other * other, weights) - m2 * m2)
        both = unbiased * (_smooth(one * other, weights) - m1 * m2)
        c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
        similarity = (2 * m1 * m2 + c1) * (2 * both + c2)
        values.append((similarity / ((m1 * m1 + m2 * m2 + c1) * (v1 + v2 + c2))).mean())
    return np.array(values)


def _weights(window: str) -> np.ndarray:
    if window == "uniform":
        return np.full(WINDOW, 1 / WINDOW)
    bell = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return bell / bell.sum()


def _smooth(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over all windows that fit into (h, w, c)."""
    rows = sliding_window_view(image, len(weights), 0) @ weights
    return sliding_window_view(rows, len(weights), 1) @ weights


def _pair(
    images: ArrayLike, truth: ArrayLike, data_range: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    x, y = np.asarray(images), np.asarray(truth)
    if x.shape != y.shape or x.ndim != 4 or not len(x):
        raise DataError(f"images have shapes {x.shape} and {y.shape}: give (n, h, w, c) twice")
    if x.dtype != y.dtype and np.uint8 in (x.dtype, y.dtype):
        raise DataError(f"images are {x.dtype} and {y.dtype}: give both as uint8 or both as float")
    span = data_range or (255.0 if x.dtype == np.uint8 else 2.0)
    return x.astype(np.float64), y.astype(np.float64), span


class Psnr(MeanOverImages):
    """Peak signal to noise ratio to the true images."""

    needs = ("target",)

    def values(self, example: Example) -> dict[str, float]:
        """See `MeanOverImages`."""
        return {"": psnr(*_pair_of(example))[0]}


class Ssim(MeanOverImages):
    """Structural similarity to the true images, with both windows."""

    needs = ("target",)

    def values(self, example: Example) -> dict[str, float]:
        """See `MeanOverImages`."""
        pair = _pair_of(example)
        return {"uniform 7x7": ssim(*pair)[0], "gaussian 11x11": ssim(*pair, "gaussian")[0]}


def _pair_of(example: Example) -> tuple[np.ndarray, np.ndarray]:
    assert example.target is not None
    return example.generated[None], to_uint8(example.target)[None]


class Truth(Metric):
    """How well the object is translated and the background preserved; images in [-1, 1].

    mask_l1: mean L1 distance to the true image inside the mask. mask_l1_ratio: the same divided by
    that of the source, so 0 is perfect and 1 is the unchanged source. background_l1: mean L1
    distance to the source outside the mask. attention_iou: see `heatmap_iou`, for methods with
    attention.
    """

    needs = ("source", "target", "mask")

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        self._sums, self._pixels = np.zeros(3), np.zeros(3)
        self._ious: list[float] = []
        self._count = 0

    def add(self, example: Example) -> None:
        """Adds up absolute differences and numbers of pixels."""
        assert example.source is not None and example.target is not None
        images = (example.output, example.source, example.target)
        output, source, target = (np.asarray(_float(x), np.float64) for x in images)
        mask = np.asarray(example.mask, bool)
        parts = ((output - target)[mask], (source - target)[mask], (output - source)[~mask])
        self._sums += [np.abs(part).sum() for part in parts]
        self._pixels += [part.size for part in parts]
        if example.attention is not None:
            self._ious.append(heatmap_iou(example.attention[None], mask[None]))
        self._count += 1

    def results(self) -> list[Result]:
        """NaN where no pixel is inside, or outside, the masks."""
        with np.errstate(invalid="ignore", divide="ignore"):
            inside, before, outside = self._sums / self._pixels
            values = {
                "mask_l1": float(inside),
                "mask_l1_ratio": float(inside / before),
                "background_l1": float(outside),
            }
        if self._ious:
            values["attention_iou"] = float(np.mean(self._ious))
        samples = [self._count, self._count]
        return [{"metric": m, "value": value, "samples": samples} for m, value in values.items()]


def _float(image: np.ndarray) -> np.ndarray:
    return to_float(image) if image.dtype == np.uint8 else image
