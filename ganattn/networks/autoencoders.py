"""The encoder and the decoder that UNIT's later code and MUNIT share.

Source: MUNIT appendix B.1 (Huang et al. 2018).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.layers.normalization import AdaIN, DeviationLayerNorm, instance_norm

# He et al. 2015, with the gain of ReLU in every layer.
KAIMING_INITS = {
    "kernel_init": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "bias_init": nn.initializers.zeros,
}


class InstanceNormBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))) with 3x3 convolutions.

    The norms are instance normalization, adaptive (AdaIN) where scales and shifts are given.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, style: Array | None = None) -> Array:
        """x (n, h, w, features); style (n, 2, 2, features): for each norm, shift and scale."""
        conv = partial(reflected_conv, self.features, 3, padding=1, dtype=self.dtype)
        y = x
        for i in range(2):
            conv = reflected_conv(
                self.features, 3, padding=1, dtype=self.dtype, name=f"conv{i + 1}"
            )
            y = conv(y)
            if style is None:
                y = instance_norm(y)
            else:
                y = AdaIN(unbiased=False)(y, style[:, i, 1], style[:, i, 0])
            if i == 0:
                y = nn.relu(y)
        return x + y


class ContentEncoder(nn.Module):
    """c7s1-64, d128, d256 and residual blocks, all with instance normalization."""

    width: int = 64
    num_downsamplings: int = 2
    num_residual_blocks: int = 4
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images (n, h, w, c) in [-1, 1] to the content code (n, h/4, w/4, 4 * width)."""
        block = nn.remat(InstanceNormBlock) if self.remat else InstanceNormBlock
        conv = partial(reflected_conv, dtype=self.dtype)
        x = nn.relu(instance_norm(conv(self.width, 7, padding=3, name="stem")(images)))
        for i in range(1, self.num_downsamplings + 1):
            down = conv(self.width << i, 4, stride=2, padding=1, name=f"down{i}")
            x = nn.relu(instance_norm(down(x)))
        for i in range(self.num_residual_blocks):
            x = block(x.shape[-1], self.dtype, name=f"block{i + 1}")(x)
        return x


class ContentDecoder(nn.Module):
    """Residual blocks, then nearest up-sampling with 5x5 convolutions, and c7s1-3 with tanh.

    Layer normalization follows the up-sampling, because instance normalization would remove the
    means and variances that hold the style (section 5.1).
    """

    num_upsamplings: int = 2
    num_residual_blocks: int = 4
    channels: int = 3
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, content: Array, style: Array | None = None) -> Array:
        """content (n, h, w, c) to images (n, 4 * h, 4 * w, channels) in [-1, 1].

        style: as `StyleMLP` returns it; None decodes with plain instance normalization.
        """
        block = nn.remat(InstanceNormBlock) if self.remat else InstanceNormBlock
        conv = partial(reflected_conv, dtype=self.dtype)
        x, features = content, content.shape[-1]
        for i in range(self.num_residual_blocks):
            block_style = None if style is None else style[:, i]
            x = block(features, self.dtype, name=f"block{i + 1}")(x, block_style)
        for i in range(1, self.num_upsamplings + 1):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = conv(features >> i, 5, padding=2, name=f"up{i}")(x)
            x = nn.relu(DeviationLayerNorm(name=f"up{i}_norm")(x))
        return jnp.tanh(conv(self.channels, 7, padding=3, name="output")(x))


def reflected_conv(features: int, kernel_size: int, **options: Any) -> Conv:
    """A reflection-padded convolution with bias, which stays in front of normalizations too.

    options: fields of `Conv`.
    """
    return Conv(features, kernel_size, use_bias=True, **KAIMING_INITS, **options)
