"""SNDCGAN with SPAP, its plain form and baselines: images from noise (Sun and Wu 2019)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import latents, losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.layers.pyramid import PYRAMIDS, AtrousMean
from ganattn.methods.base import (
    DTYPES,
    Direction,
    Input,
    Method,
    Output,
    Panels,
    as_metrics,
    columns,
    dtype_of,
)
from ganattn.networks.sndcgan import DOUBLINGS, SNDCGANDiscriminator, SNDCGANGenerator
from ganattn.optimizers import adam, delayed
from ganattn.state import TrainState, Variables, split

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclasses.dataclass(frozen=True)
class SNDCGAN(Method):
    """A generator of images from noise, and a discriminator.

    A step updates the discriminator `discriminator_steps` times, each on an equal part of the batch
    and on as many fakes of its own, then the generator on new fakes. Real and fake images go
    through the discriminator as one batch. Every application updates power iterations and the
    generator's batch statistics, which are those of all devices' examples.

    adversarial: a key of `losses.LATENT`. latent, latent_bound: see `latents.draw`.
    """

    adversarial: str = "non_saturating"
    latent_size: int = 128
    latent: str = "uniform"
    latent_bound: float = 0.0
    discriminator_steps: int = 1
    image_size: int = 128

    directions: ClassVar[tuple[Direction, ...]] = (Direction("latent", "image"),)

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method = config.method
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
            image_size=method.image_size,
        )

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Real images, "image" (count, h, w, 3) in [-1, 1]."""
        shape = (count, self.image_size, self.image_size, 3)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The "latent" vector, which `rng` draws where it is not given."""
        return {"latent": Input("vector", (self.latent_size,), optional=True)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The generator alone."""
        return (GENERATOR,)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """A latent vector, or an image."""
        size = self.image_size
        shape = (1, self.latent_size) if name == GENERATOR else (1, size, size, 3)
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def latents(self, keys: Array, bound: float | None = None, dtype: Any = jnp.float32) -> Array:
        """Latent vectors (n, latent_size), drawn from the training distribution.

        keys: (n,) typed keys; a vector depends on its own key alone. bound: replaces the
        config's `latent_bound`, such as to truncate for sampling; see `latents.draw`.
        """
        bound = self.latent_bound if bound is None else bound
        return latents.draw(keys, self.latent_size, self.latent, bound, dtype)

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """The discriminator's updates, then one of the generator.

        batch: as `batch_spec` describes it; n is a multiple of `discriminator_steps`. draws:
        "discriminator<i>/latent" of update i, from 0, and "generator/latent", (n /
        discriminator_steps, latent_size) each. Metrics of the discriminator are means over its
        updates.
        """
        images = batch["image"].astype(dtype_of(state.variables))
        steps, rng = self.discriminator_steps, jax.random.fold_in(state.rng, state.step)
        if len(images) % steps:
            raise ConfigError(
                f"a device has {len(images)} examples for {steps} updates of the discriminator: "
                "make config.data.batch_size a multiple of that number times the devices"
            )

        def latent(name, number):
            if name in draws:
                return draws[name].astype(images.dtype)
            keys = self.examples.keys(jax.random.fold_in(rng, number), len(images) // steps)
            return self.latents(keys, dtype=images.dtype)

        metrics = []
        for i in range(steps):
            # Every steps-th example: so the parts are the same however devices share the batch.
            state, terms = self._update_discriminator(
                state, images[i::steps], latent(f"discriminator{i}/latent", i)
            )
            metrics.append(terms)
        terms = jax.tree.map(lambda *values: sum(values) / steps, *metrics)
        state, generator_terms = self._update_generator(state, latent("generator/latent", steps))
        return state, {**terms, **generator_terms}

    def generate(
        self,
        variables: Mapping[str, Variables],
        inputs: Mapping[str, Array],
        direction: str | None = None,
        rng: Array | None = None,
    ) -> Output:
        """Images from inputs["latent"] (n, latent_size), by the running statistics.

        Where there is no "latent", `rng` draws it: one key for one image, or (n,) keys for n.
        attention: with SPAP a map a fuse, (n, h/2, w/2, 1) in [0, 1], in their order; with
        self-attention that of `SelfAttention`. Raises ConfigError for an unknown direction, or
        with neither a latent vector nor `rng`.
        """
        self.direction(direction)
        vectors = inputs.get("latent")
        if vectors is None:
            if rng is None:
                raise ConfigError("nothing to generate from: give inputs['latent'], or rng")
            vectors = self.latents(jnp.atleast_1d(rng))
        vectors = vectors.astype(dtype_of({GENERATOR: variables[GENERATOR]}))
        output = self.networks[GENERATOR].apply(variables[GENERATOR], vectors)
        return Output(output.images, output.attention)

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Samples and the attention maps of each fuse, beside real images.

        The same `rng` draws the same latent vectors.
        """
        real = batch["image"]
        output = self.generate(variables, {}, rng=self.examples.keys(rng, len(real)))
        maps = output.attention.items()
        return OrderedDict(samples=columns([("sample", output.images), *maps, ("real", real)]))

    def _update_discriminator(self, state, real, latent):
        trained, carried = split(state.variables[GENERATOR])
        fake, carried = self._forward(trained, carried, latent)
        pair = jnp.concatenate([real, jax.lax.stop_gradient(fake)])
        trained, statistics = split(state.variables[DISCRIMINATOR])
        loss = jax.grad(self._discriminator_loss, has_aux=True)
        gradients, (statistics, terms) = loss(self.examples.vary(trained), statistics, pair)
        carried = {GENERATOR: carried, DISCRIMINATOR: statistics}
        return self.update(state, DISCRIMINATOR, {DISCRIMINATOR: gradients}, carried), terms

    def _update_generator(self, state, latent):
        trained, carried = split(state.variables[GENERATOR])
        loss = jax.grad(self._generator_loss, has_aux=True)
        gradients, (carried, terms) = loss(
            self.examples.vary(trained), carried, *split(state.variables[DISCRIMINATOR]), latent
        )
        return self.update(state, GENERATOR, {GENERATOR: gradients}, carried), terms

    def _forward(self, trained, carried, latent):
        """Fakes in training mode, and the generator's new carried collections."""
        output, carried = self.networks[GENERATOR].apply(
            {**trained, **carried}, latent, "batch", True, mutable=["batch_stats", "spectral"]
        )
        return output.images, carried

    def _discriminate(self, trained, statistics, images):
        output, statistics = self.networks[DISCRIMINATOR].apply(
            {**trained, **statistics}, images, True, mutable=["spectral"]
        )
        return output.logits, statistics

    def _discriminator_loss(self, trained, statistics, pair):
        """SPAP eq. 1 (the discriminator's part), or the hinge loss (Miyato et al. 2018, eq. 16)."""
        logits, statistics = self._discriminate(trained, statistics, pair)
        loss = losses.LATENT[self.adversarial].discriminator
        real, fake = jnp.split(logits, 2)
        terms = {"real": loss(real, True), "fake": loss(fake, False)}
        total = terms["real"] + terms["fake"]
        return total, (statistics, as_metrics(DISCRIMINATOR, terms, total))

    def _generator_loss(self, trained, carried, discriminator, statistics, latent):
        """SPAP eq. 1 (non-saturating: Goodfellow et al. 2014, section 3), or hinge (eq. 17)."""
        fake, carried = self._forward(trained, carried, latent)
        logits, statistics = self._discriminate(discriminator, statistics, fake)
        total = losses.LATENT[self.adversarial].generator(logits)
        carried = {GENERATOR: carried, DISCRIMINATOR: statistics}
        return total, (carried, as_metrics(GENERATOR, {}, total))


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
    check(config, "method.pyramid", choices=PYRAMIDS)
    check(config, "method.adversarial", choices=losses.LATENT)
    check(config, "method.latent", choices=latents.DISTRIBUTIONS)
    check(config, "method.dtype", choices=DTYPES)
    check(config, "method.latent_size", least=1)
    check(config, "method.discriminator_steps", least=1)
    check(config, "method.pyramid_start_step", least=0)
    check(config, "method.latent_bound", least=0)
    check(config, "method.image_size", least=1 << DOUBLINGS, multiple_of=1 << DOUBLINGS)
    for field in ("pyramid_rates", "atrous_rates"):
        rates = tuple(config.method[field])
        if not rates or min(rates) < 2 or len(set(rates)) < len(rates):
            raise ConfigError(
                f"config.method.{field} is {rates}: give different numbers of pixels, at least 2"
            )
    data, method = config.data, config.method
    if data.crop_size != method.image_size:
        raise ConfigError(
            f"config.data.crop_size is {data.crop_size} and config.method.image_size "
            f"{method.image_size}: generated and training images must have the same size"
        )
    if data.batch_size % method.discriminator_steps:
        raise ConfigError(
            f"config.data.batch_size is {data.batch_size}: make it a multiple of "
            f"config.method.discriminator_steps, {method.discriminator_steps}, which share it"
        )
