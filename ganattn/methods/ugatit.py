"""U-GAT-IT: unpaired translation guided by class activation (Kim et al., ICLR 2020)."""

import dataclasses
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.errors import ConfigError
from ganattn.methods.base import DTYPES, Method, Translation
from ganattn.networks.ugatit import DECODER_NORMS, PROFILES, Discriminator, Generator
from ganattn.optimizers import adam, linear_decay
from ganattn.parallel import mean_over, vary
from ganattn.state import TrainState, Tree, Variables, merge_networks, split_networks

GENERATORS = ("generator_a2b", "generator_b2a")
DISCRIMINATORS = {
    "a": ("discriminator_global_a", "discriminator_local_a"),
    "b": ("discriminator_global_b", "discriminator_local_b"),
}


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the terms in the generators' total; the discriminators' use `adversarial`."""

    adversarial: float = 1.0
    cycle: float = 10.0
    identity: float = 10.0
    cam: float = 1000.0


@dataclasses.dataclass(frozen=True)
class UGATIT(Method):
    """Two generators and, for each domain, a global and a local discriminator.

    A step updates the discriminators, then the generators against the updated discriminators, as
    the authors' loop does. Their loop makes the fakes twice; nothing changes in between, so here
    one forward pass serves both updates. It also holds the identity pictures: translation and
    identity through one generator are a single batch.
    """

    weights: Weights = Weights()
    image_size: int = 256

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method, optimizer = config.method, config.optimizer
        _check(method)
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
        from_tensorflow = method.profile == "tf"
        chain = adam(
            linear_decay(
                optimizer.learning_rate,
                optimizer.decay_start_step,
                optimizer.total_steps,
                staircase=optimizer.staircase,
            ),
            optimizer.beta1,
            optimizer.beta2,
            optimizer.weight_decay,
            decay_only_kernels=from_tensorflow,
            epsilon_inside_correction=from_tensorflow,
        )
        weights = Weights(
            method.adversarial_weight,
            method.cycle_weight,
            method.identity_weight,
            method.cam_weight,
        )
        optimizers = dict.fromkeys(groups, chain)
        return cls(networks, groups, optimizers, weights=weights, image_size=method.image_size)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), jnp.float32)

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminators, then one of the generators.

        batch: "a" and "b", (n, h, w, 3) in [-1, 1]. Metrics are unweighted terms, summed over
        domains and discriminators, and the weighted totals.
        """
        dtype = jax.tree.leaves(state.variables)[0].dtype
        real = {domain: batch[domain].astype(dtype) for domain in ("a", "b")}
        generators, no_statistics = split_networks(state.variables, GENERATORS)
        generators = vary(generators, self.axis_name)
        made, pull_back = jax.vjp(lambda g: self._translate_and_keep(g, real), generators)
        fake = {domain: jax.lax.stop_gradient(made[domain]["fake"]) for domain in real}

        names = self.groups["discriminator"]
        judges, vectors = split_networks(state.variables, names)
        loss = jax.grad(self._discriminator_loss, has_aux=True)
        gradients, (vectors, metrics) = loss(vary(judges, self.axis_name), vectors, real, fake)
        state = self.update(state, "discriminator", gradients, vectors)

        loss = jax.grad(self._generator_loss, argnums=(0, 1), has_aux=True)
        judges, vectors = split_networks(state.variables, names)
        (pulled, cycled), (vectors, terms) = loss(made, generators, judges, vectors, real)
        (gradients,) = pull_back(pulled)
        gradients = jax.tree.map(jnp.add, gradients, cycled)
        state = self.update(state, "generator", gradients, no_statistics)
        vectors = mean_over(vectors, self.axis_name)
        state = state.replace(
            step=state.step + 1,
            variables={**state.variables, **merge_networks(judges, vectors)},
        )
        return state, mean_over({**metrics, **terms}, self.axis_name)

    def translate(
        self, variables: Mapping[str, Variables], images: Array, direction: str = "a2b"
    ) -> Translation:
        """images (n, h, w, 3) in [-1, 1], h and w multiples of 4 (the full model: its image_size).

        attention is the generator's heat map (n, h/4, w/4, 1), at least 0; None without CAM.
        Raises ConfigError for an unknown direction.
        """
        if direction not in self.directions:
            raise ConfigError(
                f"direction is {direction!r}: use one of {', '.join(self.directions)}"
            )
        network = variables[f"generator_{direction}"]
        images = images.astype(jax.tree.leaves(network)[0].dtype)
        made = self.networks[f"generator_{direction}"].apply(network, images)
        return Translation(made.images, made.heatmap, made.cam_logits)

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Per direction: source, its heat map, the translation, back again, and the identity."""
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

    def _translate_and_keep(self, generators: Tree, real: Mapping[str, Array]) -> Tree:
        """For each domain as target: the fake, the identity picture and the CAM logits."""
        made = {}
        for source, target in (("a", "b"), ("b", "a")):
            name, count = f"generator_{source}2{target}", len(real[source])
            both = jnp.concatenate([real[source], real[target]])
            images, cam_logits, _ = self.networks[name].apply(generators[name], both)
            made[target] = {"fake": images[:count], "kept": images[count:]}
            if cam_logits is not None:
                made[target]["cam_source"] = cam_logits[:count]
                made[target]["cam_target"] = cam_logits[count:]
        return made

    def _judge(self, judges, vectors, name, images, passes):
        return self.networks[name].apply(
            {**judges[name], **vectors[name]}, images, passes, True, mutable=["spectral"]
        )

    def _discriminator_loss(self, judges, vectors, real, fake):
        terms = {"adversarial": 0.0, "cam": 0.0}
        new = {}
        for domain, names in DISCRIMINATORS.items():
            # No layer mixes examples, so real and fake can share a batch; each keeps its own power
            # iteration, in the authors' order.
            both = jnp.concatenate([real[domain], fake[domain]])
            for name in names:
                judged, new[name] = self._judge(judges, vectors, name, both, passes=2)
                terms["adversarial"] += _real_and_fake(judged.logits)
                if judged.cam_logits is not None:
                    terms["cam"] += _real_and_fake(judged.cam_logits)
        total = self.weights.adversarial * (terms["adversarial"] + terms["cam"])
        return total, (new, _metrics("discriminator", terms, total))

    def _generator_loss(self, made, generators, judges, vectors, real):
        terms = dict.fromkeys(("adversarial", "adversarial_cam", "cycle", "identity", "cam"), 0.0)
        new = {}
        for domain, names in DISCRIMINATORS.items():
            for name in names:
                judged, new[name] = self._judge(
                    judges, vectors, name, made[domain]["fake"], passes=1
                )
                terms["adversarial"] += losses.least_squares(judged.logits, True)
                if judged.cam_logits is not None:
                    terms["adversarial_cam"] += losses.least_squares(judged.cam_logits, True)
        for source, target in (("a", "b"), ("b", "a")):
            name, one = f"generator_{target}2{source}", made[target]
            back = self.networks[name].apply(generators[name], one["fake"]).images
            terms["cycle"] += losses.mean_absolute(back, real[source])
            terms["identity"] += losses.mean_absolute(one["kept"], real[target])
            if "cam_source" in one:
                terms["cam"] += losses.binary_cross_entropy(one["cam_source"], True)
                terms["cam"] += losses.binary_cross_entropy(one["cam_target"], False)
        weights = self.weights
        total = (
            weights.adversarial * (terms["adversarial"] + terms["adversarial_cam"])
            + weights.cycle * terms["cycle"]
            + weights.identity * terms["identity"]
            + weights.cam * terms["cam"]
        )
        return total, (new, _metrics("generator", terms, total))


def _real_and_fake(logits: Array) -> Array:
    real, fake = jnp.split(logits, 2)
    return losses.least_squares(real, True) + losses.least_squares(fake, False)


def _metrics(group: str, terms: dict[str, Array], total: Array) -> dict[str, Array]:
    scalars = {**terms, "total": total}
    return {f"{group}/{term}": jnp.asarray(value, total.dtype) for term, value in scalars.items()}


def _check(method: ConfigDict) -> None:
    allowed = {
        "profile": tuple(PROFILES),
        "decoder_norm": DECODER_NORMS,
        "dtype": tuple(DTYPES),
    }
    for field, values in allowed.items():
        if method[field] not in values:
            raise ConfigError(
                f"config.method.{field} is {method[field]!r}: use one of {', '.join(values)}"
            )
    if method.image_size % 4 or method.image_size < 8:
        raise ConfigError(
            f"config.method.image_size is {method.image_size}: give a multiple of 4, at least 8"
        )
