"""Discriminators that judge patches: PatchGAN and its 1x1 case (pix2pix, appendix 6.1.2)."""

from typing import Any, NamedTuple

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv
from ganattn.layers.normalization import Normalization


class Judged(NamedTuple):
    """logits (n, h', w', 1), unbounded; features (n, h'', w'', c) after the strided layers."""

    logits: Array
    features: Array


class PatchDiscriminator(nn.Module):
    """`num_layers` strided 4x4 convolutions, one with stride 1, and a classifier.

    Three layers see 70x70 pixels. width: channels of the first layer (the authors' ndf). norm:
    "instance" or "batch", the latter over the devices of `axis_name` together. pyramid: a module
    called with input and output of strided convolution `pyramid_layer` (counted from 1); what it
    returns is normalised in the output's place.
    """

    width: int = 64
    num_layers: int = 3
    norm: str = "instance"
    pyramid: nn.Module | None = None
    pyramid_layer: int = 3
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, statistics: str = "running") -> Judged:
        """images (n, h, w, c) in [-1, 1]; statistics: of batch normalisation, see `BatchNorm`."""
        norm = Normalization(self.norm, statistics, self.axis_name)
        x = features = images
        for i in range(self.num_layers + 1):
            strided = i < self.num_layers
            conv = Conv(
                self.width * min(1 << i, 8),
                4,
                stride=2 if strided else 1,
                padding=1,
                pad_mode="zero",
                use_bias=norm.conv_bias or i == 0,
                **DCGAN_INITS,
                dtype=self.dtype,
                name=f"conv{i + 1}",
            )
            y = conv(x)
            if self.pyramid is not None and strided and i + 1 == self.pyramid_layer:
                y = self.pyramid(x, y)
            if i:
                y = norm(y, f"conv{i + 1}_norm")
            x = nn.leaky_relu(y, 0.2)
            features = x if strided else features
        classifier = Conv(
            1, 4, padding=1, pad_mode="zero", use_bias=True, **DCGAN_INITS, dtype=self.dtype,
            name="classifier",
        )  # fmt: skip
        return Judged(classifier(x), features)


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions: judges each pixel alone. Fields as of `PatchDiscriminator`."""

    width: int = 64
    norm: str = "instance"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, statistics: str = "running") -> Judged:
        """images (n, h, w, c) in [-1, 1]; statistics: of batch normalisation, see `BatchNorm`."""
        norm = Normalization(self.norm, statistics, self.axis_name)
        options = {**DCGAN_INITS, "dtype": self.dtype}
        x = nn.leaky_relu(Conv(self.width, 1, use_bias=True, **options, name="pixel1")(images), 0.2)
        x = Conv(2 * self.width, 1, use_bias=norm.conv_bias, **options, name="pixel2")(x)
        x = nn.leaky_relu(norm(x, "pixel2_norm"), 0.2)
        classifier = Conv(1, 1, use_bias=norm.conv_bias, **options, name="classifier")
        return Judged(classifier(x), x)
