"""Discriminators with attention maps: post-hoc and trainable (Lin et al. 2021)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv
from ganattn.layers.normalization import BatchNorm, Normalization, statistics_dtype
from ganattn.networks.outputs import DiscriminatorOutput
from ganattn.networks.patchgan import PatchDiscriminator


class PostHocDiscriminator(PatchDiscriminator):
    """A PatchGAN whose attention is the mean magnitude of its last strided features.

    Its parameters and fields are those of a PatchGAN. Source: Zagoruyko and Komodakis 2017,
    section 3.1, sum of absolute values to the power p = 1, which the authors' code calls abs_sum
    but averages: only a map that is not scaled shows the difference. Their code enlarges every map
    to 256 pixels, whatever the size of the images.
    """

    def __call__(self, images: Array, statistics: str = "running") -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1]; statistics: of batch normalization, see `BatchNorm`.

        attention: "posthoc" (n, h/8, w/8, 1), at least 0.
        """
        output = super().__call__(images, statistics)
        attention = _mean_of_channels(jnp.abs(output.features[self.num_layers - 1]))
        return output._replace(attention={"posthoc": attention})


class TrainableDiscriminator(nn.Module):
    """A PatchGAN whose features are multiplied by 1 + a mask from a separate branch.

    width: channels of the first layer (the authors' ndf). norm: of the trunk, "instance" or
    "batch"; the mask branch always has batch normalization, with statistics over the devices of
    `axis_name`. Source: Wang et al. 2017 eq. 3, H = (1 + M) T; Lin et al. 2021, supplement,
    section 2. The layers follow the authors' code, from which the supplement differs: there the
    trunk has three convolutions after the first layer; in the code the mask multiplies the result
    of two, at an eighth of the images' sides, and the third one follows.
    """

    width: int = 64
    norm: str = "instance"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, statistics: str = "running") -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1], h and w multiples of 8; statistics: see `BatchNorm`.

        attention: "mask" (n, h/8, w/8, 1), its mean over channels, in (0, 1).
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
        return DiscriminatorOutput(classifier(x), (x,), {"mask": _mean_of_channels(mask)})


class _MaskBranch(nn.Module):
    """Maps (n, h, w, c) to a mask (n, h/4, w/4, features) in (0, 1), with a skip connection.

    The supplement has two down-samplings, two convolutions, and an up-sampling. The authors' code
    has a convolution after each down-sampling as well, and in place of the up-sampling it resizes
    the inner map to the trunk's size, which it already has (their options --s1 and --s2, whose
    defaults are those of images of 128 pixels, must say so: 64 and 32 for 256 pixels). It declares
    a convolution that it never applies. The resizing and this convolution are omitted.
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


# config.method.discriminator -> network.
GUIDED_DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "posthoc_attn": PostHocDiscriminator,
    "trainable_attn": TrainableDiscriminator,
}
