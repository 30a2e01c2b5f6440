"""CycleGAN: unpaired translation by cycle consistency (Zhu et al., ICCV 2017).

With `config.method.pyramid`, its generators have SPAP or ASPP (Sun and Wu 2019), and with
`config.method.atrous_discriminator` or `aspp_discriminator` its discriminators have atrous
convolutions or ASPP. These authors released no code; `configs/spap_cyclegan.py` says what their
text leaves open.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import jax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.errors import ConfigError
from ganattn.methods.base import Output, apply_passes, as_metrics
from ganattn.methods.families.image_translation import (
    TEST_STATISTICS,
    check_config,
    create_discriminator,
    create_generator,
    create_optimizer,
    gradient_penalty,
    penalty_shares,
    real_and_fake,
    translation_keys,
)
from ganattn.methods.families.pyramids import check_pyramids, create_pyramids, delay_pyramid
from ganattn.methods.families.two_domains import (
    DISCRIMINATORS,
    DOMAINS,
    GENERATORS,
    GROUPS,
    CycleWeights,
    TwoDomains,
    cycle_objective,
)
from ganattn.state import TrainState, Tree, split_networks

_PENALTY = 1 << 16  # number of the penalty's random numbers, after those of dropout


@dataclasses.dataclass(frozen=True)
class CycleGAN(TwoDomains):
    """Two generators, and a discriminator for each domain.

    A step updates the generators, then the discriminators on the same fakes, which go through a
    pool of earlier ones, as the authors' loop does. `memory` is an `ImagePool` for each domain, or
    {} when the pool's size is 0.

    Where the paper and the authors' PyTorch code differ, the code is followed: the identity loss is
    on for all data (section 5.2: for paintings to photos only), the rate falls to a 101st part of
    itself (section 7.1: to 0), and only the 7x7 convolutions and the residual blocks have
    reflection padding (section 7.2: all). The halved loss of the discriminators is in both. The
    authors' models with gan_mode wgangp never call their gradient penalty, so its weight is 0; its
    place in the loss, where there is a weight, is chosen here.

    `generate` follows the authors' test code, which translates one image at a time by networks in
    training mode; with their defaults, instance normalization without dropout, modes are equal.

    adversarial: a key of `losses.TRANSLATION`. gradient_penalty_weight: of WGAN-GP's penalty on
    each discriminator, on mixtures of real and pooled fake images; 0 skips its pass. norm:
    "instance", "batch" or "none". dropout: whether the generators have it. test_dropout: whether
    that remains in `generate`. test_statistics: of batch normalization in `generate`, "batch" for
    those of each image, "running" for the averages of training. The authors' --eval is "running"
    without dropout.
    """

    weights: CycleWeights = dataclasses.field(default_factory=CycleWeights)
    adversarial: str = "least_squares"
    gradient_penalty_weight: float = 0.0
    norm: str = "instance"
    dropout: bool = False
    test_dropout: bool = True
    test_statistics: str = "batch"

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method, multiple = config.method, check_config(config)
        _check_pyramids(config)
        pyramids = create_pyramids(method, generator=False, discriminator=False)
        generator = create_generator(method, pyramids[0])
        discriminator = create_discriminator(method)
        if pyramids[1] is not None:
            discriminator = discriminator.clone(pyramid=pyramids[1])
        optimizers = {
            group: create_optimizer(
                config.optimizer, delay_pyramid(method, pyramid, method.pyramid_start_step)
            )
            for group, pyramid in zip(GROUPS, pyramids, strict=True)
        }
        return cls(
            dict.fromkeys(GENERATORS, generator) | dict.fromkeys(DISCRIMINATORS, discriminator),
            GROUPS,
            optimizers,
            weights=CycleWeights(method.lambda_a, method.lambda_b, method.lambda_identity),
            multiple=multiple,
            **cls.values_of(method),
        )

    @property
    def draws_noise(self) -> bool:
        """Whether dropout is applied in `generate`."""
        return self.dropout and self.test_dropout

    def create_memory(self, dtype: Any) -> Tree:
        return self.create_pools(dtype)

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generators, then one of the discriminators.

        draws: with a gradient penalty "discriminator_a/share" and "discriminator_b/share" (n,), the
        shares of the real images in the mixtures. Metrics are sums over domains, and the weighted
        totals.
        """
        real = self.real_images(state, batch)
        rng = jax.random.fold_in(state.rng, state.step)

        discriminators = split_networks(state.variables, DISCRIMINATORS)
        state, (fake, metrics) = self.minimize(
            state, "generator", self._generator_loss, *discriminators, real, rng
        )
        memory, fake = self.query_pools(state.memory, fake, rng)
        shares = self._shares(draws, real, rng)
        loss = self._discriminator_loss
        state, terms = self.minimize(state, "discriminator", loss, real, fake, shares)
        return state.replace(memory=memory), {**metrics, **terms}

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """With SPAP, attention has the maps of `Pooled`, (n, h/2, w/2, 1) in [0, 1].

        rng draws the dropout of each example; without it all have the same fixed one.
        """
        name, images = f"generator_{direction}", inputs["image"]
        keys = translation_keys(self.examples, rng, images) if self.draws_noise else None
        statistics = TEST_STATISTICS[self.test_statistics]
        return self.networks[name].apply(variables[name], images, keys, statistics)

    def _generator_loss(self, generators, carried, discriminators, of_discriminators, real, rng):
        trained, carried = {**generators, **discriminators}, {**carried, **of_discriminators}
        keys = map(partial(self._dropout_keys, rng, len(real["a"])), itertools.count())
        # Without batch statistics no layer mixes examples: passes can share a batch.
        joint = self.norm != "batch"
        with_identity = self.weights.identity > 0

        def run(name, *passes):
            outputs, carried[name] = apply_passes(
                self.networks[name], trained[name], carried[name], passes, joint
            )
            return outputs

        def images(name, *passes):
            return [output.images for output in run(name, *passes)]

        fake, cycled, identity = {}, {}, {}
        for direction in self.directions:
            source, target = direction.source, direction.target
            passes = [(real[source], next(keys))]
            if with_identity and joint:
                passes.append((real[target], next(keys)))
            fake[target], *others = images(f"generator_{direction}", *passes)
            identity.update((target, image) for image in others)
            back = f"generator_{direction.reverse}"
            (cycled[source],) = images(back, (fake[target], next(keys)))
        if with_identity and not joint:
            for direction in self.directions:
                target = direction.target
                name, passes = f"generator_{direction}", (real[target], next(keys))
                (identity[target],) = images(name, passes)

        logits = {d: run(f"discriminator_{d}", (fake[d],))[0].logits for d in reversed(DOMAINS)}
        adversarial = losses.TRANSLATION[self.adversarial]
        total, terms = cycle_objective(self.weights, adversarial, logits, real, cycled, identity)
        return total, (carried, (fake, as_metrics("generator", terms, total)))

    def _shares(self, draws, real, rng):
        """Each domain's shares of the real images in the penalty's mixtures, {} without it."""
        if not self.gradient_penalty_weight:
            return {}
        names = dict(zip(DOMAINS, DISCRIMINATORS, strict=True))
        keys = {domain: jax.random.fold_in(rng, _PENALTY + i) for i, domain in enumerate(names)}
        return {
            d: penalty_shares(draws, f"{name}/share", self.examples, keys[d], real[d])
            for d, name in names.items()
        }

    def _discriminator_loss(self, discriminators, carried, real, fake, shares):
        terms, new_carried, penalty = {}, {}, 0.0
        joint = self.norm != "batch"
        for domain, name in zip(DOMAINS, DISCRIMINATORS, strict=True):
            passes = ((real[domain],), (fake[domain],))
            (on_real, on_fake), new_carried[name] = apply_passes(
                self.networks[name], discriminators[name], carried[name], passes, joint
            )
            # Eq. 1 with the least squares of section 4, halved as in the authors' code.
            loss = real_and_fake(self.adversarial, on_real.logits, on_fake.logits)
            terms[domain] = 0.5 * loss
            if domain in shares:
                network, trained = self.networks[name], discriminators[name]
                images = real[domain], fake[domain], shares[domain]
                term, new_carried[name] = gradient_penalty(
                    network, trained, new_carried[name], *images
                )
                penalty += term  # Gulrajani et al. 2017, eq. 3
        total = terms["a"] + terms["b"] + self.gradient_penalty_weight * penalty
        if shares:
            terms["gradient_penalty"] = penalty
        return total, (new_carried, as_metrics("discriminator", terms, total))

    def _dropout_keys(self, rng, count, number):
        if not self.dropout:
            return None
        return self.examples.keys(jax.random.fold_in(rng, 2 + number), count)


def _check_pyramids(config: ConfigDict) -> None:
    check_pyramids(config)
    method = config.method
    if method.pyramid != "none" and method.get("generator", "resnet") != "resnet":
        raise ConfigError(
            f"config.method.pyramid is {method.pyramid!r}: use 'none' with the generator "
            f"{method.generator!r}, which has no place for it"
        )
    has_third_layer = method.discriminator == "patch" and method.discriminator_layers >= 3
    for field in ("atrous_discriminator", "aspp_discriminator"):
        if method.get(field, False) and not has_third_layer:
            raise ConfigError(
                f"config.method.{field} is True, but the discriminator has no third strided "
                "layer: use 'patch' with discriminator_layers of at least 3"
            )
