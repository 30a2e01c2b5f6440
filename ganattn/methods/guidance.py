"""Attention-based spatial guidance: CycleGAN whose critics tell generators where to look.

Lin et al., WACV 2021.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import attention_bank, image_pool, losses
from ganattn.errors import ConfigError
from ganattn.layers.attention import BLENDS, blend, enlarge, neutral_value, to_unit_range
from ganattn.methods.base import DTYPES, Method, Translation, apply_passes, as_metrics, dtype_of
from ganattn.methods.cyclegan import DIRECTIONS, DISCRIMINATORS, GENERATORS, Weights
from ganattn.methods.families.image_translation import create_optimizer
from ganattn.networks.guided_discriminators import PostHocDiscriminator, TrainableDiscriminator
from ganattn.networks.resnet import ResNetGenerator
from ganattn.parallel import AXIS, mean_over, vary
from ganattn.state import TrainState, Tree, Variables, split_networks

CRITICS = {"posthoc_attn": PostHocDiscriminator, "trainable_attn": TrainableDiscriminator}
SCHEMES = ("in_iteration", "buffer")
STAGES = {"F0": "", "F1": "stem", "F2": "down2", "F3": "block4", "F4": "block{last}"}


@dataclasses.dataclass(frozen=True)
class Guidance(Method):
    """Two generators, and for each domain a critic that judges pictures and maps its attention.

    A step updates the generators, then the critics on the same fakes, which go through a pool.
    Maps are constants to the generators. Where they come from is the scheme:

    in_iteration: every picture that a generator takes, real, fake or for the identity, comes with
        the map that the critic of the picture's own domain gives in the same step.
    buffer: a real picture comes with the map that the critic of the other domain gave for its
        translation when it was seen last, all ones at first; other passes are not guided. `memory`
        keeps them before they are enlarged, (pictures, h/8, w/8, 1) a domain, whole on every
        device, and a batch says by "index_a" and "index_b" (n,) int which pictures it holds.

    blend, stage: how and where a map enters the generator; F0 is its input, F1 before and F2 after
    down-sampling, F3 behind the fourth and F4 behind the last residual block.
    buffer_sizes: pictures of domain a and b that are remembered. reconstruction_weight: of the
    loss by which critics also tell reconstructions from real pictures.
    """

    translates_with: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    weights: Weights = dataclasses.field(default_factory=Weights)
    blend: str = "rmult"
    scheme: str = "in_iteration"
    stage: str = "F0"
    buffer_sizes: tuple[int, int] = (0, 0)
    reconstruction_weight: float = 0.0
    pool_size: int = 50
    image_size: int = 256

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        _check(method)
        dtype, blocks = DTYPES[method.dtype], method.num_residual_blocks
        generator = ResNetGenerator(
            method.width,
            blocks,
            guided_after=STAGES[method.fusion_stage].format(last=blocks),
            remat=method.remat,
            dtype=dtype,
        )
        critic = CRITICS[method.discriminator](method.discriminator_width, dtype=dtype)
        networks = dict.fromkeys(GENERATORS, generator) | dict.fromkeys(DISCRIMINATORS, critic)
        groups = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, create_optimizer(config.optimizer)),
            weights=Weights(method.lambda_a, method.lambda_b, method.lambda_identity),
            blend=method.blend,
            scheme=method.guidance,
            stage=method.fusion_stage,
            buffer_sizes=(method.buffer_size_a, method.buffer_size_b),
            reconstruction_weight=method.reconstruction_weight,
            pool_size=method.pool_size,
            image_size=method.image_size,
        )

    def mapped(self) -> Self:
        """For `parallel.map_step`: batch normalisation, too, counts all devices' examples."""
        networks = {name: module.clone(axis_name=AXIS) for name, module in self.networks.items()}
        return dataclasses.replace(super().mapped(), networks=networks)

    def check_data(self, sizes: Mapping[str, int]) -> None:
        """Raises ConfigError when the buffer is too small for these pictures."""
        for domain, room in zip("ab", self.buffer_sizes, strict=True):
            if self.scheme == "buffer" and sizes[domain] > room:
                raise ConfigError(
                    f"config.method.buffer_size_{domain} is {room}: domain {domain} has "
                    f"{sizes[domain]} pictures, set it to that"
                )

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        channels = 4 if self.blend == "alpha" and name in GENERATORS else 3
        return jax.ShapeDtypeStruct((1, self.image_size, self.image_size, channels), jnp.float32)

    def create_state(
        self, rng: Array, variables: Mapping[str, Variables] | None = None
    ) -> TrainState:
        """As `Method.create_state`; pool and maps have the precision of the networks."""
        state = super().create_state(rng, variables)
        dtype, size = dtype_of(state.variables), self.image_size
        memory: dict[str, Tree] = {}
        if self.pool_size:
            shape = (size, size, 3)
            memory["pool"] = {d: image_pool.empty(self.pool_size, shape, dtype) for d in "ab"}
        if self.scheme == "buffer":
            memory["attention"] = {
                domain: attention_bank.empty(count, size // 8, size // 8, dtype)
                for domain, count in zip("ab", self.buffer_sizes, strict=True)
            }
        return state.replace(memory=memory)

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generators, then one of the critics.

        batch: "a" and "b", (n, h, w, 3) in [-1, 1]; for the buffer also "index_a" and "index_b".
        Metrics are unweighted terms, summed over domains, and the weighted totals.
        """
        real = {domain: batch[domain].astype(dtype_of(state.variables)) for domain in "ab"}
        generators, kept = split_networks(state.variables, GENERATORS)
        judges, statistics = split_networks(state.variables, DISCRIMINATORS)
        if self.scheme == "buffer":
            indices, bank = _indices(batch), state.memory["attention"]
            maps = {domain: attention_bank.recall(bank[domain], indices[domain]) for domain in "ab"}
        else:
            judged, statistics = self._judge(judges, statistics, real)
            maps = _maps(judged)

        loss = jax.grad(self._generator_loss, has_aux=True)
        gradients, (statistics, made, terms) = loss(
            vary(generators, self.axis_name), judges, statistics, real, maps
        )
        state = self.update(state, "generator", gradients, kept)

        memory = dict(state.memory)
        shown = made["fake"]
        if self.pool_size:
            memory["pool"], shown = self._exchange(state, made["fake"])
        if self.scheme == "buffer":
            memory["attention"] = {
                source: attention_bank.remember(
                    bank[source], indices[source], made["map"][target], self.axis_name
                )
                for source, target in DIRECTIONS
            }
        loss = jax.grad(self._critic_loss, has_aux=True)
        gradients, (statistics, metrics) = loss(
            vary(judges, self.axis_name), statistics, real, shown, made["cycled"]
        )
        state = self.update(state, "discriminator", gradients, statistics)
        state = state.replace(step=state.step + 1, memory=memory)
        return state, mean_over({**terms, **metrics}, self.axis_name)

    def translate(
        self, variables: Mapping[str, Variables], images: Array, direction: str = "a2b"
    ) -> Translation:
        """images (n, h, w, 3) in [-1, 1], h and w multiples of 4 (with trainable attention: of 8).

        attention is the map that guides the generator, (n, h, w, 1) in [0, 1]. The generator needs
        its critic: that of the source domain, or with the buffer scheme, which has no map for a new
        picture, that of the target domain, which then judges a first translation under a map of 1/2
        (as the authors' code tests); without it this translation is returned, and no attention.
        Raises ConfigError for an unknown direction, or where the critic is indispensable.
        """
        if direction not in self.directions:
            raise ConfigError(
                f"direction is {direction!r}: use one of {', '.join(self.directions)}"
            )
        source, target = direction.split("2")
        name, by_buffer = f"generator_{direction}", self.scheme == "buffer"
        critic = f"discriminator_{target if by_buffer else source}"
        images = images.astype(dtype_of({name: variables[name]}))
        attention = None
        if by_buffer:
            half = self._constant_map(images, 0.5)
            (seen,) = self._generate(variables[name], name, (images, half))
            if critic not in variables:
                return Translation(seen)
        elif critic not in variables:
            raise ConfigError(f"guidance by {critic} needs its weights: give them with {name}'s")
        else:
            seen = images
        judged = self.networks[critic].apply(variables[critic], seen)
        attention = to_unit_range(judged.attention)
        (made,) = self._generate(variables[name], name, (images, attention))
        return Translation(made, enlarge(attention, *images.shape[1:3]))

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Per direction: source, guiding map, translation, back again, and the identity."""
        grids = {}
        for source, target in DIRECTIONS:
            there = self.translate(variables, batch[source], f"{source}2{target}")
            back = self.translate(variables, there.images, f"{target}2{source}")
            kept = self.translate(variables, batch[source], f"{target}2{source}")
            heatmap = {} if there.attention is None else {"attention": there.attention}
            grids[f"{source}2{target}"] = {
                "source": batch[source],
                **heatmap,
                "translation": there.images,
                "cycle": back.images,
                "identity": kept.images,
            }
        return grids

    def _constant_map(self, images, value):
        count, height, width, _ = images.shape
        return jnp.full((count, height // 8, width // 8, 1), value, images.dtype)

    def _generate(self, variables, name, *passes):
        """One generator's pictures for several (images, map): no layer mixes examples."""
        if self.stage == "F0":
            images = jnp.concatenate([blend(*one, self.blend) for one in passes])
            made = self.networks[name].apply(variables, images)
        else:
            images, attention = (jnp.concatenate(parts) for parts in zip(*passes, strict=True))
            made = self.networks[name].apply(variables, images, attention=attention)
        return jnp.split(made, len(passes))

    def _judge(self, judges, statistics, pictures, times=1):
        """Each domain's pictures before its critic, and the moved statistics.

        times: how often the authors' code does it, to the same result, but its averages move.
        """
        judged, moved = {}, {}
        for name in DISCRIMINATORS:
            passes = [(pictures[name[-1]],)] * (times if statistics[name] else 1)
            outputs, moved[name] = apply_passes(
                self.networks[name], judges[name], statistics[name], passes, joint=False
            )
            judged[name[-1]] = outputs[-1]
        return judged, moved

    def _generator_loss(self, generators, judges, statistics, real, maps):
        in_iteration = self.scheme == "in_iteration"
        nothing = self._constant_map(real["a"], neutral_value(self.blend))
        fake, cycled, kept = {}, {}, {}
        for source, target in DIRECTIONS:
            name = f"generator_{source}2{target}"
            passes = [(real[source], maps[source])]
            if self.weights.identity > 0:
                passes.append((real[target], maps[target] if in_iteration else nothing))
            fake[target], *kept[target] = self._generate(generators[name], name, *passes)
        judged, statistics = self._judge(judges, statistics, fake, 2 if in_iteration else 1)
        seen = _maps(judged)
        for source, target in DIRECTIONS:
            name = f"generator_{target}2{source}"
            back = (fake[target], seen[target] if in_iteration else nothing)
            (cycled[source],) = self._generate(generators[name], name, back)

        terms, total = dict.fromkeys(("adversarial", "cycle", "identity"), 0.0), 0.0
        for domain in "ab":
            adversarial = losses.least_squares(judged[domain].logits, True)
            cycle = losses.mean_absolute(cycled[domain], real[domain])
            identity = sum(losses.mean_absolute(one, real[domain]) for one in kept[domain])
            weight = getattr(self.weights, domain)
            total += adversarial + weight * (cycle + self.weights.identity * identity)
            for term, value in zip(terms, (adversarial, cycle, identity), strict=True):
                terms[term] += value
        made = {"fake": fake, "cycled": cycled, "map": seen}
        return total, (statistics, made, as_metrics("generator", terms, total))

    def _critic_loss(self, judges, statistics, real, fake, cycled):
        terms, moved = {}, {}
        for name in DISCRIMINATORS:
            domain = name[-1]
            passes = [(real[domain],), (fake[domain],)]
            if self.reconstruction_weight:
                passes.append((cycled[domain],))
            (on_real, on_fake, *on_cycled), moved[name] = apply_passes(
                self.networks[name], judges[name], statistics[name], passes, joint=False
            )
            terms[domain] = 0.5 * losses.least_squares(on_real.logits, True)
            terms[domain] += 0.5 * losses.least_squares(on_fake.logits, False)
            for judged in on_cycled:
                extra = losses.least_squares(judged.logits, False)
                terms[domain] += self.reconstruction_weight * extra
        total = terms["a"] + terms["b"]
        return total, (moved, as_metrics("discriminator", terms, total))

    def _exchange(self, state, fake):
        key = jax.random.fold_in(state.rng, state.step)
        pairs = {
            domain: image_pool.exchange(
                state.memory["pool"][domain],
                fake[domain],
                jax.random.fold_in(key, number),
                self.axis_name,
            )
            for number, domain in enumerate("ab")
        }
        return {d: pair[0] for d, pair in pairs.items()}, {d: pair[1] for d, pair in pairs.items()}


def _maps(judged: Tree) -> dict[str, Array]:
    """Each domain's maps, in [0, 1] and constants to what follows."""
    return {d: jax.lax.stop_gradient(to_unit_range(one.attention)) for d, one in judged.items()}


def _indices(batch: Mapping[str, Array]) -> dict[str, Array]:
    if "index_a" not in batch or "index_b" not in batch:
        raise ConfigError(
            "config.method.guidance is 'buffer', but the data give no index_a and index_b: "
            "use 'in_iteration', or a source that numbers its pictures"
        )
    return {domain: batch[f"index_{domain}"] for domain in "ab"}


def _check(method: ConfigDict) -> None:
    allowed = {
        "discriminator": tuple(CRITICS),
        "blend": BLENDS,
        "guidance": SCHEMES,
        "fusion_stage": STAGES,
        "dtype": tuple(DTYPES),
    }
    for field, values in allowed.items():
        if method[field] not in values:
            raise ConfigError(
                f"config.method.{field} is {method[field]!r}: use one of {', '.join(values)}"
            )
    multiple = 8 if method.discriminator == "trainable_attn" else 4
    if method.image_size % multiple or method.image_size < 24:
        raise ConfigError(
            f"config.method.image_size is {method.image_size}: give a multiple of {multiple}, "
            "at least 24"
        )
    if method.fusion_stage != "F0" and method.blend != "rmult":
        raise ConfigError(
            f"config.method.blend is {method.blend!r} at fusion stage {method.fusion_stage}: "
            "use 'rmult', or stage F0"
        )
    needed = 4 if method.fusion_stage == "F3" else 1
    if method.num_residual_blocks < needed:
        raise ConfigError(
            f"config.method.num_residual_blocks is {method.num_residual_blocks}: "
            f"fusion stage {method.fusion_stage} needs at least {needed}"
        )
    if method.pool_size < 0:
        raise ConfigError(f"config.method.pool_size is {method.pool_size}: give at least 0")
    sizes = (method.buffer_size_a, method.buffer_size_b)
    if method.guidance == "buffer" and min(sizes) < 1:
        raise ConfigError(
            f"config.method.buffer_size_a and _b are {sizes[0]} and {sizes[1]}: "
            "give the number of pictures in each domain"
        )
