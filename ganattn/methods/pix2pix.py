"""pix2pix: translation learned from pairs (Isola et al., CVPR 2017)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.errors import ConfigError
from ganattn.methods.base import (
    DTYPES,
    Direction,
    Method,
    Translation,
    apply_passes,
    as_metrics,
    dtype_of,
)
from ganattn.methods.families.image_translation import (
    TEST_STATISTICS,
    check_config,
    create_discriminator,
    create_optimizer,
)
from ganattn.networks.unet import UNetGenerator
from ganattn.parallel import AXIS, example_keys, mean_over, vary
from ganattn.state import TrainState, Variables, merge_networks, split_networks

GENERATOR, DISCRIMINATOR = "generator_a2b", "discriminator_b"


@dataclasses.dataclass(frozen=True)
class Pix2Pix(Method):
    """A U-Net with dropout, and a discriminator of source and target side by side.

    A step updates the discriminator, then the generator against the updated discriminator, as the
    authors' loop does; one forward pass of the generator serves both updates.

    lambda_l1: weight of the distance to the true target. adversarial, test_statistics: as of
    CycleGAN.
    """

    lambda_l1: float = 100.0
    adversarial: str = "cross_entropy"
    norm: str = "batch"
    dropout: bool = True
    test_statistics: str = "batch"
    image_size: int = 256

    directions: ClassVar[tuple[Direction, ...]] = (Direction("a", "b"),)

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        if method.num_downs < 2:
            raise ConfigError(f"config.method.num_downs is {method.num_downs}: give at least 2")
        check_config(config, multiple=1 << method.num_downs)
        generator = UNetGenerator(
            method.width, method.num_downs, method.norm, dtype=DTYPES[method.dtype]
        )
        networks = {GENERATOR: generator, DISCRIMINATOR: create_discriminator(method)}
        groups = {"generator": (GENERATOR,), "discriminator": (DISCRIMINATOR,)}
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, create_optimizer(config.optimizer)),
            lambda_l1=method.lambda_l1,
            adversarial=method.adversarial,
            norm=method.norm,
            dropout=method.dropout,
            test_statistics=method.test_statistics,
            image_size=method.image_size,
        )

    def mapped(self) -> Self:
        """For `parallel.map_step`: batch normalisation, too, counts all devices' examples."""
        networks = {name: module.clone(axis_name=AXIS) for name, module in self.networks.items()}
        return dataclasses.replace(super().mapped(), networks=networks)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        channels = 6 if name == DISCRIMINATOR else 3
        return jax.ShapeDtypeStruct((1, self.image_size, self.image_size, channels), jnp.float32)

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminator, then one of the generator.

        batch: pairs "a" and "b", (n, h, w, 3) in [-1, 1]. Metrics are unweighted terms and the
        weighted totals.
        """
        a, b = (batch[domain].astype(dtype_of(state.variables)) for domain in ("a", "b"))
        keys = None
        if self.dropout:
            rng = jax.random.fold_in(state.rng, state.step)
            keys = example_keys(rng, len(a), self.axis_name)
        generator, statistics = split_networks(state.variables, (GENERATOR,))

        def generate(generator):
            variables = {**generator[GENERATOR], **statistics[GENERATOR]}
            return self.networks[GENERATOR].apply(
                variables, a, keys, "batch", mutable=["batch_stats"]
            )

        fake, pull_back, moved = jax.vjp(generate, vary(generator, self.axis_name), has_aux=True)
        judge, judged = split_networks(state.variables, (DISCRIMINATOR,))
        loss = jax.grad(self._discriminator_loss, has_aux=True)
        gradients, (judged, metrics) = loss(
            vary(judge, self.axis_name), judged, a, b, jax.lax.stop_gradient(fake)
        )
        state = self.update(state, "discriminator", gradients, judged)

        judge, judged = split_networks(state.variables, (DISCRIMINATOR,))
        loss = jax.grad(self._generator_loss, has_aux=True)
        pulled, (judged, terms) = loss(fake, judge, judged, a, b)
        (gradients,) = pull_back(pulled)
        state = self.update(state, "generator", gradients, {GENERATOR: moved})
        judged = mean_over(judged, self.axis_name)
        state = state.replace(
            step=state.step + 1,
            variables={**state.variables, **merge_networks(judge, judged)},
        )
        return state, mean_over({**metrics, **terms}, self.axis_name)

    def translate(
        self, variables: Mapping[str, Variables], images: Array, direction: str = "a2b"
    ) -> Translation:
        """images (n, h, w, 3) in [-1, 1], h and w multiples of 2^num_downs; without dropout.

        Raises ConfigError for an unknown direction.
        """
        self.direction(direction)
        images = images.astype(dtype_of({GENERATOR: variables[GENERATOR]}))
        statistics = TEST_STATISTICS[self.test_statistics]
        network = self.networks[GENERATOR]
        return Translation(network.apply(variables[GENERATOR], images, statistics=statistics))

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Source, translation, and the true target."""
        made = self.translate(variables, batch["a"]).images
        return {"a2b": {"source": batch["a"], "translation": made, "target": batch["b"]}}

    def _judge(self, judge, judged, *pairs):
        passes = [(jnp.concatenate(pair, -1),) for pair in pairs]
        outputs, moved = apply_passes(
            self.networks[DISCRIMINATOR],
            judge[DISCRIMINATOR],
            judged[DISCRIMINATOR],
            passes,
            self.norm == "instance",
        )
        return [output.logits for output in outputs], {DISCRIMINATOR: moved}

    def _discriminator_loss(self, judge, judged, a, b, fake):
        loss = losses.ADVERSARIAL[self.adversarial]
        # Fake before real: the order in which the authors' running averages move.
        (on_fake, on_real), moved = self._judge(judge, judged, (a, fake), (a, b))
        terms = {"real": loss(on_real, True), "fake": loss(on_fake, False)}
        total = 0.5 * (terms["real"] + terms["fake"])
        return total, (moved, as_metrics("discriminator", terms, total))

    def _generator_loss(self, fake, judge, judged, a, b):
        (logits,), moved = self._judge(judge, judged, (a, fake))
        terms = {
            "adversarial": losses.ADVERSARIAL[self.adversarial](logits, True),
            "l1": losses.mean_absolute(fake, b),
        }
        total = terms["adversarial"] + self.lambda_l1 * terms["l1"]
        return total, (moved, as_metrics("generator", terms, total))
