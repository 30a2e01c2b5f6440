"""SNDCGAN (Miyato et al. 2018), in the form of Kurach et al. 2019 that SPAP builds on."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import SelfAttention
from ganattn.layers.convolution import DCGAN_INITS, Conv, ConvTranspose
from ganattn.layers.normalization import Normalization
from ganattn.layers.self_modulation import SelfModulatedBatchNorm
from ganattn.layers.spectral import SpectralConv, SpectralConvTranspose, SpectralDense

DOUBLINGS = 3


class Generated(NamedTuple):
    """images (n, h, w, 3) in [-1, 1]; attentions by name, in order, (n, h', w', 1) each."""

    images: Array
    attentions: Mapping[str, Array]


class SNDCGANGenerator(nn.Module):
    """A dense layer and three transposed convolutions, each normalised, and a last convolution.

    The first normalisation counts every feature of the dense layer's output as a channel, unless it
    is self-modulated. image_size: a multiple of 8. width: channels at full size. spectral:
    normalise the weights. pyramid: an `ASPP` or `SPAP` behind the map of half the size;
    self_attention: SAGAN's block there. axis_name: devices whose examples count as one batch.
    Source: Kurach et al.'s code (compare_gan), and SPAP section 4.3.
    """

    image_size: int = 128
    width: int = 64
    spectral: bool = True
    self_modulated: bool = False
    pyramid: nn.Module | None = None
    self_attention: bool = False
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, latents: Array, statistics: str = "running", update_stats: bool = False
    ) -> Generated:
        """latents (n, z).

        statistics: of batch normalisation, see `BatchNorm`; update_stats: one power iteration.
        """
        layers = _Layers(self.spectral, update_stats, self.dtype)
        ones = nn.initializers.ones
        batch_norm = Normalization("batch", statistics, self.axis_name, ones)

        def normalise(x, name):
            if not self.self_modulated:
                return nn.relu(batch_norm(x, name))
            norm = SelfModulatedBatchNorm(self.spectral, self.axis_name, self.dtype, name=name)
            return nn.relu(norm(x, latents, statistics, update_stats))

        side, features = self.image_size >> DOUBLINGS, self.width << DOUBLINGS
        x = layers.dense(side * side * features, "dense")(latents)
        flat = (len(x), 1, 1, side * side * features)
        square = (len(x), side, side, features)
        x = normalise(x.reshape(square if self.self_modulated else flat), "dense_norm")
        x = x.reshape(square)
        attentions: dict[str, Array] = {}
        for i in range(1, DOUBLINGS + 1):
            x = normalise(layers.doubling(features >> i, f"up{i}")(x), f"up{i}_norm")
            if i != DOUBLINGS - 1:
                continue
            if self.pyramid is not None:
                x, maps = self.pyramid(x, batch_norm, update_stats)
                attentions |= maps
            if self.self_attention:
                attend = SelfAttention(self.dtype, name="self_attention")
                x, attentions["self_attention"] = attend(x, update_stats)
        return Generated(jnp.tanh(layers.output(3, "output")(x)), attentions)


class SNDCGANDiscriminator(nn.Module):
    """Seven convolutions, every second of them strided, and a dense layer; all normalised.

    width: channels of the first layer. pyramid: an `AtrousMean` beside the second strided layer.
    self_attention: SAGAN's block behind the map of half the size. Source: as of the generator.
    """

    width: int = 64
    pyramid: nn.Module | None = None
    self_attention: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> Array:
        """images (n, h, w, 3) in [-1, 1], sides multiples of 8, to logits (n, 1)."""
        layers = _Layers(True, update_stats, self.dtype)
        x = nn.leaky_relu(layers.convolution(self.width, 3, 1, "conv0")(images), 0.1)
        for i in range(1, DOUBLINGS + 1):
            features = self.width << i
            y = layers.convolution(features, 4, 2, f"down{i}")(x)
            if self.pyramid is not None and i == 2:
                y = self.pyramid(x, y, update_stats)
            x = nn.leaky_relu(y, 0.1)
            x = nn.leaky_relu(layers.convolution(features, 3, 1, f"conv{i}")(x), 0.1)
            if self.self_attention and i == 1:
                x = SelfAttention(self.dtype, name="self_attention")(x, update_stats).features
        return layers.dense(1, "classifier")(x.reshape(len(x), -1))


@dataclasses.dataclass(frozen=True)
class _Layers:
    """Layers of a compact module, spectrally normalised or not, all with biases."""

    spectral: bool
    update_stats: bool
    dtype: Any

    def dense(self, features: int, name: str) -> Callable[[Array], Array]:
        return self._layer(SpectralDense, nn.Dense, features, name=name)

    def convolution(self, features: int, size: int, stride: int, name: str):
        options = {"stride": stride, "padding": 1, "pad_mode": "zero", "use_bias": True}
        return self._layer(SpectralConv, Conv, features, size, **options, name=name)

    def doubling(self, features: int, name: str) -> Callable[[Array], Array]:
        return self._layer(
            SpectralConvTranspose, ConvTranspose, features, 4, use_bias=True, name=name
        )

    def output(self, features: int, name: str) -> Callable[[Array], Array]:
        if not self.spectral:
            return self.convolution(features, 3, 1, name)
        return self._layer(SpectralConvTranspose, None, features, 3, stride=1, name=name)

    def _layer(self, normalised, plain, *sizes, **options):
        options = {**DCGAN_INITS, "dtype": self.dtype, **options}
        if not self.spectral:
            return plain(*sizes, **options)
        return partial(normalised(*sizes, **options), update_stats=self.update_stats)
