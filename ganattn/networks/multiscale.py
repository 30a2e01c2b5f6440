"""Discriminators at several scales: of pix2pixHD and SPADE, and of UNIT and MUNIT."""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv
from ganattn.layers.normalization import instance_norm
from ganattn.layers.pooling import halve
from ganattn.layers.spade import SPADE_INITS
from ganattn.layers.spectral import SpectralConv
from ganattn.networks.outputs import DiscriminatorOutput

MOST_CHANNELS = 512


class ScaleDiscriminator(nn.Module):
    """A plain 4x4 convolution, spectrally and instance-normalized ones, and a classifier.

    Source: SPADE appendix A (discriminator), with the layers of the authors' code.
    """

    width: int = 64
    num_layers: int = 4
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> DiscriminatorOutput:
        """images (n, h, w, c) to logits (n, h', w', 1) and the features of every other layer."""
        options = {"padding": 2, "pad_mode": "zero", **SPADE_INITS, "dtype": self.dtype}
        x = Conv(self.width, 4, 2, use_bias=True, **options, name="conv1")(images)
        features = [nn.leaky_relu(x, 0.2)]
        channels = self.width
        for i in range(1, self.num_layers):
            channels = min(2 * channels, MOST_CHANNELS)
            stride = 1 if i == self.num_layers - 1 else 2
            conv = SpectralConv(channels, 4, stride, use_bias=False, **options, name=f"conv{i + 1}")
            x = conv(features[-1], update_stats=update_stats)
            features.append(nn.leaky_relu(instance_norm(x), 0.2))
        classifier = Conv(1, 4, use_bias=True, **options, name="classifier")
        return DiscriminatorOutput(classifier(features[-1]), features)


class MultiscaleDiscriminator(nn.Module):
    """The same layers, with weights of their own, on images of full size, half size, and so on.

    Source: pix2pixHD section 3.2 (multi-scale discriminators); SPADE appendix A.
    """

    width: int = 64
    num_layers: int = 4
    num_scales: int = 2
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> DiscriminatorOutput:
        """images (n, h, w, c): label map and image side by side. Lists with an entry a scale."""
        outputs = []
        for i in range(self.num_scales):
            images = halve(images) if i else images
            scale = ScaleDiscriminator(self.width, self.num_layers, self.dtype, name=f"scale{i}")
            outputs.append(scale(images, update_stats))
        return DiscriminatorOutput([o.logits for o in outputs], [o.features for o in outputs])


class ScaleLogits(nn.Module):
    """d64, d128, d256, d512 with leaky ReLU of slope 0.2, no normalization, and a 1x1 classifier.

    Every convolution is 4x4 with stride 2. Source: MUNIT appendix B.1; UNIT's later code.
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
