"""Attention: class activation maps, self-attention, gates, and maps that guide another network."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from ganattn.layers.convolution import (
    DCGAN_INITS,
    Conv,
    Initializer,
    bounded_uniform,
    torch_uniform,
)
from ganattn.layers.spade import SPADE_INITS
from ganattn.layers.spectral import SpectralConv, divide_passes, spectral_norms

BLENDS = ("rmult", "mult", "alpha", "none")


class ClassActivation(NamedTuple):
    """features (n, h, w, c) after attention; cam_logits (n, 2); heatmap (n, h, w, 1), unscaled."""

    features: Array
    cam_logits: Array
    heatmap: Array


class ClassActivationAttention(nn.Module):
    """Weighs feature maps by the weights of a classifier on their pooled values.

    One logit comes from average, one from maximum pooling; the maps times the two weight rows go
    through a 1x1 convolution (2c to c, folded into one c-to-c kernel) and an activation; the heat
    map is the sum of the result over channels.

    negative_slope: of the activation; 0 is ReLU. spectral: the logits use spectrally normalized
    weights. shared: both poolings share one classifier with a bias, and the normalized weight plus
    the bias multiplies the maps (TensorFlow code); otherwise there are two classifiers without
    bias, and the raw weight multiplies the maps even where the logit's is normalized (PyTorch
    code). Source: U-GAT-IT section 2.1.1; Zhou et al. 2016.
    """

    negative_slope: float = 0.0
    spectral: bool = False
    shared: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, features: Array, passes: int = 1, update_stats: bool = False
    ) -> ClassActivation:
        """features (passes * n, h, w, c); passes, update_stats: see `spectral_norms`."""
        channels = features.shape[-1]
        average = self._classifier("shared" if self.shared else "average")
        maximum = average if self.shared else self._classifier("maximum")
        average_logit, average_row = average(features.mean((1, 2)), passes, update_stats)
        places = jax.lax.collapse(features, 1, 3)
        maximum_logit, maximum_row = maximum(first_maximum(places, 1), passes, update_stats)
        kernel_init = self.kernel_init or torch_uniform
        bias_init = self.bias_init or bounded_uniform(2 * channels)
        kernel = self.param("kernel", kernel_init, (2 * channels, channels), jnp.float32)
        bias = self.param("bias", bias_init, (channels,), jnp.float32)
        folded = average_row[:, None] * kernel[:channels] + maximum_row[:, None] * kernel[channels:]
        features, folded, bias = promote_dtype(features, folded, bias, dtype=self.dtype)
        mixed = nn.leaky_relu(features @ folded + bias[None, None, None], self.negative_slope)
        logits = jnp.concatenate([average_logit, maximum_logit], -1)
        return ClassActivation(mixed, logits, mixed.sum(-1, keepdims=True))

    def _classifier(self, name: str) -> "_Classifier":
        return _Classifier(self.spectral, self.shared, self.kernel_init, self.bias_init, name=name)


class _Classifier(nn.Module):
    """One logit from pooled features (passes * n, c), and the row (c,) that weighs the maps."""

    spectral: bool
    biased: bool
    kernel_init: Initializer | None
    bias_init: Initializer | None

    @nn.compact
    def __call__(self, pooled: Array, passes: int, update_stats: bool) -> tuple[Array, Array]:
        channels = pooled.shape[-1]
        kernel_init = self.kernel_init or torch_uniform
        kernel = self.param("kernel", kernel_init, (channels, 1), jnp.float32)
        row = kernel[:, 0]
        logit = pooled.astype(kernel.dtype) @ kernel
        if self.spectral:
            norms = spectral_norms(self, kernel, passes, update_stats)
            logit = divide_passes(logit, norms)
            # With one output the estimate is exact after one iteration, so every pass has this row.
            row = row / norms[-1] if self.biased else row
        if self.biased:
            bias_init = self.bias_init or bounded_uniform(channels)
            bias = self.param("bias", bias_init, (1,), jnp.float32)
            logit, row = logit + bias[None], row + bias
        return logit, row


def first_maximum(x: Array, axis: int) -> Array:
    """The maximum along an axis; the first entry that has it receives the gradient.

    The derivative of `jnp.max` compares entries with the maximum again: where the compiler computes
    `x` twice with different rounding, no entry is equal and the gradient is NaN. PyTorch's pooling
    also gives the gradient to one entry.
    """
    index = jnp.expand_dims(jnp.argmax(jax.lax.stop_gradient(x), axis), axis)
    return jnp.take_along_axis(x, index, axis).squeeze(axis)


class SelfAttended(NamedTuple):
    """features (n, h, w, c); attention (n, h/2, w/2, 1), the attention that each place receives.

    Attention is the mean over queries times the number of places: 1 everywhere if it is uniform.
    """

    features: Array
    attention: Array


class SelfAttention(nn.Module):
    """x + sigma * attention(x); sigma starts at 0, so that the block starts as the identity.

    Keys and values are max-pooled by 2, queries and keys have c / 8 channels, values c / 2; the
    1x1 convolutions are spectrally normalized and have no biases.
    Source: Zhang et al. 2019 (SAGAN) eq. 1 to 3, with the poolings of the authors' code.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array, update_stats: bool = False) -> SelfAttended:
        """features (n, h, w, c), h and w even; update_stats: see `spectral_norms`."""
        count, height, width, channels = features.shape

        def conv(x, size, name):
            module = SpectralConv(
                size, 1, use_bias=False, **DCGAN_INITS, dtype=self.dtype, name=name
            )
            return module(x, update_stats=update_stats)

        narrow, half = max(1, channels // 8), max(1, channels // 2)
        query = conv(features, narrow, "query").reshape(count, -1, narrow)
        key = _pool(conv(features, narrow, "key")).reshape(count, -1, narrow)
        value = _pool(conv(features, half, "value")).reshape(count, -1, half)
        weights = nn.softmax(jnp.einsum("nqc,nkc->nqk", query, key), -1)
        mixed = jnp.einsum("nqk,nkc->nqc", weights, value).reshape(count, height, width, half)
        sigma = self.param("sigma", nn.initializers.zeros, (), jnp.float32).astype(features.dtype)
        received = weights.mean(1).reshape(count, height // 2, width // 2, 1)
        return SelfAttended(
            features + sigma * conv(mixed, channels, "output").astype(features.dtype),
            received * (height * width // 4),
        )


def _pool(x: Array) -> Array:
    return nn.max_pool(x, (2, 2), (2, 2))


class SpatialAttention(nn.Module):
    """Position-wise gate in (0, 1) from the mean and the maximum over channels.

    Source: DAGAN (Tang et al. 2020) section 3.2.
    """

    kernel_size: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Maps (n, h, w, c) to (n, h, w, 1)."""
        pooled = [features.mean(-1, keepdims=True), first_maximum(features, -1)[..., None]]
        conv = Conv(
            1, self.kernel_size, padding=self.kernel_size // 2, pad_mode="zero", **SPADE_INITS,
            dtype=self.dtype, name="conv",
        )  # fmt: skip
        return nn.sigmoid(conv(jnp.concatenate(pooled, -1)))


class ChannelAttention(nn.Module):
    """Gate in (0, 1) for every channel from the average pools of several feature maps.

    Source: DAGAN (Tang et al. 2020) section 3.3.
    """

    channels: int
    dtype: Any = None

    @nn.compact
    def __call__(self, *levels: Array) -> Array:
        """Maps levels (n, h', w', c') of any sizes to (n, 1, 1, channels)."""
        pooled = jnp.concatenate([level.mean((1, 2), keepdims=True) for level in levels], -1)
        options = {"use_bias": True, **SPADE_INITS, "dtype": self.dtype}
        hidden = nn.relu(Conv(self.channels, 1, **options, name="conv1")(pooled))
        return nn.sigmoid(Conv(self.channels, 1, **options, name="conv2")(hidden))


def to_unit_range(attention: Array) -> Array:
    """Scales each map (n, h, w, 1) to [0, 1] by its own extremes; a constant map becomes 0."""
    low = attention.min((1, 2), keepdims=True)
    span = attention.max((1, 2), keepdims=True) - low
    return (attention - low) / jnp.where(span > 0, span, 1)


def enlarge(attention: Array, height: int, width: int) -> Array:
    """Bilinear interpolation to (n, height, width, 1), corners not aligned."""
    shape = (attention.shape[0], height, width, 1)
    return jax.image.resize(attention, shape, "bilinear", antialias=False)


def blend(features: Array, attention: Array, how: str) -> Array:
    """Combines features (n, h, w, c) with an attention map of any size.

    how: "rmult" multiplies by 1 + map (residual Hadamard product), "mult" by the map, "alpha"
    appends the map as a channel, "none" ignores it. Source: Lin et al. 2021.
    """
    if how == "none":
        return features
    attention = enlarge(attention, *features.shape[1:3]).astype(features.dtype)
    if how == "alpha":
        return jnp.concatenate([features, attention], -1)
    return features * (attention if how == "mult" else 1 + attention)


def neutral_value(how: str) -> float:
    """The value of a map without information: products with it leave the features unchanged."""
    return 0.0 if how == "rmult" else 1.0
