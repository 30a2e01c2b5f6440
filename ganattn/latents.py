"""Latent vectors: their distribution, drawn example by example, and paths between them."""

import numpy as np
from jax import Array, random, vmap
from jax.typing import DTypeLike

DISTRIBUTIONS = ("uniform", "normal")


def draw(keys: Array, size: int, distribution: str, bound: float, dtype: DTypeLike) -> Array:
    """(n, size), one vector for each of n keys.

    distribution: "uniform" in [-bound, bound], or "normal", whose values beyond the bound are
    resampled (the truncation trick, Brock et al. 2019, section 3.1). bound: 0 means 1 for uniform,
    and none for normal.
    """

    def one(key):
        if distribution == "uniform":
            return random.uniform(key, (size,), dtype, -(bound or 1.0), bound or 1.0)
        if bound:
            return random.truncated_normal(key, -bound, bound, (size,), dtype)
        return random.normal(key, (size,), dtype)

    return vmap(one)(keys)


def interpolate(start: np.ndarray, end: np.ndarray, steps: int, distribution: str) -> np.ndarray:
    """(n, steps, size): from start to end, both (n, size) and both included.

    Straight lines for "uniform"; great circles for "normal", whose vectors have nearly equal
    lengths (White 2016).
    """
    t = np.linspace(0.0, 1.0, steps, dtype=np.float64)[None, :, None]
    start, end = (np.asarray(x, np.float64)[:, None] for x in (start, end))
    if distribution == "normal":
        lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (start, end)]
        cosine = (start * end).sum(-1, keepdims=True) / np.maximum(lengths[0] * lengths[1], 1e-12)
        angle = np.maximum(np.arccos(np.clip(cosine, -1, 1)), 1e-6)
        path = np.sin((1 - t) * angle) * start + np.sin(t * angle) * end
        return (path / np.sin(angle)).astype(np.float32)
    return ((1 - t) * start + t * end).astype(np.float32)
