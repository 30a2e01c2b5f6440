"""A memory of earlier fakes, from which discriminators are shown some (Shrivastava et al. 2017)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ganattn.parallel import gather


class ImagePool(NamedTuple):
    """images (size, h, w, c), of which the first `filled` () are filled; whole on every device."""

    images: Array
    filled: Array


def empty(size: int, shape: tuple[int, ...], dtype: jnp.dtype) -> ImagePool:
    """A pool for `size` pictures of `shape` (h, w, c)."""
    return ImagePool(jnp.zeros((size, *shape), dtype), jnp.zeros((), jnp.int32))


def exchange(
    pool: ImagePool, images: Array, key: Array, axis_name: str | None
) -> tuple[ImagePool, Array]:
    """Puts this device's pictures (n, h, w, c) in and takes as many out.

    While the pool fills, each picture is stored and comes back itself. Later, with probability one
    half, a random stored one comes back and is overwritten, else the new one comes back and is not
    stored. All devices' pictures pass in the order of the global batch, so that any number of
    devices holds the same pool. Source: CycleGAN section 4.
    """
    size, count = len(pool.images), len(images)
    everywhere = gather(images, axis_name)

    def step(pool, numbered):
        number, image = numbered
        coin, choice = jax.random.split(jax.random.fold_in(key, number))
        full = pool.filled == size
        swap = full & jax.random.bernoulli(coin)
        slot = jnp.where(full, jax.random.randint(choice, (), 0, size), pool.filled)
        stored = pool.images[slot]
        kept = pool.images.at[slot].set(jnp.where(full & ~swap, stored, image))
        return ImagePool(kept, jnp.minimum(pool.filled + 1, size)), jnp.where(swap, stored, image)

    pool, taken = lax.scan(step, pool, (jnp.arange(len(everywhere)), everywhere))
    if axis_name is None:
        return pool, taken
    return pool, lax.dynamic_slice_in_dim(taken, lax.axis_index(axis_name) * count, count)
