"""Methods with a perceptual loss, whose VGG is read from a file and never trained."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
from jax import Array

from ganattn.errors import ConfigError
from ganattn.methods.base import Method
from ganattn.state import Variables

PERCEPTUAL = "perceptual"  # name of the network
RANDOM = "random"  # in place of a file: fixed random weights


@dataclasses.dataclass(frozen=True)
class Perceptual(Method):
    """A method that has a network "perceptual" where its loss has a weight.

    perceptual_weights: file of the network's weights, read when training starts; "random" draws
    weights that stay as they are, for trials without the file. Subclasses set perceptual_file,
    which says what it is, and read_perceptual, which reads it.
    """

    perceptual_weights: str = ""

    perceptual_file: ClassVar[str]
    read_perceptual: ClassVar[Callable[[str], Variables]]

    def initialize(self, name: str, rng: Array) -> Any:
        """Fresh variables of one network; VGG's are read from their file, or random.

        Raises ConfigError when config.method.perceptual_weights names no file.
        """
        if name != PERCEPTUAL or self.perceptual_weights == RANDOM:
            return super().initialize(name, rng)
        if not self.perceptual_weights:
            raise ConfigError(
                f"config.method.perceptual_weights is empty: name {self.perceptual_file}, or set "
                "config.method.perceptual_weight=0 to train without the perceptual loss"
            )
        return type(self).read_perceptual(self.perceptual_weights)

    def shapes(self, name: str) -> Variables:
        """As `Method.shapes`; those of VGG need no file."""
        if name != PERCEPTUAL:
            return super().shapes(name)
        spec = self.network_input(name)
        return jax.eval_shape(self.networks[name].init, jax.random.key(0), spec)
