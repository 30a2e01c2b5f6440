"""VGG's features and the perceptual distances of pix2pixHD and SPADE, MUNIT, and CartoonGAN."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.layers.normalization import instance_norm
from ganattn.losses import mean_absolute
from ganattn.state import Variables

# torchvision's indices of the convolutions up to relu5_1, and their channels.
CONVOLUTIONS = {
    0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256,
    19: 512, 21: 512, 23: 512, 25: 512, 28: 512,
}  # fmt: skip
POOLED_BEFORE = (5, 10, 19, 28)
CONTENT_CONVOLUTIONS = tuple(index for index in CONVOLUTIONS if index <= 25)  # up to conv4_4
WEIGHTS = {0: 1 / 32, 5: 1 / 16, 10: 1 / 8, 19: 1 / 4, 28: 1.0}  # after relu1_1 to relu5_1

# The same of VGG16 up to relu5_3; MUNIT's code has no pool before the last block.
CONVOLUTIONS_16 = {
    0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256,
    17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512,
}  # fmt: skip
POOLED_BEFORE_16 = (5, 10, 17)
INITS = {
    "kernel_init": nn.initializers.he_normal(),
    "bias_init": nn.initializers.zeros,
}
MEAN_BGR = np.array([103.939, 116.779, 123.68])  # of ImageNet, in Caffe's units of 0 to 255


class VGG19Features(nn.Module):
    """VGG19 up to relu5_1. Source: Simonyan and Zisserman 2015, table 1, column E."""

    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> dict[int, Array]:
        """images (n, h, w, 3) to the features after the convolutions in WEIGHTS."""
        layers = _convolutions(images, CONVOLUTIONS, POOLED_BEFORE, self.dtype)
        return {index: nn.relu(features) for index, features in layers if index in WEIGHTS}


class VGG19ContentFeatures(nn.Module):
    """VGG19 up to conv4_4, whose output is not rectified.

    width: channels of the first layer; torchvision's weights have 64. Initial values are random
    (He et al. 2015), for trials without those weights.
    """

    width: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """RGB images (n, h, w, 3) in [-1, 1] to features (n, h/8, w/8, 8 * width), unbounded.

        They are scaled to [0, 1] and not normalized by ImageNet's statistics, as in
        znxlwm/pytorch-CartoonGAN.
        """
        channels = {i: CONVOLUTIONS[i] * self.width // 64 for i in CONTENT_CONVOLUTIONS}
        *_, (_, x) = _convolutions((images + 1) / 2, channels, POOLED_BEFORE, self.dtype)
        return x


class VGG16Features(nn.Module):
    """VGG16 up to relu5_3, without the pool before the last block, with Caffe's weights.

    Source: Simonyan and Zisserman 2015, table 1, column D; MUNIT's code.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """RGB images (n, h, w, 3) in [-1, 1] to features (n, h/8, w/8, 512)."""
        x = (images[..., ::-1] + 1) * 127.5 - jnp.asarray(MEAN_BGR, images.dtype)[None, None, None]
        *_, (_, x) = _convolutions(x, CONVOLUTIONS_16, POOLED_BEFORE_16, self.dtype)
        return nn.relu(x)


def _convolutions(
    x: Array, channels: Mapping[int, int], pooled_before: Sequence[int], dtype: Any
) -> Iterator[tuple[int, Array]]:
    """Index and output, before its ReLU, of each 3x3 convolution of a compact module, in turn."""
    for index, features in channels.items():
        if index in pooled_before:
            x = nn.max_pool(x, (2, 2), (2, 2))
        conv = Conv(
            features, 3, padding=1, pad_mode="zero", use_bias=True, **INITS, dtype=dtype,
            name=f"conv{index}",
        )  # fmt: skip
        x = conv(x)
        yield index, x
        x = nn.relu(x)


def invariant_perceptual_distance(
    network: nn.Module, variables: Variables, images: Array, source: Array
) -> Array:
    """Mean squared difference of instance-normalized features: content without style.

    images, source (n, h, w, 3) in [-1, 1]: translations, and what they are translated from, to
    which no gradient goes. Source: MUNIT section 5.1, domain-invariant perceptual loss.
    """
    ours = instance_norm(network.apply(variables, images))
    theirs = instance_norm(network.apply(variables, jax.lax.stop_gradient(source)))
    return jnp.mean(jnp.square(ours - theirs))


def perceptual_distance(
    network: nn.Module, variables: Variables, images: Array, target: Array
) -> Array:
    """Weighted sum of the mean absolute differences of features.

    images, target: (n, h, w, 3) in [-1, 1], not normalized by ImageNet's statistics, as in the
    authors' code. No gradient goes to the target. Source: pix2pixHD section 3.3 and its code.
    """
    ours = network.apply(variables, images)
    theirs = network.apply(variables, jax.lax.stop_gradient(target))
    terms = [weight * mean_absolute(ours[i], theirs[i]) for i, weight in WEIGHTS.items()]
    return sum(terms[1:], terms[0])


def content_distance(
    network: nn.Module, variables: Variables, images: Array, source: Array
) -> Array:
    """Mean absolute difference of the features that `network` returns.

    images, source (n, h, w, 3) in [-1, 1]: translations, and what they are translated from, to
    which no gradient goes. Source: CartoonGAN eq. 4.
    """
    theirs = network.apply(variables, jax.lax.stop_gradient(source))
    return mean_absolute(network.apply(variables, images), theirs)
