"""U-GAT-IT's generator and discriminator (Kim et al. 2020, tables 4 to 6)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import ClassActivationAttention
from ganattn.layers.convolution import Conv, Initializer, UpConv
from ganattn.layers.dense import Dense
from ganattn.layers.normalization import (
    LIN,
    AdaIN,
    AdaLIN,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
)
from ganattn.layers.spectral import SpectralConv

DECODER_NORMS = ("adalin", "adain", "in", "ln", "gn")


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where the authors' two code bases differ in the networks.

    conv_bias: biases in every convolution and dense layer, else only where PyTorch's code has them.
    affine_instance_norm: scale and shift in the encoder. unbiased_variance: in the decoder.
    rho_init, rho_offset: of AdaLIN. shared_cam: one classifier with bias for both poolings.
    stride2_padding: of the generator's 3x3 convolutions. stride1_padding: of the discriminator's
    last two 4x4 convolutions. kernel_init: None is PyTorch's default.
    """

    conv_bias: bool
    affine_instance_norm: bool
    unbiased_variance: bool
    rho_init: float
    rho_offset: float
    shared_cam: bool
    stride2_padding: tuple[tuple[int, int], tuple[int, int]]
    stride1_padding: tuple[tuple[int, int], tuple[int, int]]
    kernel_init: Initializer | None
    bias_init: Initializer | None


PYTORCH = Profile(
    conv_bias=False,
    affine_instance_norm=False,
    unbiased_variance=True,
    rho_init=0.9,
    rho_offset=0.0,
    shared_cam=False,
    stride2_padding=((1, 1), (1, 1)),
    stride1_padding=((1, 1), (1, 1)),
    kernel_init=None,
    bias_init=None,
)
TENSORFLOW = Profile(
    conv_bias=True,
    affine_instance_norm=True,
    unbiased_variance=False,
    rho_init=1.0,
    rho_offset=0.1,
    shared_cam=True,
    stride2_padding=((1, 0), (1, 0)),
    stride1_padding=((1, 2), (1, 2)),
    kernel_init=nn.initializers.normal(0.02),
    bias_init=nn.initializers.zeros,
)
PROFILES = {"pytorch": PYTORCH, "tf": TENSORFLOW}


class Generated(NamedTuple):
    """images (n, h, w, c) in [-1, 1]; cam_logits (n, 2) and heatmap (n, h/4, w/4, 1) with CAM."""

    images: Array
    cam_logits: Array | None
    heatmap: Array | None


class Judged(NamedTuple):
    """logits (n, h', w', 1), unbounded; cam_logits (n, 2) and heatmap (n, h'', w'', 1) with CAM."""

    logits: Array
    cam_logits: Array | None
    heatmap: Array | None


class ResidualBlock(nn.Module):
    """Two padded 3x3 convolutions, each with a norm, ReLU between them, plus the input.

    `norms` makes both normalisations; the same `style` (gamma and beta, or nothing) goes to each.
    """

    features: int
    norms: Callable[[str], nn.Module]
    conv: Callable[..., Conv]

    @nn.compact
    def __call__(self, x: Array, *style: Array) -> Array:
        y = self.conv(self.features, 3, padding=1, name="conv1")(x)
        y = nn.relu(self.norms("norm1")(y, *style))
        y = self.conv(self.features, 3, padding=1, name="conv2")(y)
        return x + self.norms("norm2")(y, *style)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Makes the generator's layers, each with the profile's biases, initialisers and statistics."""

    profile: Profile
    decoder_norm: str
    dtype: Any

    def inits(self) -> dict[str, Initializer | None]:
        return {"kernel_init": self.profile.kernel_init, "bias_init": self.profile.bias_init}

    def conv(self, features: int, kernel_size: int, **options: Any) -> Conv:
        bias = self.profile.conv_bias
        return Conv(
            features, kernel_size, use_bias=bias, **self.inits(), dtype=self.dtype, **options
        )

    def up_conv(self, features: int, name: str) -> UpConv:
        bias = self.profile.conv_bias
        return UpConv(features, bias, **self.inits(), dtype=self.dtype, name=name)

    def dense(self, features: int, name: str) -> Dense:
        return Dense(features, self.profile.conv_bias, **self.inits(), name=name)

    def encoder_norm(self, name: str) -> nn.Module:
        return InstanceNorm(self.profile.affine_instance_norm, name=name)

    def block_norm(self, name: str) -> nn.Module:
        profile = self.profile
        if self.decoder_norm == "adalin":
            return AdaLIN(
                profile.rho_init, profile.rho_offset, profile.unbiased_variance, name=name
            )
        if self.decoder_norm == "adain":
            return AdaIN(profile.unbiased_variance, name=name)
        return self._fixed_norm(name)

    def up_norm(self, name: str) -> nn.Module:
        if self.decoder_norm == "adalin":
            return LIN(unbiased=self.profile.unbiased_variance, name=name)
        return self._fixed_norm(name)

    def _fixed_norm(self, name: str) -> nn.Module:
        if self.decoder_norm == "gn":
            return GroupNorm(name=name)
        if self.decoder_norm == "ln":
            return LayerNorm(self.profile.unbiased_variance, name=name)
        return InstanceNorm(affine=True, name=name)


class Generator(nn.Module):
    """Encoder, class-activation attention, and a decoder normalised by AdaLIN and LIN.

    width: channels of the first layer. light: gamma and beta come from the average-pooled map
    instead of the whole one, so that pictures of any size (multiples of 4) can be translated.
    decoder_norm: "adalin", or one of the paper's ablations: "adain" keeps the adaptive scale and
    shift without the layer part, "in", "ln" and "gn" learn one scale and shift a channel.
    remat: recompute residual blocks in the backward pass instead of storing them.
    """

    width: int = 64
    num_residual_blocks: int = 4
    light: bool = False
    decoder_norm: str = "adalin"
    cam: bool = True
    profile: Profile = PYTORCH
    channels: int = 3
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Generated:
        """images (n, h, w, channels) in [-1, 1], h and w multiples of 4."""
        make = _Parts(self.profile, self.decoder_norm, self.dtype)
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        deep = 4 * self.width

        x = make.conv(self.width, 7, padding=3, name="stem")(images)
        x = nn.relu(make.encoder_norm("stem_norm")(x))
        for i in (1, 2):
            padding = self.profile.stride2_padding
            x = make.conv(self.width << i, 3, stride=2, padding=padding, name=f"down{i}")(x)
            x = nn.relu(make.encoder_norm(f"down{i}_norm")(x))
        for i in range(self.num_residual_blocks):
            x = block(deep, make.encoder_norm, make.conv, name=f"encode{i + 1}")(x)

        cam_logits = heatmap = None
        if self.cam:
            x, cam_logits, heatmap = ClassActivationAttention(
                shared=self.profile.shared_cam, **make.inits(), dtype=self.dtype, name="attention"
            )(x)

        style: tuple[Array, ...] = ()
        if self.decoder_norm in ("adalin", "adain"):
            hidden = x.mean((1, 2)) if self.light else x.reshape(x.shape[0], -1)
            hidden = nn.relu(make.dense(deep, "mlp1")(hidden))
            hidden = nn.relu(make.dense(deep, "mlp2")(hidden))
            style = make.dense(deep, "gamma")(hidden), make.dense(deep, "beta")(hidden)
        for i in range(self.num_residual_blocks):
            x = block(deep, make.block_norm, make.conv, name=f"decode{i + 1}")(x, *style)
        for i in (1, 2):
            x = make.up_conv(deep >> i, f"up{i}")(x)
            x = nn.relu(make.up_norm(f"up{i}_norm")(x))
        x = make.conv(self.channels, 7, padding=3, name="output")(x)
        return Generated(jnp.tanh(x), cam_logits, heatmap)


class Discriminator(nn.Module):
    """Spectrally normalised PatchGAN with class-activation attention.

    num_layers: as the authors count: `num_layers - 2` strided convolutions, one with stride 1, and
    the classifier; 7 is the global discriminator (receptive field 286), 5 the local one (70).
    """

    width: int = 64
    num_layers: int = 5
    cam: bool = True
    profile: Profile = PYTORCH
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, passes: int = 1, update_stats: bool = False) -> Judged:
        """images (passes * n, h, w, c) in [-1, 1]; each pass has a power iteration of its own."""
        profile, strided = self.profile, self.num_layers - 2
        inits = {"kernel_init": profile.kernel_init, "bias_init": profile.bias_init}
        x = images
        for i in range(strided + 1):
            last = i == strided
            conv = SpectralConv(
                self.width << i,
                4,
                stride=1 if last else 2,
                padding=profile.stride1_padding if last else 1,
                **inits,
                dtype=self.dtype,
                name=f"conv{i + 1}",
            )
            x = nn.leaky_relu(conv(x, passes, update_stats), 0.2)
        cam_logits = heatmap = None
        if self.cam:
            attention = ClassActivationAttention(
                negative_slope=0.2,
                spectral=True,
                shared=profile.shared_cam,
                **inits,
                dtype=self.dtype,
                name="attention",
            )
            x, cam_logits, heatmap = attention(x, passes, update_stats)
        classifier = SpectralConv(
            1,
            4,
            padding=profile.stride1_padding,
            use_bias=profile.conv_bias,
            **inits,
            dtype=self.dtype,
            name="classifier",
        )
        return Judged(classifier(x, passes, update_stats), cam_logits, heatmap)
