"""Discriminators that tell where they look: post-hoc and trainable attention (Lin et al. 2021)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv
from ganattn.layers.normalization import BatchNorm, Normalization, statistics_dtype
from ganattn.networks.patchgan import PatchDiscriminator


class Guided(NamedTuple):
    """logits (n, h', w', 1), unbounded; attention (n, h/8, w/8, 1), at least 0 and unscaled."""

    logits: Array
    attention: Array


class PostHocDiscriminator(PatchDiscriminator):
    """A PatchGAN whose attention is the mean magnitude of its last strided features.

    It has a PatchGAN's parameters and fields. Source: Zagoruyko and Komodakis 2017, p = 1.
    """

    def __call__(self, images: Array, statistics: str = "running") -> Guided:
        """images (n, h, w, c) in [-1, 1]; statistics: of batch normalisation, see `BatchNorm`."""
        logits, features = super().__call__(images, statistics)
        return Guided(logits, _mean_of_channels(jnp.abs(features)))


class TrainableDiscriminator(nn.Module):
    """A PatchGAN whose features are weighed by 1 + a mask that a branch of its own learns.

    width: channels of the first layer (the authors' ndf). norm: of the trunk, "instance" or
    "batch"; the mask branch has batch normalisation in any case, over the devices of `axis_name`
    together. Source: Wang et al. 2017, H = (1 + M) T; the layers follow the authors' code.
    """

    width: int = 64
    norm: str = "instance"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, statistics: str = "running") -> Guided:
        """images (n, h, w, c) in [-1, 1], h and w multiples of 8; statistics: see `BatchNorm`.

        attention is the mask's mean over channels, in (0, 1).
        """
        norm = Normalization(self.norm, statistics, self.axis_name)
        options = {"padding": 1, "pad_mode": "zero", "dtype": self.dtype, **DCGAN_INITS}
        conv1 = Conv(self.width, 4, 2, use_bias=True, **options, name="conv1")
        x = stem = nn.leaky_relu(conv1(images), 0.2)
        for i in (2, 3):
            conv = Conv(
                self.width << (i - 1), 4, 2, use_bias=norm.conv_bias, **options, name=f"conv{i}"
            )
            x = nn.leaky_relu(norm(conv(x), f"conv{i}_norm"), 0.2)
        branch = _MaskBranch(4 * self.width, self.axis_name, self.dtype, name="mask")
        mask = branch(stem, statistics)
        conv4 = Conv(8 * self.width, 4, use_bias=norm.conv_bias, **options, name="conv4")
        x = nn.leaky_relu(norm(conv4((1 + mask) * x), "conv4_norm"), 0.2)
        classifier = Conv(1, 4, use_bias=True, **options, name="classifier")
        return Guided(classifier(x), _mean_of_channels(mask))


class _MaskBranch(nn.Module):
    """From (n, h, w, c) to a mask (n, h/4, w/4, features) in (0, 1): down, across, and a skip.

    The authors' code scales the inner map to the trunk's size, which it has already, and holds a
    convolution that it never applies; both are left out.
    """

    features: int
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, statistics: str) -> Array:
        options = {"dtype": self.dtype, **DCGAN_INITS}

        def conv(features, name):
            return Conv(features, 3, padding=1, pad_mode="zero", **options, name=name)

        width = x.shape[-1]
        for name in ("down1", "down2"):
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
            x = nn.relu(conv(width, name)(x))
        skip = nn.relu(conv(width, "skip")(x))
        for name in ("middle1", "middle2"):
            x = nn.relu(conv(width, name)(x))
        x = conv(self.features, "expand")(x + skip)
        x = nn.relu(BatchNorm(self.axis_name, name="norm1")(x, statistics))
        x = Conv(self.features, 1, **options, name="project1")(x)
        x = BatchNorm(self.axis_name, name="norm2")(x, statistics)
        return nn.sigmoid(Conv(self.features, 1, **options, name="project2")(x))


def _mean_of_channels(features: Array) -> Array:
    return features.astype(statistics_dtype(features.dtype)).mean(-1, keepdims=True)
