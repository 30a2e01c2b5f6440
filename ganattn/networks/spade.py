"""SPADE's generator, with DAGAN's attention before its last layer, and GauGAN's encoder."""

from collections import OrderedDict
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import ChannelAttention, SpatialAttention
from ganattn.layers.convolution import Conv
from ganattn.layers.normalization import instance_norm
from ganattn.layers.spade import SPADE_INITS, SpatiallyAdaptiveNorm, resize_nearest
from ganattn.layers.spectral import SpectralConv
from ganattn.networks.outputs import GeneratorOutput

DOUBLINGS = {"normal": 5, "more": 6, "most": 7}  # from the first map to the image
ATTENTION = ("none", "last", "all")
ENCODER_SIZE = 256  # height and width that the style encoder resizes images to


class SPADEBlock(nn.Module):
    """Residual block of two SPADE-normalized, spectrally normalized 3x3 convolutions.

    Source: SPADE figure 4, left, and appendix A.
    """

    features: int
    norm: str = "batch"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Array, semantics: Array, statistics: str = "running", update_stats: bool = False
    ) -> Array:
        """x (n, h, w, c), semantics (n, h', w', classes); statistics: see `BatchNorm`."""
        middle = min(x.shape[-1], self.features)

        def normalize(x, name):
            norm = SpatiallyAdaptiveNorm(self.norm, self.axis_name, self.dtype, name=name)
            return norm(x, semantics, statistics)

        def conv(x, features, size, name):
            module = SpectralConv(
                features, size, padding=size // 2, pad_mode="zero", use_bias=size > 1,
                **SPADE_INITS, dtype=self.dtype, name=name,
            )  # fmt: skip
            return module(x, update_stats=update_stats)

        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = conv(normalize(x, "norm_s"), self.features, 1, "conv_s")
        y = conv(nn.leaky_relu(normalize(x, "norm_0"), 0.2), middle, 3, "conv_0")
        y = conv(nn.leaky_relu(normalize(y, "norm_1"), 0.2), self.features, 3, "conv_1")
        return shortcut + y


class SPADEGenerator(nn.Module):
    """Residual blocks between nearest up-samplings, each conditioned on the label map.

    width: channels of the last block (the authors' ngf); the first has 16 times as many.
    up_sampling: a key of DOUBLINGS; the image's sides are multiples of 2 to that number.
    attention: "none" (SPADE), "last" (DAGAN's released code: the channel attention pools the last
    two maps) or "all" (its overview figure: the maps of all levels). remat: recompute blocks in the
    backward pass. Source: SPADE figure 4, right, and appendix A; DAGAN sections 3.2 and 3.3.
    """

    width: int = 64
    up_sampling: str = "normal"
    attention: str = "none"
    norm: str = "batch"
    remat: bool = False
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        semantics: Array,
        latent: Array | None = None,
        statistics: str = "running",
        update_stats: bool = False,
    ) -> GeneratorOutput:
        """semantics (n, h, w, classes); latent (n, size) in the form with a style encoder.

        statistics: of batch normalization, see `BatchNorm`; update_stats: one power iteration.
        DAGAN's attention is "channel" (n, 1, c, 1), then "spatial" (n, h, w, 1), in (0, 1).
        """
        doublings = DOUBLINGS[self.up_sampling]
        height, width = (side >> doublings for side in semantics.shape[1:3])
        block_class = nn.remat(SPADEBlock, static_argnums=(3, 4)) if self.remat else SPADEBlock

        def block(x, multiple, name):
            features = int(multiple * self.width)
            module = block_class(features, self.norm, self.axis_name, self.dtype, name=name)
            return module(x, semantics, statistics, update_stats)

        conv = partial(
            Conv, kernel_size=3, padding=1, pad_mode="zero", use_bias=True, **SPADE_INITS,
            dtype=self.dtype,
        )  # fmt: skip
        if latent is None:
            x = conv(16 * self.width, name="start")(resize_nearest(semantics, height, width))
        else:
            x = _dense(16 * self.width * height * width, self.dtype, "start")(latent)
            # Channels first: the order of the authors' weights.
            x = x.reshape(len(x), -1, height, width).transpose(0, 2, 3, 1)

        levels = []
        for name, multiple, doubled in _plan(self.up_sampling):
            before = _double(x) if doubled else x
            x = block(before, multiple, name)
            levels.append(x)
        attention: OrderedDict[str, Array] = OrderedDict()
        if self.attention != "none":
            features = x.shape[-1]
            previous = conv(features, name="previous")(before)
            pooled = [previous, x]
            if self.attention == "all":
                names = [name for name, _, _ in _plan(self.up_sampling)[:-1]]
                pairs = zip(names, levels[:-1], strict=True)
                pooled = [*(conv(features, name=f"{n}_level")(y) for n, y in pairs), *pooled]
            channel = ChannelAttention(features, self.dtype, name="channel_attention")(*pooled)
            spatial = SpatialAttention(dtype=self.dtype, name="spatial_attention")(x)
            x = x * channel + previous + x * spatial
            attention.update(channel=channel.transpose(0, 1, 3, 2), spatial=spatial)
        images = jnp.tanh(conv(3, name="output")(nn.leaky_relu(x, 0.2)))
        return GeneratorOutput(images, attention)


class StyleEncoder(nn.Module):
    """GauGAN's encoder: mean and log-variance of an image's style (SPADE appendix A)."""

    width: int = 64
    latent_size: int = 256
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> tuple[Array, Array]:
        """images (n, h, w, 3) in [-1, 1] to mean and log-variance, (n, latent_size) each."""
        x = _resize_bilinear(images, ENCODER_SIZE)
        for i in range(6):
            conv = SpectralConv(
                self.width * min(1 << i, 8), 3, 2, padding=1, pad_mode="zero", use_bias=False,
                **SPADE_INITS, dtype=self.dtype, name=f"conv{i + 1}",
            )  # fmt: skip
            x = x if i == 0 else nn.leaky_relu(x, 0.2)
            x = instance_norm(conv(x, update_stats=update_stats))
        # Channels first: the order of the authors' weights.
        x = nn.leaky_relu(x, 0.2).transpose(0, 3, 1, 2).reshape(len(x), -1)
        mean, variance = (
            _dense(self.latent_size, self.dtype, name)(x) for name in ("mean", "variance")
        )
        return mean, variance


def _plan(up_sampling: str) -> list[tuple[str, float, bool]]:
    """(name, multiple of the width, whether up-sampling comes before) of every block."""
    more, most = up_sampling != "normal", up_sampling == "most"
    plan: list[tuple[str, float, bool]] = [
        ("head_0", 16, False),
        ("middle_0", 16, True),
        ("middle_1", 16, more),
    ]
    plan += [(f"up_{i}", 8 / 2**i, True) for i in range(5 if most else 4)]
    return plan


def _double(x: Array) -> Array:
    return x.repeat(2, 1).repeat(2, 2)


def _dense(features: int, dtype: Any, name: str) -> nn.Dense:
    return nn.Dense(features, dtype=dtype, **SPADE_INITS, name=name)


def _resize_bilinear(images: Array, size: int) -> Array:
    """As PyTorch: half-pixel centers, no smoothing when shrinking."""
    if images.shape[1:3] == (size, size):
        return images
    shape = (len(images), size, size, images.shape[-1])
    return jax.image.resize(images, shape, "bilinear", antialias=False)
