"""SCAN's networks: a generator with sub-pixel convolutions, and the adaptive fusion block.

Source: Li et al. 2018, sections 3.2 and 3.3; the authors released no code. `configs/scan.py` lists
what their text leaves open.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv, ConvTranspose
from ganattn.layers.normalization import Normalization, instance_norm
from ganattn.networks.outputs import GeneratorOutput
from ganattn.networks.resnet import ResNetBlock

OPTIONS = {"use_bias": True, **DCGAN_INITS}


class SubPixelConv(nn.Module):
    """A reflection-padded 3x3 convolution to 4 * features channels, which become 2x2 pixels.

    Source: Shi et al. 2016 (the sub-pixel convolution).
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(n, h, w, c) to (n, 2 * h, 2 * w, features)."""
        y = Conv(4 * self.features, 3, padding=1, **OPTIONS, dtype=self.dtype, name="conv")(x)
        count, height, width, _ = y.shape
        y = y.reshape(count, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(count, 2 * height, 2 * width, self.features)


def _transposed(features: int, dtype: Any, name: str) -> nn.Module:
    return ConvTranspose(features, 3, **OPTIONS, dtype=dtype, name=name)


# config.method.upsampling: with "transposed" a generator is CycleGAN's.
UPSAMPLINGS = {"sub_pixel": SubPixelConv, "transposed": _transposed}


class StackedGenerator(nn.Module):
    """The translation network of either stage: CycleGAN's generator, but for its up-sampling.

    width: channels of the first layer. upsampling: a key of `UPSAMPLINGS`. Images may have any
    number of channels: those of stage 2 are the input and the result of stage 1.
    """

    width: int = 64
    num_residual_blocks: int = 6
    upsampling: str = "sub_pixel"
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> GeneratorOutput:
        """images (n, h, w, c) in [-1, 1], h and w multiples of 4, to (n, h, w, 3)."""
        options = {**OPTIONS, "dtype": self.dtype}
        block = nn.remat(ResNetBlock) if self.remat else ResNetBlock
        norm = Normalization("instance")

        x = Conv(self.width, 7, padding=3, **options, name="stem")(images)
        x = nn.relu(instance_norm(x))
        for i in (1, 2):
            down = Conv(
                self.width << i, 3, 2, padding=1, pad_mode="zero", **options, name=f"down{i}"
            )
            x = nn.relu(instance_norm(down(x)))
        for i in range(self.num_residual_blocks):
            x = block(4 * self.width, norm, i, self.dtype, name=f"block{i + 1}")(x)
        for i in (1, 2):
            up = UPSAMPLINGS[self.upsampling](self.width << (2 - i), self.dtype, name=f"up{i}")
            x = nn.relu(instance_norm(up(x)))
        return GeneratorOutput(jnp.tanh(Conv(3, 7, padding=3, **options, name="output")(x)))


class FusionBlock(nn.Module):
    """Conv-IN-ReLU, Conv-IN-ReLU, Conv-Sigmoid, with 3x3 convolutions: the map of the fusion.

    Source: Li et al. 2018, section 3.3.
    """

    width: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """(n, h, w, 9): input, enlarged result of stage 1, and that of stage 2, to (n, h, w, 1).

        The result is in (0, 1): the share of stage 2 in each pixel.
        """
        x = images
        for i in (1, 2):
            conv = Conv(self.width, 3, padding=1, **OPTIONS, dtype=self.dtype, name=f"conv{i}")
            x = nn.relu(instance_norm(conv(x)))
        x = Conv(1, 3, padding=1, **OPTIONS, dtype=self.dtype, name="output")(x)
        return nn.sigmoid(x)


def shrink(images: Array) -> Array:
    """(n, h, w, c) to (n, h / 2, w / 2, c): the mean of each 2x2 square; h and w are even."""
    count, height, width, channels = images.shape
    return images.reshape(count, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def enlarge(images: Array) -> Array:
    """(n, h, w, c) to (n, 2 * h, 2 * w, c) by nearest-neighbor interpolation."""
    return jnp.repeat(jnp.repeat(images, 2, axis=1), 2, axis=2)


def fuse(coarse: Array, fine: Array, weight: Array) -> Array:
    """coarse * (1 - weight) + fine * weight; images (n, h, w, 3), weight (n, h, w, 1)."""
    return coarse * (1 - weight) + fine * weight
