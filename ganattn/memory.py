"""What a method remembers between steps: a pool of earlier fakes, and a buffer of attention maps.

Both are identical on every device, and take the examples of the global batch in its order, so any
number of devices and of accumulation steps gives the same memory.
"""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from ganattn.parallel import Examples


class ImagePool(NamedTuple):
    """Earlier fakes, some of which discriminators see instead of new ones.

    Source: Shrivastava et al. 2017, section 2.3; CycleGAN section 4.

    images: (size, h, w, c). filled: () int32, how many of them are stored so far.
    """

    images: Array
    filled: Array

    @classmethod
    def create(cls, size: int, shape: tuple[int, ...], dtype: jnp.dtype) -> Self:
        """An empty pool for `size` images of `shape` (h, w, c)."""
        return cls(jnp.zeros((size, *shape), dtype), jnp.zeros((), jnp.int32))

    def query(self, images: Array, key: Array, examples: Examples) -> tuple["ImagePool", Array]:
        """Stores images (n, h, w, c) and returns as many in exchange.

        While the pool fills, each image is stored and returned. Later, with probability one half, a
        random stored image is returned and replaced by the new one; otherwise the new image is
        returned and not stored. Source: CycleGAN section 4, "training details".
        """
        size = len(self.images)
        everywhere = examples.gather(images)

        def step(pool, numbered):
            number, image = numbered
            coin, choice = jax.random.split(jax.random.fold_in(key, number))
            full = pool.filled == size
            swap = full & jax.random.bernoulli(coin)
            slot = jnp.where(full, jax.random.randint(choice, (), 0, size), pool.filled)
            stored = pool.images[slot]
            new = pool.images.at[slot].set(jnp.where(full & ~swap, stored, image))
            output = jnp.where(swap, stored, image)
            return ImagePool(new, jnp.minimum(pool.filled + 1, size)), output

        pool, outputs = lax.scan(step, self, (jnp.arange(len(everywhere)), everywhere))
        return pool, examples.own(outputs, len(images))


def create_buffer(
    count: int, height: int, width: int, dtype: jnp.dtype, initial: float = 1.0
) -> Array:
    """A buffer (count, height, width, 1): a map of the initial value for each training image."""
    return jnp.full((count, height, width, 1), initial, dtype)


def recall(buffer: Array, indices: Array, initial: float = 1.0) -> Array:
    """The maps (n, h, w, 1) of the images at `indices` (n,).

    An index past the buffer gives a map of the initial value.
    """
    return buffer.at[indices].get(mode="fill", fill_value=initial)


def remember(buffer: Array, indices: Array, maps: Array, examples: Examples) -> Array:
    """Stores maps (n, h, w, 1) for the images at `indices` (n,).

    Of equal indices in the global batch the last one counts; indices past the buffer are ignored.
    """
    indices, maps = examples.gather((indices, maps))
    is_repeated = jnp.triu(indices[:, None] == indices[None, :], 1).any(1)
    slots = jnp.where(is_repeated, len(buffer), indices)
    return buffer.at[slots].set(maps.astype(buffer.dtype), mode="drop")
