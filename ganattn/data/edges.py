"""Images with smoothed edges, in NumPy: what CartoonGAN's discriminator is shown as fake.

All functions give the same pixels as OpenCV 5.0, with which CartoonGAN's data are prepared in
znxlwm/pytorch-CartoonGAN.
"""

import itertools

import numpy as np

LOW, HIGH = 100, 200  # Canny's thresholds
_SIDE = 5  # of the square that dilates the edges, and of the Gaussian
_GRAY = (9797, 19234, 3737)  # parts of red, green and blue in 2**15
_GAUSSIAN = (1, 4, 6, 4, 1)
_TANGENT_22, _BITS = 13573, 15  # the tangent of 22.5 degrees in 2**15


def smooth_edges(image: np.ndarray) -> np.ndarray:
    """The image (h, w, 3) uint8 with a Gaussian blur along its edges alone.

    Canny's edges are dilated by 5x5 pixels; inside, each pixel becomes the 5x5 Gaussian mean,
    rounded down. Height and width are at least 3. Source: CartoonGAN section 3.2; sizes and
    thresholds: znxlwm/pytorch-CartoonGAN, whose script decodes a file once more as gray and resizes
    both with OpenCV, without antialiasing: the pixels are the same for PNG files of the final size.
    """
    near_edge = dilate(detect_edges(to_gray(image)))
    return np.where(near_edge[..., None], blur(image), image)


def to_gray(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB to (h, w) uint8, rounded down as libpng does for OpenCV."""
    return (image @ np.array(_GRAY, np.int32) >> 15).astype(np.uint8)


def detect_edges(gray: np.ndarray, low: int = LOW, high: int = HIGH) -> np.ndarray:
    """Canny's edges (Canny 1986) of (h, w) uint8, as (h, w) bool.

    Gradients are those of the 3x3 Sobel operator, their magnitude is |dx| + |dy|. Local maxima of
    the magnitude above `high` are edges, and those above `low` that are connected to them.
    """
    x = np.pad(gray.astype(np.int32), 1, "edge")
    rows, columns = x[:-2] + 2 * x[1:-1] + x[2:], x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    dx, dy = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    magnitude = np.abs(dx) + np.abs(dy)
    candidates = _is_maximum(magnitude, dx, dy) & (magnitude > low)
    return _connected(candidates, candidates & (magnitude > high))


def dilate(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool: whether any pixel of the 5x5 square around each one is set."""
    for axis in (0, 1):
        mask = np.any(_windows(mask, axis, "constant"), 0)
    return mask


def blur(image: np.ndarray) -> np.ndarray:
    """The 5x5 Gaussian mean of (h, w, c) uint8, rounded down, as (h, w, c) uint8.

    The border is reflected without its outermost pixels.
    """
    total = image.astype(np.int32)
    for axis in (0, 1):
        parts = zip(_GAUSSIAN, _windows(total, axis, "reflect"), strict=True)
        total = sum((weight * part for weight, part in parts), np.zeros_like(total))
    return (total >> 8).astype(np.uint8)


def _windows(array: np.ndarray, axis: int, mode: str) -> list[np.ndarray]:
    """The neighbors of every element along an axis, the farthest before it first."""
    half = _SIDE // 2
    widths = [(half, half) if i == axis else (0, 0) for i in range(array.ndim)]
    padded = np.moveaxis(np.pad(array, widths, mode), axis, 0)  # type: ignore[call-overload]
    size = array.shape[axis]
    return [np.moveaxis(padded[i : i + size], 0, axis) for i in range(_SIDE)]


def _is_maximum(magnitude: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Whether a pixel exceeds its two neighbors in the direction of its gradient.

    Directions are rounded to multiples of 45 degrees. Of two equal neighbors in a row or column the
    first one counts; outside of the image the magnitude is 0.
    """
    height, width = magnitude.shape
    padded = np.pad(magnitude, 1)

    def neighbor(down: int, right: int) -> np.ndarray:
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    def is_maximum(down: int, right: int, is_strict: bool) -> np.ndarray:
        before, after = neighbor(-down, -right), neighbor(down, right)
        return (magnitude > before) & (magnitude >= after + is_strict)

    x, y = np.abs(dx).astype(np.int64), np.abs(dy).astype(np.int64) << _BITS
    lower = _TANGENT_22 * x
    is_horizontal, is_vertical = y < lower, y > lower + (x << (_BITS + 1))
    is_falling = (dx < 0) == (dy < 0)  # the gradient points down and right, or up and left
    return np.select(
        [is_horizontal, is_vertical, is_falling],
        [is_maximum(0, 1, False), is_maximum(1, 0, False), is_maximum(1, 1, True)],
        is_maximum(1, -1, True),
    )


def _connected(candidates: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The candidates that a path of neighboring candidates, also diagonal ones, joins to a seed."""
    width = candidates.shape[1] + 2
    offsets = np.array([width * i + j for i, j in itertools.product((-1, 0, 1), repeat=2)])
    remaining = np.pad(candidates & ~seeds, 1).ravel()
    result = np.pad(seeds, 1).ravel()
    front = np.flatnonzero(result)
    while len(front):
        around = np.unique(front[:, None] + offsets)
        front = around[remaining[around]]
        result[front], remaining[front] = True, False
    return result.reshape(-1, width)[1:-1, 1:-1]
