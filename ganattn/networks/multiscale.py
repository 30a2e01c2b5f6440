"""The discriminator of pix2pixHD and SPADE: PatchGANs at several scales, with their features."""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import Conv
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
