"""The Inception network whose features FID and KID compare: TensorFlow's graph of 2015-12-05."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

CLASSES = 1008
SIDE = 299  # height and width of the images that it was trained on
TAPS = ("64", "192", "768", "2048")  # the layers whose features FID compares, by channels

Size = tuple[int, int]


class ConvRelu(nn.Module):
    """Convolution, with the batch normalization after it folded in, and ReLU."""

    features: int
    kernel_size: Size = (1, 1)
    stride: int = 1
    padding: Size = (0, 0)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = nn.Conv(
            self.features,
            self.kernel_size,
            (self.stride, self.stride),
            [(side, side) for side in self.padding],
            precision=lax.Precision.HIGHEST,  # TF32 would change the scores
            name="conv",
        )
        return nn.relu(conv(x))


def _chain(x: Array, *layers: ConvRelu) -> Array:
    for layer in layers:
        x = layer(x)
    return x


def _square(features: int, name: str, stride: int = 1, padding: int = 1) -> ConvRelu:
    return ConvRelu(features, (3, 3), stride, (padding, padding), name=name)


def _row(features: int, length: int, name: str) -> ConvRelu:
    return ConvRelu(features, (1, length), padding=(0, length // 2), name=name)


def _column(features: int, length: int, name: str) -> ConvRelu:
    return ConvRelu(features, (length, 1), padding=(length // 2, 0), name=name)


def _shrink(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _smooth(x: Array) -> Array:
    # The mean is over the pixels inside the image, unlike torchvision's.
    return nn.avg_pool(x, (3, 3), (1, 1), [(1, 1), (1, 1)], count_include_pad=False)


class FineMix(nn.Module):
    """Mixed_5b to 5d: branches of 1x1, 5x5 and twice 3x3. pooled: channels of the pool branch."""

    pooled: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        branches = [
            ConvRelu(64, name="branch1x1")(x),
            _chain(
                x,
                ConvRelu(48, name="branch5x5_1"),
                ConvRelu(64, (5, 5), padding=(2, 2), name="branch5x5_2"),
            ),
            _chain(
                x,
                ConvRelu(64, name="branch3x3dbl_1"),
                _square(96, "branch3x3dbl_2"),
                _square(96, "branch3x3dbl_3"),
            ),
            ConvRelu(self.pooled, name="branch_pool")(_smooth(x)),
        ]
        return jnp.concatenate(branches, -1)


class FirstReduction(nn.Module):
    """Mixed_6a: halves the sides."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        branches = [
            _square(384, "branch3x3", stride=2, padding=0)(x),
            _chain(
                x,
                ConvRelu(64, name="branch3x3dbl_1"),
                _square(96, "branch3x3dbl_2"),
                _square(96, "branch3x3dbl_3", stride=2, padding=0),
            ),
            _shrink(x),
        ]
        return jnp.concatenate(branches, -1)


class MiddleMix(nn.Module):
    """Mixed_6b to 6e: 7x7 kernels as rows and columns. inner: channels between them."""

    inner: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inner = self.inner
        branches = [
            ConvRelu(192, name="branch1x1")(x),
            _chain(
                x,
                ConvRelu(inner, name="branch7x7_1"),
                _row(inner, 7, "branch7x7_2"),
                _column(192, 7, "branch7x7_3"),
            ),
            _chain(
                x,
                ConvRelu(inner, name="branch7x7dbl_1"),
                _column(inner, 7, "branch7x7dbl_2"),
                _row(inner, 7, "branch7x7dbl_3"),
                _column(inner, 7, "branch7x7dbl_4"),
                _row(192, 7, "branch7x7dbl_5"),
            ),
            ConvRelu(192, name="branch_pool")(_smooth(x)),
        ]
        return jnp.concatenate(branches, -1)


class SecondReduction(nn.Module):
    """Mixed_7a: halves the sides."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        branches = [
            _chain(
                x,
                ConvRelu(192, name="branch3x3_1"),
                _square(320, "branch3x3_2", stride=2, padding=0),
            ),
            _chain(
                x,
                ConvRelu(192, name="branch7x7x3_1"),
                _row(192, 7, "branch7x7x3_2"),
                _column(192, 7, "branch7x7x3_3"),
                _square(192, "branch7x7x3_4", stride=2, padding=0),
            ),
            _shrink(x),
        ]
        return jnp.concatenate(branches, -1)


class CoarseMix(nn.Module):
    """Mixed_7b and 7c: 3x3 kernels as a row beside a column. smooth: mean or maximum pooling."""

    smooth: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = ConvRelu(384, name="branch3x3_1")(x)
        two = _chain(x, ConvRelu(448, name="branch3x3dbl_1"), _square(384, "branch3x3dbl_2"))
        pooled = _smooth(x) if self.smooth else nn.max_pool(x, (3, 3), (1, 1), [(1, 1), (1, 1)])
        branches = [
            ConvRelu(320, name="branch1x1")(x),
            _row(384, 3, "branch3x3_2a")(one),
            _column(384, 3, "branch3x3_2b")(one),
            _row(384, 3, "branch3x3dbl_3a")(two),
            _column(384, 3, "branch3x3dbl_3b")(two),
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
        x = _square(32, "Conv2d_1a_3x3", stride=2, padding=0)(images)
        x = _square(32, "Conv2d_2a_3x3", padding=0)(x)
        x = first = _shrink(_square(64, "Conv2d_2b_3x3")(x))
        x = ConvRelu(80, name="Conv2d_3b_1x1")(x)
        x = second = _shrink(_square(192, "Conv2d_4a_3x3", padding=0)(x))
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = FineMix(pooled, name=name)(x)
        x = FirstReduction(name="Mixed_6a")(x)
        for name, inner in (
            ("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)
        ):  # fmt: skip
            x = MiddleMix(inner, name=name)(x)
        third = x
        x = SecondReduction(name="Mixed_7a")(x)
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
