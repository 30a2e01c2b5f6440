"""U-GAT-IT's generator and discriminator (Kim et al. 2020, tables 4 to 6)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import ClassActivationAttention
from ganattn.layers.convolution import Conv, Initializer, UpConv
from ganattn.layers.dense import Dense
from ganattn.layers.normalization import LIN, AdaIN, AdaLIN, GroupNorm, InstanceNorm, LayerNorm
from ganattn.layers.spectral import SpectralConv
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput

DECODER_NORMS = ("adalin", "adain", "in", "ln", "gn")


@dataclasses.dataclass(frozen=True)
class NetworkProfile:
    """The differences between the networks of the authors' two code bases; PyTorch's by default.

    conv_bias: biases in every convolution and dense layer (TensorFlow); otherwise only in the
    attention's 1x1 convolutions and in the discriminators' convolutions but the last.
    affine_instance_norm: scale and shift in the encoder (TensorFlow). unbiased_variance: in AdaLIN
    and LIN (PyTorch); the encoder's is biased in both. The paper specifies none of the three.

    rho_init, rho_offset: of AdaLIN. The paper starts rho at 1, PyTorch at 0.9, TensorFlow at 1 with
    0.1 subtracted in use ("smoothing", which the paper lacks; the result is at least 0). LIN's rho
    starts at 0 and has no offset in all three; they keep every rho in [0, 1] after each update.

    shared_cam: one classifier with bias for both poolings, whose weight plus bias multiplies the
    maps (TensorFlow); PyTorch has two without bias. In TensorFlow's discriminators the spectrally
    normalized weight multiplies the maps, in PyTorch's the raw one. The paper writes one weight a
    map, and one probability where both code bases have two logits with a loss each.

    shared_iteration: real and fake images of one update share a power iteration (TensorFlow),
    otherwise each has its own. stride2_padding: of the generator's 3x3 convolutions; the result
    differs for odd sizes only. stride1_padding: of the discriminator's last two 4x4 convolutions;
    TensorFlow's keeps the size, as tables 5 and 6 do, PyTorch's loses a pixel each. kernel_init,
    bias_init: N(0, 0.02) and 0 in TensorFlow and the paper; None is PyTorch's default, uniform
    within 1 / sqrt(fan-in).

    The same in both code bases, unlike the paper: no ReLU follows gamma and beta (table 4 has one).
    The hidden layers of their MLP have 4 * width channels, as in PyTorch; TensorFlow's have width
    times the number of residual blocks, which is the same for the paper's four.
    """

    conv_bias: bool = False
    affine_instance_norm: bool = False
    unbiased_variance: bool = True
    rho_init: float = 0.9
    rho_offset: float = 0.0
    shared_cam: bool = False
    shared_iteration: bool = False
    stride2_padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    stride1_padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None


PYTORCH = NetworkProfile()
TENSORFLOW = NetworkProfile(
    conv_bias=True,
    affine_instance_norm=True,
    unbiased_variance=False,
    rho_init=1.0,
    rho_offset=0.1,
    shared_cam=True,
    shared_iteration=True,
    stride2_padding=((1, 0), (1, 0)),
    stride1_padding=((1, 2), (1, 2)),
    kernel_init=nn.initializers.normal(0.02),
    bias_init=nn.initializers.zeros,
)
PROFILES = {"pytorch": PYTORCH, "tf": TENSORFLOW}


class ResidualBlock(nn.Module):
    """Two padded 3x3 convolutions with norms, a ReLU between them, and a skip.

    norm, conv: constructors of the layers; both norms receive the same `style` (gamma and beta, or
    nothing). Source: U-GAT-IT table 4, ResBlock and AdaResBlock.
    """

    features: int
    norm: Callable[..., nn.Module]
    conv: Callable[..., Conv]

    @nn.compact
    def __call__(self, x: Array, *style: Array) -> Array:
        y = self.conv(self.features, 3, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y, *style))
        y = self.conv(self.features, 3, padding=1, name="conv2")(y)
        return x + self.norm(name="norm2")(y, *style)


def _decoder_norms(kind: str, profile: NetworkProfile) -> tuple[Callable[..., nn.Module], ...]:
    """Constructors of the normalization of residual blocks, and of that after up-sampling."""
    unbiased = profile.unbiased_variance
    fixed: dict[str, Callable[..., nn.Module]] = {
        "in": partial(InstanceNorm, affine=True),
        "ln": partial(LayerNorm, unbiased),
        "gn": GroupNorm,
    }
    adaptive: dict[str, tuple[Callable[..., nn.Module], ...]] = {
        "adalin": (
            partial(AdaLIN, profile.rho_init, profile.rho_offset, unbiased),
            partial(LIN, unbiased=unbiased),
        ),
        "adain": (partial(AdaIN, unbiased), fixed["in"]),
    }
    return adaptive[kind] if kind in adaptive else (fixed[kind], fixed[kind])


class Generator(nn.Module):
    """Encoder, class activation attention, and a decoder with AdaLIN and LIN (table 4).

    width: channels of the first layer. light: gamma and beta are computed from the average-pooled
    map instead of the complete one, so images of any size (multiples of 4) can be translated.
    decoder_norm: "adalin", or one of the paper's ablations (figure 3, table 1): "adain" keeps the
    adaptive scale and shift without the layer part, "in", "ln" and "gn" learn one scale and shift
    for each channel. remat: recompute residual blocks in the backward pass instead of storing them.
    """

    width: int = 64
    num_residual_blocks: int = 4
    light: bool = False
    decoder_norm: str = "adalin"
    cam: bool = True
    profile: NetworkProfile = PYTORCH
    channels: int = 3
    remat: bool = False
    dtype: Any = None

    @property
    def is_adaptive(self) -> bool:
        """Whether gamma and beta of the decoder depend on the image."""
        return self.decoder_norm in ("adalin", "adain")

    @property
    def has_fixed_size(self) -> bool:
        """Whether parameters depend on the size of images: a dense layer takes all pixels."""
        return self.is_adaptive and not self.light

    @nn.compact
    def __call__(self, images: Array) -> GeneratorOutput:
        """images (n, h, w, channels) in [-1, 1], h and w multiples of 4.

        With CAM, attention is "cam" (n, h/4, w/4, 1), at least 0, and extras has "cam_logits"
        (n, 2).
        """
        profile, deep = self.profile, 4 * self.width
        inits = {"kernel_init": profile.kernel_init, "bias_init": profile.bias_init}
        options = {"use_bias": profile.conv_bias, **inits, "dtype": self.dtype}
        conv, dense = partial(Conv, **options), partial(Dense, deep, profile.conv_bias, **inits)
        encoder_norm = partial(InstanceNorm, profile.affine_instance_norm)
        block_norm, up_norm = _decoder_norms(self.decoder_norm, profile)
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock

        x = conv(self.width, 7, padding=3, name="stem")(images)
        x = nn.relu(encoder_norm(name="stem_norm")(x))
        for i in (1, 2):
            padding = profile.stride2_padding
            x = conv(self.width << i, 3, stride=2, padding=padding, name=f"down{i}")(x)
            x = nn.relu(encoder_norm(name=f"down{i}_norm")(x))
        for i in range(self.num_residual_blocks):
            x = block(deep, encoder_norm, conv, name=f"encode{i + 1}")(x)

        attention, extras = OrderedDict(), OrderedDict()
        if self.cam:
            attend = ClassActivationAttention(
                shared=profile.shared_cam, **inits, dtype=self.dtype, name="attention"
            )
            x, extras["cam_logits"], attention["cam"] = attend(x)

        style: tuple[Array, ...] = ()
        if self.is_adaptive:
            hidden = x.mean((1, 2)) if self.light else x.reshape(x.shape[0], -1)
            hidden = nn.relu(dense(name="mlp1")(hidden))
            hidden = nn.relu(dense(name="mlp2")(hidden))
            style = dense(name="gamma")(hidden), dense(name="beta")(hidden)
        for i in range(self.num_residual_blocks):
            x = block(deep, block_norm, conv, name=f"decode{i + 1}")(x, *style)
        for i in (1, 2):
            x = UpConv(deep >> i, **options, name=f"up{i}")(x)
            x = nn.relu(up_norm(name=f"up{i}_norm")(x))
        x = conv(self.channels, 7, padding=3, name="output")(x)
        return GeneratorOutput(jnp.tanh(x), attention, extras)


class Discriminator(nn.Module):
    """Spectrally normalized PatchGAN with class activation attention (tables 5 and 6).

    num_layers: as the authors count: `num_layers - 2` strided convolutions, one with stride 1, and
    the classifier; 7 is the global discriminator of table 6 (receptive field 286), 5 the local one
    of table 5 (70).
    """

    width: int = 64
    num_layers: int = 5
    cam: bool = True
    profile: NetworkProfile = PYTORCH
    dtype: Any = None

    @property
    def smallest_size(self) -> int:
        """Height and width below which no logit remains: 96 with 7 layers, 24 with 5.

        The strided layers must leave 3 pixels: without them, the last two have nothing to reflect.
        """
        return 3 << (self.num_layers - 2)

    @nn.compact
    def __call__(
        self, images: Array, passes: int = 1, update_stats: bool = False
    ) -> DiscriminatorOutput:
        """images (passes * n, h, w, c) in [-1, 1]; each pass runs a power iteration of its own.

        With CAM, attention is "cam" (n, h', w', 1) and extras has "cam_logits" (n, 2).
        """
        profile, strided = self.profile, self.num_layers - 2
        inits = {"kernel_init": profile.kernel_init, "bias_init": profile.bias_init}
        options, last_padding = {**inits, "dtype": self.dtype}, profile.stride1_padding
        x, features = images, []
        for i in range(strided + 1):
            stride, padding = (1, last_padding) if i == strided else (2, 1)
            conv = SpectralConv(self.width << i, 4, stride, padding, **options, name=f"conv{i + 1}")
            x = nn.leaky_relu(conv(x, passes, update_stats), 0.2)
            features.append(x)
        attention, extras = OrderedDict(), OrderedDict()
        if self.cam:
            attend = ClassActivationAttention(
                0.2, spectral=True, shared=profile.shared_cam, **options, name="attention"
            )
            x, extras["cam_logits"], attention["cam"] = attend(x, passes, update_stats)
        options["use_bias"] = profile.conv_bias
        classifier = SpectralConv(1, 4, padding=last_padding, **options, name="classifier")
        logits = classifier(x, passes, update_stats)
        return DiscriminatorOutput(logits, tuple(features), attention, extras)
