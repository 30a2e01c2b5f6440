"""Gates of DAGAN (Tang et al., ACM MM 2020): where, and which channels, a feature map stresses."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.layers.spade import SPADE_INITS


class SpatialAttention(nn.Module):
    """Position-wise gate in (0, 1) from the mean and the maximum over channels (section 3.2)."""

    kernel_size: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """(n, h, w, c) to (n, h, w, 1)."""
        pooled = [features.mean(-1, keepdims=True), features.max(-1, keepdims=True)]
        conv = Conv(
            1, self.kernel_size, padding=self.kernel_size // 2, pad_mode="zero", **SPADE_INITS,
            dtype=self.dtype, name="conv",
        )  # fmt: skip
        return nn.sigmoid(conv(jnp.concatenate(pooled, -1)))


class ChannelAttention(nn.Module):
    """Gate in (0, 1) for every channel from the average pools of several maps (section 3.3)."""

    channels: int
    dtype: Any = None

    @nn.compact
    def __call__(self, *levels: Array) -> Array:
        """Maps (n, h', w', c') of any sizes to (n, 1, 1, channels)."""
        pooled = jnp.concatenate([level.mean((1, 2), keepdims=True) for level in levels], -1)
        options = {"use_bias": True, **SPADE_INITS, "dtype": self.dtype}
        hidden = nn.relu(Conv(self.channels, 1, **options, name="conv1")(pooled))
        return nn.sigmoid(Conv(self.channels, 1, **options, name="conv2")(hidden))
