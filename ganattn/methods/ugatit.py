"""U-GAT-IT: unpaired translation guided by class activation (Kim et al., ICLR 2020)."""

import dataclasses
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.methods.base import DTYPES, Output, as_metrics, share_examples, weights_of
from ganattn.methods.families.two_domains import DOMAINS, GENERATORS, TwoDomains, sum_terms
from ganattn.networks.ugatit import DECODER_NORMS, PROFILES, Discriminator, Generator
from ganattn.optimizers import adam, linear_decay
from ganattn.state import TrainState, Tree, split_networks

TERMS = ("adversarial", "adversarial_cam", "cycle", "identity", "cam")  # of the generators
DISCRIMINATORS = {
    "a": ("discriminator_global_a", "discriminator_local_a"),
    "b": ("discriminator_global_b", "discriminator_local_b"),
}


@dataclasses.dataclass(frozen=True)
class UGATITWeights:
    """Weights of eq. 7, lambda_1 to lambda_4, in the generators' total.

    The discriminators' total has `adversarial` for all of its terms, as in the authors' code; eq. 7
    has lambda_4 for eq. 6.
    """

    adversarial: float = 1.0
    cycle: float = 10.0
    identity: float = 10.0
    cam: float = 1000.0


@dataclasses.dataclass(frozen=True)
class UGATIT(TwoDomains):
    """Two generators and, for each domain, a global and a local discriminator.

    A step updates the discriminators, then the generators against the updated discriminators, as
    the authors' loop does. Their PyTorch loop generates the fakes twice; nothing changes in
    between, so one forward pass serves both updates here. It also contains the identity images:
    translation and identity through one generator are a single batch.

    adversarial: a key of `losses.PENALIZABLE`. gradient_penalty_weight: of the penalty, relative to
    the adversarial term. discriminator_steps: updates of the discriminators in a step, each on a
    part of the batch of its own. separate_examples: the generators have one more part for
    themselves, otherwise they share the last one.

    The paper (whose numbers the TensorFlow code produced), the TensorFlow code (the config variant
    "tf") and the PyTorch code (the default) differ; `networks.ugatit.NetworkProfile` says where the
    networks do. In training:

    - Labels: eq. 2 and 6 are printed with 0 for real and 1 for fake; both code bases exchange them.
    - Discriminators' CAM: lambda_4 of eq. 7, 1000, multiplies eq. 6, too; its weight in both code
      bases is that of the adversarial loss, 1, and the generators minimize it with weight 1.
    - Images: the PyTorch code updates all networks on the same images, the TensorFlow code pulls
      new ones for each update (`separate_examples`).
    - Loss: the TensorFlow code offers six, and n_critic, which is `discriminator_steps`: one of its
      iterations updates the discriminators once, and the first of every n_critic the generators,
      too; here a step is n_critic of these, and the generators come last.
    - Power iterations: PyTorch runs one for real and one for fake images. TensorFlow builds both
      from the same vectors, which the graph's compiler merges into one for each update.
    - Weight decay, 1e-4: of every parameter in PyTorch, including rho and biases; of kernels alone
      in TensorFlow, as a term of the loss that the metrics here leave out. Adam's epsilon is added
      to the uncorrected root in TensorFlow.
    - Rate: it falls with every step in the paper and in PyTorch, every 10,000 in TensorFlow.
    - Augmentation: the paper and PyTorch mirror half of the images and crop them from 30 more
      pixels (PyTorch at every size). TensorFlow resizes to the final size first and then by 30
      pixels at 256, by 15 at other sizes, without half-pixel centers; and it draws once for a run
      and domain whether it augments at all. Here every image is augmented, resized once.
    """

    weights: UGATITWeights = UGATITWeights()
    adversarial: str = "least_squares"
    gradient_penalty_weight: float = 10.0
    discriminator_steps: int = 1
    separate_examples: bool = False

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        _check(config)
        profile, dtype = PROFILES[method.profile], DTYPES[method.dtype]
        if not method.get("smoothing", True):
            profile = dataclasses.replace(profile, rho_offset=0.0)
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
            _create_optimizers(config),
            weights=weights_of(UGATITWeights, method),
            multiple=None if generator.has_fixed_size else 4,
            **cls.values_of(method),
        )

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """`discriminator_steps` updates of the discriminators, then one of the generators.

        batch: as `batch_spec` describes it; n is a multiple of the number of parts. draws: of the
        gradient penalty in update i, from 0, "discriminator<i>/mix_a" (n / parts,) in [0, 1) and,
        with "dragan", "discriminator<i>/noise_a" (n / parts, h, w, 3) in [0, 1); so for b. Metrics
        are unweighted terms, summed over domains and discriminators, and the weighted totals; those
        of the discriminators are means over their updates.
        """
        steps = self.discriminator_steps
        parts = share_examples(self.real_images(state, batch), steps + self.separate_examples)
        real = parts[-1]
        generators, _ = split_networks(state.variables, GENERATORS)
        generators = self.examples.vary(generators)
        outputs, pull_back = jax.vjp(lambda g: self._forward(g, real), generators)

        updates = []
        for number in range(steps):
            images = parts[number]
            if images is real:
                fake = {d: jax.lax.stop_gradient(outputs[d]["fake"]) for d in real}
            else:
                fake = self._fakes(generators, images)
            points = self._penalized_points(state, images, fake, draws, number)
            state, metrics = self.minimize(
                state, "discriminator", self._discriminator_loss, images, fake, points
            )
            updates.append(metrics)
        metrics = jax.tree.map(lambda *values: sum(values) / steps, *updates)

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

    def _fakes(self, generators: Tree, real: Mapping[str, Array]) -> dict[str, Array]:
        """The translations alone, by target domain."""
        return {
            direction.target: self.networks[f"generator_{direction}"]
            .apply(generators[f"generator_{direction}"], real[direction.source])
            .images
            for direction in self.directions
        }

    def _penalized_points(self, state, real, fake, draws, number) -> dict[str, Array]:
        """For each domain, the images (n, h, w, 3) at which gradients are penalized, if any are.

        They lie between real images and fakes or, with "dragan", real images plus noise with half
        of their standard deviation over the batch (Kodali et al. 2017, as in the TensorFlow code).
        """
        if self.adversarial not in losses.PENALIZED:
            return {}
        rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), number)

        def draw(kind, index, domain, *shape):
            images = real[domain]
            given = draws.get(f"discriminator{number}/{kind}_{domain}")
            if given is not None:
                return given.reshape(-1, *shape).astype(images.dtype)
            keys = self.examples.keys(jax.random.fold_in(rng, index), len(images))
            return jax.vmap(lambda key: jax.random.uniform(key, shape, images.dtype))(keys)

        points = {}
        for i, domain in enumerate(DOMAINS):
            images, target = real[domain], fake[domain]
            if self.adversarial == "dragan":
                mean = self.examples.mean(images.mean())
                variance = self.examples.mean(jnp.square(images - mean).mean())
                noise = draw("noise", 2 * i, domain, *images.shape[1:])
                target = images + 0.5 * jnp.sqrt(variance) * noise
            points[domain] = images + draw("mix", 2 * i + 1, domain, 1, 1, 1) * (target - images)
        return points

    def _discriminate(self, discriminators, spectral, name, images, passes):
        return self.networks[name].apply(
            {**discriminators[name], **spectral[name]}, images, passes, True, mutable=["spectral"]
        )

    def _discriminator_loss(self, discriminators, spectral, real, fake, points):
        terms, new_spectral = [], {}
        for domain, names in DISCRIMINATORS.items():
            # No layer mixes examples, so real and fake can share a batch; in PyTorch each has its
            # own power iteration, in this order.
            both = jnp.concatenate([real[domain], fake[domain]])
            for name in names:
                passes = 1 if self.networks[name].profile.shared_iteration else 2
                output, new_spectral[name] = self._discriminate(
                    discriminators, spectral, name, both, passes
                )
                cam = output.extras.get("cam_logits")
                term = {
                    "adversarial": self._real_and_fake(output.logits),  # eq. 2
                    "cam": 0.0 if cam is None else self._real_and_fake(cam),  # eq. 6
                }
                if points:
                    variables = {**discriminators[name], **new_spectral[name]}
                    term["penalty"] = self._gradient_penalty(name, variables, points[domain])
                terms.append(term)
        summed = sum_terms(terms)
        # Eq. 7, the discriminators' part.
        total = summed["adversarial"] + summed["cam"]
        if points:
            total += self.gradient_penalty_weight * summed["penalty"]
        total = self.weights.adversarial * total
        return total, (new_spectral, as_metrics("discriminator", summed, total))

    def _real_and_fake(self, logits: Array) -> Array:
        """The loss (eq. 2 and 6) of logits whose first half is real and second half fake."""
        loss = losses.PENALIZABLE[self.adversarial].discriminator
        real, fake = jnp.split(logits, 2)
        return loss(real, True) + loss(fake, False)

    def _gradient_penalty(self, name, variables, points) -> Array:
        """The sum of the penalties of the logits' gradient and of that of the CAM logits."""

        def logit(images, of_cam):
            output = self.networks[name].apply(variables, images)
            return (output.extras["cam_logits"] if of_cam else output.logits).sum()

        def penalty(of_cam):
            gradients = jax.grad(logit)(points, of_cam)
            return losses.gradient_penalty(gradients, one_sided=self.adversarial == "wgan_lp")

        return penalty(False) + penalty(True) if self.networks[name].cam else penalty(False)

    def _generator_loss(self, outputs, generators, discriminators, spectral, real):
        terms = dict.fromkeys(TERMS, 0.0)
        new_spectral, adversarial = {}, losses.PENALIZABLE[self.adversarial].generator
        for domain, names in DISCRIMINATORS.items():
            for name in names:
                output, new_spectral[name] = self._discriminate(
                    discriminators, spectral, name, outputs[domain]["fake"], passes=1
                )
                terms["adversarial"] += adversarial(output.logits)  # eq. 2
                if "cam_logits" in output.extras:
                    terms["adversarial_cam"] += adversarial(output.extras["cam_logits"])  # eq. 6
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


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    check(config, "method.profile", choices=PROFILES)
    check(config, "method.decoder_norm", choices=DECODER_NORMS)
    check(config, "method.adversarial", choices=losses.PENALIZABLE)
    check(config, "method.gradient_penalty_weight", least=0)
    check(config, "method.discriminator_steps", least=1)
    check(config, "method.image_size", multiple_of=4, least=8)
    method, batch_size = config.method, config.data.batch_size
    updates = method.get("discriminator_steps", 1) + method.get("separate_examples", False)
    if batch_size % updates:
        raise ConfigError(
            f"config.data.batch_size is {batch_size}: make it a multiple of {updates}, the number "
            "of updates that share it (config.method.discriminator_steps and separate_examples)"
        )
    size, layers = method.image_size, method.discriminator_layers
    if len(layers) != 2 or min(layers) < 2:
        raise ConfigError(
            f"config.method.discriminator_layers is {layers}: give two numbers, at least 2, of the "
            "global and the local discriminators' layers"
        )
    for kind, count in zip(("global", "local"), layers, strict=True):
        smallest = Discriminator(num_layers=count).smallest_size
        if size < smallest:
            fitting = [
                n for n in range(2, count) if Discriminator(num_layers=n).smallest_size <= size
            ]
            offer = (min(layers[0], fitting[-1]), min(layers[1], fitting[-1] - 1))
            raise ConfigError(
                f"config.method.image_size is {size}: the {kind} discriminator needs at least "
                f"{smallest} pixels with {count} layers; set config.method.discriminator_layers="
                f"{offer}"
            )


def _create_optimizers(config: ConfigDict) -> dict[str, optax.GradientTransformation]:
    optimizer, from_tensorflow = config.optimizer, config.method.profile == "tf"
    schedule = linear_decay(
        optimizer.learning_rate,
        optimizer.decay_start_step,
        optimizer.total_steps,
        staircase=optimizer.staircase,
    )
    # The discriminators' chain counts its own updates.
    updates = {"generator": 1, "discriminator": config.method.get("discriminator_steps", 1)}
    return {
        group: adam(
            lambda count, n=number: schedule(count // n),
            optimizer.beta1,
            optimizer.beta2,
            optimizer.weight_decay,
            decay_only_kernels=from_tensorflow,
            epsilon_inside_correction=from_tensorflow,
        )
        for group, number in updates.items()
    }
