"""Translation learned from pairs: what pix2pix and paired spatial guidance share."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from ganattn import losses
from ganattn.methods.base import (
    Direction,
    Input,
    Method,
    Output,
    Panels,
    apply_passes,
    as_metrics,
    columns,
    dtype_of,
    images_spec,
)
from ganattn.methods.families.image_translation import TEST_STATISTICS, translation_keys
from ganattn.state import TrainState, Tree, Variables, split_networks

GENERATOR, DISCRIMINATOR = "generator_a2b", "discriminator_b"


@dataclasses.dataclass(frozen=True)
class Paired(Method):
    """A U-Net, and a discriminator of source and target side by side.

    A step updates the discriminator, then the generator against the updated discriminator, as the
    authors' loop does; one forward pass of the generator serves both updates.

    `generate` runs the generator as training does, one image at a time: with dropout, and with
    batch normalization by the image's own statistics. So does the authors' test code, and so says
    pix2pix section 3.3.

    lambda_l1: weight of the distance to the true target. adversarial: a key of
    `losses.ADVERSARIAL`. dropout: whether the generator has it. test_dropout: whether that remains
    in `generate`. test_statistics: of batch normalization in `generate`, "batch" for those of each
    image, "running" for the averages of training. The authors' --eval is "running" without dropout.
    """

    lambda_l1: float = 100.0
    adversarial: str = "cross_entropy"
    dropout: bool = True
    test_dropout: bool = True
    test_statistics: str = "batch"
    image_size: int = 256

    directions: ClassVar[tuple[Direction, ...]] = (Direction("a", "b"),)

    @property
    def multiple(self) -> int:
        """What divides the height and width of images."""
        return 1 << self.networks[GENERATOR].num_downs

    @property
    def draws_noise(self) -> bool:
        """Whether dropout is applied in `generate`."""
        return self.dropout and self.test_dropout

    @property
    def joint(self) -> bool:
        """Whether the discriminator takes fake and real pairs as one batch."""
        return False

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Pairs "a" and "b", (count, h, w, 3) in [-1, 1]."""
        return dict.fromkeys("ab", images_spec(count, self.image_size, self.image_size, 3))

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The "image" to translate."""
        shape = (self.image_size, self.image_size, 3)
        return {"image": Input("image", shape, multiple=self.multiple)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The generator alone."""
        return (GENERATOR,)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """An image, for the discriminator a pair of images."""
        channels = 6 if name == DISCRIMINATOR else 3
        return images_spec(1, self.image_size, self.image_size, channels)

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminator, then one of the generator's group.

        batch: as `batch_spec` describes it. draws: none are read. Metrics are unweighted terms and
        the weighted totals.
        """
        a, b = (batch[domain].astype(dtype_of(state.variables)) for domain in "ab")
        guide, keys = self.recall(state, batch), None
        if self.dropout:
            keys = self.examples.keys(jax.random.fold_in(state.rng, state.step), len(a))
        generator, carried = split_networks(state.variables, self.groups["generator"])
        fake, pull_back, carried = jax.vjp(
            lambda trained: self.forward(trained, carried, a, guide, keys),
            self.examples.vary(generator),
            has_aux=True,
        )
        state = self.carry(state, carried)
        state, metrics = self.minimize(
            state, "discriminator", self._discriminator_loss, a, b, jax.lax.stop_gradient(fake)
        )

        discriminator, statistics = split_networks(state.variables, (DISCRIMINATOR,))
        loss = jax.grad(self._generator_loss, has_aux=True)
        cotangent, (statistics, output, terms) = loss(fake, discriminator, statistics, a, b)
        (gradients,) = pull_back(cotangent)
        state = self.update(state, "generator", gradients, {**carried, **statistics})
        return self.remember(state, batch, output), {**metrics, **terms}

    def forward(
        self,
        trained: Mapping[str, Variables],
        carried: Mapping[str, Variables],
        images: Array,
        guide: Any,
        keys: Array | None,
    ) -> tuple[Array, dict[str, Variables]]:
        """Training-mode translations of `images`, and the new carried collections.

        guide: of `recall`. keys: a dropout key an example, None for no dropout.
        """
        output, new = self.networks[GENERATOR].apply(
            {**trained[GENERATOR], **carried[GENERATOR]},
            images,
            keys,
            "batch",
            mutable=["batch_stats"],
        )
        return output.images, {**carried, GENERATOR: new}

    def recall(self, state: TrainState, batch: Mapping[str, Array]) -> Any:
        """What the state gives to `forward` for the examples of a batch."""
        return None

    def carry(self, state: TrainState, carried: Mapping[str, Variables]) -> TrainState:
        """The state with those of `forward`'s collections that the discriminator's update reads."""
        return state

    def remember(self, state: TrainState, batch: Mapping[str, Array], output: Any) -> TrainState:
        """The state with what the next visit needs of the discriminator's output for the fakes."""
        return state

    def generate(
        self,
        variables: Mapping[str, Variables],
        inputs: Mapping[str, Array],
        direction: str | None = None,
        rng: Array | None = None,
    ) -> Output:
        """Translations of inputs["image"] (n, h, w, 3) in [-1, 1].

        h and w are multiples of `multiple`. rng: draws the dropout of each example; without it all
        have the same fixed one. Raises ConfigError for an unknown direction.
        """
        self.direction(direction)
        images = inputs["image"].astype(dtype_of({GENERATOR: variables[GENERATOR]}))
        keys = translation_keys(self.examples, rng, images) if self.draws_noise else None
        return self._translate(variables, images, keys)

    def _translate(
        self, variables: Mapping[str, Variables], images: Array, keys: Array | None
    ) -> Output:
        """`generate` for images in the networks' precision; keys: of dropout, None for none."""
        statistics = TEST_STATISTICS[self.test_statistics]
        return self.networks[GENERATOR].apply(variables[GENERATOR], images, keys, statistics)

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Source, guiding map if there is one, translation, and the true target."""
        output = self.generate(variables, {"image": batch["a"]}, "a2b", rng)
        images = {"translation": output.images, "target": batch["b"]}
        pairs = [("source", batch["a"]), ("attention", output.heatmap), *images.items()]
        return OrderedDict(a2b=columns(pairs))

    def _discriminate(self, trained, statistics, *pairs) -> tuple[list[Any], Tree]:
        """The discriminator's outputs for several (source, target), and its new statistics."""
        passes = [(jnp.concatenate(pair, -1),) for pair in pairs]
        outputs, new = apply_passes(
            self.networks[DISCRIMINATOR],
            trained[DISCRIMINATOR],
            statistics[DISCRIMINATOR],
            passes,
            self.joint,
        )
        return outputs, {DISCRIMINATOR: new}

    def _discriminator_loss(self, trained, statistics, a, b, fake):
        """pix2pix eq. 1, halved: slows the discriminator down (pix2pix section 3.3)."""
        loss = losses.ADVERSARIAL[self.adversarial]
        # Fake before real: the order in which the authors' running averages change.
        outputs, statistics = self._discriminate(trained, statistics, (a, fake), (a, b))
        on_fake, on_real = (output.logits for output in outputs)
        terms = {"real": loss(on_real, True), "fake": loss(on_fake, False)}
        total = 0.5 * (terms["real"] + terms["fake"])
        return total, (statistics, as_metrics("discriminator", terms, total))

    def _generator_loss(self, fake, trained, statistics, a, b):
        """pix2pix eq. 4, with the generator's term of eq. 1 in its non-saturating form."""
        (output,), statistics = self._discriminate(trained, statistics, (a, fake))
        terms = {
            "adversarial": losses.ADVERSARIAL[self.adversarial](output.logits, True),  # eq. 1
            "l1": losses.mean_absolute(fake, b),  # eq. 3
        }
        total = terms["adversarial"] + self.lambda_l1 * terms["l1"]
        return total, (statistics, output, as_metrics("generator", terms, total))
