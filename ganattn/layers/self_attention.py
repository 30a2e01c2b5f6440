"""Self-attention over a feature map, as SAGAN has it."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS
from ganattn.layers.spectral import SpectralConv


class SelfAttended(NamedTuple):
    """features (n, h, w, c); attention (n, h/2, w/2, 1), how much all pixels look at each place.

    Attention is the mean over queries, times the number of places: 1 where nothing is preferred.
    """

    features: Array
    attention: Array


class SelfAttention(nn.Module):
    """x + sigma * attention(x); sigma starts at 0, so that the block starts as the identity.

    Keys and values are max-pooled by 2, queries and keys have c / 8 channels, values c / 2; the
    1x1 convolutions are spectrally normalised and have no biases.
    Source: Zhang et al. 2019 (SAGAN), with the poolings of the authors' code.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array, update_stats: bool = False) -> SelfAttended:
        """features (n, h, w, c), h and w even."""
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
