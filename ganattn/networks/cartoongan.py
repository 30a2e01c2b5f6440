"""CartoonGAN's generator and discriminator (Chen et al. 2018, figure 2)."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv, ConvTranspose, Initializer
from ganattn.layers.normalization import instance_norm
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput


class GeneratorForm(NamedTuple):
    """In what the public generators differ.

    pad_mode: of the 7x7 convolutions and the residual blocks, see `layers.convolution.pad`.
    epsilon: of the instance normalization. affine: whether it has a scale and shift per channel.
    inits: initial values of convolutions; None for those of Torch.
    """

    pad_mode: str
    epsilon: float
    affine: bool
    inits: dict[str, Initializer | None]


# official: of the authors' published weights. znxlwm: of znxlwm/pytorch-CartoonGAN.
FORMS = {
    "official": GeneratorForm("reflect", 1e-9, True, {"kernel_init": None, "bias_init": None}),
    "znxlwm": GeneratorForm("zero", 1e-5, False, DCGAN_INITS),
}


class ScaledInstanceNorm(nn.Module):
    """Instance normalization with biased variance in a `GeneratorForm`.

    The scale "gamma" starts uniform in [0, 1], as Torch7's does.
    """

    form: GeneratorForm

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """(n, h, w, c), any precision, to the same."""
        x = instance_norm(features, self.form.epsilon)
        if not self.form.affine:
            return x
        gamma = self.param("gamma", nn.initializers.uniform(1.0), x.shape[-1:], jnp.float32)
        beta = self.param("beta", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return (gamma[None, None, None] * x + beta[None, None, None]).astype(features.dtype)


class FlatBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))) with 3x3 convolutions."""

    features: int
    form: GeneratorForm
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x (n, h, w, features)."""
        conv = partial(_conv, self.form, self.dtype, self.features, 3)
        y = conv(pad_mode=self.form.pad_mode, name="conv1")(x)
        y = nn.relu(ScaledInstanceNorm(self.form, name="norm1")(y))
        y = conv(pad_mode=self.form.pad_mode, name="conv2")(y)
        return x + ScaledInstanceNorm(self.form, name="norm2")(y)


class CartoonGenerator(nn.Module):
    """Flat and down-convolutions, residual blocks, up-convolutions.

    A strided (or transposed) convolution and a flat one follow each other without anything in
    between. width: channels of the first layer. form: a key of FORMS. remat: recompute residual
    blocks in the backward pass. Source: CartoonGAN figure 2 (k7n64s1, k3n128s2, k3n128s1, k3n256s2,
    k3n256s1, 8 blocks, k3n128s1/2, k3n128s1, k3n64s1/2, k3n64s1, k7n3s1).
    """

    width: int = 64
    num_residual_blocks: int = 8
    form: str = "official"
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> GeneratorOutput:
        """Maps images (n, h, w, 3) in [-1, 1] to the same range.

        Heights and widths are rounded up to multiples of 4.
        """
        form = FORMS[self.form]
        conv = partial(_conv, form, self.dtype)

        def finish(x: Array, name: str) -> Array:
            return nn.relu(ScaledInstanceNorm(form, name=f"{name}_norm")(x))

        x = conv(self.width, 7, pad_mode=form.pad_mode, name="stem")(images)
        x = finish(x, "stem")
        for i in (1, 2):
            x = conv(self.width << i, 3, stride=2, name=f"down{i}_strided")(x)
            x = finish(conv(self.width << i, 3, name=f"down{i}_flat")(x), f"down{i}")
        block = nn.remat(FlatBlock) if self.remat else FlatBlock
        for i in range(self.num_residual_blocks):
            x = block(4 * self.width, form, self.dtype, name=f"block{i + 1}")(x)
        for i in (1, 2):
            features = self.width << (2 - i)
            x = ConvTranspose(
                features, 3, use_bias=True, **form.inits, dtype=self.dtype, name=f"up{i}_strided"
            )(x)
            x = finish(conv(features, 3, name=f"up{i}_flat")(x), f"up{i}")
        output = conv(3, 7, pad_mode=form.pad_mode, name="output")
        return GeneratorOutput(jnp.tanh(output(x)))


class CartoonDiscriminator(nn.Module):
    """Seven 3x3 convolutions, two of them strided, with leaky ReLU of slope 0.2.

    Instance normalization without parameters follows the third, fifth and sixth one. width:
    channels of the first layer. Source: CartoonGAN figure 2 and znxlwm/pytorch-CartoonGAN, whose
    network ends with the sigmoid that is here a part of the loss.
    """

    width: int = 32
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> DiscriminatorOutput:
        """images (n, h, w, 3) in [-1, 1] to logits (n, h/4, w/4, 1)."""
        layers = ((1, 1, False), (2, 2, False), (4, 1, True), (4, 2, False), (8, 1, True),
                  (8, 1, True))  # fmt: skip
        options = {"use_bias": True, **DCGAN_INITS, "dtype": self.dtype}
        x, features = images, []
        for i, (multiple, stride, is_normalized) in enumerate(layers, 1):
            x = Conv(self.width * multiple, 3, stride, 1, "zero", **options, name=f"conv{i}")(x)
            x = nn.leaky_relu(instance_norm(x) if is_normalized else x, 0.2)
            features.append(x)
        logits = Conv(1, 3, 1, 1, "zero", **options, name="classifier")(x)
        return DiscriminatorOutput(logits, tuple(features))


def _conv(
    form: GeneratorForm,
    dtype: Any,
    features: int,
    size: int,
    pad_mode: str = "zero",
    **options: Any,
) -> Conv:
    """A convolution with bias that keeps height and width where it has no stride."""
    return Conv(
        features,
        size,
        padding=size // 2,
        pad_mode=pad_mode,
        use_bias=True,
        **form.inits,
        dtype=dtype,
        **options,
    )
