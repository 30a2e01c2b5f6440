"""SNDCGAN (Miyato et al. 2018), in the form of Kurach et al. 2019 that SPAP builds on."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import SelfAttention
from ganattn.layers.convolution import DCGAN_INITS, Conv, ConvTranspose
from ganattn.layers.normalization import Normalization
from ganattn.layers.pyramid import ASPP, AtrousMean
from ganattn.layers.self_modulation import SelfModulatedBatchNorm
from ganattn.layers.spectral import SpectralConv, SpectralConvTranspose, SpectralDense
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput

DOUBLINGS = 3


class SNDCGANGenerator(nn.Module):
    """A dense layer and three transposed convolutions, each normalized, and a last convolution.

    The first normalization takes every feature of the dense layer's output as a channel, unless it
    is self-modulated. image_size: a multiple of 8. width: channels at full size. spectral:
    normalize the weights. pyramid: an `ASPP` or `SPAP` after the map of half the size;
    self_attention: SAGAN's block there. axis_name: devices whose examples count as one batch.
    Source: Miyato et al. 2018, table 3, in the form of Kurach et al.'s code (compare_gan), which
    starts at an eighth of the size; SPAP figure 2 and section 4.3. The counts of SPAP's table 1
    confirm that start, the flat first normalization, and normalized weights in every layer but
    perhaps the last. compare_gan normalizes no weights here and maps the images to [0, 1]; its
    self-modulation does not work on the flat features, so that it follows the reshaping here.
    Running variances are unbiased, as in PyTorch; compare_gan's are not.
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
    ) -> GeneratorOutput:
        """latents (n, z); attention: the maps (n, h/2, w/2, 1) of SPAP's fuses, see `Pooled`.

        With self-attention, its map (n, h/4, w/4, 1) is "self_attention". statistics: of batch
        normalization, see `BatchNorm`; update_stats: one power iteration.
        """
        layers = _Layers(self.spectral, update_stats, self.dtype)
        ones = nn.initializers.ones
        batch_norm = Normalization("batch", statistics, self.axis_name, ones)

        def normalize(x, name):
            if not self.self_modulated:
                return nn.relu(batch_norm(x, name))
            norm = SelfModulatedBatchNorm(self.spectral, self.axis_name, self.dtype, name=name)
            return nn.relu(norm(x, latents, statistics, update_stats))

        side, features = self.image_size >> DOUBLINGS, self.width << DOUBLINGS
        x = layers.dense(side * side * features, "dense")(latents)
        flat = (len(x), 1, 1, side * side * features)
        square = (len(x), side, side, features)
        x = normalize(x.reshape(square if self.self_modulated else flat), "dense_norm")
        x = x.reshape(square)
        attention: OrderedDict[str, Array] = OrderedDict()
        for i in range(1, DOUBLINGS + 1):
            x = normalize(layers.doubling(features >> i, f"up{i}")(x), f"up{i}_norm")
            if i != DOUBLINGS - 1:
                continue
            if self.pyramid is not None:
                x, maps = self.pyramid(x, batch_norm, update_stats)
                attention.update(maps)
            if self.self_attention:
                attend = SelfAttention(self.dtype, name="self_attention")
                x, attention["self_attention"] = attend(x, update_stats)
        return GeneratorOutput(jnp.tanh(layers.output(3, "output")(x)), attention)


class SNDCGANDiscriminator(nn.Module):
    """Seven convolutions, every second of them strided, and a dense layer; all normalized.

    width: channels of the first layer. pyramid: an `AtrousMean` beside the second strided layer, or
    an `ASPP` after its activation, without norms, as there are none in this network.
    self_attention: SAGAN's block after the map of half the size. Source: as of the generator; SPAP
    figure 3. SPAP's text does not say where a discriminator's ASPP is; after this layer it has more
    parameters than the `AtrousMean` (2.75 against 1.57 million), as section 3.2 says, and on the
    layer's input it would have fewer (0.69 million).
    """

    width: int = 64
    pyramid: nn.Module | None = None
    self_attention: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> DiscriminatorOutput:
        """images (n, h, w, 3) in [-1, 1], sides multiples of 8, to logits (n, 1).

        features: the maps of half, a quarter and an eighth of the size. attention:
        "self_attention" (n, h/4, w/4, 1) where there is such a block.
        """
        attention, features = OrderedDict(), []
        layers = _Layers(True, update_stats, self.dtype)
        x = nn.leaky_relu(layers.convolution(self.width, 3, 1, "conv0")(images), 0.1)
        for i in range(1, DOUBLINGS + 1):
            width = self.width << i
            y = layers.convolution(width, 4, 2, f"down{i}")(x)
            pyramid = self.pyramid if i == 2 else None
            if isinstance(pyramid, AtrousMean):
                y = pyramid(x, y, update_stats)
            x = nn.leaky_relu(y, 0.1)
            if isinstance(pyramid, ASPP):
                x = pyramid(x, Normalization("none"), update_stats).features
            x = nn.leaky_relu(layers.convolution(width, 3, 1, f"conv{i}")(x), 0.1)
            features.append(x)
            if self.self_attention and i == 1:
                attend = SelfAttention(self.dtype, name="self_attention")
                x, attention["self_attention"] = attend(x, update_stats)
        logits = layers.dense(1, "classifier")(x.reshape(len(x), -1))
        return DiscriminatorOutput(logits, features, attention)


@dataclasses.dataclass(frozen=True)
class _Layers:
    """Layers of a compact module, spectrally normalized or not, all with biases."""

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

    def _layer(self, normalized, plain, *sizes, **options):
        options = {**DCGAN_INITS, "dtype": self.dtype, **options}
        if not self.spectral:
            return plain(*sizes, **options)
        return partial(normalized(*sizes, **options), update_stats=self.update_stats)
