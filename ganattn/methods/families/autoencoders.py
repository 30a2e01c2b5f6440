"""Unpaired translation by an auto-encoder for each domain: what UNIT and MUNIT share.

Source: NVlabs/MUNIT, whose training loop, discriminators and optimizers serve both.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.interop.vgg import read_vgg16
from ganattn.methods.base import DTYPES, as_metrics
from ganattn.methods.families.perceptual import PERCEPTUAL, Perceptual
from ganattn.methods.families.two_domains import DISCRIMINATORS, TwoDomains
from ganattn.networks.multiscale import ImagePyramidDiscriminator
from ganattn.networks.vgg import VGG16Features, invariant_perceptual_distance
from ganattn.optimizers import adam, step_decay
from ganattn.state import TrainState, Tree, Variables, split_networks

OTHER = {"a": "b", "b": "a"}
GROUPS = {"generator": ("generator_a", "generator_b"), "discriminator": DISCRIMINATORS}


@dataclasses.dataclass(frozen=True)
class Autoencoders(Perceptual, TwoDomains):
    """For each domain an auto-encoder, and a discriminator at several scales.

    A translation decodes the code of one domain with the other domain's decoder. A step updates the
    discriminators, then the generators against the updated discriminators, with new random numbers
    for the second update, as the authors' loop does. The encoders do not change in between, so the
    codes of the batch are computed once.

    weights: of the terms; has `adversarial` and `perceptual`. adversarial: a key of
    `losses.ADVERSARIAL`.
    """

    weights: Any = None
    adversarial: str = "least_squares"

    perceptual_file: ClassVar[str] = "a .pth file of VGG16 with Caffe's weights"
    read_perceptual: ClassVar = read_vgg16

    @classmethod
    def build(cls, config: ConfigDict, generator: nn.Module, weights: Any) -> Self:
        """The method around the generator of one domain, with what config says of the rest."""
        method, optimizer = config.method, config.optimizer
        dtype = DTYPES[method.dtype]
        discriminator = ImagePyramidDiscriminator(
            method.discriminator_width, method.discriminator_layers, method.num_scales, dtype
        )
        networks: dict[str, Any] = dict.fromkeys(GROUPS["generator"], generator)
        networks |= dict.fromkeys(DISCRIMINATORS, discriminator)
        if method.perceptual_weight:
            networks[PERCEPTUAL] = VGG16Features(dtype)
        schedule = step_decay(
            optimizer.learning_rate, optimizer.decay_factor, optimizer.decay_every
        )
        chain = adam(schedule, optimizer.beta1, optimizer.beta2, optimizer.weight_decay)
        return cls(
            networks,
            GROUPS,
            dict.fromkeys(GROUPS, chain),
            weights=weights,
            multiple=1 << method.num_downsamplings,
            **cls.values_of(method),
        )

    @abstractmethod
    def _encode(self, generators: Tree, images: Mapping[str, Array]) -> Tree:
        """{domain: code} of each domain's images by its own encoders."""

    @abstractmethod
    def _draws(
        self, state: TrainState, draws: Mapping[str, Any], codes: Tree
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The random numbers of both updates by name, given or drawn."""

    @abstractmethod
    def _fakes(self, generators: Tree, codes: Tree, drawn: Mapping[str, Array]) -> dict[str, Array]:
        """{domain: translations to it} for the update of the discriminators."""

    @abstractmethod
    def _generator_loss(
        self,
        codes: Tree,
        generators: Tree,
        fixed: Mapping[str, Variables],
        real: Mapping[str, Array],
        drawn: Mapping[str, Array],
    ) -> tuple[Array, dict[str, Array]]:
        """The generators' objective and metrics; codes: of the real images, fixed: the rest."""

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The source's auto-encoder encodes, the target's decodes."""
        direction = self.direction(direction)
        return f"generator_{direction.source}", f"generator_{direction.target}"

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Any]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminators, then one of the generators.

        draws: as the method's class names them, flat ("dis/...", "gen/...") or nested. Metrics are
        sums over both domains.
        """
        real = self.real_images(state, batch)
        generators, _ = split_networks(state.variables, self.groups["generator"])
        generators = self.examples.vary(generators)
        codes, pull_back = jax.vjp(lambda g: self._encode(g, real), generators)

        for_discriminators, for_generators = self._draws(state, draws, codes)
        fake = self._fakes(generators, codes, for_discriminators)
        state, metrics = self.minimize(
            state, "discriminator", self._discriminator_loss, real, jax.lax.stop_gradient(fake)
        )
        fixed = {name: tree for name, tree in state.variables.items() if name not in generators}
        loss = jax.grad(self._generator_loss, argnums=(0, 1), has_aux=True)
        (cotangents, gradients), terms = loss(codes, generators, fixed, real, for_generators)
        gradients = jax.tree.map(jnp.add, gradients, *pull_back(cotangents))
        return self.update(state, "generator", gradients, {}), {**metrics, **terms}

    def _apply(self, variables: Mapping[str, Variables], name: str, part: str, *arrays: Array):
        return self.networks[name].apply(variables[name], *arrays, method=part)

    def _decode(self, generators: Tree, domain: str, *code: Array) -> Array:
        return self._apply(generators, f"generator_{domain}", "decode", *code).images

    def _discriminator_loss(self, discriminators, _, real, fake):
        """MUNIT eq. 4, with least squares in place of the logarithms, summed over scales."""
        adversarial, loss = 0.0, losses.ADVERSARIAL[self.adversarial]
        for domain in OTHER:
            name = f"discriminator_{domain}"
            both = jnp.concatenate([fake[domain], real[domain]])
            for logits in self.networks[name].apply(discriminators[name], both).logits:
                fake_logits, real_logits = jnp.split(logits, 2)
                adversarial += loss(fake_logits, False) + loss(real_logits, True)
        total = self.weights.adversarial * adversarial
        return total, ({}, as_metrics("discriminator", {"adversarial": adversarial}, total))

    def _adversarial(self, fixed: Mapping[str, Variables], domain: str, fake: Array) -> Any:
        """The generators' part of MUNIT eq. 4 in one domain, summed over scales."""
        name, loss = f"discriminator_{domain}", losses.ADVERSARIAL[self.adversarial]
        return sum(loss(x, True) for x in self.networks[name].apply(fixed[name], fake).logits)

    def _objective(
        self,
        terms: dict[str, Any],
        fixed: Mapping[str, Variables],
        real: Mapping[str, Array],
        fake: Mapping[str, Array],
    ) -> tuple[Array, dict[str, Array]]:
        """The weighted sum of the terms and of the perceptual loss, and the metrics."""
        if PERCEPTUAL in fixed:
            # The domain-invariant perceptual loss (MUNIT section 5.1), summed over domains.
            translated = jnp.concatenate([fake[domain] for domain in OTHER])
            source = jnp.concatenate([real[other] for other in OTHER.values()])
            terms["perceptual"] = len(OTHER) * invariant_perceptual_distance(
                self.networks[PERCEPTUAL], fixed[PERCEPTUAL], translated, source
            )
        total = sum(getattr(self.weights, name) * value for name, value in terms.items())
        return total, as_metrics("generator", terms, total)


def given(draws: Mapping[str, Any], update: str, name: str) -> Array | None:
    """Random numbers "update/name" of a step, flat or nested; None where they are to be drawn."""
    return draws.get(f"{update}/{name}", draws.get(update, {}).get(name))


def check_config(config: ConfigDict, smallest: int) -> None:
    """Raises ConfigError for values outside their range.

    smallest: side of images below which the generator does not work.
    """
    method = config.method
    check(config, "method.adversarial", choices=losses.ADVERSARIAL)
    for field in ("width", "discriminator_width", "discriminator_layers", "num_scales"):
        check(config, f"method.{field}", least=1)
    for field in ("num_downsamplings", "num_residual_blocks", "perceptual_weight"):
        check(config, f"method.{field}", least=0)
    # A reflection by one pixel needs two, also in the last layer of the coarsest scale.
    coarsest = (((1 << method.discriminator_layers) - 1) << (method.num_scales - 1)) + 1
    multiple = 1 << method.num_downsamplings
    check(config, "method.image_size", least=max(coarsest, smallest), multiple_of=multiple)
    check(config, "optimizer.decay_every", least=1)
