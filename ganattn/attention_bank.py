"""A memory of attention maps, one for each training picture, found by the picture's index."""

import jax.numpy as jnp
from jax import Array

from ganattn.parallel import gather


def empty(count: int, height: int, width: int, dtype: jnp.dtype) -> Array:
    """A bank (count, height, width, 1) of maps that are 1 everywhere."""
    return jnp.ones((count, height, width, 1), dtype)


def recall(bank: Array, indices: Array) -> Array:
    """The maps (n, h, w, 1) of the pictures at `indices` (n,); ones for an index past the bank."""
    return bank.at[indices].get(mode="fill", fill_value=1)


def remember(bank: Array, indices: Array, maps: Array, axis_name: str | None) -> Array:
    """Stores maps (n, h, w, 1) for the pictures at `indices` (n,), of all devices on every device.

    Of equal indices in the global batch the last one counts; indices past the bank are ignored.
    """
    indices, maps = gather((indices, maps), axis_name)
    comes_again = jnp.triu(indices[:, None] == indices[None, :], 1).any(1)
    slots = jnp.where(comes_again, len(bank), indices)
    return bank.at[slots].set(maps.astype(bank.dtype), mode="drop")
