"""A small network that learns to enlarge attention maps.

Source: Lin et al. 2021, supervised setting; the layers follow the authors' code (pix2pix_attn, SC).
"""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, ConvTranspose
from ganattn.layers.normalization import instance_norm


class MapUpsampler(nn.Module):
    """Three transposed convolutions, each with instance normalization; a sigmoid at the end.

    width: channels of the first; the second has twice as many.
    """

    width: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, attention: Array) -> Array:
        """attention (n, h, w, 1), at least 0, to (n, 8h, 8w, 1) in (0, 1)."""
        x = attention
        for i, features in enumerate((self.width, 2 * self.width, 1), start=1):
            up = ConvTranspose(
                features, 3, use_bias=True, **DCGAN_INITS, dtype=self.dtype, name=f"up{i}"
            )
            x = instance_norm(up(x))
            x = nn.relu(x) if i < 3 else nn.sigmoid(x)
        return x
