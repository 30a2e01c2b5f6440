"""VGG19's features and the perceptual distance of pix2pixHD and SPADE."""

from typing import Any

import flax.linen as nn
import jax
from jax import Array

from ganattn.layers.convolution import Conv
from ganattn.losses import mean_absolute
from ganattn.state import Variables

# torchvision's indices of the convolutions up to relu5_1, and their channels.
CONVOLUTIONS = {
    0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256,
    19: 512, 21: 512, 23: 512, 25: 512, 28: 512,
}  # fmt: skip
POOLED_BEFORE = (5, 10, 19, 28)
WEIGHTS = {0: 1 / 32, 5: 1 / 16, 10: 1 / 8, 19: 1 / 4, 28: 1.0}  # after relu1_1 to relu5_1


class VGG19Features(nn.Module):
    """VGG19 up to relu5_1. Source: Simonyan and Zisserman 2015, table 1, column E."""

    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> dict[int, Array]:
        """images (n, h, w, 3) to the features after the convolutions in WEIGHTS."""
        features = {}
        x = images
        for index, channels in CONVOLUTIONS.items():
            if index in POOLED_BEFORE:
                x = nn.max_pool(x, (2, 2), (2, 2))
            conv = Conv(
                channels, 3, padding=1, pad_mode="zero", use_bias=True, dtype=self.dtype,
                name=f"conv{index}",
            )  # fmt: skip
            x = nn.relu(conv(x))
            if index in WEIGHTS:
                features[index] = x
        return features


def perceptual_distance(
    network: nn.Module, variables: Variables, images: Array, target: Array
) -> Array:
    """Weighted sum of the mean absolute differences of features.

    images, target: (n, h, w, 3) in [-1, 1], not normalised by ImageNet's statistics, as in the
    authors' code. No gradient goes to the target. Source: pix2pixHD section 3.3 and its code.
    """
    ours = network.apply(variables, images)
    theirs = network.apply(variables, jax.lax.stop_gradient(target))
    terms = [weight * mean_absolute(ours[i], theirs[i]) for i, weight in WEIGHTS.items()]
    return sum(terms[1:], terms[0])
