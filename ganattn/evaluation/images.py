"""PSNR and SSIM of pictures against the true ones."""

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from ganattn.errors import DataError

WINDOW = 7  # pixels, scikit-image's default
SIGMA, RADIUS = 1.5, 5  # of the Gaussian of Wang et al. 2004
K1, K2 = 0.01, 0.03


def psnr(images: ArrayLike, truth: ArrayLike, data_range: float | None = None) -> np.ndarray:
    """Peak signal to noise ratio in dB of each picture: (n,) float64; infinite where equal.

    images, truth: (n, h, w, c). data_range: largest minus smallest value there can be; 255 for
    uint8, 2 for floats in [-1, 1] unless it is given. Raises DataError for different shapes.
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
    """Structural similarity of each picture, the mean over its channels: (n,) float64.

    images, truth, data_range: as `psnr`. "uniform": scikit-image's default, 7x7 pixels of equal
    weight and sample covariances. "gaussian": Wang et al. 2004, 11x11 pixels, sigma 1.5. The border
    that the window does not fit is left out. Pictures in [-1, 1] score differently from the same in
    uint8, which papers use. Raises DataError for pictures smaller than the window.
    """
    x, y, span = _pair(images, truth, data_range)
    weights = _weights(window)
    side = len(weights)
    if min(x.shape[1:3]) < side:
        raise DataError(f"pictures of {x.shape[1:3]} pixels are smaller than SSIM's {side}x{side}")
    samples = side**2
    unbiased = samples / (samples - 1) if window == "uniform" else 1.0
    scores = []
    for one, other in zip(x, y, strict=True):  # picture by picture, to hold little memory
        m1, m2 = _smooth(one, weights), _smooth(other, weights)
        v1 = unbiased * (_smooth(one * one, weights) - m1 * m1)
        v2 = unbiased * (_smooth(other * other, weights) - m2 * m2)
        both = unbiased * (_smooth(one * other, weights) - m1 * m2)
        c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
        similarity = (2 * m1 * m2 + c1) * (2 * both + c2)
        scores.append((similarity / ((m1 * m1 + m2 * m2 + c1) * (v1 + v2 + c2))).mean())
    return np.array(scores)


def _weights(window: str) -> np.ndarray:
    if window == "uniform":
        return np.full(WINDOW, 1 / WINDOW)
    bell = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return bell / bell.sum()


def _smooth(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over all windows that fit into (h, w, c)."""
    rows = sliding_window_view(picture, len(weights), 0) @ weights
    return sliding_window_view(rows, len(weights), 1) @ weights


def _pair(
    images: ArrayLike, truth: ArrayLike, data_range: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    x, y = np.asarray(images), np.asarray(truth)
    if x.shape != y.shape or x.ndim != 4 or not len(x):
        raise DataError(f"pictures have shapes {x.shape} and {y.shape}: give (n, h, w, c) twice")
    if x.dtype != y.dtype and np.uint8 in (x.dtype, y.dtype):
        raise DataError(
            f"pictures are {x.dtype} and {y.dtype}: give both as uint8 or both as float"
        )
    span = data_range or (255.0 if x.dtype == np.uint8 else 2.0)
    return x.astype(np.float64), y.astype(np.float64), span
