"""Discriminators of patches: PatchGAN and its 1x1 case (pix2pix, appendix 6.1.2)."""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.layers.initialization import WeightInit
from ganattn.layers.normalization import Normalization
from ganattn.layers.pyramid import ASPP, AtrousMean
from ganattn.networks.outputs import DiscriminatorOutput


class PatchDiscriminator(nn.Module):
    """`num_layers` strided 4x4 convolutions, one with stride 1, and a classifier.

    With three layers the receptive field is 70x70 pixels. width: channels of the first layer (the
    authors' ndf). norm: "instance", "batch" or "none"; "batch" takes its statistics over the
    devices of `axis_name`. pyramid: an `AtrousMean` of strided convolution `pyramid_layer` (counted
    from 1), whose result replaces the convolution's output before the normalization; or an `ASPP`
    after the activation of that layer.
    Source: pix2pix appendix 6.1.2 (C64-C128-C256-C512); CycleGAN appendix 7.2.
    """

    width: int = 64
    num_layers: int = 3
    norm: str = "instance"
    pyramid: nn.Module | None = None
    pyramid_layer: int = 3
    axis_name: str | None = None
    dtype: Any = None
    weight_init: WeightInit = WeightInit()

    @nn.compact
    def __call__(self, images: Array, statistics: str = "running") -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1]; statistics: of batch normalization, see `BatchNorm`."""
        init = self.weight_init
        norm = Normalization(self.norm, statistics, self.axis_name, init.scale)
        x, features = images, []
        for i in range(self.num_layers + 1):
            strided = i < self.num_layers
            conv = Conv(
                self.width * min(1 << i, 8),
                4,
                stride=2 if strided else 1,
                padding=1,
                pad_mode="zero",
                use_bias=norm.conv_bias or i == 0,
                **init.conv(),
                dtype=self.dtype,
                name=f"conv{i + 1}",
            )
            y = conv(x)
            pyramid = self.pyramid if strided and i + 1 == self.pyramid_layer else None
            if isinstance(pyramid, AtrousMean):
                y = pyramid(x, y)
            if i:
                y = norm(y, f"conv{i + 1}_norm")
            x = nn.leaky_relu(y, 0.2)
            if isinstance(pyramid, ASPP):
                x = pyramid(x, norm).features
            features.append(x)
        classifier = Conv(
            1, 4, padding=1, pad_mode="zero", use_bias=True, **init.conv(), dtype=self.dtype,
            name="classifier",
        )  # fmt: skip
        return DiscriminatorOutput(classifier(x), tuple(features))


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions: classifies each pixel by itself. Fields: see `PatchDiscriminator`.

    Source: pix2pix appendix 6.1.2, "1x1 discriminator".
    """

    width: int = 64
    norm: str = "instance"
    axis_name: str | None = None
    dtype: Any = None
    weight_init: WeightInit = WeightInit()

    @nn.compact
    def __call__(self, images: Array, statistics: str = "running") -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1]; statistics: of batch normalization, see `BatchNorm`."""
        norm = Normalization(self.norm, statistics, self.axis_name, self.weight_init.scale)
        options = {**self.weight_init.conv(), "dtype": self.dtype}
        x = nn.leaky_relu(Conv(self.width, 1, use_bias=True, **options, name="pixel1")(images), 0.2)
        x = Conv(2 * self.width, 1, use_bias=norm.conv_bias, **options, name="pixel2")(x)
        x = nn.leaky_relu(norm(x, "pixel2_norm"), 0.2)
        classifier = Conv(1, 1, use_bias=norm.conv_bias, **options, name="classifier")
        return DiscriminatorOutput(classifier(x), (x,))
