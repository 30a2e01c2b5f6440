"""Unpaired translation between two domains."""

import dataclasses
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ganattn import losses
from ganattn.memory import ImagePool
from ganattn.methods.base import (
    Direction,
    Input,
    Method,
    Output,
    Panels,
    columns,
    dtype_of,
    images_spec,
)
from ganattn.state import TrainState, Variables

DOMAINS = ("a", "b")
GENERATORS = ("generator_a2b", "generator_b2a")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")
GROUPS = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}


@dataclasses.dataclass(frozen=True)
class CycleWeights:
    """Weights of CycleGAN's objective.

    a, b: of the cycle loss in that domain (lambda of eq. 3). identity: of the identity loss,
    relative to them (section 5.2).
    """

    a: float = 10.0
    b: float = 10.0
    identity: float = 0.5


@dataclasses.dataclass(frozen=True)
class TwoDomains(Method):
    """Two generators, and discriminators for each domain.

    Generators are "generator_a2b" and "generator_b2a" unless a method overrides `networks_for`.

    image_size: height and width of the training images. multiple: heights and widths that are
    multiples of it can be translated; None if only `image_size` can. pool_size: number of earlier
    fakes of each domain that discriminators may see.
    """

    image_size: int = 256
    multiple: int | None = 4
    pool_size: int = 0

    @abstractmethod
    def _translate(
        self,
        variables: Mapping[str, Variables],
        inputs: Mapping[str, Array],
        direction: Direction,
        rng: Array | None,
    ) -> Output:
        """`generate` of one direction, with inputs in the networks' precision."""

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Images "a" and "b", (count, h, w, 3) in [-1, 1]."""
        return dict.fromkeys(DOMAINS, images_spec(count, self.image_size, self.image_size, 3))

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The "image" to translate."""
        self.direction(direction)
        shape = (self.image_size, self.image_size, 3)
        return {"image": Input("image", shape, multiple=self.multiple)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The direction's generator; the first network named is one that `generate` needs."""
        return (f"generator_{self.direction(direction)}",)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """An image."""
        return images_spec(1, self.image_size, self.image_size, 3)

    def generate(
        self,
        variables: Mapping[str, Variables],
        inputs: Mapping[str, Array],
        direction: str | None = None,
        rng: Array | None = None,
    ) -> Output:
        """The translation of inputs["image"] (n, h, w, 3) in [-1, 1]."""
        checked = self.direction(direction)
        name = self.networks_for(checked)[0]
        dtype = dtype_of({name: variables[name]})
        arrays = {key: jnp.asarray(x, dtype) for key, x in inputs.items()}
        return self._translate(variables, arrays, checked, rng)

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """For each direction: source, attention if any, translation, cycle, and identity."""
        figures: Panels = OrderedDict()
        for direction in self.directions:
            source = batch[direction.source]
            output = self.generate(variables, {"image": source}, direction)
            cycled = self.generate(variables, {"image": output.images}, direction.reverse)
            identity = self.generate(variables, {"image": source}, direction.reverse)
            figures[direction] = columns(
                [
                    ("source", source),
                    ("attention", output.heatmap),
                    ("translation", output.images),
                    ("cycle", cycled.images),
                    ("identity", identity.images),
                ]
            )
        return figures

    def real_images(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The images of each domain, in the networks' precision."""
        dtype = dtype_of(state.variables)
        return {domain: batch[domain].astype(dtype) for domain in DOMAINS}

    def create_pools(self, dtype: Any) -> dict[str, ImagePool]:
        """An empty pool for each domain; {} if `pool_size` is 0."""
        shape = (self.image_size, self.image_size, 3)
        domains = DOMAINS if self.pool_size else ()
        return {domain: ImagePool.create(self.pool_size, shape, dtype) for domain in domains}

    def query_pools(
        self, pools: Mapping[str, ImagePool], fake: Mapping[str, Array], rng: Array
    ) -> tuple[dict[str, ImagePool], dict[str, Array]]:
        """The pools after each domain's fakes, and the images in exchange for them."""
        new, images = dict(pools), dict(fake)
        for number, domain in enumerate(pools):
            key = jax.random.fold_in(rng, number)
            new[domain], images[domain] = pools[domain].query(fake[domain], key, self.examples)
        return new, images


def sum_terms(terms: Sequence[Mapping[str, Array | float]]) -> dict[str, Any]:
    """The sum of each term over domains."""
    return {name: sum(each[name] for each in terms) for name in terms[0]}


def cycle_objective(
    weights: CycleWeights,
    adversarial: Callable[[Array, bool], Array],
    logits: Mapping[str, Array],
    real: Mapping[str, Array],
    cycled: Mapping[str, Array],
    identity: Mapping[str, Array],
) -> tuple[Array, dict[str, Any]]:
    """The generators' part of CycleGAN's objective, and its unweighted terms.

    logits: of the discriminators on the fakes. identity: of the target domains' images; {} without
    the identity loss.
    """
    total: Any = 0.0
    terms = []
    for domain in DOMAINS:
        adversarial_term = adversarial(logits[domain], True)  # eq. 1, as in section 4
        cycle_term = losses.mean_absolute(cycled[domain], real[domain])  # eq. 2
        identity_term: Array | float = 0.0
        if domain in identity:
            identity_term = losses.mean_absolute(identity[domain], real[domain])  # section 5.2
        cycle_weight = getattr(weights, domain)
        # Eq. 3.
        total += adversarial_term + cycle_weight * (cycle_term + weights.identity * identity_term)
        terms.append(
            {"adversarial": adversarial_term, "cycle": cycle_term, "identity": identity_term}
        )
    return total, sum_terms(terms)
