"""Attention-based spatial guidance: CycleGAN whose discriminators guide the generators.

Source: Lin et al., WACV 2021, its supplement, and the authors' models attn_cycle_gan,
attn_cycle_gan_v2 and decompose_attn, and attn_cycle_gan_v3 of the repository in which they were
developed (voidstrike/ASGIT and voidstrike/pytorch-CycleGAN-and-pix2pix).
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.layers.attention import BLENDS, enlarge, to_unit_range
from ganattn.memory import create_buffer, recall, remember
from ganattn.methods.base import (
    DTYPES,
    Direction,
    Output,
    apply_passes,
    as_metrics,
    images_spec,
)
from ganattn.methods.families.guided_domains import GuidedDomains
from ganattn.methods.families.image_translation import (
    TEST_GUIDANCE,
    TEST_STATISTICS,
    create_optimizer,
)
from ganattn.methods.families.two_domains import (
    DISCRIMINATORS,
    DOMAINS,
    GENERATORS,
    GROUPS,
    CycleWeights,
    cycle_objective,
)
from ganattn.networks.guided_discriminators import GUIDED_DISCRIMINATORS
from ganattn.networks.map_upsampler import MapUpsampler
from ganattn.networks.resnet import ResNetGenerator
from ganattn.state import TrainState, Tree, split_networks

SCHEMES = ("buffer", "in_iteration", "decomposed")
UPSAMPLERS = ("bilinear", "learned")
# The stages of the supplement's table 1, as stages of `ResNetGenerator`.
STAGES = {"F0": "", "F1": "stem", "F2": "down2", "F3": "block4", "F4": "block{last}"}


@dataclasses.dataclass(frozen=True)
class Guidance(GuidedDomains):
    """Two generators, and for each domain a discriminator whose attention maps guide them.

    A step updates the generators, then the discriminators on the same fakes, which go through a
    pool. Maps are constants to the generators. `guidance` says where they come from:

    buffer (attn_cycle_gan): a real image comes with the map that the discriminator of the other
        domain gave for its translation when the image was last visited, all ones at first; other
        passes are not guided. `memory` has the maps before they are enlarged, (images, h/8, w/8, 1)
        for each domain, and a batch has the indices of its images, "index_a" and "index_b" (n,)
        int32. A map fits its image if that is not mirrored; random crops shift it nevertheless, in
        the authors' code as well.
    in_iteration (attn_cycle_gan_v2): every image that a generator takes, real, fake or for the
        identity, comes with the map that the discriminator of the image's own domain gives in the
        same step.
    decomposed (decompose_attn): CycleGAN's passes, not guided, and a second translation guided by
        the map that the discriminator of the other domain gives for the first one. Both, and both
        cycles, enter the generators' loss; discriminators are trained on the first one alone.

    blend, fusion_stage: how and where a map enters the generator; F0 is its input, F1 before and F2
    after down-sampling, F3 after the fourth and F4 after the last residual block (supplement, table
    1; the code of the development had F3 after the fifth block before it was corrected).
    upsampler: how a map gets the features' size at F1 to F4: "bilinear", or "learned" by a network
    that is trained with the generator (attn_cycle_gan_v3), whose maps are not scaled to [0, 1], and
    whose buffer starts at 1/4.
    buffer_sizes: number of images of domains a and b in the buffer. reconstruction_weight: of the
    loss by which discriminators also classify reconstructions as fake (the authors' use_rec).

    `generate` follows the authors' test code: "in_iteration" guides as in training, by
    discriminators in training mode on one image at a time; "buffer" runs the generators alone,
    under a constant map that the paper does not mention. test_guidance: of "buffer", a key of
    `TEST_GUIDANCE`. test_statistics: of the batch normalization in trainable attention, "batch" for
    those of each image, "running" for the averages of training (the authors' --eval).

    The supplement says neither which scheme made the paper's numbers nor how maps are scaled. Where
    the code is incomplete, this class differs: each map is scaled by its own extremes, not by those
    of the batch (the code is written for batches of one), and a constant map becomes 0, not NaN.
    The networks "_v2" of the README return unscaled maps of an eighth of the sides, which the code
    cannot put beside an image: as its update says, they mean the networks without the suffix.
    """

    weights: CycleWeights = dataclasses.field(default_factory=CycleWeights)
    buffer_sizes: tuple[int, int] = (0, 0)
    reconstruction_weight: float = 0.0
    test_guidance: str = "constant"
    test_statistics: str = "batch"

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        _check(config)
        dtype, blocks = DTYPES[method.dtype], method.num_residual_blocks
        generator: nn.Module = ResNetGenerator(
            method.width,
            blocks,
            guided_after=STAGES[method.fusion_stage].format(last=blocks),
            upsampler=_upsampler(method),
            remat=method.remat,
            dtype=dtype,
        )
        discriminator = GUIDED_DISCRIMINATORS[method.discriminator](
            method.discriminator_width, dtype=dtype
        )
        return cls(
            dict.fromkeys(GENERATORS, generator) | dict.fromkeys(DISCRIMINATORS, discriminator),
            GROUPS,
            dict.fromkeys(GROUPS, create_optimizer(config.optimizer)),
            weights=CycleWeights(method.lambda_a, method.lambda_b, method.lambda_identity),
            buffer_sizes=(method.buffer_size_a, method.buffer_size_b),
            multiple=_multiple(method),
            **cls.values_of(method),
        )

    def check_data(self, sizes: Mapping[str, int]) -> None:
        """Raises ConfigError when the buffer is too small for the training images."""
        for domain, room in zip(DOMAINS, self.buffer_sizes, strict=True):
            if self.guidance == "buffer" and sizes[domain] > room:
                raise ConfigError(
                    f"config.method.buffer_size_{domain} is {room}: domain {domain} has "
                    f"{sizes[domain]} images, set it to that"
                )

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        spec = dict(super().batch_spec(count))
        if self.guidance == "buffer":
            index = jax.ShapeDtypeStruct((count,), jnp.int32)
            spec |= {f"index_{domain}": index for domain in DOMAINS}
        return spec

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        names = super().networks_for(direction)
        if self.guidance == "buffer" and self.test_guidance == "constant":
            return names
        return (*names, self._guide(self.direction(direction)))

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        channels = 4 if self.blend == "alpha" and name in GENERATORS else 3
        return images_spec(1, self.image_size, self.image_size, channels)

    def create_memory(self, dtype: Any) -> Tree:
        memory: dict[str, Tree] = {"pool": self.create_pools(dtype)} if self.pool_size else {}
        if self.guidance == "buffer":
            side = self.image_size // 8
            memory["attention"] = {
                domain: create_buffer(count, side, side, dtype, self._initial)
                for domain, count in zip(DOMAINS, self.buffer_sizes, strict=True)
            }
        return memory

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generators, then one of the discriminators.

        Metrics are unweighted terms, summed over domains, and the weighted totals; of the
        decomposed scheme, "guided_adversarial" and "guided_cycle" are those of the second
        translation. Raises ConfigError if the buffer lacks the indices of the images.
        """
        real, memory = self.real_images(state, batch), dict(state.memory)
        discriminators, carried = split_networks(state.variables, DISCRIMINATORS)
        if self.guidance == "buffer":
            buffer, indices = memory["attention"], _indices(batch)
            maps = {d: recall(buffer[d], indices[d], self._initial) for d in DOMAINS}
        elif self.guidance == "in_iteration":
            outputs, carried = self._discriminate(discriminators, carried, real)
            maps = self._maps(outputs)
        else:
            maps = self._unguided(real)

        state, (images, terms) = self.minimize(
            state, "generator", self._generator_loss, discriminators, carried, real, maps
        )
        fake = images["fake"]
        if self.pool_size:
            rng = jax.random.fold_in(state.rng, state.step)
            memory["pool"], fake = self.query_pools(memory["pool"], fake, rng)
        if self.guidance == "buffer":
            memory["attention"] = {
                source: remember(
                    buffer[source], indices[source], images["map"][target], self.examples
                )
                for source, target in (("a", "b"), ("b", "a"))
            }
        state, metrics = self.minimize(
            state, "discriminator", self._discriminator_loss, real, fake, images["cycled"]
        )
        return state.replace(memory=memory), {**terms, **metrics}

    def _guide(self, direction: Direction) -> str:
        """The discriminator whose map guides a new image."""
        domain = direction.source if self.guidance == "in_iteration" else direction.target
        return f"discriminator_{domain}"

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """attention is "guidance", the map that guides the generator, (n, h, w, 1) in [0, 1].

        The map is that of the source domain's discriminator. The buffer has none for a new image:
        it is translated under a constant map (a learned up-sampler reads one of 1/4), and there is
        no attention; or the target domain's discriminator gives the map, of this translation. The
        decomposed scheme has the latter, without guidance of the first translation. Raises
        ConfigError where the discriminator is missing.
        """
        name, guide = f"generator_{direction}", self._guide(direction)
        guiding_images = images = inputs["image"]
        if self.guidance != "in_iteration":
            first = (images, self._map_of_new(images))
            (guiding_images,) = self._generate(variables[name], name, first)
            if self.guidance == "buffer" and self.test_guidance == "constant":
                return Output(guiding_images)
        if guide not in variables:
            raise ConfigError(f"guidance by {guide} needs its weights: give them with {name}'s")
        statistics = TEST_STATISTICS[self.test_statistics]
        output = self.networks[guide].apply(variables[guide], guiding_images, statistics)
        attention = to_unit_range(output.heatmap)
        scaled = self._scale(output.heatmap)
        (translation,) = self._generate(variables[name], name, (images, scaled))
        return Output(translation, OrderedDict(guidance=enlarge(attention, *images.shape[1:3])))

    def _generator_loss(self, generators, _, discriminators, carried, real, maps):
        in_iteration, unguided = self.guidance == "in_iteration", self._unguided(real)
        fake, identity = {}, {}
        for direction in self.directions:
            source, target = direction.source, direction.target
            name, passes = f"generator_{direction}", [(real[source], maps[source])]
            if self.weights.identity > 0:
                passes.append((real[target], (maps if in_iteration else unguided)[target]))
            fake[target], *others = self._generate(generators[name], name, *passes)
            identity.update((target, image) for image in others)
        outputs, carried = self._discriminate(
            discriminators, carried, fake, times=1 if self.guidance == "buffer" else 2
        )
        fake_maps = self._maps(outputs)
        cycled = self._translations(generators, fake, fake_maps if in_iteration else unguided)
        objective = partial(cycle_objective, self.weights, losses.least_squares)
        total, terms = objective(_logits(outputs), real, cycled, identity)
        if self.guidance == "decomposed":
            second = {d.source: fake_maps[d.target] for d in self.directions}
            guided = self._translations(generators, real, second)
            outputs, carried = self._discriminate(discriminators, carried, guided)
            cycled_again = self._translations(generators, guided, unguided)
            guided_total, guided_terms = objective(_logits(outputs), real, cycled_again, {})
            total += guided_total
            terms |= {f"guided_{name}": guided_terms[name] for name in ("adversarial", "cycle")}
        images = {"fake": fake, "cycled": cycled, "map": fake_maps}
        return total, (carried, (images, as_metrics("generator", terms, total)))

    def _discriminator_loss(self, discriminators, carried, real, fake, cycled):
        terms, new_carried = {}, {}
        for domain, name in zip(DOMAINS, DISCRIMINATORS, strict=True):
            passes = [(real[domain],), (fake[domain],)]
            if self.reconstruction_weight:
                passes.append((cycled[domain],))
            (on_real, on_fake, *on_cycled), new_carried[name] = apply_passes(
                self.networks[name], discriminators[name], carried[name], passes, joint=False
            )
            # CycleGAN eq. 1 with the least squares of its section 4, halved as in its code.
            terms[domain] = 0.5 * losses.least_squares(on_real.logits, True)
            terms[domain] += 0.5 * losses.least_squares(on_fake.logits, False)
            for output in on_cycled:  # use_rec of the authors' code, which the paper lacks
                extra = losses.least_squares(output.logits, False)
                terms[domain] += self.reconstruction_weight * extra
        total = terms["a"] + terms["b"]
        return total, (new_carried, as_metrics("discriminator", terms, total))


def _logits(outputs: Tree) -> dict[str, Array]:
    return {domain: outputs[domain].logits for domain in DOMAINS}


def _indices(batch: Mapping[str, Array]) -> dict[str, Array]:
    if "index_a" not in batch or "index_b" not in batch:
        raise ConfigError(
            "config.method.guidance is 'buffer', but the batch has no index_a and index_b: "
            "use 'in_iteration', or a data source that numbers its images"
        )
    return {domain: batch[f"index_{domain}"] for domain in DOMAINS}


def _multiple(method: ConfigDict) -> int:
    in_eighths = method.discriminator == "trainable_attn" or _is_learned(method)
    return 8 if in_eighths else 4


def _is_learned(method: ConfigDict) -> bool:
    return method.get("upsampler", "bilinear") == "learned"  # older configs lack the field


def _upsampler(method: ConfigDict) -> nn.Module | None:
    """The features of F1 have the images' sides, those of the later stages a fourth of them."""
    if not _is_learned(method):
        return None
    scale = 8 if method.fusion_stage == "F1" else 2
    return MapUpsampler(method.upsampler_width, scale, DTYPES[method.dtype])


def _check(config: ConfigDict) -> None:
    method = config.method
    check(config, "method.discriminator", choices=GUIDED_DISCRIMINATORS)
    check(config, "method.blend", choices=BLENDS)
    check(config, "method.guidance", choices=SCHEMES)
    check(config, "method.test_guidance", choices=TEST_GUIDANCE)
    check(config, "method.test_statistics", choices=TEST_STATISTICS)
    check(config, "method.fusion_stage", choices=STAGES)
    check(config, "method.upsampler", choices=UPSAMPLERS)
    check(config, "method.image_size", multiple_of=_multiple(method), least=24)
    check(config, "method.num_residual_blocks", least=4 if method.fusion_stage == "F3" else 1)
    check(config, "method.pool_size", least=0)
    if method.fusion_stage != "F0" and method.blend != "rmult":
        raise ConfigError(
            f"config.method.blend is {method.blend!r} at fusion stage {method.fusion_stage}: "
            "use 'rmult', or stage F0"
        )
    if method.fusion_stage == "F0" and _is_learned(method):
        raise ConfigError(
            f"config.method.upsampler is {method.upsampler!r} at fusion stage F0: use 'bilinear', "
            "or a stage from F1 to F4"
        )
    if method.guidance == "decomposed" and (
        method.fusion_stage != "F0" or method.blend not in ("rmult", "mult")
    ):
        raise ConfigError(
            f"config.method.guidance is 'decomposed' with blend {method.blend!r} at stage "
            f"{method.fusion_stage}: use 'rmult' or 'mult' at stage F0"
        )
    if method.guidance == "buffer":
        check(config, "method.buffer_size_a", least=1)
        check(config, "method.buffer_size_b", least=1)
