"""CycleGAN: unpaired translation by cycle consistency (Zhu et al., ICCV 2017)."""

import dataclasses
import itertools
from collections.abc import Mapping
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import image_pool, losses
from ganattn.errors import ConfigError
from ganattn.layers.pyramid import PYRAMIDS, AtrousMean
from ganattn.methods.base import DTYPES, Method, Translation, apply_passes, as_metrics, dtype_of
from ganattn.methods.families.image_translation import (
    check,
    create_discriminator,
    create_optimizer,
    real_and_fake,
    translate,
)
from ganattn.networks.resnet import ResNetGenerator
from ganattn.optimizers import Delay, delayed
from ganattn.parallel import AXIS, example_keys, mean_over, vary
from ganattn.state import TrainState, Variables, split_networks

GENERATORS = ("generator_a2b", "generator_b2a")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")
DIRECTIONS = (("a", "b"), ("b", "a"))


@dataclasses.dataclass(frozen=True)
class Weights:
    """a, b: of the cycle through each domain. identity: the identity loss's, relative to them."""

    a: float = 10.0
    b: float = 10.0
    identity: float = 0.5


@dataclasses.dataclass(frozen=True)
class CycleGAN(Method):
    """Two generators, and a discriminator for each domain.

    A step updates the generators, then the discriminators on the same fakes, which go through a
    pool of earlier ones, as the authors' loop does. `memory` is an `ImagePool` for each domain,
    whole on every device, or {} when the pool's size is 0.

    adversarial: a key of `losses.ADVERSARIAL`. test_statistics: with batch normalisation, "batch"
    translates each picture by its own statistics, as the authors' test code does, "running" by the
    averages of training.
    """

    weights: Weights = Weights()
    adversarial: str = "least_squares"
    norm: str = "instance"
    dropout: bool = False
    test_statistics: str = "batch"
    pool_size: int = 50
    image_size: int = 256

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        check(method, multiple=4)
        _check_pyramid(method)
        dtype, create_pyramid = DTYPES[method.dtype], PYRAMIDS[method.pyramid]
        generator = ResNetGenerator(
            method.width,
            method.num_residual_blocks,
            method.norm,
            pyramid=create_pyramid and create_pyramid(method.pyramid_rates, dtype=dtype),
            remat=method.remat,
            dtype=dtype,
        )
        discriminator = create_discriminator(method)
        if method.atrous_discriminator:
            mean = AtrousMean(method.atrous_rates, dtype=dtype)
            discriminator = discriminator.clone(pyramid=mean)
        networks = dict.fromkeys(GENERATORS, generator)
        networks |= dict.fromkeys(DISCRIMINATORS, discriminator)
        groups = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, create_optimizer(config.optimizer, _delay(method))),
            weights=Weights(method.lambda_a, method.lambda_b, method.lambda_identity),
            adversarial=method.adversarial,
            norm=method.norm,
            dropout=method.dropout,
            test_statistics=method.test_statistics,
            pool_size=method.pool_size,
            image_size=method.image_size,
        )

    def mapped(self) -> Self:
        """For `parallel.map_step`: batch normalisation, too, counts all devices' examples."""
        networks = {name: module.clone(axis_name=AXIS) for name, module in self.networks.items()}
        return dataclasses.replace(super().mapped(), networks=networks)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), jnp.float32)

    def create_state(
        self, rng: Array, variables: Mapping[str, Variables] | None = None
    ) -> TrainState:
        """As `Method.create_state`, with a pool in the precision of the networks."""
        state = super().create_state(rng, variables)
        if not self.pool_size:
            return state
        shape = (self.image_size, self.image_size, 3)
        pool = image_pool.empty(self.pool_size, shape, dtype_of(state.variables))
        return state.replace(memory={"a": pool, "b": jax.tree.map(jnp.copy, pool)})

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generators, then one of the discriminators.

        batch: "a" and "b", (n, h, w, 3) in [-1, 1]. Metrics are unweighted terms, summed over
        domains, and the weighted totals.
        """
        real = {d: batch[d].astype(dtype_of(state.variables)) for d in ("a", "b")}
        rng = jax.random.fold_in(state.rng, state.step)

        generators, kept = split_networks(state.variables, GENERATORS)
        judges, judged = split_networks(state.variables, DISCRIMINATORS)
        loss = jax.grad(self._generator_loss, has_aux=True)
        gradients, (statistics, fake, metrics) = loss(
            vary(generators, self.axis_name), judges, {**kept, **judged}, real, rng
        )
        kept, judged = ({n: statistics[n] for n in names} for names in (kept, judged))
        state = self.update(state, "generator", gradients, kept)

        memory = dict(state.memory)
        for number, (domain, pool) in enumerate(state.memory.items()):
            key = jax.random.fold_in(rng, number)
            memory[domain], fake[domain] = image_pool.exchange(
                pool, fake[domain], key, self.axis_name
            )
        loss = jax.grad(self._discriminator_loss, has_aux=True)
        gradients, (judged, terms) = loss(vary(judges, self.axis_name), judged, real, fake)
        state = self.update(state, "discriminator", gradients, judged)
        state = state.replace(step=state.step + 1, memory=memory)
        return state, mean_over({**metrics, **terms}, self.axis_name)

    def translate(
        self, variables: Mapping[str, Variables], images: Array, direction: str = "a2b"
    ) -> Translation:
        """images (n, h, w, 3) in [-1, 1], h and w multiples of 4; without dropout.

        With SPAP, attentions are the maps of its fuses, (n, h/2, w/2, 1) in [0, 1]. Raises
        ConfigError for an unknown direction.
        """
        return translate(self, self.test_statistics, variables, images, direction)

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Per direction: source, attention if any, translation, back again, and the identity."""
        grids = {}
        for direction in self.directions:
            source, target = direction.split("2")
            there = self.translate(variables, batch[source], direction)
            back = self.translate(variables, there.images, f"{target}2{source}")
            kept = self.translate(variables, batch[source], f"{target}2{source}")
            heatmap = {} if there.attention is None else {"attention": there.attention}
            grids[direction] = {
                "source": batch[source],
                **heatmap,
                "translation": there.images,
                "cycle": back.images,
                "identity": kept.images,
            }
        return grids

    def _generator_loss(self, generators, judges, statistics, real, rng):
        trained, statistics = {**generators, **judges}, dict(statistics)
        keys = map(partial(self._dropout_keys, rng, len(real["a"])), itertools.count())
        joint = self.norm == "instance"
        keep = self.weights.identity > 0

        def run(name, *passes):
            outputs, statistics[name] = apply_passes(
                self.networks[name], trained[name], statistics[name], passes, joint
            )
            return outputs

        fake, cycled, kept = {}, {}, {}
        for source, target in DIRECTIONS:
            there, back = f"generator_{source}2{target}", f"generator_{target}2{source}"
            passes = [(real[source], next(keys))]
            if keep and joint:
                passes.append((real[target], next(keys)))
            fake[target], *kept[target] = run(there, *passes)
            cycled[source] = run(back, (fake[target], next(keys)))[0]
        if keep and not joint:
            for source, target in DIRECTIONS:
                kept[target] = run(f"generator_{source}2{target}", (real[target], next(keys)))

        terms = dict.fromkeys(("adversarial", "cycle", "identity"), 0.0)
        total = 0.0
        for domain in ("b", "a"):
            (judged,) = run(f"discriminator_{domain}", (fake[domain],))
            adversarial = losses.ADVERSARIAL[self.adversarial](judged.logits, True)
            cycle = losses.mean_absolute(cycled[domain], real[domain])
            identity = losses.mean_absolute(kept[domain][0], real[domain]) if keep else 0.0
            weight = getattr(self.weights, domain)
            total += adversarial + weight * (cycle + self.weights.identity * identity)
            for term, value in zip(terms, (adversarial, cycle, identity), strict=True):
                terms[term] += value
        return total, (statistics, fake, as_metrics("generator", terms, total))

    def _discriminator_loss(self, judges, statistics, real, fake):
        terms, new = {}, {}
        for name in DISCRIMINATORS:
            domain = name[-1]
            passes = ((real[domain],), (fake[domain],))
            judged, new[name] = apply_passes(
                self.networks[name], judges[name], statistics[name], passes, self.norm == "instance"
            )
            terms[domain] = 0.5 * real_and_fake(self.adversarial, *judged)
        total = terms["a"] + terms["b"]
        return total, (new, as_metrics("discriminator", terms, total))

    def _dropout_keys(self, rng, count, number):
        if not self.dropout:
            return None
        return example_keys(jax.random.fold_in(rng, 2 + number), count, self.axis_name)


def _delay(method: ConfigDict) -> Delay | None:
    """Atrous convolutions, and what fuses them, wait for config.method.pyramid_start_step."""
    if not method.pyramid_start_step:
        return None
    start, is_late = method.pyramid_start_step, lambda path: "pyramid" in path
    return partial(delayed, start_step=start, is_late=is_late)


def _check_pyramid(method: ConfigDict) -> None:
    if method.pyramid not in PYRAMIDS:
        raise ConfigError(
            f"config.method.pyramid is {method.pyramid!r}: use one of {', '.join(PYRAMIDS)}"
        )
    for field in ("pyramid_rates", "atrous_rates"):
        rates = tuple(method[field])
        if not rates or min(rates) < 2 or len(set(rates)) < len(rates):
            raise ConfigError(
                f"config.method.{field} is {rates}: give different numbers of pixels, at least 2"
            )
    if method.pyramid_start_step < 0:
        raise ConfigError(
            f"config.method.pyramid_start_step is {method.pyramid_start_step}: give at least 0"
        )
    has_third_layer = method.discriminator == "patch" and method.discriminator_layers >= 3
    if method.atrous_discriminator and not has_third_layer:
        raise ConfigError(
            "config.method.atrous_discriminator is True, but the discriminator has no third "
            "strided layer: use 'patch' with discriminator_layers of at least 3"
        )
