"""MUNIT's generator (Huang et al. 2018, figure 2 and appendix B.1)."""

from functools import partial
from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.dense import Dense
from ganattn.networks.autoencoders import (
    KAIMING_INITS,
    ContentDecoder,
    ContentEncoder,
    reflected_conv,
)
from ganattn.networks.outputs import GeneratorOutput

STYLE_DOWNSAMPLINGS = 4


class StyleCodeEncoder(nn.Module):
    """c7s1-64, d128, d256, d256, d256, global average pooling, fc8; no normalization."""

    width: int = 64
    style_size: int = 8
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images (n, h, w, c) in [-1, 1], at least 16 pixels a side, to codes (n, style_size)."""
        conv = partial(reflected_conv, dtype=self.dtype)
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
