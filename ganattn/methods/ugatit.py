"""U-GAT-IT: unpaired translation guided by class activation (Kim et al., ICLR 2020)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.methods.base import DTYPES, Output, as_metrics, weights_of
from ganattn.methods.families.two_domains import GENERATORS, TwoDomains, sum_terms
from ganattn.networks.ugatit import DECODER_NORMS, PROFILES, Discriminator, Generator
from ganattn.optimizers import adam, linear_decay
from ganattn.state import TrainState, Tree, split_networks

DISCRIMINATORS = {
    "a": ("discriminator_global_a", "discriminator_local_a"),
    "b": ("discriminator_global_b", "discriminator_local_b"),
}


@dataclasses.dataclass(frozen=True)
class UGATITWeights:
    """Weights of eq. 7, lambda_1 to lambda_4, in the generators' total.

    The discriminators' total has `adversarial` for both of its terms, as in the authors' code; eq.
    7 has lambda_4 for eq. 6.
    """

    adversarial: float = 1.0
    cycle: float = 10.0
    identity: float = 10.0
    cam: float = 1000.0


@dataclasses.dataclass(frozen=True)
class UGATIT(TwoDomains):
    """Two generators and, for each domain, a global and a local discriminator.

    A step updates the discriminators, then the generators against the updated discriminators, as
    the authors' loop does. Their loop generates the fakes twice; nothing changes in between, so one
    forward pass serves both updates here. It also contains the identity images: translation and
    identity through one generator are a single batch.
    """

    weights: UGATITWeights = UGATITWeights()

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        check(config, "method.profile", choices=PROFILES)
        check(config, "method.decoder_norm", choices=DECODER_NORMS)
        check(config, "method.image_size", multiple_of=4, least=8)
        profile, dtype = PROFILES[method.profile], DTYPES[method.dtype]
        generator = Generator(
            method.width,
            method.num_residual_blocks,
            method.light,
            method.decoder_norm,
            method.cam_generator,
            profile,
            remat=method.remat,
            dtype=dtype,
        )
        networks = dict.fromkeys(GENERATORS, generator)
        for names in DISCRIMINATORS.values():
            for name, layers in zip(names, method.discriminator_layers, strict=True):
                networks[name] = Discriminator(
                    method.width, layers, method.cam_discriminator, profile, dtype
                )
        groups = {
            "generator": GENERATORS,
            "discriminator": DISCRIMINATORS["a"] + DISCRIMINATORS["b"],
        }
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, _create_optimizer(config)),
            weights=weights_of(UGATITWeights, method),
            multiple=None if generator.has_fixed_size else 4,
            **cls.values_of(method),
        )

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminators, then one of the generators.

        Metrics are unweighted terms, summed over domains and discriminators, and the weighted
        totals.
        """
        real = self.real_images(state, batch)
        generators, _ = split_networks(state.variables, GENERATORS)
        generators = self.examples.vary(generators)
        outputs, pull_back = jax.vjp(lambda g: self._forward(g, real), generators)
        fake = {domain: jax.lax.stop_gradient(outputs[domain]["fake"]) for domain in real}

        state, metrics = self.minimize(state, "discriminator", self._discriminator_loss, real, fake)
        loss = jax.grad(self._generator_loss, argnums=(0, 1), has_aux=True)
        discriminators, spectral = split_networks(state.variables, self.groups["discriminator"])
        (cotangents, of_cycles), (spectral, terms) = loss(
            outputs, generators, discriminators, spectral, real
        )
        (gradients,) = pull_back(cotangents)
        gradients = jax.tree.map(jnp.add, gradients, of_cycles)
        state = self.update(state, "generator", gradients, spectral)
        return state, {**metrics, **terms}

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """With CAM, attention is "cam" (n, h/4, w/4, 1), at least 0; extras has "cam_logits"."""
        name = f"generator_{direction}"
        return self.networks[name].apply(variables[name], inputs["image"])

    def _forward(self, generators: Tree, real: Mapping[str, Array]) -> Tree:
        """For each domain as target: the fake, the identity image and the CAM logits."""
        outputs: dict[str, dict[str, Array]] = {}
        for direction in self.directions:
            source, target = real[direction.source], real[direction.target]
            name, count = f"generator_{direction}", len(source)
            both = jnp.concatenate([source, target])
            output = self.networks[name].apply(generators[name], both)
            new = {"fake": output.images[:count], "identity": output.images[count:]}
            if "cam_logits" in output.extras:
                logits = output.extras["cam_logits"]
                new |= {"cam_source": logits[:count], "cam_target": logits[count:]}
            outputs[direction.target] = new
        return outputs

    def _discriminate(self, discriminators, spectral, name, images, passes):
        return self.networks[name].apply(
            {**discriminators[name], **spectral[name]}, images, passes, True, mutable=["spectral"]
        )

    def _discriminator_loss(self, discriminators, spectral, real, fake):
        terms, new_spectral = [], {}
        for domain, names in DISCRIMINATORS.items():
            # No layer mixes examples, so real and fake can share a batch; each has its own power
            # iteration, in the authors' order.
            both = jnp.concatenate([real[domain], fake[domain]])
            for name in names:
                output, new_spectral[name] = self._discriminate(
                    discriminators, spectral, name, both, passes=2
                )
                cam = output.extras.get("cam_logits")
                terms.append(
                    {
                        "adversarial": _real_and_fake(output.logits),  # eq. 2
                        "cam": 0.0 if cam is None else _real_and_fake(cam),  # eq. 6
                    }
                )
        summed = sum_terms(terms)
        # Eq. 7, the discriminators' part.
        total = self.weights.adversarial * (summed["adversarial"] + summed["cam"])
        return total, (new_spectral, as_metrics("discriminator", summed, total))

    def _generator_loss(self, outputs, generators, discriminators, spectral, real):
        terms: dict[str, Any] = dict.fromkeys(
            ("adversarial", "adversarial_cam", "cycle", "identity", "cam"), 0.0
        )
        new_spectral = {}
        for domain, names in DISCRIMINATORS.items():
            for name in names:
                output, new_spectral[name] = self._discriminate(
                    discriminators, spectral, name, outputs[domain]["fake"], passes=1
                )
                terms["adversarial"] += losses.least_squares(output.logits, True)  # eq. 2
                if "cam_logits" in output.extras:
                    cam = output.extras["cam_logits"]
                    terms["adversarial_cam"] += losses.least_squares(cam, True)  # eq. 6
        for direction in self.directions:
            source, target = real[direction.source], real[direction.target]
            name, output = f"generator_{direction.reverse}", outputs[direction.target]
            cycled = self.networks[name].apply(generators[name], output["fake"]).images
            terms["cycle"] += losses.mean_absolute(cycled, source)  # eq. 3
            terms["identity"] += losses.mean_absolute(output["identity"], target)  # eq. 4
            if "cam_source" in output:  # eq. 5
                terms["cam"] += losses.binary_cross_entropy(output["cam_source"], True)
                terms["cam"] += losses.binary_cross_entropy(output["cam_target"], False)
        weights = self.weights
        total = (  # eq. 7, the generators' part
            weights.adversarial * (terms["adversarial"] + terms["adversarial_cam"])
            + weights.cycle * terms["cycle"]
            + weights.identity * terms["identity"]
            + weights.cam * terms["cam"]
        )
        return total, (new_spectral, as_metrics("generator", terms, total))


def _real_and_fake(logits: Array) -> Array:
    """Least squares (eq. 2 and 6) of logits whose first half is real and second half fake."""
    real, fake = jnp.split(logits, 2)
    return losses.least_squares(real, True) + losses.least_squares(fake, False)


def _create_optimizer(config: ConfigDict):
    optimizer, from_tensorflow = config.optimizer, config.method.profile == "tf"
    schedule = linear_decay(
        optimizer.learning_rate,
        optimizer.decay_start_step,
        optimizer.total_steps,
        staircase=optimizer.staircase,
    )
    return adam(
        schedule,
        optimizer.beta1,
        optimizer.beta2,
        optimizer.weight_decay,
        decay_only_kernels=from_tensorflow,
        epsilon_inside_correction=from_tensorflow,
    )
