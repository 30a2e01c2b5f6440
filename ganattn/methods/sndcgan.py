"""SNDCGAN with SPAP, its plain form and baselines: pictures from noise (Sun and Wu 2019)."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import latents, losses
from ganattn.errors import ConfigError
from ganattn.layers.pyramid import PYRAMIDS, AtrousMean
from ganattn.methods.base import DTYPES, Direction, Method, Translation, as_metrics, dtype_of
from ganattn.networks.sndcgan import DOUBLINGS, SNDCGANDiscriminator, SNDCGANGenerator
from ganattn.optimizers import adam, delayed
from ganattn.parallel import AXIS, example_keys, mean_over, vary
from ganattn.state import TrainState, Variables, split

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
AVERAGED = ("params",)  # an average of statistics would keep their start for long


@dataclasses.dataclass(frozen=True)
class SNDCGAN(Method):
    """A generator of pictures from noise, and a discriminator.

    A step updates the discriminator `discriminator_steps` times, each on an equal part of the batch
    and on as many fakes of its own, then the generator on new fakes. Real and fake pictures go
    through the discriminator as one batch. Every application moves power iterations and the
    generator's batch statistics, which count the examples of all devices.

    adversarial: a key of `losses.LATENT`. latent, latent_bound: see `latents.draw`. ema_decay: of
    the generator's moving average, which `ema` holds from `ema_start_step` on (before, a copy); 0
    keeps none. Its batch statistics and power iterations are the generator's own.
    """

    adversarial: str = "non_saturating"
    latent_size: int = 128
    latent: str = "uniform"
    latent_bound: float = 0.0
    discriminator_steps: int = 1
    ema_decay: float = 0.0
    ema_start_step: int = 0
    image_size: int = 128

    takes: ClassVar = "latents"
    directions: ClassVar[tuple[Direction, ...]] = (Direction("latent", "image"),)
    translates_with: ClassVar[tuple[str, ...]] = (GENERATOR,)

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        _check(config)
        dtype, create_pyramid = DTYPES[method.dtype], PYRAMIDS[method.pyramid]
        pyramid = create_pyramid and create_pyramid(
            tuple(method.pyramid_rates), spectral=method.spectral_generator, dtype=dtype
        )
        atrous = AtrousMean(tuple(method.atrous_rates), spectral=True, dtype=dtype)
        networks = {
            GENERATOR: SNDCGANGenerator(
                method.image_size,
                method.width,
                method.spectral_generator,
                method.self_modulation,
                pyramid,
                method.self_attention,
                dtype=dtype,
            ),
            DISCRIMINATOR: SNDCGANDiscriminator(
                method.discriminator_width,
                atrous if method.atrous_discriminator else None,
                method.self_attention,
                dtype=dtype,
            ),
        }
        return cls(
            networks,
            {GENERATOR: (GENERATOR,), DISCRIMINATOR: (DISCRIMINATOR,)},
            _optimizers(config.optimizer, method),
            adversarial=method.adversarial,
            latent_size=method.latent_size,
            latent=method.latent,
            latent_bound=method.latent_bound,
            discriminator_steps=method.discriminator_steps,
            ema_decay=method.ema_decay,
            ema_start_step=method.ema_start_step,
            image_size=method.image_size,
        )

    def mapped(self) -> Self:
        """For `parallel.map_step`: batch normalisation, too, counts all devices' examples."""
        networks = {**self.networks, GENERATOR: self.networks[GENERATOR].clone(axis_name=AXIS)}
        return dataclasses.replace(super().mapped(), networks=networks)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        size = self.image_size
        shape = (1, self.latent_size) if name == GENERATOR else (1, size, size, 3)
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def create_state(
        self, rng: Array, variables: Mapping[str, Variables] | None = None
    ) -> TrainState:
        """As `Method.create_state`, with the average, which starts as a copy."""
        state = super().create_state(rng, variables)
        if not self.ema_decay:
            return state
        collections = {name: state.variables[GENERATOR][name] for name in AVERAGED}
        return state.replace(ema={GENERATOR: jax.tree.map(jnp.copy, collections)})

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """The discriminator's updates, then one of the generator.

        batch: "image" (n, h, w, 3) in [-1, 1]; n is a multiple of `discriminator_steps`. Metrics of
        the discriminator are means over its updates.
        """
        images = batch["image"].astype(dtype_of(state.variables))
        steps, rng = self.discriminator_steps, jax.random.fold_in(state.rng, state.step)
        if len(images) % steps:
            raise ConfigError(
                f"a device has {len(images)} examples for {steps} updates of the discriminator: "
                "make config.data.batch_size a multiple of that number times the devices"
            )
        metrics = []
        for i in range(steps):
            # Every steps-th example: so the parts are the same however devices share the batch.
            state, terms = self._update_discriminator(
                state, images[i::steps], jax.random.fold_in(rng, i)
            )
            metrics.append(terms)
        terms = jax.tree.map(lambda *values: sum(values) / steps, *metrics)
        keys = example_keys(jax.random.fold_in(rng, steps), len(images) // steps, self.axis_name)
        state, of_generator = self._update_generator(state, self.draw(keys, images.dtype))
        state = state.replace(step=state.step + 1)
        return self._average(state), mean_over({**terms, **of_generator}, self.axis_name)

    def draw(self, keys: Array, dtype: Any = jnp.float32, bound: float | None = None) -> Array:
        """Latent vectors (n, latent_size) for n keys; bound: in place of the method's own."""
        bound = self.latent_bound if bound is None else bound
        return latents.draw(keys, self.latent_size, self.latent, bound, dtype)

    def translate(
        self, variables: Mapping[str, Variables], images: Array, direction: str = "latent2image"
    ) -> Translation:
        """Pictures from latent vectors `images` (n, latent_size), by the running statistics.

        attentions: with SPAP a map a fuse, (n, h/2, w/2, 1) in [0, 1], in their order; with
        self-attention that of `layers.attention`. Raises ConfigError for an unknown direction.
        """
        if direction not in self.directions:
            raise ConfigError(f"direction is {direction!r}: use {', '.join(self.directions)}")
        vectors = images.astype(dtype_of({GENERATOR: variables[GENERATOR]}))
        made = self.networks[GENERATOR].apply(variables[GENERATOR], vectors)
        if not made.attentions:
            return Translation(made.images)
        last = list(made.attentions.values())[-1]
        return Translation(made.images, last, attentions=made.attentions)

    def source(self, batch: Mapping[str, Array], direction: str) -> Array:
        """Latent vectors that depend on the number of examples alone."""
        return self.draw(example_keys(jax.random.key(0), len(batch["image"]), None))

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Samples that stay comparable, under the attention of each fuse, beside real pictures."""
        made = self.translate(variables, self.source(batch, ""))
        maps = made.attentions or {}
        return {"samples": {"sample": made.images, **maps, "real": batch["image"]}}

    def _update_discriminator(self, state, real, key):
        latent = self.draw(example_keys(key, len(real), self.axis_name), real.dtype)
        trained, carried = split(state.variables[GENERATOR])
        fake, moved = self._generate(trained, carried, latent)
        generator = {**trained, **mean_over(moved, self.axis_name)}
        state = state.replace(variables={**state.variables, GENERATOR: generator})

        trained, carried = split(state.variables[DISCRIMINATOR])
        loss = jax.grad(self._discriminator_loss, has_aux=True)
        pair = jnp.concatenate([real, jax.lax.stop_gradient(fake)])
        gradients, (moved, terms) = loss(vary(trained, self.axis_name), carried, pair)
        group = {DISCRIMINATOR: gradients}
        return self.update(state, DISCRIMINATOR, group, {DISCRIMINATOR: moved}), terms

    def _update_generator(self, state, latent):
        trained, carried = split(state.variables[GENERATOR])
        judge, judged = split(state.variables[DISCRIMINATOR])
        loss = jax.grad(self._generator_loss, has_aux=True)
        gradients, (moved, judged, terms) = loss(
            vary(trained, self.axis_name), carried, judge, judged, latent
        )
        state = self.update(state, GENERATOR, {GENERATOR: gradients}, {GENERATOR: moved})
        discriminator = {**judge, **mean_over(judged, self.axis_name)}
        return state.replace(variables={**state.variables, DISCRIMINATOR: discriminator}), terms

    def _generate(self, trained, carried, latent):
        made, moved = self.networks[GENERATOR].apply(
            {**trained, **carried}, latent, "batch", True, mutable=["batch_stats", "spectral"]
        )
        return made.images, moved

    def _judge(self, trained, carried, images):
        return self.networks[DISCRIMINATOR].apply(
            {**trained, **carried}, images, True, mutable=["spectral"]
        )

    def _discriminator_loss(self, trained, carried, pair):
        logits, moved = self._judge(trained, carried, pair)
        loss = losses.LATENT[self.adversarial].discriminator
        real, fake = jnp.split(logits, 2)
        terms = {"real": loss(real, True), "fake": loss(fake, False)}
        total = terms["real"] + terms["fake"]
        return total, (moved, as_metrics(DISCRIMINATOR, terms, total))

    def _generator_loss(self, trained, carried, judge, judged, latent):
        fake, moved = self._generate(trained, carried, latent)
        logits, judged = self._judge(judge, judged, fake)
        total = losses.LATENT[self.adversarial].generator(logits)
        return total, (moved, judged, as_metrics(GENERATOR, {}, total))

    def _average(self, state):
        if not self.ema_decay:
            return state
        live = {name: state.variables[GENERATOR][name] for name in AVERAGED}
        decay = jnp.where(state.step <= self.ema_start_step, 0.0, self.ema_decay)

        def move(average, value):
            share = decay.astype(value.dtype)
            return share * average + (1 - share) * value

        return state.replace(ema={GENERATOR: jax.tree.map(move, state.ema[GENERATOR], live)})


def _optimizers(
    optimizer: ConfigDict, method: ConfigDict
) -> dict[str, optax.GradientTransformation]:
    """Adam for each; pyramids and atrous convolutions wait for `method.pyramid_start_step`."""
    late = {
        GENERATOR: method.pyramid != "none",
        DISCRIMINATOR: method.atrous_discriminator,
    }
    # The discriminator's chain counts its own updates.
    counts = {GENERATOR: 1, DISCRIMINATOR: method.discriminator_steps}
    chains = {}
    for group, waits in late.items():
        start = method.pyramid_start_step * counts[group]
        delay = partial(delayed, start_step=start, is_late=lambda path: "pyramid" in path)
        chains[group] = adam(
            optax.constant_schedule(optimizer[f"{group}_learning_rate"]),
            optimizer.beta1,
            optimizer.beta2,
            weight_decay=0.0,
            delay=delay if start and waits else None,
        )
    return chains


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    method = config.method
    allowed = {
        "pyramid": tuple(PYRAMIDS),
        "adversarial": tuple(losses.LATENT),
        "latent": latents.LAWS,
        "dtype": tuple(DTYPES),
    }
    for field, values in allowed.items():
        if method[field] not in values:
            raise ConfigError(
                f"config.method.{field} is {method[field]!r}: use one of {', '.join(values)}"
            )
    least = {"latent_size": 1, "discriminator_steps": 1, "pyramid_start_step": 0, "latent_bound": 0}
    for field, value in {**least, "ema_start_step": 0}.items():
        if method[field] < value:
            raise ConfigError(f"config.method.{field} is {method[field]}: give at least {value}")
    if not 0 <= method.ema_decay < 1:
        raise ConfigError(
            f"config.method.ema_decay is {method.ema_decay}: give a number from 0 to below 1"
        )
    for field in ("pyramid_rates", "atrous_rates"):
        rates = tuple(method[field])
        if not rates or min(rates) < 2 or len(set(rates)) < len(rates):
            raise ConfigError(
                f"config.method.{field} is {rates}: give different numbers of pixels, at least 2"
            )
    multiple = 1 << DOUBLINGS
    if method.image_size < multiple or method.image_size % multiple:
        raise ConfigError(
            f"config.method.image_size is {method.image_size}: give a multiple of {multiple}"
        )
    if config.data.crop_size != method.image_size:
        raise ConfigError(
            f"config.data.crop_size is {config.data.crop_size} and config.method.image_size "
            f"{method.image_size}: the generator's pictures have the size of the training pictures"
        )
    if config.data.batch_size % method.discriminator_steps:
        raise ConfigError(
            f"config.data.batch_size is {config.data.batch_size}: make it a multiple of "
            f"config.method.discriminator_steps, {method.discriminator_steps}, which share it"
        )
