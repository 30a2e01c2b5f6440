"""Attention-based spatial guidance: CycleGAN whose discriminators guide the generators.

Source: Lin et al., WACV 2021, its supplement, and the authors' attn_cycle_gan.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.layers.attention import BLENDS, blend, enlarge, neutral_value, to_unit_range
from ganattn.memory import create_buffer, recall, remember
from ganattn.methods.base import (
    DTYPES,
    Direction,
    Output,
    apply_passes,
    as_metrics,
    images_spec,
)
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
    TwoDomains,
    cycle_objective,
)
from ganattn.networks.guided_discriminators import GUIDED_DISCRIMINATORS
from ganattn.networks.resnet import ResNetGenerator
from ganattn.state import TrainState, Tree, split_networks

SCHEMES = ("in_iteration", "buffer")
# The constant map under which the authors' test code translates an image without a map in the
# buffer: images times 1.5, which is 1 + the mean of a map in [0, 1], or the ones of a new buffer.
# Their code has no stage but F0; F1 to F4 multiply features by the same 1.5.
TEST_VALUES = {"rmult": 0.5, "mult": 1.0, "alpha": 1.0, "none": 1.0}
# The stages of the supplement's table 1, as stages of `ResNetGenerator`.
STAGES = {"F0": "", "F1": "stem", "F2": "down2", "F3": "block4", "F4": "block{last}"}


@dataclasses.dataclass(frozen=True)
class Guidance(TwoDomains):
    """Two generators, and for each domain a discriminator whose attention maps guide them.

    A step updates the generators, then the discriminators on the same fakes, which go through a
    pool. Maps are constants to the generators. `guidance` says where they come from:

    in_iteration: every image that a generator takes, real, fake or for the identity, comes with the
        map that the discriminator of the image's own domain gives in the same step.
    buffer: a real image comes with the map that the discriminator of the other domain gave for its
        translation when the image was last visited, all ones at first; other passes are not guided.
        `memory` has the maps before they are enlarged, (images, h/8, w/8, 1) for each domain, and a
        batch has the indices of its images, "index_a" and "index_b" (n,) int32.

    blend, fusion_stage: how and where a map enters the generator; F0 is its input, F1 before and F2
    after down-sampling, F3 after the fourth and F4 after the last residual block (supplement, table
    1).
    buffer_sizes: number of images of domains a and b in the buffer. reconstruction_weight: of the
    loss by which discriminators also classify reconstructions as fake (the authors' use_rec).

    `generate` follows the authors' test code: "in_iteration" guides as in training, by
    discriminators in training mode on one image at a time; "buffer" runs the generators alone,
    under a constant map that the paper does not mention. test_guidance: of "buffer", a key of
    `TEST_GUIDANCE`. test_statistics: of the batch normalization in trainable attention, "batch" for
    those of each image, "running" for the averages of training (the authors' --eval).
    """

    weights: CycleWeights = dataclasses.field(default_factory=CycleWeights)
    blend: str = "rmult"
    guidance: str = "in_iteration"
    fusion_stage: str = "F0"
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
                domain: create_buffer(count, side, side, dtype)
                for domain, count in zip(DOMAINS, self.buffer_sizes, strict=True)
            }
        return memory

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generators, then one of the discriminators.

        Metrics are unweighted terms, summed over domains, and the weighted totals. Raises
        ConfigError if the buffer lacks the indices of the images.
        """
        real, memory = self.real_images(state, batch), dict(state.memory)
        discriminators, carried = split_networks(state.variables, DISCRIMINATORS)
        if self.guidance == "buffer":
            buffer, indices = memory["attention"], _indices(batch)
            maps = {domain: recall(buffer[domain], indices[domain]) for domain in DOMAINS}
        else:
            outputs, carried = self._discriminate(discriminators, carried, real)
            maps = _maps(outputs)

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
        domain = direction.target if self.guidance == "buffer" else direction.source
        return f"discriminator_{domain}"

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """attention is "guidance", the map that guides the generator, (n, h, w, 1) in [0, 1].

        The map is that of the source domain's discriminator. The buffer has none for a new image:
        it is translated under a constant map, and there is no attention; or the target domain's
        discriminator gives the map, of this translation. Raises ConfigError where the discriminator
        is missing.
        """
        name, guide = f"generator_{direction}", self._guide(direction)
        guiding_images = images = inputs["image"]
        if self.guidance == "buffer":
            constant = self._constant_map(images, TEST_VALUES[self.blend])
            (guiding_images,) = self._generate(variables[name], name, (images, constant))
            if self.test_guidance == "constant":
                return Output(guiding_images)
        if guide not in variables:
            raise ConfigError(f"guidance by {guide} needs its weights: give them with {name}'s")
        statistics = TEST_STATISTICS[self.test_statistics]
        output = self.networks[guide].apply(variables[guide], guiding_images, statistics)
        attention = to_unit_range(output.heatmap)
        (translation,) = self._generate(variables[name], name, (images, attention))
        return Output(translation, OrderedDict(guidance=enlarge(attention, *images.shape[1:3])))

    def _constant_map(self, images, value):
        count, height, width, _ = images.shape
        return jnp.full((count, height // 8, width // 8, 1), value, images.dtype)

    def _generate(self, variables, name, *passes):
        """One generator's images for several (images, map): no layer mixes examples."""
        if self.fusion_stage == "F0":
            images = jnp.concatenate([blend(*each, self.blend) for each in passes])
            output = self.networks[name].apply(variables, images)
        else:
            images, attention = (jnp.concatenate(parts) for parts in zip(*passes, strict=True))
            output = self.networks[name].apply(variables, images, attention=attention)
        return jnp.split(output.images, len(passes))

    def _discriminate(self, discriminators, carried, images, times=1):
        """The output of each domain's discriminator for its images, and the new carried state.

        times: how often the authors' code applies it; the output is the same each time, but batch
        normalization's averages move.
        """
        outputs, new_carried = {}, {}
        for domain, name in zip(DOMAINS, DISCRIMINATORS, strict=True):
            passes = [(images[domain],)] * (times if carried[name] else 1)
            every, new_carried[name] = apply_passes(
                self.networks[name], discriminators[name], carried[name], passes, joint=False
            )
            outputs[domain] = every[-1]
        return outputs, new_carried

    def _generator_loss(self, generators, _, discriminators, carried, real, maps):
        in_iteration = self.guidance == "in_iteration"
        nothing = self._constant_map(real["a"], neutral_value(self.blend))
        fake, cycled, identity = {}, {}, {}
        for direction in self.directions:
            source, target = direction.source, direction.target
            name, passes = f"generator_{direction}", [(real[source], maps[source])]
            if self.weights.identity > 0:
                passes.append((real[target], maps[target] if in_iteration else nothing))
            fake[target], *others = self._generate(generators[name], name, *passes)
            identity.update((target, image) for image in others)
        outputs, carried = self._discriminate(
            discriminators, carried, fake, times=2 if in_iteration else 1
        )
        fake_maps = _maps(outputs)
        for direction in self.directions:
            target, name = direction.target, f"generator_{direction.reverse}"
            back = (fake[target], fake_maps[target] if in_iteration else nothing)
            (cycled[direction.source],) = self._generate(generators[name], name, back)

        logits = {domain: outputs[domain].logits for domain in DOMAINS}
        total, terms = cycle_objective(
            self.weights, losses.least_squares, logits, real, cycled, identity
        )
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


def _maps(outputs: Tree) -> dict[str, Array]:
    """Each domain's maps, in [0, 1] and constant to what follows."""
    return {
        domain: jax.lax.stop_gradient(to_unit_range(output.heatmap))
        for domain, output in outputs.items()
    }


def _indices(batch: Mapping[str, Array]) -> dict[str, Array]:
    if "index_a" not in batch or "index_b" not in batch:
        raise ConfigError(
            "config.method.guidance is 'buffer', but the batch has no index_a and index_b: "
            "use 'in_iteration', or a data source that numbers its images"
        )
    return {domain: batch[f"index_{domain}"] for domain in DOMAINS}


def _multiple(method: ConfigDict) -> int:
    return 8 if method.discriminator == "trainable_attn" else 4


def _check(config: ConfigDict) -> None:
    method = config.method
    check(config, "method.discriminator", choices=GUIDED_DISCRIMINATORS)
    check(config, "method.blend", choices=BLENDS)
    check(config, "method.guidance", choices=SCHEMES)
    check(config, "method.test_guidance", choices=TEST_GUIDANCE)
    check(config, "method.test_statistics", choices=TEST_STATISTICS)
    check(config, "method.fusion_stage", choices=STAGES)
    check(config, "method.image_size", multiple_of=_multiple(method), least=24)
    check(config, "method.num_residual_blocks", least=4 if method.fusion_stage == "F3" else 1)
    check(config, "method.pool_size", least=0)
    if method.fusion_stage != "F0" and method.blend != "rmult":
        raise ConfigError(
            f"config.method.blend is {method.blend!r} at fusion stage {method.fusion_stage}: "
            "use 'rmult', or stage F0"
        )
    if method.guidance == "buffer":
        check(config, "method.buffer_size_a", least=1)
        check(config, "method.buffer_size_b", least=1)
