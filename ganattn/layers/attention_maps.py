"""Attention maps (n, h, w, 1) as what guides another network: scaled, enlarged, blended in."""

import jax
import jax.numpy as jnp
from jax import Array

BLENDS = ("rmult", "mult", "alpha", "none")


def to_unit_range(attention: Array) -> Array:
    """Scales each map to [0, 1] by its own extremes; a constant map becomes 0."""
    low = attention.min((1, 2), keepdims=True)
    span = attention.max((1, 2), keepdims=True) - low
    return (attention - low) / jnp.where(span > 0, span, 1)


def enlarge(attention: Array, height: int, width: int) -> Array:
    """Bilinear interpolation to (n, height, width, 1), corners not aligned."""
    shape = (len(attention), height, width, 1)
    return jax.image.resize(attention, shape, "bilinear", antialias=False)


def blend(features: Array, attention: Array, how: str) -> Array:
    """Joins features (n, h, w, c) with a map of any size. Source: Lin et al. 2021.

    how: "rmult" multiplies by 1 + map (residual Hadamard product), "mult" by the map, "alpha"
    appends it as a channel, "none" ignores it.
    """
    if how == "none":
        return features
    attention = enlarge(attention, *features.shape[1:3]).astype(features.dtype)
    if how == "alpha":
        return jnp.concatenate([features, attention], -1)
    return features * (attention if how == "mult" else 1 + attention)


def neutral_value(how: str) -> float:
    """The value of a map that says nothing: with products it leaves the features as they are."""
    return 0.0 if how == "rmult" else 1.0
