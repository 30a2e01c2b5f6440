"""Attention-based spatial guidance with pairs: pix2pix whose critic tells where to look.

Lin et al., WACV 2021, section 4 and the authors' pix2pix_attn.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses, memory
from ganattn.errors import ConfigError
from ganattn.layers.attention import blend
from ganattn.methods.base import (
    DTYPES,
    Direction,
    Method,
    Translation,
    apply_passes,
    as_metrics,
    dtype_of,
)
from ganattn.methods.families.image_translation import create_optimizer
from ganattn.methods.guidance import GUIDING
from ganattn.networks.map_upsampler import MapUpsampler
from ganattn.networks.unet import UNetGenerator
from ganattn.parallel import AXIS, example_keys, mean_over, vary
from ganattn.state import TrainState, Variables, merge_networks, split_networks

GENERATOR, UPSAMPLER, CRITIC = "generator_a2b", "upsampler_a2b", "discriminator_b"


@dataclasses.dataclass(frozen=True)
class SupervisedGuidance(Method):
    """A U-Net, a network that enlarges maps for it, and a critic of source and target together.

    The source is multiplied by 1 + the enlarged map that the critic gave when it last saw the
    translation of this picture. `memory` is a bank of these maps, (pictures, h/8, w/8, 1), unscaled
    and all ones at first, whole on every device; a batch says by "index_a" (n,) int which pictures
    it holds. A step updates the critic, then the other two against the updated critic.
    """

    lambda_l1: float = 100.0
    dropout: bool = True
    buffer_size: int = 0
    image_size: int = 128

    directions: ClassVar[tuple[Direction, ...]] = (Direction("a", "b"),)
    translates_with: ClassVar[tuple[str, ...]] = ("generator", "upsampler", "discriminator")

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        _check(method)
        dtype = DTYPES[method.dtype]
        networks = {
            GENERATOR: UNetGenerator(method.width, method.num_downs, "instance", dtype=dtype),
            UPSAMPLER: MapUpsampler(method.upsampler_width, dtype=dtype),
            CRITIC: GUIDING[method.discriminator](method.discriminator_width, dtype=dtype),
        }
        groups = {"generator": (GENERATOR, UPSAMPLER), "discriminator": (CRITIC,)}
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, create_optimizer(config.optimizer)),
            lambda_l1=method.lambda_l1,
            dropout=method.dropout,
            buffer_size=method.buffer_size,
            image_size=method.image_size,
        )

    def mapped(self) -> Self:
        """For `parallel.map_step`: batch normalisation, too, counts all devices' examples."""
        critic = self.networks[CRITIC].clone(axis_name=AXIS)
        return dataclasses.replace(super().mapped(), networks={**self.networks, CRITIC: critic})

    def check_data(self, sizes: Mapping[str, int]) -> None:
        """Raises ConfigError when the buffer is too small for these pictures."""
        if sizes["a"] > self.buffer_size:
            raise ConfigError(
                f"config.method.buffer_size is {self.buffer_size}: there are {sizes['a']} "
                "pictures, set it to that"
            )

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        size, channels = {
            GENERATOR: (self.image_size, 3),
            UPSAMPLER: (self.image_size // 8, 1),
            CRITIC: (self.image_size, 6),
        }[name]
        return jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)

    def create_state(
        self, rng: Array, variables: Mapping[str, Variables] | None = None
    ) -> TrainState:
        """As `Method.create_state`; the maps have the precision of the networks."""
        state = super().create_state(rng, variables)
        side = self.image_size // 8
        bank = memory.create_buffer(self.buffer_size, side, side, dtype_of(state.variables))
        return state.replace(memory=bank)

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the critic, then one of the U-Net and the network that enlarges maps.

        batch: pairs "a" and "b", (n, h, w, 3) in [-1, 1], and "index_a". Metrics are unweighted
        terms and the weighted totals.
        """
        a, b = (batch[domain].astype(dtype_of(state.variables)) for domain in "ab")
        if "index_a" not in batch:
            raise ConfigError("the data give no index_a: use a source that numbers its pictures")
        maps = memory.recall(state.memory, batch["index_a"])
        keys = None
        if self.dropout:
            rng = jax.random.fold_in(state.rng, state.step)
            keys = example_keys(rng, len(a), self.axis_name)
        generator, kept = split_networks(state.variables, self.groups["generator"])
        fake, pull_back = jax.vjp(
            lambda trained: self._generate(trained, a, maps, keys)[0],
            vary(generator, self.axis_name),
        )

        judge, judged = split_networks(state.variables, (CRITIC,))
        loss = jax.grad(self._critic_loss, has_aux=True)
        gradients, (judged, metrics) = loss(
            vary(judge, self.axis_name), judged, a, b, jax.lax.stop_gradient(fake)
        )
        state = self.update(state, "discriminator", gradients, judged)

        judge, judged = split_networks(state.variables, (CRITIC,))
        loss = jax.grad(self._generator_loss, has_aux=True)
        pulled, (judged, seen, terms) = loss(fake, judge, judged, a, b)
        state = self.update(state, "generator", pull_back(pulled)[0], kept)
        judged = mean_over(judged, self.axis_name)
        state = state.replace(
            step=state.step + 1,
            variables={**state.variables, **merge_networks(judge, judged)},
            memory=memory.remember(state.memory, batch["index_a"], seen, self.examples),
        )
        return state, mean_over({**metrics, **terms}, self.axis_name)

    def translate(
        self, variables: Mapping[str, Variables], images: Array, direction: str = "a2b"
    ) -> Translation:
        """images (n, h, w, 3) in [-1, 1], h and w multiples of 2^num_downs; without dropout.

        attention is the map that guides the generator, (n, h, w, 1) in (0, 1). The critic judges a
        first translation under a map of ones (which is all that the authors' code does to test);
        without its weights this one is returned. Raises ConfigError for an unknown direction.
        """
        if direction not in self.directions:
            raise ConfigError(f"direction is {direction!r}: pairs are translated a2b only")
        images = images.astype(dtype_of({GENERATOR: variables[GENERATOR]}))
        count, height, width, _ = images.shape
        maps = jnp.ones((count, height // 8, width // 8, 1), images.dtype)
        made, attention = self._generate(variables, images, maps, None)
        if CRITIC in variables:
            pair = jnp.concatenate([images, made], -1)
            maps = self.networks[CRITIC].apply(variables[CRITIC], pair).heatmap
            made, attention = self._generate(variables, images, maps, None)
        return Translation(made, attention)

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Source, guiding map, translation, and the true target."""
        made = self.translate(variables, batch["a"])
        heatmap = {} if made.attention is None else {"attention": made.attention}
        columns = {"source": batch["a"], **heatmap, "translation": made.images}
        return {"a2b": {**columns, "target": batch["b"]}}

    def _generate(self, variables, images, maps, keys):
        attention = self.networks[UPSAMPLER].apply(variables[UPSAMPLER], maps)
        guided = blend(images, attention, "rmult")
        return self.networks[GENERATOR].apply(variables[GENERATOR], guided, keys), attention

    def _judge(self, judge, judged, *pairs):
        passes = [(jnp.concatenate(pair, -1),) for pair in pairs]
        outputs, moved = apply_passes(
            self.networks[CRITIC], judge[CRITIC], judged[CRITIC], passes, joint=False
        )
        return outputs, {CRITIC: moved}

    def _critic_loss(self, judge, judged, a, b, fake):
        # Fake before real: the order in which the authors' running averages move.
        (on_fake, on_real), moved = self._judge(judge, judged, (a, fake), (a, b))
        terms = {
            "real": losses.binary_cross_entropy(on_real.logits, True),
            "fake": losses.binary_cross_entropy(on_fake.logits, False),
        }
        total = 0.5 * (terms["real"] + terms["fake"])
        return total, (moved, as_metrics("discriminator", terms, total))

    def _generator_loss(self, fake, judge, judged, a, b):
        (on_fake,), moved = self._judge(judge, judged, (a, fake))
        terms = {
            "adversarial": losses.binary_cross_entropy(on_fake.logits, True),
            "l1": losses.mean_absolute(fake, b),
        }
        total = terms["adversarial"] + self.lambda_l1 * terms["l1"]
        return total, (moved, on_fake.heatmap, as_metrics("generator", terms, total))


def _check(method: ConfigDict) -> None:
    for field, values in {"discriminator": tuple(GUIDING), "dtype": tuple(DTYPES)}.items():
        if method[field] not in values:
            raise ConfigError(
                f"config.method.{field} is {method[field]!r}: use one of {', '.join(values)}"
            )
    if method.num_downs < 2:
        raise ConfigError(f"config.method.num_downs is {method.num_downs}: give at least 2")
    multiple = max(8, 1 << method.num_downs)
    if method.image_size % multiple or method.image_size < 24:
        raise ConfigError(
            f"config.method.image_size is {method.image_size}: give a multiple of {multiple}, "
            "at least 24"
        )
    if method.buffer_size < 1:
        raise ConfigError(
            f"config.method.buffer_size is {method.buffer_size}: give the number of training pairs"
        )
