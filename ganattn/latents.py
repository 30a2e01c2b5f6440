"""Latent vectors: their law, drawn example by example, and paths between them."""

import numpy as np
from jax import Array, random, vmap
from jax.typing import DTypeLike

LAWS = ("uniform", "normal")


def draw(keys: Array, size: int, law: str, bound: float, dtype: DTypeLike) -> Array:
    """(n, size), one vector for each of n keys.

    law: "uniform" in [-bound, bound], or "normal", of which numbers beyond the bound are drawn anew
    (Brock et al. 2019). bound: 0 means 1 for uniform, and none for normal.
    """

    def one(key):
        if law == "uniform":
            return random.uniform(key, (size,), dtype, -(bound or 1.0), bound or 1.0)
        if bound:
            return random.truncated_normal(key, -bound, bound, (size,), dtype)
        return random.normal(key, (size,), dtype)

    return vmap(one)(keys)


def interpolate(start: np.ndarray, end: np.ndarray, steps: int, law: str) -> np.ndarray:
    """(n, steps, size): from start to end, both (n, size) and both included.

    Straight lines for "uniform"; great circles for "normal", whose vectors have about one length
    (White 2016).
    """
    t = np.linspace(0.0, 1.0, steps, dtype=np.float64)[None, :, None]
    start, end = (np.asarray(x, np.float64)[:, None] for x in (start, end))
    if law == "normal":
        lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (start, end)]
        cosine = (start * end).sum(-1, keepdims=True) / np.maximum(lengths[0] * lengths[1], 1e-12)
        angle = np.maximum(np.arccos(np.clip(cosine, -1, 1)), 1e-6)
        path = np.sin((1 - t) * angle) * start + np.sin(t * angle) * end
        return (path / np.sin(angle)).astype(np.float32)
    return ((1 - t) * start + t * end).astype(np.float32)
