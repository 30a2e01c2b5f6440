"""CartoonGAN: photos to cartoons with clear edges (Chen et al., CVPR 2018).

The authors published the weights of generators and no training code. Training follows
znxlwm/pytorch-CartoonGAN, whose author is one of U-GAT-IT's, which compares with CartoonGAN.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.data.two_domains import SMOOTH
from ganattn.errors import ConfigError
from ganattn.interop.vgg import read_vgg19_content
from ganattn.methods.base import DTYPES, Direction, Output, Panels, as_metrics, weights_of
from ganattn.methods.families.perceptual import PERCEPTUAL, RANDOM, Perceptual
from ganattn.methods.families.two_domains import TwoDomains
from ganattn.networks.cartoongan import FORMS, CartoonDiscriminator, CartoonGenerator
from ganattn.networks.vgg import VGG19ContentFeatures, content_distance
from ganattn.optimizers import adam, milestone_decay
from ganattn.state import TrainState, Tree, Variables, split_networks

GENERATOR, DISCRIMINATOR = "generator_a2b", "discriminator_b"
GROUPS = {"generator": (GENERATOR,), "discriminator": (DISCRIMINATOR,)}
VGG_WIDTH = 64  # channels of the first layer of torchvision's VGG19


@dataclasses.dataclass(frozen=True)
class CartoonWeights:
    """Weights of the objective.

    perceptual: of the content loss, omega of eq. 2. edge: of the smoothed images' term of eq. 3,
    where it is 1.
    """

    perceptual: float = 10.0
    edge: float = 1.0


@dataclasses.dataclass(frozen=True)
class CartoonGAN(Perceptual, TwoDomains):
    """A generator from photos (domain a) to cartoons (b), and a discriminator of cartoons.

    The discriminator learns that cartoons are real, and that translations and cartoons with
    smoothed edges are fake, so that the generator has to draw clear edges. A step updates the
    discriminator, then the generator against the updated discriminator, on the same photos. In the
    initialization phase, the first `pretrain_steps` steps, the generator learns from the content
    loss alone and the discriminator stays as it is; the generator's Adam continues after it.

    Differences of znxlwm's code from the paper, which are followed here: the content loss compares
    features before the ReLU of conv4_4, of images in [0, 1] that are not normalized by ImageNet's
    statistics; a cartoon and its smoothed version are always in one batch.

    adversarial: a key of `losses.ADVERSARIAL`.
    """

    weights: CartoonWeights = CartoonWeights()
    pretrain_steps: int = 0
    adversarial: str = "cross_entropy"

    perceptual_file: ClassVar[str] = "torchvision's vgg19 .pth file"
    read_perceptual: ClassVar = read_vgg19_content

    directions: ClassVar[tuple[Direction, ...]] = (Direction("a", "b"),)

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method, optimizer = config.method, config.optimizer
        dtype = DTYPES[method.dtype]
        networks: dict[str, Any] = {
            GENERATOR: CartoonGenerator(
                method.width, method.num_residual_blocks, method.form, method.remat, dtype
            ),
            DISCRIMINATOR: CartoonDiscriminator(method.discriminator_width, dtype),
        }
        if method.perceptual_weight:
            networks[PERCEPTUAL] = VGG19ContentFeatures(method.perceptual_width, dtype)
        # Without a content loss there is nothing to learn before the adversarial phase.
        pretrain_steps = method.pretrain_steps if method.perceptual_weight else 0
        milestones = (optimizer.first_decay_step, optimizer.second_decay_step)
        schedule = milestone_decay(optimizer.learning_rate, optimizer.decay_factor, milestones)

        def wait(moments: optax.GradientTransformation) -> optax.GradientTransformation:
            return optax.conditionally_mask(moments, lambda step: step >= pretrain_steps)

        betas = (optimizer.beta1, optimizer.beta2)
        optimizers = {
            "generator": adam(schedule, *betas, weight_decay=0.0),
            "discriminator": adam(schedule, *betas, weight_decay=0.0, delay=wait),
        }
        return cls(
            networks,
            GROUPS,
            optimizers,
            weights=weights_of(CartoonWeights, method),
            **{**cls.values_of(method), "pretrain_steps": pretrain_steps},
        )

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Images "a", "b" and, where its term has a weight, "b_smooth": "b" with smoothed edges.

        (count, h, w, 3) in [-1, 1] each.
        """
        spec = super().batch_spec(count)
        return {**spec, SMOOTH: spec["b"]} if self.weights.edge else spec

    def _translate(self, variables, inputs, direction, rng) -> Output:
        return self.networks[GENERATOR].apply(variables[GENERATOR], inputs["image"])

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Source and translation."""
        output = self.generate(variables, {"image": batch["a"]})
        return OrderedDict(a2b=OrderedDict(source=batch["a"], translation=output.images))

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminator, unless in the initialization phase, and the generator.

        draws: none are read. Metrics are unweighted terms and the weighted totals; those of the
        adversarial losses are 0 in the initialization phase.
        """
        real = self.real_images(state, batch)
        generator, _ = split_networks(state.variables, (GENERATOR,))
        # The generator does not change in between, so one pass serves both updates.
        fake, pull_back = jax.vjp(
            lambda trained: self.networks[GENERATOR].apply(trained[GENERATOR], real["a"]).images,
            self.examples.vary(generator),
        )
        images = {"real": real["b"], "fake": jax.lax.stop_gradient(fake)}
        if self.weights.edge:
            images["edge"] = batch[SMOOTH].astype(fake.dtype)
        discriminator, _ = split_networks(state.variables, (DISCRIMINATOR,))
        gradients, metrics = self._after_pretraining(
            state,
            jax.grad(self._discriminator_loss, has_aux=True),
            self.examples.vary(discriminator),
            images,
        )
        state = self.update(state, "discriminator", gradients, {})

        fixed = self.examples.vary({n: x for n, x in state.variables.items() if n != GENERATOR})
        terms = {}
        terms["adversarial"], cotangent = self._after_pretraining(
            state,
            jax.value_and_grad(self._adversarial_loss),
            fake,
            fixed[DISCRIMINATOR],
        )
        total = terms["adversarial"]
        if PERCEPTUAL in self.networks:
            terms["perceptual"], content_cotangent = jax.value_and_grad(self._content_loss)(
                fake, fixed[PERCEPTUAL], real["a"]
            )
            weight = self.weights.perceptual
            total = total + weight * terms["perceptual"]  # eq. 2
            cotangent = cotangent + weight * content_cotangent
        (gradients,) = pull_back(cotangent)
        state = self.update(state, "generator", gradients, {})
        return state, {**metrics, **as_metrics("generator", terms, total)}

    def _after_pretraining(
        self, state: TrainState, function: Callable[..., Tree], *arguments: Any
    ) -> Tree:
        """`function(*arguments)`; zeros, at no cost, in the initialization phase.

        The function combines no examples, and all that it returns depends on this device's ones.
        """
        if not self.pretrain_steps:
            return function(*arguments)
        shapes = jax.eval_shape(function, *arguments)
        zeros = self.examples.vary(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
        is_pretraining = state.step < self.pretrain_steps
        return jax.lax.cond(is_pretraining, lambda *_: zeros, function, *arguments)

    def _discriminator_loss(self, trained, images):
        """Eq. 3; `images` by term: "real", "fake" and maybe "edge"."""
        loss = losses.ADVERSARIAL[self.adversarial]
        both = jnp.concatenate([*images.values()])
        logits = self.networks[DISCRIMINATOR].apply(trained[DISCRIMINATOR], both).logits
        parts = zip(images, jnp.split(logits, len(images)), strict=True)
        terms = {name: loss(part, name == "real") for name, part in parts}
        total = terms["real"] + terms["fake"] + self.weights.edge * terms.get("edge", 0.0)
        return total, as_metrics("discriminator", terms, total)

    def _adversarial_loss(self, fake, discriminator):
        """The generator's term of eq. 3, in its non-saturating form."""
        logits = self.networks[DISCRIMINATOR].apply(discriminator, fake).logits
        return losses.ADVERSARIAL[self.adversarial](logits, True)

    def _content_loss(self, fake, perceptual, photo):
        return content_distance(self.networks[PERCEPTUAL], perceptual, fake, photo)  # eq. 4


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    method = config.method
    check(config, "method.form", choices=FORMS)
    check(config, "method.adversarial", choices=losses.ADVERSARIAL)
    for field in ("width", "discriminator_width", "perceptual_width"):
        check(config, f"method.{field}", least=1)
    for field in ("num_residual_blocks", "perceptual_weight", "edge_weight", "pretrain_steps"):
        check(config, f"method.{field}", least=0)
    check(config, "method.image_size", least=8, multiple_of=4)
    for field in ("first_decay_step", "second_decay_step"):
        check(config, f"optimizer.{field}", least=0)
    if method.perceptual_width != VGG_WIDTH and method.perceptual_weights != RANDOM:
        raise ConfigError(
            f"config.method.perceptual_width is {method.perceptual_width}: give {VGG_WIDTH}, or "
            f"set config.method.perceptual_weights={RANDOM}"
        )
    if method.edge_weight and not config.data.smooth_edges:
        raise ConfigError(
            "config.data.smooth_edges is False: set it to True, or config.method.edge_weight=0 to "
            "train without smoothed cartoons"
        )
