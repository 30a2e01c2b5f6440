"""AGGAN: unpaired translation of the attended pixels alone (Mejjati et al., NeurIPS 2018)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.memory import ImagePool
from ganattn.methods.base import DTYPES, Output, Panels, as_metrics, columns, split_passes
from ganattn.methods.families.two_domains import DISCRIMINATORS, DOMAINS, GENERATORS, TwoDomains
from ganattn.networks.aggan import (
    DECODER_KERNELS,
    AGGANAttention,
    AGGANDiscriminator,
    AGGANGenerator,
)
from ganattn.optimizers import adam
from ganattn.state import TrainState, Tree, split_networks

ATTENTION = ("attention_a", "attention_b")
# The networks that translate in a direction; a step updates them together.
TRANSLATORS = {"a2b": ("generator_a2b", "attention_a"), "b2a": ("generator_b2a", "attention_b")}
GROUPS = {"generator": TRANSLATORS["a2b"] + TRANSLATORS["b2a"], "discriminator": DISCRIMINATORS}
# The order in which the authors' loop updates the networks.
TURNS = {
    "generator_a2b": 1, "attention_a": 1, "discriminator_b": 2,
    "generator_b2a": 3, "attention_b": 3, "discriminator_a": 4,
}  # fmt: skip
UPDATES = max(TURNS.values())


class Composition(NamedTuple):
    """A translation (n, h, w, 3) whose background is the source's.

    attention: (n, h, w, 1) in [0, 1]. generated: (n, h, w, 3), what the generator alone gives.
    """

    images: Array
    attention: Array
    generated: Array


@dataclasses.dataclass(frozen=True)
class AGGAN(TwoDomains):
    """For each domain a generator, an attention network and a discriminator.

    An image a becomes s * G(a) + (1 - s) * a, where s is the attention network's map of a. Until
    `switch_step` the discriminators see complete images. From then on they see the pixels whose map
    is at least `threshold`, and zeros elsewhere; they have no normalization any more, and the
    attention networks stay as they are.

    A step updates G_a2b with its attention network, discriminator b, G_b2a with its attention
    network, and discriminator a, each against the ones before, as the authors' loop does. The
    discriminators do not enter each other's updates, so both follow at the end here, and the first
    translation of b, in which nothing changes until its own update, is computed once. A fake is
    masked by the map of its source, a real image by its own. `memory` is an `ImagePool` for each
    domain whose images have the map as fourth channel; {} when the pool's size is 0.

    From the switch on, the paper shows the discriminators the generator's image where the map is
    above the threshold (section 3.2); the authors' code, which is followed here, shows the blended
    image where the map is at least the threshold.

    lambda_a, lambda_b: weights of the cycle losses of the images of a domain.
    """

    lambda_a: float = 10.0
    lambda_b: float = 10.0
    threshold: float = 0.1
    switch_step: int = 0

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method = config.method
        dtype = DTYPES[method.dtype]
        generator = AGGANGenerator(
            method.width, method.num_residual_blocks, remat=method.remat, dtype=dtype
        )
        attention = AGGANAttention(method.attention_width, method.decoder_kernels, dtype)
        discriminator = AGGANDiscriminator(method.discriminator_width, dtype)
        networks: dict[str, Any] = dict.fromkeys(GENERATORS, generator)
        networks |= dict.fromkeys(ATTENTION, attention)
        networks |= dict.fromkeys(DISCRIMINATORS, discriminator)
        return cls(networks, GROUPS, _create_optimizers(config), **cls.values_of(method))

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The direction's generator, and the attention network of its source."""
        return TRANSLATORS[self.direction(direction)]

    def create_memory(self, dtype: Any) -> Tree:
        shape = (self.image_size, self.image_size, 4)
        domains = DOMAINS if self.pool_size else ()
        return {domain: ImagePool.create(self.pool_size, shape, dtype) for domain in domains}

    def panels(
        self, variables: Mapping[str, Any], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Per direction: source, attention, its map, the generator's image, translation, cycle.

        "attention" is a heat map in its own range, "map" shows its values: black is 0, white 1.
        """
        figures: Panels = OrderedDict()
        for direction in self.directions:
            source = batch[direction.source]
            output = self.generate(variables, {"image": source}, direction)
            cycle = self.generate(variables, {"image": output.images}, direction.reverse)
            attention = output.attention["attention"]
            figures[direction] = columns(
                [
                    ("source", source),
                    ("attention", attention),
                    ("map", jnp.repeat(2 * attention - 1, 3, axis=-1)),
                    ("generated", output.extras["generated"]),
                    ("translation", output.images),
                    ("cycle", cycle.images),
                ]
            )
        return figures

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """The updates of G_a2b, G_b2a and both discriminators.

        Metrics: for each domain the adversarial term of its fakes and its cycle term, the latter of
        the first update; "a2b" and "b2a", the losses of both updates of generators.
        """
        real, is_masked = self.real_images(state, batch), state.step >= self.switch_step
        a2b, b2a = (
            self.examples.vary(split_networks(state.variables, TRANSLATORS[direction])[0])
            for direction in self.directions
        )

        def translate_b(networks: Tree) -> Composition:
            return self._compose({**state.variables, **networks}, "b2a", real["b"])

        from_b, pull_back = jax.vjp(translate_b, b2a)
        loss = jax.grad(self._a2b_loss, has_aux=True)
        gradients, (from_a, terms) = loss(a2b, state.variables, real, from_b, is_masked)
        state = self.update(state, "generator", gradients, {})

        after = self._compose(state.variables, "a2b", real["a"])
        backward = jax.grad(self._b2a_loss, argnums=(0, 1), has_aux=True)
        (gradients, cotangent), more = backward(
            b2a, from_b.images, state.variables, real, after.images, from_b.attention, is_masked
        )
        nothing = jax.tree.map(jnp.zeros_like, from_b)
        (through,) = pull_back(nothing._replace(images=cotangent))
        gradients = jax.tree.map(jnp.add, gradients, through)
        state = self.update(state, "generator", gradients, {})
        terms |= more
        metrics = as_metrics("generator", terms, terms["a2b"] + terms["b2a"])

        rng = jax.random.fold_in(state.rng, state.step)
        pairs = {"a": from_b, "b": from_a}
        memory, fake = self.query_pools(
            state.memory,
            {d: jnp.concatenate([pair.images, pair.attention], -1) for d, pair in pairs.items()},
            rng,
        )
        maps = {"a": after.attention, "b": from_b.attention}
        state, terms = self.minimize(
            state, "discriminator", self._discriminator_loss, real, maps, fake, is_masked
        )
        return state.replace(memory=memory), {**metrics, **terms}

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """attention is "attention" (n, h, w, 1) in [0, 1]; extras has "generated" (n, h, w, 3).

        The map blends without a threshold, also after `switch_step`.
        """
        output = self._compose(variables, direction, inputs["image"])
        # A mean of numbers in [-1, 1] can be beyond by rounding.
        return Output(
            jnp.clip(output.images, -1, 1),
            OrderedDict(attention=output.attention),
            OrderedDict(generated=output.generated),
        )

    def _compose(self, variables: Mapping[str, Any], direction: str, images: Array) -> Composition:
        """s * G(x) + (1 - s) * x (eq. 1)."""
        generator, attention = TRANSLATORS[direction]
        share = self.networks[attention].apply(variables[attention], images)
        generated = self.networks[generator].apply(variables[generator], images).images
        return Composition(share * generated + (1 - share) * images, share, generated)

    def _logits(self, variables, domain, images, maps, is_masked):
        """Of the discriminator of a domain, in the phase's form; maps receive no gradient."""
        visible = maps >= jnp.where(is_masked, self.threshold, 0.0)
        name = f"discriminator_{domain}"
        images = images * visible.astype(images.dtype)
        return self.networks[name].apply(variables[name], images, ~is_masked).logits

    def _a2b_loss(self, networks, variables, real, from_b, is_masked):
        """Of G_a2b and its attention network, for fixed others; returns the translation of a, too.

        The translations of a and of the fake a go through the networks as one batch.
        """
        variables = {**variables, **networks}
        both = self._compose(variables, "a2b", jnp.concatenate([real["a"], from_b.images]))
        from_a, again = split_passes(both, 2)
        cycled = {"a": self._compose(variables, "b2a", from_a.images).images, "b": again.images}
        logits = self._logits(variables, "b", from_a.images, from_a.attention, is_masked)
        terms = {f"cycle_{d}": losses.mean_absolute(cycled[d], real[d]) for d in DOMAINS}
        terms["adversarial_b"] = losses.least_squares(logits, True)
        terms["a2b"] = self._objective(terms["adversarial_b"], terms)
        return terms["a2b"], (from_a, terms)

    def _b2a_loss(self, networks, fake, variables, real, translated, maps, is_masked):
        """Of G_b2a and its attention network, and of the fakes a, for fixed others.

        fake, maps: of b. translated: a, by the updated G_a2b.
        """
        variables = {**variables, **networks}
        cycled = {
            "a": self._compose(variables, "b2a", translated).images,
            "b": self._compose(variables, "a2b", fake).images,
        }
        logits = self._logits(variables, "a", fake, maps, is_masked)
        cycles = {f"cycle_{d}": losses.mean_absolute(cycled[d], real[d]) for d in DOMAINS}
        adversarial = losses.least_squares(logits, True)
        total = self._objective(adversarial, cycles)
        return total, {"adversarial_a": adversarial, "b2a": total}

    def _objective(self, adversarial: Array, cycles: Mapping[str, Array]) -> Array:
        """The adversarial loss (eq. 2, with least squares) and both cycle losses (eq. 3)."""
        weighted = self.lambda_a * cycles["cycle_a"] + self.lambda_b * cycles["cycle_b"]
        return adversarial + weighted

    def _discriminator_loss(self, discriminators, _, real, maps, fake, is_masked):
        """Eq. 2 with least squares, halved; fake: images with their maps as fourth channel."""
        terms = {}
        for domain in DOMAINS:
            images = jnp.concatenate([real[domain], fake[domain][..., :3]])
            shown = jnp.concatenate([maps[domain], fake[domain][..., 3:]])
            logits = self._logits(discriminators, domain, images, shown, is_masked)
            on_real, on_fake = jnp.split(logits, 2)
            loss = losses.least_squares(on_real, True) + losses.least_squares(on_fake, False)
            terms[domain] = 0.5 * loss
        total = terms["a"] + terms["b"]
        return total, ({}, as_metrics("discriminator", terms, total))


def _create_optimizers(config: ConfigDict) -> dict[str, optax.GradientTransformation]:
    optimizer, switch_step = config.optimizer, config.method.switch_step
    chains = {
        name: adam(
            _rate(optimizer, turn),
            optimizer.beta1,
            optimizer.beta2,
            weight_decay=0.0,
            epsilon_inside_correction=True,
        )
        for name, turn in TURNS.items()
    }
    for name in ATTENTION:
        chains[name] = optax.conditionally_mask(chains[name], lambda step: step < switch_step)
    return {
        group: _by_network({name: chains[name] for name in names})
        for group, names in GROUPS.items()
    }


def _by_network(chains: Mapping[str, Any]) -> optax.GradientTransformation:
    """A chain for each network; networks without gradients in an update stay as they are."""

    def init(params):
        return {name: chains[name].init(params[name]) for name in params}

    def update(gradients, state, params):
        updates, new = jax.tree.map(jnp.zeros_like, params), dict(state)
        for name in gradients:
            updates[name], new[name] = chains[name].update(
                gradients[name], state[name], params[name]
            )
        return updates, new

    return optax.GradientTransformation(init, update)


def _rate(optimizer: ConfigDict, turn: int) -> optax.Schedule:
    """The learning rate of the networks whose update is number `turn` of a step.

    Constant for the epochs before `decay_start_step`, and falling by an equal amount each epoch
    after it: an epoch of the second half of 2n epochs has the rate 1, 1 - 1/n, ... 1/n.

    All trainers of the authors' code share one optimizer of TensorFlow, and with it the powers of
    the betas that correct the moments' bias: update k of step i (from 0) is number 4 * i + k. The
    moments are each variable's own. The rate contains the ratio of that correction to the usual
    one, of update i + 1.
    """
    start, total = optimizer.decay_start_step, optimizer.total_steps
    beta1, beta2 = optimizer.beta1, optimizer.beta2

    def correction(count):
        return jnp.sqrt(1 - beta2**count) / (1 - beta1**count)

    def schedule(count):
        dtype = jnp.result_type(float)
        epoch = jnp.asarray(count // optimizer.epoch_steps * optimizer.epoch_steps, dtype)
        decays = 0 <= start < total
        progress = jnp.clip((epoch - start) / (total - start), 0.0, 1.0) if decays else 0.0
        updates = jnp.asarray(count, dtype)
        ratio = correction(UPDATES * updates + turn) / correction(updates + 1)
        return optimizer.learning_rate * (1.0 - progress) * ratio

    return schedule


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    check(config, "method.decoder_kernels", choices=DECODER_KERNELS)
    # A reflection by one pixel needs two, at a quarter of the side.
    check(config, "method.image_size", least=8, multiple_of=4)
    for field in ("width", "attention_width", "discriminator_width", "num_residual_blocks"):
        check(config, f"method.{field}", least=1)
    for field in ("pool_size", "switch_step", "lambda_a", "lambda_b"):
        check(config, f"method.{field}", least=0)
    check(config, "method.threshold", least=0, below=1)
    check(config, "optimizer.epoch_steps", least=1)
    check(config, "optimizer.total_steps", least=1)
