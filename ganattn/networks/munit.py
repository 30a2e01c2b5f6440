"""MUNIT's generators and discriminators (Huang et al. 2018, appendix B).

The content encoder, the residual blocks, the decoder without styles and the discriminator are also
those of UNIT's later code.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv
from ganattn.layers.dense import Dense
from ganattn.layers.normalization import AdaIN, DeviationLayerNorm, instance_norm
from ganattn.layers.pooling import halve
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput

# He et al. 2015, with the gain of ReLU in every layer.
KAIMING_INITS = {
    "kernel_init": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "bias_init": nn.initializers.zeros,
}
STYLE_DOWNSAMPLINGS = 4


class InstanceNormBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))) with 3x3 convolutions.

    The norms are instance normalization, adaptive (AdaIN) where scales and shifts are given.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, style: Array | None = None) -> Array:
        """x (n, h, w, features); style (n, 2, 2, features): for each norm, shift and scale."""
        y = x
        for i in range(2):
            y = _conv(self.features, 3, padding=1, dtype=self.dtype, name=f"conv{i + 1}")(y)
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
        conv = partial(_conv, dtype=self.dtype)
        x = nn.relu(instance_norm(conv(self.width, 7, padding=3, name="stem")(images)))
        for i in range(1, self.num_downsamplings + 1):
            down = conv(self.width << i, 4, stride=2, padding=1, name=f"down{i}")
            x = nn.relu(instance_norm(down(x)))
        for i in range(self.num_residual_blocks):
            x = block(x.shape[-1], self.dtype, name=f"block{i + 1}")(x)
        return x


class StyleCodeEncoder(nn.Module):
    """c7s1-64, d128, d256, d256, d256, global average pooling, fc8; no normalization."""

    width: int = 64
    style_size: int = 8
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images (n, h, w, c) in [-1, 1], at least 16 pixels a side, to codes (n, style_size)."""
        conv = partial(_conv, dtype=self.dtype)
        x = nn.relu(conv(self.width, 7, padding=3, name="stem")(images))
        for i in range(1, STYLE_DOWNSAMPLINGS + 1):
            down = conv(self.width << min(i, 2), 4, stride=2, padding=1, name=f"down{i}")
            x = nn.relu(down(x))
        x = x.mean((1, 2), keepdims=True)
        return conv(self.style_size, 1, name="output")(x)[:, 0, 0]


class StyleMLP(nn.Module):
    """Three dense layers from a style code to the scales and shifts of AdaIN."""

    features: int
    num_blocks: int = 4
    width: int = 256

    @nn.compact
    def __call__(self, style: Array) -> Array:
        """(n, style_size) to (n, num_blocks, 2, 2, features): block, norm, (shift, scale)."""
        x = style
        for i in range(2):
            x = nn.relu(Dense(self.width, True, **KAIMING_INITS, name=f"dense{i + 1}")(x))
        size = self.num_blocks * 4 * self.features
        x = Dense(size, True, **KAIMING_INITS, name="output")(x)
        return x.reshape(-1, self.num_blocks, 2, 2, self.features)


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
        conv = partial(_conv, dtype=self.dtype)
        x, features = content, content.shape[-1]
        for i in range(self.num_residual_blocks):
            block_style = None if style is None else style[:, i]
            x = block(features, self.dtype, name=f"block{i + 1}")(x, block_style)
        for i in range(1, self.num_upsamplings + 1):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = conv(features >> i, 5, padding=2, name=f"up{i}")(x)
            x = nn.relu(DeviationLayerNorm(name=f"up{i}_norm")(x))
        return jnp.tanh(conv(self.channels, 7, padding=3, name="output")(x))


class AdaINGenerator(nn.Module):
    """The auto-encoder of one domain (figure 2): content and style encoder, MLP and decoder.

    width: channels of the first layers. style_size: length of a style code. mlp_width: of the
    MLP's hidden layers. remat: recompute residual blocks in the backward pass.
    """

    width: int = 64
    style_size: int = 8
    mlp_width: int = 256
    num_downsamplings: int = 2
    num_residual_blocks: int = 4
    channels: int = 3
    remat: bool = False
    dtype: Any = None

    def setup(self) -> None:
        blocks, options = self.num_residual_blocks, {"remat": self.remat, "dtype": self.dtype}
        features = self.width << self.num_downsamplings
        self.content_encoder = ContentEncoder(self.width, self.num_downsamplings, blocks, **options)
        self.style_encoder = StyleCodeEncoder(self.width, self.style_size, self.dtype)
        self.mlp = StyleMLP(features, blocks, self.mlp_width)
        self.decoder = ContentDecoder(self.num_downsamplings, blocks, self.channels, **options)

    def __call__(self, images: Array) -> GeneratorOutput:
        """The reconstruction of images (n, h, w, channels), h and w multiples of 4."""
        return self.decode(*self.encode(images))

    def encode(self, images: Array) -> tuple[Array, Array]:
        """The content code (n, h/4, w/4, c) and the style code (n, style_size)."""
        return self.content(images), self.style(images)

    def content(self, images: Array) -> Array:
        """The content code alone."""
        return self.content_encoder(images)

    def style(self, images: Array) -> Array:
        """The style code alone."""
        return self.style_encoder(images)

    def decode(self, content: Array, style: Array) -> GeneratorOutput:
        """Images of this domain, in [-1, 1], of any domain's content and this domain's style."""
        return GeneratorOutput(self.decoder(content, self.mlp(style)))


class ScaleLogits(nn.Module):
    """d64, d128, d256, d512 with leaky ReLU of slope 0.2, no normalization, and a 1x1 classifier.

    Every convolution is 4x4 with stride 2.
    """

    width: int = 64
    num_layers: int = 4
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images (n, h, w, c) to logits (n, h', w', 1), unbounded."""
        options = {"use_bias": True, **DCGAN_INITS, "dtype": self.dtype}
        x = images
        for i in range(self.num_layers):
            conv = Conv(self.width << i, 4, 2, padding=1, **options, name=f"conv{i + 1}")
            x = nn.leaky_relu(conv(x), 0.2)
        return Conv(1, 1, **options, name="classifier")(x)


class ImagePyramidDiscriminator(nn.Module):
    """`ScaleLogits` with weights of their own on the image, its half, its quarter, and so on."""

    width: int = 64
    num_layers: int = 4
    num_scales: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1] to a list of the scales' logits, the finest first."""
        logits = []
        for i in range(self.num_scales):
            images = halve(images) if i else images
            scale = ScaleLogits(self.width, self.num_layers, self.dtype, name=f"scale{i}")
            logits.append(scale(images))
        return DiscriminatorOutput(logits)


def _conv(features: int, kernel_size: int, **options: Any) -> Conv:
    """A reflection-padded convolution with bias, which stays in front of normalizations too."""
    return Conv(features, kernel_size, use_bias=True, **KAIMING_INITS, **options)
