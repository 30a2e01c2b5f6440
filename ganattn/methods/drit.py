"""DRIT: unpaired translation by disentangled content and attributes (Lee et al., ECCV 2018)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.methods.base import DTYPES, as_metrics, weights_of
from ganattn.methods.families.attributes import (
    ATTRIBUTE,
    CONTENT,
    GENERATOR,
    OTHER,
    AttributeTranslation,
)
from ganattn.methods.families.two_domains import DISCRIMINATORS
from ganattn.networks.drit import (
    ATTRIBUTE_DOWNSAMPLINGS,
    DOWNSAMPLINGS,
    AttributeEncoders,
    AttributeGenerator,
    ContentDiscriminator,
    SharedContentEncoder,
    UnnormalizedDiscriminator,
    smallest_content,
)
from ganattn.optimizers import adam, clip_norm, epoch_decay
from ganattn.state import TrainState, Tree

CONTENT_DISCRIMINATOR = "content_discriminator"
RANDOM_DISCRIMINATORS = tuple(f"random_{name}" for name in DISCRIMINATORS)
GROUPS = {
    "generator": (CONTENT, GENERATOR),
    "attribute_encoder": (ATTRIBUTE,),
    "discriminator": DISCRIMINATORS + RANDOM_DISCRIMINATORS,
    "content_discriminator": (CONTENT_DISCRIMINATOR,),
}
METRICS = {
    "generator": (
        *("adversarial", "content_adversarial", "cross_cycle", "reconstruction"),
        *("content", "adversarial_random", "latent", "mode_seeking"),
    ),
    "attribute_encoder": ("divergence",),
    "discriminator": ("adversarial", "adversarial_random"),
    "content_discriminator": ("adversarial",),
}


@dataclasses.dataclass(frozen=True)
class DRITWeights:
    """Weights of the terms of the full objective (section 3.3) and of DRIT++'s mode seeking.

    divergence, content: of the priors of attributes and contents. A mode_seeking of 0 is the paper,
    and the authors' --no_ms.
    """

    adversarial: float = 1.0
    content_adversarial: float = 1.0
    cross_cycle: float = 10.0
    reconstruction: float = 10.0
    latent: float = 10.0
    divergence: float = 0.01
    content: float = 0.01
    mode_seeking: float = 1.0


@dataclasses.dataclass(frozen=True)
class DRIT(AttributeTranslation):
    """Contents in a space that both domains share, and attributes of each domain.

    Of a batch, examples 0, 2, 4, ... are translated, and examples 1, 3, 5, ... are the real images
    of the discriminators of translations with drawn attributes; so a device's part of a batch has
    an even number. The authors' batch of 2 is one such pair. (Theirs translates the first example
    of a larger batch only.)

    Of `d_iter` steps, d_iter - 1 update the content discriminator alone; the last two steps of an
    epoch are always full. A full step runs the encoders and the generator once, then updates the
    discriminators and the content discriminator, then the generators twice, by the gradients of two
    objectives: by translations with encoded attributes, which also trains the attribute encoder,
    and by those with drawn ones, which does not. Both gradients are those at the weights before
    either update. The authors' code takes the second one through the first one's graph after it
    has changed the weights in place, which mixes old activations with new weights (PyTorch 0.4) or
    is an error (later); adding both gradients up is the popular repair, and another algorithm.

    Other differences of the authors' code from the paper, which are followed here: weight decay,
    a clipped gradient and a lower rate for the content discriminator; two discriminators a domain,
    at three scales and without normalization; N(0, 1) added to contents in training; the mean
    square of the contents in place of an L1 norm of weights; and the encoders' part of
    the content adversarial loss is the cross entropy to 1/2.

    In a step that does not update a group, its metrics are those of the last step that did, 0
    before it. `TrainState.memory` has them. A moving average is that of the content encoder and the
    generator.

    concat: whether attributes have variances and are concatenated to features, or transform them.
    d_iter, epoch_steps: see above. content_only: whether `step` updates the content discriminator
    alone.
    """

    weights: DRITWeights = DRITWeights()
    concat: bool = True
    d_iter: int = 3
    epoch_steps: int = 1
    content_only: bool = False

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method, dtype = config.method, DTYPES[config.method.dtype]
        size, blocks, concat = method.attribute_size, method.num_residual_blocks, method.concat
        discriminator = UnnormalizedDiscriminator(
            method.discriminator_width, method.discriminator_layers, method.num_scales, dtype
        )
        networks: dict[str, Any] = {
            CONTENT: SharedContentEncoder(method.width, blocks, dtype),
            ATTRIBUTE: AttributeEncoders(method.width, size, concat, dtype),
            GENERATOR: AttributeGenerator(method.width, size, blocks, concat, dtype=dtype),
            CONTENT_DISCRIMINATOR: ContentDiscriminator(
                method.content_discriminator_layers, method.content_discriminator_kernel, dtype
            ),
            **dict.fromkeys(GROUPS["discriminator"], discriminator),
        }
        epoch_steps = config.optimizer.epoch_steps
        return cls(
            networks,
            GROUPS,
            _optimizers(config.optimizer, _full_steps(epoch_steps, method.d_iter)),
            weights=weights_of(DRITWeights, method),
            multiple=1 << DOWNSAMPLINGS,
            epoch_steps=epoch_steps,
            **cls.values_of(method),
        )

    def create_memory(self, dtype: Any) -> Tree:
        """The metrics of all groups, 0 before the first step that updates a group."""
        return {
            f"{group}/{term}": jnp.zeros((), dtype)
            for group, terms in METRICS.items()
            for term in (*terms, "total")
            if self.weights.mode_seeking or term != "mode_seeking"
        }

    def train_step(
        self,
        state: TrainState,
        batch: Mapping[str, Array],
        draws: Mapping[str, Array] | None = None,
    ) -> tuple[TrainState, dict[str, Array]]:
        """As `Method.train_step`; `state.step` determines which groups are updated.

        draws, (n, ...) for n pairs of examples: "content_noise_a", "content_noise_b", shaped as
        contents. A full step also has these of the translations, "content_noise_b_again" (of the
        content of b, encoded from its translation to a) and "content_noise_a_again";
        "attr_eps_a", "attr_eps_b", "attr_eps_a_again", "attr_eps_b_again" (n, size) of the encoded
        attributes; and "z_random", "z_random2" (n, size), attributes of both domains.
        """

        def run(content_only):
            method = dataclasses.replace(self, content_only=content_only)
            new, metrics = super(DRIT, method).train_step(state, batch, draws)
            known = {name: x.astype(state.memory[name].dtype) for name, x in metrics.items()}
            return new.replace(memory={**state.memory, **known})

        if _full_steps(self.epoch_steps, self.d_iter) == self.epoch_steps:
            new = run(False)
        else:
            index = state.step % self.epoch_steps
            is_full = ((index + 1) % self.d_iter == 0) | (index >= self.epoch_steps - 2)
            new = jax.lax.cond(is_full, lambda: run(False), lambda: run(True))
        return new, dict(new.memory)

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the content discriminator, or of all groups. See `train_step`."""
        real = self.real_images(state, batch)
        if len(real["a"]) % 2:
            raise ConfigError(
                f"config.data.batch_size gives a device {len(real['a'])} examples at once: set it "
                "to an even number for each device and each of optimizer.accumulate_steps"
            )
        encoded = {domain: images[::2] for domain, images in real.items()}
        draws = self.draw_noise(state, encoded["a"], draws, self._shapes_of_draws())
        if self.content_only:
            contents = self.encode_contents(state.variables[CONTENT], encoded, draws)
            return self.minimize(state, CONTENT_DISCRIMINATOR, self._content_loss, contents)
        others = {domain: images[1::2] for domain, images in real.items()}
        return self._full_step(state, encoded, others, draws)

    def _full_step(self, state, real, others, draws):
        """One forward pass, the discriminators' updates, and both updates of the generators."""
        trained = self.examples.vary(
            {name: state.variables[name] for name in (CONTENT, ATTRIBUTE, GENERATOR)}
        )
        contents, pull_contents = jax.vjp(
            lambda variables: self.encode_contents(variables, real, draws), trained[CONTENT]
        )
        attributes, pull_attributes = jax.vjp(
            lambda variables: self.encode_attributes(variables, real, draws), trained[ATTRIBUTE]
        )
        guided, pull_guided = jax.vjp(
            lambda *arguments: self.translate_guided(*arguments, draws),
            *(trained, contents, attributes[0]),
        )
        random, pull_random = jax.vjp(
            lambda variables, contents: self.translate_random(
                {**variables, ATTRIBUTE: trained[ATTRIBUTE]}, contents, draws
            ),
            *({GENERATOR: trained[GENERATOR]}, contents),
        )
        fakes = jax.lax.stop_gradient((guided["fake"], random["fake"]))
        state, metrics = self.minimize(
            state, "discriminator", self._discriminator_loss, real, others, *fakes
        )
        fixed = jax.lax.stop_gradient(contents)
        state, content_metrics = self.minimize(
            state, CONTENT_DISCRIMINATOR, self._content_loss, fixed
        )

        first = jax.grad(self._guided_loss, argnums=(0, 1, 2), has_aux=True)
        (to_contents, to_attributes, cotangents), guided_terms = first(
            contents, attributes, guided, state.variables, real
        )
        gradients, again, from_images = pull_guided(cotangents)
        codes, divergence = to_attributes
        (encoder,) = pull_contents(optax.tree.add(to_contents, again))
        (attribute,) = pull_attributes((optax.tree.add(codes, from_images), divergence))
        gradients[CONTENT] = optax.tree.add(gradients[CONTENT], encoder)
        attribute = {ATTRIBUTE: optax.tree.add(gradients.pop(ATTRIBUTE), attribute)}

        second = jax.grad(self._random_loss, has_aux=True)
        cotangents, random_terms = second(random, state.variables, draws)
        random_gradients, again = pull_random(cotangents)
        (random_gradients[CONTENT],) = pull_contents(again)

        state = self.update(state, "generator", gradients, {})
        state = self.update(state, "attribute_encoder", attribute, {})
        state = self.update(state, "generator", random_gradients, {})
        metrics |= content_metrics
        return state, {**metrics, **self._generator_metrics(guided_terms, random_terms)}

    def _generator_metrics(self, guided, random):
        """Metrics of both objectives, whose terms are unweighted, and of the attribute encoder."""
        first, second = self._total(guided), self._total(random)
        divergence = {"divergence": guided.pop("divergence")}
        return {
            **as_metrics("generator", {**guided, **random}, first + second),
            **as_metrics("attribute_encoder", divergence, first),
        }

    def _total(self, terms: Mapping[str, Array]) -> Any:
        """The weighted sum."""
        weights = {**vars(self.weights), "adversarial_random": self.weights.adversarial}
        return sum(weights[name] * value for name, value in terms.items())

    def _shapes_of_draws(self) -> dict[str, tuple[int, ...]]:
        """Of one example, by name; `draw_noise` draws them."""
        content = self.network_input(GENERATOR).shape[1:]
        names = ["content_noise_a", "content_noise_b"]
        if self.content_only:
            return dict.fromkeys(names, content)
        names += ["content_noise_b_again", "content_noise_a_again"]
        vectors = ["z_random", "z_random2"] if self.weights.mode_seeking else ["z_random"]
        if self.concat:
            vectors += [f"attr_eps_{d}{again}" for d in OTHER for again in ("", "_again")]
        return dict.fromkeys(names, content) | dict.fromkeys(vectors, (self.attribute_size,))

    def _discriminator_loss(self, discriminators, _, real, others, fake, random):
        """The domain adversarial loss (section 3.3), summed over scales and domains."""
        terms = {"adversarial": 0.0, "adversarial_random": 0.0}
        for domain in OTHER:
            name = f"discriminator_{domain}"
            passes = {
                "adversarial": (name, real[domain], [fake[domain]]),
                "adversarial_random": (f"random_{name}", others[domain], random[domain]),
            }
            for term, (network, images, fakes) in passes.items():
                batch = jnp.concatenate([images, *fakes])
                for logits in self.networks[network].apply(discriminators[network], batch).logits:
                    real_logits, *fake_logits = jnp.split(logits, 1 + len(fakes))
                    # Mode seeking has two fakes, and the authors' code counts the real ones twice.
                    for each in fake_logits:
                        terms[term] += losses.binary_cross_entropy(real_logits, True)
                        terms[term] += losses.binary_cross_entropy(each, False)
        total = sum(terms.values())
        return total, ({}, as_metrics("discriminator", terms, total))

    def _content_loss(self, discriminators, _, contents):
        """The content adversarial loss (section 3.1): contents of b are 1, those of a are 0."""
        network = self.networks[CONTENT_DISCRIMINATOR]
        both = jnp.concatenate([contents["b"], contents["a"]])
        logits = network.apply(discriminators[CONTENT_DISCRIMINATOR], both).logits
        b, a = jnp.split(logits, 2)
        total = losses.binary_cross_entropy(b, True) + losses.binary_cross_entropy(a, False)
        return total, ({}, as_metrics("content_discriminator", {"adversarial": total}, total))

    def _fool(self, variables, network: str, fakes: Sequence[Array]) -> Any:
        """The generator's adversarial term of equally many fakes of each kind, summed over kinds.

        It is summed over scales too.
        """
        output = self.networks[network].apply(variables[network], jnp.concatenate(fakes))
        real = (losses.binary_cross_entropy(scale, True) for scale in output.logits)
        return len(fakes) * sum(real)

    def _guided_loss(self, contents, attributes, images, variables, real):
        """The terms without drawn attributes, for fixed discriminators."""
        terms = dict.fromkeys(METRICS["generator"][:5], 0.0)
        terms["divergence"] = attributes[1]
        network, both = self.networks[CONTENT_DISCRIMINATOR], jnp.concatenate([*contents.values()])
        logits = network.apply(variables[CONTENT_DISCRIMINATOR], both).logits
        # Section 3.1, as the cross entropy to 1/2, summed over domains.
        for label in (True, False):
            terms["content_adversarial"] += losses.binary_cross_entropy(logits, label)
        for domain, content in contents.items():
            fakes = [images["fake"][domain]]
            terms["adversarial"] += self._fool(variables, f"discriminator_{domain}", fakes)
            # Section 3.2, then the self-reconstruction of section 3.3.
            terms["cross_cycle"] += losses.mean_absolute(images["cycle"][domain], real[domain])
            terms["reconstruction"] += losses.mean_absolute(images["same"][domain], real[domain])
            terms["content"] += jnp.mean(jnp.square(content))
        return self._total(terms), terms

    def _random_loss(self, random, variables, draws):
        """The terms with drawn attributes, for fixed discriminators."""
        terms = {"adversarial_random": 0.0, "latent": 0.0}
        for domain, fakes in random["fake"].items():
            network = f"random_discriminator_{domain}"
            terms["adversarial_random"] += self._fool(variables, network, fakes)
            # Latent regression of section 3.3, of the means alone.
            terms["latent"] += losses.mean_absolute(random["latent"][domain], draws["z_random"])
            if self.weights.mode_seeking:
                term = losses.mode_seeking(fakes, (draws["z_random"], draws["z_random2"]))
                terms["mode_seeking"] = terms.get("mode_seeking", 0.0) + term
        return self._total(terms), terms


def _full_steps(epoch_steps: int, d_iter: int) -> int:
    """The number of full steps of an epoch; the last two are always full."""
    return sum((i + 1) % d_iter == 0 or i >= epoch_steps - 2 for i in range(epoch_steps))


def _optimizers(optimizer: ConfigDict, full_steps: int) -> dict[str, optax.GradientTransformation]:
    """Adam of every group, whose rate follows the epochs, not the group's own updates.

    Epoch e (from 0) uses rate * (1 - max(0, e - lag - n) / (d + 1)), with n epochs before
    `decay_start_step` and d from there to `total_steps`.
    """
    updates = {
        "generator": 2 * full_steps,
        "attribute_encoder": full_steps,
        "discriminator": full_steps,
        "content_discriminator": optimizer.epoch_steps,
    }
    chains = {}
    for group, count in updates.items():
        is_content = group == "content_discriminator"
        rate = optimizer.content_learning_rate if is_content else optimizer.learning_rate
        # CycleGAN's epochs count from 1.
        late = (1 + optimizer.scheduler_lag) * count
        start, total = (
            late + round(steps * count / optimizer.epoch_steps) if steps >= 0 else steps
            for steps in (optimizer.decay_start_step, optimizer.total_steps)
        )
        schedule = epoch_decay(rate, start, total, count)
        chain = adam(schedule, optimizer.beta1, optimizer.beta2, optimizer.weight_decay)
        clip = clip_norm(optimizer.content_clip_norm)
        chains[group] = optax.chain(clip, chain) if is_content else chain
    return chains


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    method = config.method
    positive = ("width", "attribute_size", "discriminator_width", "discriminator_layers")
    for field in (*positive, "num_scales", "d_iter", "content_discriminator_kernel"):
        check(config, f"method.{field}", least=1)
    for field in ("num_residual_blocks", "content_discriminator_layers", "mode_seeking_weight"):
        check(config, f"method.{field}", least=0)
    for field, least in {"epoch_steps": 1, "scheduler_lag": 0, "content_clip_norm": 0}.items():
        check(config, f"optimizer.{field}", least=least)
    check(config, "data.batch_size", least=2, multiple_of=2)
    # A reflection by one pixel needs two, also in the last layer of the coarsest scale.
    layers, scales = method.discriminator_layers, method.num_scales
    coarsest = (1 << (layers - 1)) if scales == 1 else ((1 << layers) - 1) << (scales - 1)
    content = smallest_content(
        method.content_discriminator_layers, method.content_discriminator_kernel
    )
    multiple = 1 << DOWNSAMPLINGS
    smallest = max(coarsest + 1, 1 << ATTRIBUTE_DOWNSAMPLINGS, multiple * content)
    check(config, "method.image_size", least=smallest, multiple_of=multiple)
