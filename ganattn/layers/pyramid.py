"""Pyramids of atrous convolutions: plain, attentive (SPAP), and their mean beside a layer.

The authors of SPAP (Sun and Wu 2019) released no code. What the paper's text leaves open follows
from the parameter counts of its table 1, its figures and its receptive fields, as stated here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv
from ganattn.layers.normalization import Normalization
from ganattn.layers.spectral import SpectralConv


class Pooled(NamedTuple):
    """Output of a pyramid.

    features: (n, h, w, c). attentions: for each fuse, in order, (n, h, w, 1) in [0, 1], the weight
    of the earlier result. It is named by the level that it adds: "c3d6" is the 3x3 convolution of
    rate 6. Before it stands, where a fuse has two maps, "c3d6_second": 1 minus the level's weight.
    """

    features: Array
    attentions: Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class ConvStyle:
    """How a pyramid's convolutions are normalized in this application.

    spectral, update_stats: see `SpectralConv`. Every convolution has a bias, whatever the norm.
    """

    norm: Normalization
    spectral: bool = False
    update_stats: bool = False
    dtype: Any = None

    def convolution(
        self, features: int, kernel_size: int = 1, rate: int = 1, name: str = "conv", **options: Any
    ) -> Callable[[Array], Array]:
        """A zero-padded convolution of a compact module; by default it keeps the size."""
        options = {
            "padding": rate * (kernel_size - 1) // 2,
            "pad_mode": "zero",
            "use_bias": True,
            "dilation": rate,
            "dtype": self.dtype,
            **DCGAN_INITS,
            **options,
        }
        if not self.spectral:
            return Conv(features, kernel_size, name=name, **options)
        conv: Callable = SpectralConv(features, kernel_size, name=name, **options)
        return functools.partial(conv, update_stats=self.update_stats)


class _Unit(nn.Module):
    """Convolution, norm, ReLU."""

    features: int
    style: ConvStyle
    kernel_size: int = 1
    rate: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.style.convolution(self.features, self.kernel_size, self.rate)(x)
        return nn.relu(self.style.norm(x, "norm"))


class _Attention(nn.Module):
    """Maps (n, h, w, maps) in [0, 1] from two feature maps: 1x1 convolutions and a sigmoid."""

    hidden: int
    style: ConvStyle
    maps: int = 1

    @nn.compact
    def __call__(self, fused: Array, level: Array) -> Array:
        both = jnp.concatenate([fused, level], -1)
        x = _Unit(self.hidden, self.style, name="hidden")(both)
        return nn.sigmoid(self.style.convolution(self.maps, name="logit")(x))


class _Pyramid(nn.Module):
    """Parallel convolutions of one feature map, each with norm and ReLU.

    rates: of the atrous 3x3 convolutions, beside which there are a plain 3x3 and a 1x1 one (the
    paper's "and then one 1x1" would also allow one behind the other; its counts need five parallel
    ones with biases and norms). spectral: normalize the kernels too, as in SNDCGAN. The norm is the
    surrounding network's.
    """

    rates: tuple[int, ...] = (6, 12, 18)
    spectral: bool = False
    dtype: Any = None

    def _levels(self, features: Array, style: ConvStyle) -> dict[str, Array]:
        """The convolutions' outputs from coarse to fine."""
        kernels = [(3, rate) for rate in sorted(self.rates, reverse=True)] + [(3, 1), (1, 1)]
        return {
            f"c{size}d{rate}": _Unit(features.shape[-1], style, size, rate, name=f"c{size}d{rate}")(
                features
            )
            for size, rate in kernels
        }

    def _residual(self, result: Array, features: Array) -> Array:
        """Eq. 6; gamma is not limited to [0, 1], although the paper says "convex combination"."""
        gamma = self.param("gamma", nn.initializers.zeros, (), jnp.float32).astype(features.dtype)
        return gamma * result + (1 - gamma) * features


class ASPP(_Pyramid):
    """Atrous spatial pyramid pooling: a 1x1 convolution of all levels side by side.

    residual: return gamma * result + (1 - gamma) * input, as `SPAP` does. The module that the paper
    calls vanilla has none; its count allows either (one parameter more prints the same).
    Source: Chen et al. 2018 (DeepLab), as the baseline of SPAP tables 1 to 3.
    """

    residual: bool = False

    @nn.compact
    def __call__(self, features: Array, norm: Normalization, update_stats: bool = False) -> Pooled:
        """features (n, h, w, c) of any size."""
        style = ConvStyle(norm, self.spectral, update_stats, self.dtype)
        levels = self._levels(features, style)
        together = jnp.concatenate(list(levels.values()), -1)
        fused = _Unit(features.shape[-1], style, name="fuse")(together)
        return Pooled(self._residual(fused, features) if self.residual else fused, {})


class SPAP(_Pyramid):
    """Spatial pyramid attentive pooling: levels are fused one after the other.

    Each fuse weighs the earlier result against the next level by a learned map; the module returns
    gamma * result + (1 - gamma) * input, so that with the initial gamma of 0 it is the identity.

    order: "coarse_to_fine" starts with the largest rate, "fine_to_coarse" with the 1x1 convolution.
    reduction: divides the channels to give the attention's hidden ones. shared_attention: all fuses
    share one attention net. second_map: the attention net gives two maps, and the fuse is
    f * first + level * (1 - second). fuse_convolution: a 1x1 convolution follows each fuse.
    Source: Sun and Wu 2019, eq. 5, eq. 6 and figure 2. Eq. 5 weighs the level by 1 - alpha_{i+1},
    but defines alpha_i alone and calls the sum a combination of two features, so that one map is
    the default. The paper calls the attention a "sequence" of convolutions and a sigmoid: its
    layers, the separate nets and the convolution after each fuse, which figure 2 shows and the text
    does not mention, agree with the printed count; `configs/sndcgan.py` lists the count of each
    choice.
    """

    order: str = "coarse_to_fine"
    reduction: int = 16
    shared_attention: bool = False
    second_map: bool = False
    fuse_convolution: bool = True

    @nn.compact
    def __call__(self, features: Array, norm: Normalization, update_stats: bool = False) -> Pooled:
        """features (n, h, w, c) of any size."""
        channels = features.shape[-1]
        style = ConvStyle(norm, self.spectral, update_stats, self.dtype)
        levels = list(self._levels(features, style).items())
        (_, fused), *others = levels if self.order == "coarse_to_fine" else reversed(levels)
        hidden, maps = max(1, channels // self.reduction), 1 + self.second_map
        attend = functools.partial(_Attention, hidden, style, maps)
        shared = attend(name="attention") if self.shared_attention else None
        attentions = {}
        for name, level in others:
            attention = (shared or attend(name=f"attention_{name}"))(fused, level)
            first, second = attention[..., :1], attention[..., -1:]
            fused = first * fused + (1 - second) * level
            if self.fuse_convolution:
                fused = _Unit(channels, style, name=f"fuse_{name}")(fused)
            if self.second_map:
                attentions[f"{name}_second"] = second
            attentions[name] = first
        return Pooled(self._residual(fused, features), attentions)


class AtrousMean(nn.Module):
    """Averages a strided convolution's output with the mean of atrous ones beside it.

    kernel_size, stride: of the convolution that it accompanies; with odd rates the padding is the
    same on all sides. spectral: see `SpectralConv`. Each has its own bias; the surrounding network
    normalizes the average, not the summands.
    Source: Sun and Wu 2019, section 3.2 and figure 3, which do not give the kernel. Section 4.6
    does: a receptive field of 100 pixels follows from rate 7 only for a 4x4 kernel, whose extent it
    takes as 4 * 7 pixels. The true extent is 1 + 3 * 7, and the receptive fields are 88 pixels in
    SNDCGAN (printed: 100) and 142 in PatchGAN (printed: 236, the sum of 166 and the old 70).
    """

    rates: tuple[int, ...] = (3, 5, 7)
    kernel_size: int = 4
    stride: int = 2
    spectral: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array, output: Array, update_stats: bool = False) -> Array:
        """features (n, h, w, c): the convolution's input; output (n, h', w', c'): its output."""
        style = ConvStyle(Normalization("instance"), self.spectral, update_stats, self.dtype)
        total = jnp.zeros_like(output)
        for rate in self.rates:
            border = rate * (self.kernel_size - 1) + 1 - self.stride
            sides = (border // 2, border - border // 2)
            total += style.convolution(
                output.shape[-1],
                self.kernel_size,
                rate,
                name=f"c{self.kernel_size}d{rate}",
                stride=self.stride,
                padding=(sides, sides),
            )(features)
        return (output + total / len(self.rates)) / 2


PYRAMIDS = {
    "none": None,
    "aspp": ASPP,
    "spap_c2f": partial(SPAP, order="coarse_to_fine"),
    "spap_f2c": partial(SPAP, order="fine_to_coarse"),
}
