"""Label and instance maps as a network's input (SPADE appendix A; pix2pixHD section 3.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def semantics(label: Array, num_classes: int, instance: Array | None, dtype: Any) -> Array:
    """One-hot classes and, with instances, a channel of their boundaries.

    label, instance (n, h, w, 1) int32 to (n, h, w, num_classes [+ 1]). A label outside
    [0, num_classes) becomes zeros: data pipelines refuse those. num_classes 0: label is an image
    (n, h, w, c), which is not encoded.
    """
    if num_classes:
        classes = jax.nn.one_hot(label[..., 0], num_classes, dtype=dtype)
    else:
        classes = label.astype(dtype)
    if instance is None:
        return classes
    return jnp.concatenate([classes, instance_edges(instance).astype(dtype)], -1)


def instance_edges(instance: Array) -> Array:
    """(n, h, w, 1) bool: pixels with a neighbor above, below or beside in another instance."""
    rows = instance[:, 1:] != instance[:, :-1]
    columns = instance[:, :, 1:] != instance[:, :, :-1]
    first, last = (1, 0), (0, 1)
    vertical = [jnp.pad(rows, ((0, 0), side, (0, 0), (0, 0))) for side in (first, last)]
    horizontal = [jnp.pad(columns, ((0, 0), (0, 0), side, (0, 0))) for side in (first, last)]
    return vertical[0] | vertical[1] | horizontal[0] | horizontal[1]
