"""Average pooling between the scales of a discriminator."""

import flax.linen as nn
import numpy as np
from jax import Array, lax


def halve(images: Array) -> Array:
    """(n, h, w, c) to (n, ceil(h / 2), ceil(w / 2), c): the mean of every second 3x3 window.

    The mean is taken over those pixels of a window that lie inside the image. Source: pix2pixHD and
    MUNIT, AvgPool2d(3, stride=2, padding=1, count_include_pad=False).
    """
    sums = nn.pool(images, 0.0, lax.add, (3, 3), (2, 2), ((1, 1), (1, 1)))
    rows, columns = (_pixels_inside(side) for side in images.shape[1:3])
    # Computed here, because XLA takes long to fold a constant of this size.
    counts = (rows[:, None] * columns[None])[None, :, :, None]
    return sums / counts.astype(images.dtype)


def _pixels_inside(side: int) -> np.ndarray:
    centers = np.arange(0, side, 2)
    return 1 + (centers > 0) + (centers < side - 1)
