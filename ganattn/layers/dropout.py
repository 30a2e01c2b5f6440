"""Dropout with random numbers that depend on the example, not on the device."""

import jax
import jax.numpy as jnp
from jax import Array


def dropout(features: Array, keys: Array | None, site: int, rate: float = 0.5) -> Array:
    """Zeroes elements with probability `rate` and scales the rest up; the identity without keys.

    features: (n, h, w, c). keys: (n,), one typed key for each example, from `Examples.keys`, or a
    single one, (), with which all examples get the same mask. site: number of this place in the
    network, folded into the keys.
    """
    if keys is None:
        return features

    def draw(key):
        return jax.random.bernoulli(jax.random.fold_in(key, site), 1 - rate, features.shape[1:])

    kept = draw(keys)[None] if keys.ndim == 0 else jax.vmap(draw)(keys)
    return jnp.where(kept, features / (1 - rate), 0)
