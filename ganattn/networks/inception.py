"""The Inception network whose features FID and KID compare: TensorFlow's graph of 2015-12-05."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

CLASSES = 1008
SIDE = 299  # height and width of the images that it was trained on
TAPS = ("64", "192", "768", "2048")  # the layers whose features FID compares, by channels

# A branch: its name, and (features, kernel height, kernel width[, stride]) of its layers in turn.
Branch = tuple[str, tuple[tuple[int, ...], ...]]


class ConvRelu(nn.Module):
    """Convolution, with the batch normalization after it folded in, and ReLU.

    padded: whether a convolution with stride 1 keeps the size; strided ones are never padded.
    """

    features: int
    height: int = 1
    width: int = 1
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = nn.Conv(
            self.features,
            (self.height, self.width),
            (self.stride, self.stride),
            "SAME" if self.padded and self.stride == 1 else "VALID",
            precision=lax.Precision.HIGHEST,  # TF32 would change the scores
            name="conv",
        )
        return nn.relu(conv(x))


def _shrink(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _smooth(x: Array) -> Array:
    # The mean is over the pixels inside the image, unlike torchvision's.
    return nn.avg_pool(x, (3, 3), (1, 1), [(1, 1), (1, 1)], count_include_pad=False)


class Mix(nn.Module):
    """Branches of convolutions side by side, and a pooled one.

    pooled: channels of the branch after mean pooling; 0: maximum pooling that halves the sides.
    """

    branches: tuple[Branch, ...]
    pooled: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        outputs = []
        for name, layers in self.branches:
            y = x
            for i, layer in enumerate(layers, start=1):
                y = ConvRelu(*layer, name=f"{name}_{i}" if len(layers) > 1 else name)(y)
            outputs.append(y)
        if self.pooled:
            outputs.append(ConvRelu(self.pooled, name="branch_pool")(_smooth(x)))
        else:
            outputs.append(_shrink(x))
        return jnp.concatenate(outputs, -1)


def _fine(pooled: int, name: str) -> Mix:
    """Mixed_5b to 5d: branches of 1x1, 5x5 and twice 3x3."""
    branches = (
        ("branch1x1", ((64, 1, 1),)),
        ("branch5x5", ((48, 1, 1), (64, 5, 5))),
        ("branch3x3dbl", ((64, 1, 1), (96, 3, 3), (96, 3, 3))),
    )
    return Mix(branches, pooled, name=name)


def _middle(inner: int, name: str) -> Mix:
    """Mixed_6b to 6e: 7x7 kernels as rows and columns. inner: channels between them."""
    row, column = (inner, 1, 7), (inner, 7, 1)
    branches = (
        ("branch1x1", ((192, 1, 1),)),
        ("branch7x7", ((inner, 1, 1), row, (192, 7, 1))),
        ("branch7x7dbl", ((inner, 1, 1), column, row, column, (192, 1, 7))),
    )
    return Mix(branches, 192, name=name)


# Mixed_6a and 7a halve the sides.
FIRST_REDUCTION: tuple[Branch, ...] = (
    ("branch3x3", ((384, 3, 3, 2),)),
    ("branch3x3dbl", ((64, 1, 1), (96, 3, 3), (96, 3, 3, 2))),
)
SECOND_REDUCTION: tuple[Branch, ...] = (
    ("branch3x3", ((192, 1, 1), (320, 3, 3, 2))),
    ("branch7x7x3", ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2))),
)


class CoarseMix(nn.Module):
    """Mixed_7b and 7c: 3x3 kernels as a row beside a column. smooth: mean or maximum pooling."""

    smooth: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = ConvRelu(384, name="branch3x3_1")(x)
        two = ConvRelu(448, name="branch3x3dbl_1")(x)
        two = ConvRelu(384, 3, 3, name="branch3x3dbl_2")(two)
        pooled = _smooth(x) if self.smooth else nn.max_pool(x, (3, 3), (1, 1), [(1, 1), (1, 1)])
        branches = [
            ConvRelu(320, name="branch1x1")(x),
            ConvRelu(384, 1, 3, name="branch3x3_2a")(one),
            ConvRelu(384, 3, 1, name="branch3x3_2b")(one),
            ConvRelu(384, 1, 3, name="branch3x3dbl_3a")(two),
            ConvRelu(384, 3, 1, name="branch3x3dbl_3b")(two),
            ConvRelu(192, name="branch_pool")(pooled),
        ]
        return jnp.concatenate(branches, -1)


class Inception(nn.Module):
    """Inception-v3 in the form that FID is defined with.

    Unlike torchvision's inception_v3, mean pooling excludes the padding, Mixed_7c pools by maximum,
    and there are 1008 classes. Modules are named as in pytorch-fid's weight file. Source: Szegedy
    et al. 2015 (Rethinking the Inception Architecture), table 1 and figures 5 to 7; Heusel et al.
    2017.
    """

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        """images (n, 299, 299, 3) in [-1, 1] to {"64", "192", "768", "2048": (n, channels)}.

        The features are means over the maps after each max pool, Mixed_6e and the last layer.
        "logits" and "logits_unbiased" (n, 1008) are with and without the bias, on which
        implementations of the Inception Score differ.
        """
        x = ConvRelu(32, 3, 3, 2, name="Conv2d_1a_3x3")(images)
        x = ConvRelu(32, 3, 3, padded=False, name="Conv2d_2a_3x3")(x)
        x = first = _shrink(ConvRelu(64, 3, 3, name="Conv2d_2b_3x3")(x))
        x = ConvRelu(80, name="Conv2d_3b_1x1")(x)
        x = second = _shrink(ConvRelu(192, 3, 3, padded=False, name="Conv2d_4a_3x3")(x))
        for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
            x = _fine(pooled, f"Mixed_5{letter}")(x)
        x = Mix(FIRST_REDUCTION, name="Mixed_6a")(x)
        for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            x = _middle(inner, f"Mixed_6{letter}")(x)
        third = x
        x = Mix(SECOND_REDUCTION, name="Mixed_7a")(x)
        x = CoarseMix(smooth=True, name="Mixed_7b")(x)
        x = CoarseMix(smooth=False, name="Mixed_7c")(x)
        means = [tap.mean((1, 2)) for tap in (first, second, third, x)]
        dense = nn.Dense(CLASSES, precision=lax.Precision.HIGHEST, name="fc")
        logits = dense(means[-1])
        unbiased = logits - dense.variables["params"]["bias"][None]
        return {
            **dict(zip(TAPS, means, strict=True)),
            "logits": logits,
            "logits_unbiased": unbiased,
        }
