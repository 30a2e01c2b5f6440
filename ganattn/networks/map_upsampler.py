"""A small network that learns to enlarge attention maps.

Source: the authors' code of Lin et al. 2021, class SComponent, in pix2pix_attn and in the models
attn_cycle_gan_v3 to v5 of its development; neither the paper's supplement nor the README names it.
"""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv, ConvTranspose
from ganattn.layers.normalization import instance_norm


class MapUpsampler(nn.Module):
    """Three 3x3 convolutions, each with instance normalization; a sigmoid at the end.

    width: channels of the first; the second has twice as many. scale: how much larger the result
    is: 8, where all three are transposed, or 2, where only the first is (the authors' mode 1).
    """

    width: int = 64
    scale: int = 8
    dtype: Any = None

    @nn.compact
    def __call__(self, attention: Array) -> Array:
        """attention (n, h, w, 1), at least 0, to (n, scale * h, scale * w, 1) in (0, 1)."""
        x = attention
        options = {"use_bias": True, **DCGAN_INITS, "dtype": self.dtype}
        for i, features in enumerate((self.width, 2 * self.width, 1), start=1):
            layer: nn.Module
            if i == 1 or self.scale == 8:
                layer = ConvTranspose(features, 3, **options, name=f"up{i}")
            else:
                layer = Conv(features, 3, padding=1, pad_mode="zero", **options, name=f"conv{i}")
            x = instance_norm(layer(x))
            x = nn.relu(x) if i < 3 else nn.sigmoid(x)
        return x
