"""SNDCGAN with SPAP, its plain form and baselines: images from noise (Sun and Wu 2019)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import latents, losses
from ganattn.config import check
from ganattn.errors import ConfigError
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
    images_spec,
    share_examples,
)
from ganattn.methods.families.pyramids import check_pyramids, create_pyramids, delay_pyramid
from ganattn.networks.sndcgan import DOUBLINGS, SNDCGANDiscriminator, SNDCGANGenerator
from ganattn.optimizers import adam
from ganattn.state import TrainState, Variables, split_networks

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclasses.dataclass(frozen=True)
class SNDCGAN(Method):
    """A generator of images from noise, and a discriminator.

    A step updates the discriminator `discriminator_steps` times, each on an equal part of the batch
    and on as many fakes of its own, then the generator on new fakes. Real and fake images go
    through the discriminator as one batch. Every application updates power iterations and the
    generator's batch statistics, which are those of all devices' examples.

    adversarial: a key of `losses.LATENT`. latent, latent_bound: see `latents.draw`.
    Source: Sun and Wu 2019 (SPAP), whose authors released no code, and for what their text leaves
    open compare_gan, the code of Kurach et al. 2019, which they build on. compare_gan, too, updates
    the discriminator first and draws new noise for the generator; its images are in [0, 1] where
    these are in [-1, 1]. `configs/sndcgan.py` says where paper and code differ.
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
        dtype, spectral = DTYPES[method.dtype], method.spectral_generator
        pyramids = create_pyramids(method, generator=spectral, discriminator=True)
        networks = {
            GENERATOR: SNDCGANGenerator(
                method.image_size,
                method.width,
                spectral,
                method.self_modulation,
                pyramids[0],
                method.self_attention,
                dtype=dtype,
            ),
            DISCRIMINATOR: SNDCGANDiscriminator(
                method.discriminator_width, pyramids[1], method.self_attention, dtype=dtype
            ),
        }
        return cls(
            networks,
            {GENERATOR: (GENERATOR,), DISCRIMINATOR: (DISCRIMINATOR,)},
            _optimizers(config, pyramids),
            **cls.values_of(method),
        )

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Real images, "image" (count, h, w, 3) in [-1, 1]."""
        return {"image": images_spec(count, self.image_size, self.image_size, 3)}

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The "latent" vector, which `rng` draws where it is not given."""
        return {"latent": Input("vector", (self.latent_size,), optional=True)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The generator alone."""
        return (GENERATOR,)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """A latent vector, or an image."""
        if name == GENERATOR:
            return images_spec(1, self.latent_size)
        return images_spec(1, self.image_size, self.image_size, 3)

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
        parts = share_examples(images, steps)

        def latent(name, number):
            if name in draws:
                return draws[name].astype(images.dtype)
            keys = self.examples.keys(jax.random.fold_in(rng, number), len(images) // steps)
            return self.latents(keys, dtype=images.dtype)

        metrics = []
        for i in range(steps):
            state, terms = self._update_discriminator(
                state, parts[i], latent(f"discriminator{i}/latent", i)
            )
            metrics.append(terms)
        terms = jax.tree.map(lambda *values: sum(values) / steps, *metrics)
        discriminator = split_networks(state.variables, (DISCRIMINATOR,))
        state, generator_terms = self.minimize(
            state,
            GENERATOR,
            self._generator_loss,
            *discriminator,
            latent("generator/latent", steps),
        )
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
        attention: with SPAP a map a fuse, (n, h/2, w/2, 1) in [0, 1], in their order, as `Pooled`
        names them; with self-attention that of `SelfAttention`. Raises ConfigError for an unknown
        direction, or with neither a latent vector nor `rng`.
        """
        self.direction(direction)
        vectors = inputs.get("latent")
        if vectors is None:
            if rng is None:
                raise ConfigError("nothing to generate from: give inputs['latent'], or rng")
            vectors = self.latents(jnp.atleast_1d(rng))
        vectors = vectors.astype(dtype_of({GENERATOR: variables[GENERATOR]}))
        return self.networks[GENERATOR].apply(variables[GENERATOR], vectors)

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
        fake, carried = self._forward(*split_networks(state.variables, (GENERATOR,)), latent)
        pair = jnp.concatenate([real, jax.lax.stop_gradient(fake)])
        return self.minimize(state, DISCRIMINATOR, self._discriminator_loss, pair, carried=carried)

    def _forward(self, trained, carried, latent):
        """Fakes in training mode, and the generator's new carried collections."""
        variables = {**trained[GENERATOR], **carried[GENERATOR]}
        output, new = self.networks[GENERATOR].apply(
            variables, latent, "batch", True, mutable=["batch_stats", "spectral"]
        )
        return output.images, {GENERATOR: new}

    def _discriminate(self, trained, statistics, images):
        variables = {**trained[DISCRIMINATOR], **statistics[DISCRIMINATOR]}
        output, new = self.networks[DISCRIMINATOR].apply(
            variables, images, True, mutable=["spectral"]
        )
        return output.logits, {DISCRIMINATOR: new}

    def _discriminator_loss(self, trained, statistics, pair):
        """SPAP eq. 1 (the discriminator's part), or the hinge loss (Miyato et al. 2018, eq. 16)."""
        logits, statistics = self._discriminate(trained, statistics, pair)
        loss = losses.LATENT[self.adversarial].discriminator
        real, fake = jnp.split(logits, 2)
        terms = {"real": loss(real, True), "fake": loss(fake, False)}
        total = terms["real"] + terms["fake"]
        return total, (statistics, as_metrics(DISCRIMINATOR, terms, total))

    def _generator_loss(self, trained, carried, discriminator, statistics, latent):
        """SPAP eq. 1, or the hinge loss (eq. 17).

        Non-saturating (Goodfellow et al. 2014, section 3), as compare_gan's; eq. 1 saturates.
        """
        fake, carried = self._forward(trained, carried, latent)
        logits, statistics = self._discriminate(discriminator, statistics, fake)
        total = losses.LATENT[self.adversarial].generator(logits)
        return total, ({**carried, **statistics}, as_metrics(GENERATOR, {}, total))


def _optimizers(
    config: ConfigDict, pyramids: tuple[nn.Module | None, nn.Module | None]
) -> dict[str, optax.GradientTransformation]:
    """Adam for each; SPAP and atrous convolutions wait for `method.pyramid_start_step`."""
    optimizer, method = config.optimizer, config.method
    # The discriminator's chain counts its own updates.
    counts = {GENERATOR: 1, DISCRIMINATOR: method.discriminator_steps}
    chains = {}
    for pyramid, (group, count) in zip(pyramids, counts.items(), strict=True):
        start = method.pyramid_start_step * count
        chains[group] = adam(
            optax.constant_schedule(optimizer[f"{group}_learning_rate"]),
            optimizer.beta1,
            optimizer.beta2,
            weight_decay=0.0,
            delay=pyramid and delay_pyramid(method, pyramid, start),
        )
    return chains


def _check(config: ConfigDict) -> None:
    check_pyramids(config)
    check(config, "method.adversarial", choices=losses.LATENT)
    check(config, "method.latent", choices=latents.DISTRIBUTIONS)
    check(config, "method.latent_size", least=1)
    check(config, "method.discriminator_steps", least=1)
    check(config, "method.latent_bound", least=0)
    check(config, "method.image_size", least=1 << DOUBLINGS, multiple_of=1 << DOUBLINGS)
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
