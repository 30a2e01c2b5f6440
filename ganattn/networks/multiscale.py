"""The discriminator of pix2pixHD and SPADE: patches judged at several scales, with features."""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.layers.normalization import instance_norm
from ganattn.layers.spade import SPADE_INITS
from ganattn.layers.spectral import SpectralConv

MOST_CHANNELS = 512


class ScaleDiscriminator(nn.Module):
    """A plain 4x4 convolution, spectrally and instance-normalised ones, and a classifier."""

    width: int = 64
    num_layers: int = 4
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> list[Array]:
        """images (n, h, w, c) to the layers' features, the logits (n, h', w', 1) last."""
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
        return [*features, classifier(features[-1])]


class MultiscaleDiscriminator(nn.Module):
    """The same layers with weights of their own on the picture, its half, and so on."""

    width: int = 64
    num_layers: int = 4
    num_scales: int = 2
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> list[list[Array]]:
        """images (n, h, w, c): label map and picture side by side. A list of features a scale."""
        outputs = []
        for i in range(self.num_scales):
            images = _halve(images) if i else images
            judge = ScaleDiscriminator(self.width, self.num_layers, self.dtype, name=f"scale{i}")
            outputs.append(judge(images, update_stats))
        return outputs


def _halve(images: Array) -> Array:
    """Mean of every second 3x3 window, over those of its pixels that lie inside."""
    padding = ((1, 1), (1, 1))
    return nn.avg_pool(images, (3, 3), (2, 2), padding, count_include_pad=False)
