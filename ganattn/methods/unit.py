"""UNIT: unpaired translation by a latent space that both domains share (Liu et al., NIPS 2017)."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import latents, losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.methods.base import DTYPES, Output, Panels, columns, dtype_of, weights_of
from ganattn.methods.families.autoencoders import OTHER, Autoencoders, check_config, given
from ganattn.networks.unit import VAEGenerator
from ganattn.state import TrainState, Tree, Variables

NOISE = {
    "dis": ("noise_a", "noise_b"),
    "gen": ("noise_a", "noise_b", "noise_b_again", "noise_a_again"),
}


@dataclasses.dataclass(frozen=True)
class UNITWeights:
    """Weights of the terms of section 3's objective, and of the loss of MUNIT section 5.1.

    In the order of the fields, the paper's lambda_0 (L_GAN), lambda_2 and lambda_1 (L_VAE),
    lambda_4 and lambda_3 (L_CC). The defaults are those of the authors' later code; the paper has
    10, 100, 0.1, 100 and 0.1.
    """

    adversarial: float = 1.0
    reconstruction: float = 10.0
    kl: float = 0.01
    cycle: float = 10.0
    cycle_kl: float = 0.01
    perceptual: float = 0.0


@dataclasses.dataclass(frozen=True)
class UNIT(Autoencoders):
    """`Autoencoders` whose codes are means of normal distributions with variance 1.

    In training, N(0, 1) noise is added to every code that is decoded; a translation has none. The
    noise on the codes of a's images is "dis/noise_a" and "gen/noise_a", which serves translation
    and reconstruction; on the codes that the cycle of a passes through it is "gen/noise_a_again";
    those of b likewise, all (n, h/4, w/4, 4 * width).

    This is the later code of the authors (mingyuliutw/UNIT since 2018, the same as the UNIT of
    NVlabs/MUNIT), which differs from the paper: no weights are shared between the domains, so the
    cycle alone ties the codes together; least squares in place of logarithms; discriminators at
    three scales; the divergence from N(0, 1) is the mean of the squared code, without the half and
    the sum over elements of the closed form.
    """

    weights: UNITWeights = UNITWeights()

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        # Reflections by three pixels of an image, and by one of its code.
        check_config(config, smallest=max(4, 2 << max(0, method.num_downsamplings)))
        for name in ("kl", "cycle", "cycle_kl"):
            check(config, f"method.{name}_weight", least=0)
        generator = VAEGenerator(
            method.width,
            method.num_downsamplings,
            method.num_residual_blocks,
            remat=method.remat,
            dtype=DTYPES[method.dtype],
        )
        return cls.build(config, generator, weights_of(UNITWeights, method))

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """Translations of "image" (n, h, w, 3), without noise; extras: "code", the shared code."""
        encoder, _ = self.networks_for(direction)
        code = self._apply(variables, encoder, "encode", inputs["image"])
        images = self._decode(variables, direction.target, code)
        return Output(images, extras=OrderedDict(code=code))

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Per direction: source, reconstruction, translation, and the cycle, all without noise."""
        figures: Panels = OrderedDict()
        for direction in self.directions:
            source = batch[direction.source]
            output = self.generate(variables, {"image": source}, direction)
            cycle = self.generate(variables, {"image": output.images}, direction.reverse)
            reconstruction = self._decode(variables, direction.source, output.extras["code"])
            figures[direction] = columns(
                [
                    ("source", source),
                    ("reconstruction", reconstruction),
                    ("translation", output.images),
                    ("cycle", cycle.images),
                ]
            )
        return figures

    def _encode(self, generators: Tree, images: Mapping[str, Array]) -> dict[str, Array]:
        """{domain: code} of each domain's images by its own encoder."""
        return {
            domain: self._apply(generators, f"generator_{domain}", "encode", images[domain])
            for domain in OTHER
        }

    def _draws(
        self, state: TrainState, draws: Mapping[str, Any], codes: Tree
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The noise of both updates by name, given or drawn from N(0, 1)."""
        rng, shape = jax.random.fold_in(state.rng, state.step), codes["a"].shape
        dtype = dtype_of(state.variables)
        names = [(update, name) for update, each in NOISE.items() for name in each]
        noise: dict[str, dict[str, Array]] = {update: {} for update in NOISE}
        for index, (update, name) in enumerate(names):
            array = given(draws, update, name)
            if array is None:
                keys = self.examples.keys(jax.random.fold_in(rng, index), len(codes["a"]))
                size = math.prod(shape[1:])
                array = latents.draw(keys, size, "normal", 0.0, dtype).reshape(shape)
            if array.shape != shape:
                raise ConfigError(f"{update}/{name} has shape {array.shape}: give noise {shape}")
            noise[update][name] = array.astype(dtype)
        return noise["dis"], noise["gen"]

    def _fakes(self, generators: Tree, codes: Tree, drawn: Mapping[str, Array]) -> dict[str, Array]:
        """Translations of noisy codes."""
        return {
            domain: self._decode(generators, domain, codes[other] + drawn[f"noise_{other}"])
            for domain, other in OTHER.items()
        }

    def _generator_loss(self, codes, generators, fixed, real, drawn):
        """The objective of section 3 for fixed discriminators; drawn: noise."""
        absolute = losses.mean_absolute
        terms = dict.fromkeys(("adversarial", "reconstruction", "kl"), 0.0)
        noisy = {domain: codes[domain] + drawn[f"noise_{domain}"] for domain in OTHER}
        fake = {}
        for domain, other in OTHER.items():
            both = jnp.concatenate([noisy[domain], noisy[other]])
            images = self._decode(generators, domain, both)
            reconstruction, fake[domain] = jnp.split(images, 2)
            terms["reconstruction"] += absolute(reconstruction, real[domain])  # L_VAE
            terms["kl"] += jnp.mean(jnp.square(codes[domain]))  # L_VAE
            terms["adversarial"] += self._adversarial(fixed, domain, fake[domain])  # L_GAN
        if self.weights.cycle or self.weights.cycle_kl:
            again, cycle, divergence = self._encode(generators, fake), 0.0, 0.0
            for domain, other in OTHER.items():
                # The code of this domain's images, by way of the other domain.
                code = again[other]
                cycled = self._decode(generators, domain, code + drawn[f"noise_{domain}_again"])
                cycle += absolute(cycled, real[domain])  # L_CC
                divergence += jnp.mean(jnp.square(code))  # L_CC
            terms |= {"cycle": cycle, "cycle_kl": divergence}
        return self._objective(terms, fixed, real, fake)
