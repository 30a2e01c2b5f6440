"""What networks return: images or logits, with the attention behind them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jax import Array


class GeneratorOutput(NamedTuple):
    """images: (n, h, w, 3) in [-1, 1]. attention: maps by name, in order, unscaled."""

    images: Array
    attention: Mapping[str, Array] = {}


class DiscriminatorOutput(NamedTuple):
    """logits: unbounded. features: of inner layers. attention: maps by name, in order, unscaled.

    A discriminator of several scales has a list with an entry for each scale in place of arrays.
    """

    logits: Array | Sequence[Array]
    features: Sequence[Array] | Sequence[Sequence[Array]] = ()
    attention: Mapping[str, Array] = {}
