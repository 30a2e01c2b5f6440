"""Spatially adaptive normalization (Park et al., CVPR 2019, eq. 1) and nearest resizing."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.layers.normalization import BatchNorm, instance_norm

HIDDEN = 128  # channels between the label map and the scale and shift
# Xavier's normal distribution with gain 0.02, from which the authors draw every weight.
SPADE_INITS = {
    "kernel_init": nn.initializers.variance_scaling(0.02**2, "fan_avg", "normal"),
    "bias_init": nn.initializers.zeros,
}


class SpatiallyAdaptiveNorm(nn.Module):
    """Normalization whose scale and shift are a function of the label map, pixel by pixel.

    norm: "batch", over the devices of `axis_name` together, or "instance"; both without parameters.
    Source: Park et al. 2019, eq. 1 and figure 2; 1 + gamma is their code's.
    """

    norm: str = "batch"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array, semantics: Array, statistics: str = "running") -> Array:
        """features (n, h, w, c), semantics (n, h', w', classes); statistics: see `BatchNorm`."""
        if self.norm == "instance":
            normalized = instance_norm(features)
        else:
            # The authors' synchronized batch normalization keeps no counter either.
            norm = BatchNorm(self.axis_name, affine=False, counts=False, name="norm")
            normalized = norm(features, statistics)

        def conv(size, name):
            return Conv(
                size, 3, padding=1, pad_mode="zero", use_bias=True, **SPADE_INITS,
                dtype=self.dtype, name=name,
            )  # fmt: skip

        resized = resize_nearest(semantics, *features.shape[1:3])
        hidden = nn.relu(conv(HIDDEN, "shared")(resized))
        channels = features.shape[-1]
        return normalized * (1 + conv(channels, "gamma")(hidden)) + conv(channels, "beta")(hidden)


def resize_nearest(images: Array, height: int, width: int) -> Array:
    """(n, h, w, c) to (n, height, width, c), by the pixels that PyTorch selects.

    Output pixel i is input pixel floor(i * scale), computed in float32; `jax.image.resize` takes
    the pixel below the output pixel's center.
    """
    rows, columns = _nearest(images.shape[1], height), _nearest(images.shape[2], width)
    return _take(_take(images, rows, 1), columns, 2)


def _nearest(size: int, new_size: int) -> np.ndarray:
    scale = np.float32(size) / np.float32(new_size)
    indices = np.floor(np.arange(new_size, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(indices, size - 1)


def _take(images: Array, indices: np.ndarray, axis: int) -> Array:
    """A strided slice or a repetition where possible: both are cheaper than a gather."""
    size, new_size = images.shape[axis], len(indices)
    if new_size % size == 0:
        return images if new_size == size else jnp.repeat(images, new_size // size, axis)
    if size % new_size == 0:
        step = (slice(None),) * axis + (slice(None, None, size // new_size),)
        return images[step]
    return jnp.take(images, indices, axis)
