"""SCAN: stacked cycle-consistent adversarial networks (Li et al., ECCV 2018).

The authors released no code; `configs/scan.py` says what their text leaves open.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.errors import CheckpointError, ConfigError
from ganattn.methods.base import DTYPES, Output, as_metrics, images_spec
from ganattn.methods.families.image_translation import create_optimizer, real_and_fake
from ganattn.methods.families.two_domains import (
    DISCRIMINATORS,
    DOMAINS,
    GENERATORS,
    CycleWeights,
    TwoDomains,
    cycle_objective,
)
from ganattn.networks.patchgan import PatchDiscriminator
from ganattn.networks.scan import (
    UPSAMPLINGS,
    FusionBlock,
    StackedGenerator,
    enlarge,
    fuse,
    shrink,
)
from ganattn.state import TrainState, Tree, Variables

STAGES = (1, 2)
FUSIONS = ("adaptive", "none")
FUSION_BLOCKS = ("fusion_a2b", "fusion_b2a")
STAGE1 = {"stage1_a2b": "generator_a2b", "stage1_b2a": "generator_b2a"}  # here: in its own run
MIX_DRAW = 2  # number of the penalty's draw, after those of the two pools


@dataclasses.dataclass(frozen=True)
class SCAN(TwoDomains):
    """One stage of the stack: a cycle-consistent translation, alone or over a trained first stage.

    Stage 1 is a CycleGAN of small images. Stage 2 translates images of twice the size: x goes
    through the first stage at half its size, y1 = G1(x); a new generator sees x beside the enlarged
    y1, y2 = G2(x, y1); a fusion block gives a map of one channel in (0, 1), w = H(x, y1, y2); the
    translation is y1 * (1 - w) + y2 * w. The cycle goes through both stages of both directions.

    The networks "stage1_a2b" and "stage1_b2a" of stage 2 are the generators of a run of stage 1:
    `train --from` copies them into the new run, where no optimizer group has them. They are
    constant from then on, and gradients pass through them to their input alone. So a run of stage 2
    translates and resumes by itself.

    A step updates the generators (in stage 2 with the fusion blocks), then the discriminators on
    the same fakes, which go through a pool of earlier ones, as CycleGAN's loop does.

    stage: 1 or 2. skip_connection: whether G2 sees x beside y1. fusion: "adaptive", or "none" where
    y2 is the translation. These two are of stage 2, and False and "none" are the paper's ablations.
    adversarial: a key of `losses.ADVERSARIAL`. gradient_penalty: weight of `gradient_penalty`.
    """

    weights: CycleWeights = dataclasses.field(default_factory=CycleWeights)
    stage: int = 1
    skip_connection: bool = True
    fusion: str = "adaptive"
    adversarial: str = "least_squares"
    gradient_penalty: float = 10.0

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method, dtype = config.method, DTYPES[config.method.dtype]
        generator = StackedGenerator(
            method.width, method.num_residual_blocks, method.upsampling, method.remat, dtype
        )
        discriminator = PatchDiscriminator(
            method.discriminator_width, method.discriminator_layers, dtype=dtype
        )
        networks: dict[str, Any] = dict.fromkeys(GENERATORS, generator)
        networks |= dict.fromkeys(DISCRIMINATORS, discriminator)
        trained: tuple[str, ...] = GENERATORS
        if method.stage == 2:
            networks |= dict.fromkeys(STAGE1, generator)
        if method.stage == 2 and method.fusion == "adaptive":
            networks |= dict.fromkeys(FUSION_BLOCKS, FusionBlock(method.fusion_width, dtype))
            trained += FUSION_BLOCKS
        groups = {"generator": trained, "discriminator": DISCRIMINATORS}
        optimizer = create_optimizer(config.optimizer)
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, optimizer),
            weights=CycleWeights(method.lambda_a, method.lambda_b, 0.0),
            multiple=4 * method.stage,
            **cls.values_of(method),
        )

    def initial_variables(self, source: Mapping[str, Variables] | None) -> Mapping[str, Variables]:
        """As `Method.initial_variables`: stage 2 takes the generators of a run of stage 1.

        A run of stage 2 gives all its networks, as in other methods.
        """
        if self.stage == 1 or (source is not None and set(STAGE1) <= set(source)):
            return super().initial_variables(source)
        if source is None:
            raise ConfigError(
                "config.method.stage is 2, which trains over a trained first stage: name the "
                "workdir of a run of stage 1 with --from"
            )
        missing = [name for name in STAGE1.values() if name not in source]
        if missing:
            raise CheckpointError(
                f"there is no network {missing[0]!r}: name a run of SCAN's stage 1 with --from"
            )
        return {name: source[theirs] for name, theirs in STAGE1.items()}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The direction's generator and, in stage 2, its first stage and its fusion block."""
        (generator,) = super().networks_for(direction)
        names = (generator.replace("generator", kind) for kind in ("stage1", "fusion"))
        return generator, *(name for name in names if name in self.networks)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """An image, or the channels of two or three side by side."""
        channels = 3
        if name in FUSION_BLOCKS:
            channels = 9
        elif name in GENERATORS and self.stage == 2 and self.skip_connection:
            channels = 6
        return images_spec(1, self.image_size, self.image_size, channels)

    def create_memory(self, dtype: Any) -> Tree:
        return self.create_pools(dtype)

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """The translation of this stage.

        In stage 2, attention has the fusion map, "fusion" (n, h, w, 1) in (0, 1), larger where the
        second stage replaces the first; extras have "stage1" and "stage2" (n, h, w, 3), the
        enlarged result of stage 1 and that of G2.
        """
        x, generator = inputs["image"], f"generator_{direction}"
        if self.stage == 1:
            return self.networks[generator].apply(variables[generator], x)
        stage1, fusion = f"stage1_{direction}", f"fusion_{direction}"
        first = self.networks[stage1].apply(variables[stage1], shrink(x)).images
        y1 = enlarge(first)
        seen = jnp.concatenate([x, y1], -1) if self.skip_connection else y1
        y2 = self.networks[generator].apply(variables[generator], seen).images
        extras = OrderedDict(stage1=y1, stage2=y2)
        if self.fusion == "none":
            return Output(y2, extras=extras)
        block = self.networks[fusion]
        weight = block.apply(variables[fusion], jnp.concatenate([x, y1, y2], -1))
        return Output(fuse(y1, y2, weight), OrderedDict(fusion=weight), extras)

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generators, then one of the discriminators.

        draws: "mix_a" and "mix_b" (n, 1, 1, 1) in [0, 1], the share of the real image in the mixes
        of `gradient_penalty`. Metrics are sums over domains, and the weighted totals.
        """
        real = self.real_images(state, batch)
        rng = jax.random.fold_in(state.rng, state.step)
        others = {
            name: network
            for name, network in state.variables.items()
            if name not in self.groups["generator"]
        }
        state, (fake, metrics) = self.minimize(
            state, "generator", self._generator_loss, others, real
        )
        memory, fake = self.query_pools(state.memory, fake, rng)
        shares = self._shares(real, draws, jax.random.fold_in(rng, MIX_DRAW))
        state, terms = self.minimize(
            state, "discriminator", self._discriminator_loss, real, fake, shares
        )
        return state.replace(memory=memory), {**metrics, **terms}

    def _shares(self, real, draws, rng) -> dict[str, Array]:
        """The share of the real image in each example's mix, (n, 1, 1, 1) for each domain."""
        shares = {}
        for number, domain in enumerate(DOMAINS if self.gradient_penalty else ()):
            images, given = real[domain], draws.get(f"mix_{domain}")
            if given is None:
                keys = self.examples.keys(jax.random.fold_in(rng, number), len(images))
                draw = jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))
                given = draw(keys)
            shares[domain] = given.astype(images.dtype)
        return shares

    def _generator_loss(self, generators, carried, others, real):
        variables = {**generators, **others}
        fake, cycled, logits = {}, {}, {}
        for direction in self.directions:
            source, target = direction.source, direction.target
            image = {"image": real[source]}
            fake[target] = self._translate(variables, image, direction, None).images
            image = {"image": fake[target]}
            cycled[source] = self._translate(variables, image, direction.reverse, None).images
        for domain, name in zip(DOMAINS, DISCRIMINATORS, strict=True):
            logits[domain] = self.networks[name].apply(others[name], fake[domain]).logits
        adversarial = losses.ADVERSARIAL[self.adversarial]
        total, terms = cycle_objective(self.weights, adversarial, logits, real, cycled, {})
        del terms["identity"]
        return total, ({}, (fake, as_metrics("generator", terms, total)))

    def _discriminator_loss(self, discriminators, carried, real, fake, shares):
        terms, penalty = {}, jnp.zeros((), real["a"].dtype)
        for domain, name in zip(DOMAINS, DISCRIMINATORS, strict=True):

            def discriminate(images, name=name):
                return self.networks[name].apply(discriminators[name], images).logits

            both = discriminate(jnp.concatenate([real[domain], fake[domain]]))
            # The adversarial loss, halved as in CycleGAN's code.
            terms[domain] = 0.5 * real_and_fake(self.adversarial, *jnp.split(both, 2))
            if shares:
                share = shares[domain]
                mixed = share * real[domain] + (1 - share) * fake[domain]
                penalty += gradient_penalty(discriminate, mixed)
        total = terms["a"] + terms["b"] + self.gradient_penalty * penalty
        terms["penalty"] = penalty
        return total, ({}, as_metrics("discriminator", terms, total))


def gradient_penalty(discriminate: Callable[[Array], Array], images: Array) -> Array:
    """Mean squared distance to 1 of the norm of the logits' gradient by an image.

    discriminate: logits (n, h', w', 1) of images (n, h, w, c), each of its own image alone. The
    gradient of an image is that of the mean of its logits. Source: Gulrajani et al. 2017, eq. 3,
    whose discriminator gives an image one number.
    """

    def logits(x):
        return discriminate(x).astype(x.dtype).mean((1, 2, 3)).sum()

    gradients = jax.grad(logits)(images)
    # The root has no derivative at 0, where all logits of a new discriminator may be constant.
    norms = jnp.sqrt(jnp.square(gradients).sum((1, 2, 3)) + 1e-16)
    return jnp.mean(jnp.square(norms - 1))


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    method = config.method
    check(config, "method.stage", choices=STAGES)
    check(config, "method.upsampling", choices=UPSAMPLINGS)
    check(config, "method.fusion", choices=FUSIONS)
    check(config, "method.adversarial", choices=losses.ADVERSARIAL)
    for field in ("width", "discriminator_width", "discriminator_layers", "fusion_width"):
        check(config, f"method.{field}", least=1)
    for field in ("num_residual_blocks", "pool_size", "gradient_penalty", "lambda_a", "lambda_b"):
        check(config, f"method.{field}", least=0)
    # The discriminator needs three pixels after its strided layers, and a reflection two.
    least = max(8 * method.stage, 3 << method.discriminator_layers)
    check(config, "method.image_size", multiple_of=4 * method.stage, least=least)
