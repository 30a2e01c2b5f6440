"""What networks return: images or logits, with the attention behind them."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jax import Array


class GeneratorOutput(NamedTuple):
    """What a generator, or `Method.generate`, returns.

    images: (n, h, w, channels) in [-1, 1]. attention: name -> (n, h', w', 1), unscaled, larger
    where the network attends; in order, the last one is the heat map to draw. extras: other arrays,
    such as logits of auxiliary classifiers.
    """

    images: Array
    attention: Mapping[str, Array] = OrderedDict()
    extras: Mapping[str, Array] = OrderedDict()

    @property
    def heatmap(self) -> Array | None:
        """The last attention map, None where there is none."""
        return next(reversed([*self.attention.values()]), None)


class DiscriminatorOutput(NamedTuple):
    """Output of a discriminator.

    logits: (n, h', w', 1) or (n, 1), unbounded. features: of the hidden layers, in order. A
    discriminator of several scales has a list with an entry for each scale in place of both.
    attention: name -> (n, h'', w'', 1), unscaled. extras: other arrays.
    """

    logits: Array | Sequence[Array]
    features: Sequence[Array] | Sequence[Sequence[Array]] = ()
    attention: Mapping[str, Array] = OrderedDict()
    extras: Mapping[str, Array] = OrderedDict()

    @property
    def heatmap(self) -> Array | None:
        """The last attention map, None where there is none."""
        return next(reversed([*self.attention.values()]), None)
