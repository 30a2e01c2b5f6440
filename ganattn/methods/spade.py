"""SPADE and GauGAN: pictures from label maps (Park et al., CVPR 2019)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.errors import ConfigError
from ganattn.interop.vgg import read_vgg19
from ganattn.layers.label_maps import semantics
from ganattn.layers.normalization import NORMS
from ganattn.methods.base import DTYPES, Direction, Method, Translation, as_metrics, dtype_of
from ganattn.networks.multiscale import MultiscaleDiscriminator
from ganattn.networks.spade import DOUBLINGS, SPADEGenerator, StyleEncoder
from ganattn.networks.vgg import VGG19Features, perceptual_distance
from ganattn.optimizers import adam, linear_decay
from ganattn.parallel import AXIS, example_keys, mean_over, vary
from ganattn.state import TrainState, Variables, split_networks

GENERATOR, DISCRIMINATOR, ENCODER, VGG = "generator", "discriminator", "encoder", "perceptual"
ATTENTIONS = ("none", "last", "all")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Of feature matching, of the perceptual loss, and of the style's divergence."""

    feature_matching: float = 10.0
    perceptual: float = 10.0
    divergence: float = 0.05


@dataclasses.dataclass(frozen=True)
class SPADE(Method):
    """A generator told the label map at every level, and a discriminator of two scales.

    A step updates the generator (and the style encoder), then the discriminator on fakes that the
    updated generator makes anew, as the authors' loop does: both networks' statistics and power
    iterations move twice.

    classes: channels of the label map, which is one-hot or, where `one_hot` is False, a picture of
    any kind, such as edges or another domain. instances: whether boundaries of instances are an
    input. test_statistics: "running" averages, or those of the "batch" at hand.
    """

    weights: Weights = Weights()
    classes: int = 35
    instances: bool = True
    one_hot: bool = True
    latent_size: int = 0
    test_statistics: str = "running"
    height: int = 256
    width: int = 512
    multiple: int = 64
    perceptual_weights: str = ""

    takes: ClassVar = "labels"
    directions: ClassVar[tuple[Direction, ...]] = (Direction("label", "image"),)
    translates_with: ClassVar[tuple[str, ...]] = (GENERATOR, ENCODER)

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        _check(method)
        dtype = DTYPES[method.dtype]
        generator = SPADEGenerator(
            method.width,
            method.up_sampling,
            method.attention,
            method.norm,
            remat=method.remat,
            dtype=dtype,
        )
        networks: dict[str, Any] = {
            GENERATOR: generator,
            DISCRIMINATOR: MultiscaleDiscriminator(method.discriminator_width, dtype=dtype),
        }
        trained = [GENERATOR]
        if method.use_vae:
            networks[ENCODER] = StyleEncoder(method.width, method.latent_size, dtype=dtype)
            trained.append(ENCODER)
        if method.perceptual_weight:
            networks[VGG] = VGG19Features(dtype=dtype)
        groups = {"generator": tuple(trained), "discriminator": (DISCRIMINATOR,)}
        return cls(
            networks,
            groups,
            _optimizers(config.optimizer),
            weights=Weights(
                method.feature_matching_weight, method.perceptual_weight, method.divergence_weight
            ),
            classes=method.condition_channels or method.num_classes + method.use_dontcare,
            one_hot=not method.condition_channels,
            instances=method.use_instances,
            latent_size=method.latent_size if method.use_vae else 0,
            test_statistics=method.test_statistics,
            height=_height(method),
            width=method.crop_size,
            multiple=1 << DOUBLINGS[method.up_sampling],
            perceptual_weights=method.perceptual_weights,
        )

    def mapped(self) -> Self:
        """For `parallel.map_step`: batch normalisation, too, counts all devices' examples."""
        networks = {**self.networks, GENERATOR: self.networks[GENERATOR].clone(axis_name=AXIS)}
        return dataclasses.replace(super().mapped(), networks=networks)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        channels = self.classes + self.instances
        channels = {GENERATOR: channels, DISCRIMINATOR: channels + 3}.get(name, 3)
        return jax.ShapeDtypeStruct((1, self.height, self.width, channels), jnp.float32)

    def initialize(self, name: str, rng: Array) -> Variables:
        """The generator's first layer takes a style where there is one; VGG comes from its file."""
        if name == VGG:
            return read_vgg19(self.perceptual_weights)
        if name == GENERATOR and self.latent_size:
            spec = self.network_input(name)
            latent = jnp.zeros((1, self.latent_size))
            return self.networks[name].init(rng, jnp.zeros(spec.shape, spec.dtype), latent)
        return super().initialize(name, rng)

    def source(self, batch: Mapping[str, Array], direction: str) -> dict[str, Array]:
        """The label map and, if there is one, the instance map."""
        return {name: batch[name] for name in ("label", "instance") if name in batch}

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generator, then one of the discriminator.

        batch: "label" and, with instances, "instance", (n, h, w, 1) int32; "image" (n, h, w, 3) in
        [-1, 1]. Metrics are unweighted terms and the weighted totals.
        """
        dtype = dtype_of(state.variables)
        image, condition = batch["image"].astype(dtype), self._semantics(batch, dtype)
        rng = jax.random.fold_in(state.rng, state.step)

        names = self.groups["generator"]
        trained, carried = split_networks(state.variables, names)
        judge, judged = split_networks(state.variables, (DISCRIMINATOR,))
        fixed = {**judge, **{n: v for n, v in state.variables.items() if n == VGG}}
        loss = jax.grad(self._generator_loss, has_aux=True)
        gradients, (carried, judged, metrics) = loss(
            vary(trained, self.axis_name), fixed, {**carried, **judged}, condition, image, rng
        )
        state = self.update(state, "generator", gradients, carried)

        trained, carried = split_networks(state.variables, names)
        fake, carried, _ = self._generate(trained, carried, condition, image, rng, 1)
        loss = jax.grad(self._discriminator_loss, has_aux=True)
        gradients, (judged, terms) = loss(
            vary(judge, self.axis_name), judged, condition, image, jax.lax.stop_gradient(fake)
        )
        state = self.update(state, "discriminator", gradients, judged)
        moved = {n: {**trained[n], **mean_over(carried[n], self.axis_name)} for n in names}
        state = state.replace(step=state.step + 1, variables={**state.variables, **moved})
        return state, mean_over({**metrics, **terms}, self.axis_name)

    def translate(
        self,
        variables: Mapping[str, Variables],
        images: Mapping[str, Array],
        direction: str = "label2image",
        latent: Array | None = None,
    ) -> Translation:
        """Pictures for {"label", "instance"}, (n, h, w, 1) int32 each.

        h and w are multiples of 2 to the number of up-samplings. In the form with a style encoder
        the style is `latent` (n, size), or that of images["image"] if given, or the mean style. The
        attentions of DAGAN are "spatial" (n, h, w, 1) and "channel" (n, 1, c, 1), in (0, 1). Raises
        ConfigError for an unknown direction.
        """
        if direction not in self.directions:
            raise ConfigError(f"direction is {direction!r}: use {', '.join(self.directions)}")
        height, width = images["label"].shape[1:3]
        if height % self.multiple or width % self.multiple:
            raise ConfigError(
                f"a label map has {height} x {width} pixels: give multiples of {self.multiple}"
            )
        dtype = dtype_of({GENERATOR: variables[GENERATOR]})
        condition = self._semantics(images, dtype)
        if self.latent_size and latent is None:
            latent = self._style(variables, images, dtype)
        made = self.networks[GENERATOR].apply(
            variables[GENERATOR], condition, latent, self.test_statistics
        )
        if made.spatial is None:
            return Translation(made.images)
        channel = made.channel.transpose(0, 1, 3, 2)
        attentions = {"channel": channel, "spatial": made.spatial}
        return Translation(made.images, made.spatial, attentions=attentions)

    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Label map, attention if any, the picture made, and the true one where it is known."""
        made = self.translate(variables, batch)
        heatmap = {} if made.attention is None else {"attention": made.attention}
        target = {"target": batch["image"]} if "image" in batch else {}
        columns = {"label": batch["label"], **heatmap, "synthesis": made.images, **target}
        return {"label2image": columns}

    def reestimate(
        self, variables: Mapping[str, Variables], batches: Iterable[Mapping[str, Array]]
    ) -> dict[str, Variables]:
        """The variables with batch statistics measured anew: plain means over the batches.

        Training's running averages lag behind the weights. Raises ValueError without a batch.
        """

        @jax.jit
        def measure(batch):
            dtype = dtype_of({GENERATOR: variables[GENERATOR]})
            trained = {k: v for k, v in variables[GENERATOR].items() if k != "batch_stats"}
            # Averages that start at zero move by a tenth of what they see.
            empty = jax.tree.map(jnp.zeros_like, variables[GENERATOR]["batch_stats"])
            latent = self._style(variables, batch, dtype) if self.latent_size else None
            _, moved = self.networks[GENERATOR].apply(
                {**trained, "batch_stats": empty},
                self._semantics(batch, dtype),
                latent,
                "batch",
                mutable=["batch_stats"],
            )
            return jax.tree.map(lambda x: 10 * x, moved["batch_stats"])

        seen = [measure(dict(batch)) for batch in batches]
        if not seen:
            raise ValueError("no batch to measure statistics from")
        means = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *seen)
        return {**variables, GENERATOR: {**variables[GENERATOR], "batch_stats": means}}

    def _semantics(self, batch, dtype):
        instance = batch["instance"] if self.instances else None
        return semantics(batch["label"], self.classes if self.one_hot else 0, instance, dtype)

    def _style(self, variables, batch, dtype):
        if "image" not in batch:
            return jnp.zeros((len(batch["label"]), self.latent_size), dtype)
        image = batch["image"].astype(dtype)
        return self.networks[ENCODER].apply(variables[ENCODER], image)[0]

    def _generate(self, trained, carried, condition, image, rng, draw):
        """(pictures, moved collections, divergence of the styles or None)"""
        carried, latent, divergence = dict(carried), None, None
        if self.latent_size:
            (mean, log_variance), moved = self.networks[ENCODER].apply(
                {**trained[ENCODER], **carried[ENCODER]}, image, True, mutable=["spectral"]
            )
            carried[ENCODER] = moved
            keys = example_keys(jax.random.fold_in(rng, draw), len(image), self.axis_name)
            noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], mean.dtype))(keys)
            latent = mean + jnp.exp(0.5 * log_variance) * noise
            divergence = losses.kl_to_standard_normal(mean, log_variance)
        made, carried[GENERATOR] = self.networks[GENERATOR].apply(
            {**trained[GENERATOR], **carried[GENERATOR]},
            condition,
            latent,
            "batch",
            True,
            mutable=["batch_stats", "spectral"],
        )
        return made.images, carried, divergence

    def _judge(self, judge, judged, condition, fake, real):
        """Features of fake and of real pictures: one application, one power iteration."""
        pair = [jnp.concatenate([condition, images], -1) for images in (fake, real)]
        outputs, moved = self.networks[DISCRIMINATOR].apply(
            {**judge[DISCRIMINATOR], **judged[DISCRIMINATOR]},
            jnp.concatenate(pair),
            True,
            mutable=["spectral"],
        )
        halves = jax.tree.map(lambda x: jnp.split(x, 2), outputs)
        of_fake, of_real = ([[f[i] for f in scale] for scale in halves] for i in range(2))
        return of_fake, of_real, {DISCRIMINATOR: moved}

    def _generator_loss(self, trained, fixed, carried, condition, image, rng):
        judged = {DISCRIMINATOR: carried[DISCRIMINATOR]}
        carried = {name: carried[name] for name in trained}
        fake, carried, divergence = self._generate(trained, carried, condition, image, rng, 0)
        of_fake, of_real, judged = self._judge(fixed, judged, condition, fake, image)
        terms = {
            "adversarial": -sum(scale[-1].mean() for scale in of_fake) / len(of_fake),
            "feature_matching": losses.feature_matching(
                *([scale[:-1] for scale in features] for features in (of_fake, of_real))
            ),
        }
        total = terms["adversarial"] + self.weights.feature_matching * terms["feature_matching"]
        if VGG in fixed:
            terms["perceptual"] = perceptual_distance(self.networks[VGG], fixed[VGG], fake, image)
            total += self.weights.perceptual * terms["perceptual"]
        if divergence is not None:
            terms["divergence"] = divergence
            total += self.weights.divergence * divergence
        return total, (carried, judged, as_metrics("generator", terms, total))

    def _discriminator_loss(self, judge, judged, condition, image, fake):
        of_fake, of_real, judged = self._judge(judge, judged, condition, fake, image)
        terms = {
            name: sum(losses.hinge(scale[-1], name == "real") for scale in features) / len(features)
            for name, features in (("fake", of_fake), ("real", of_real))
        }
        total = terms["fake"] + terms["real"]
        return total, (judged, as_metrics("discriminator", terms, total))


def _height(method: ConfigDict) -> int:
    return round(method.crop_size / method.aspect_ratio)


def _optimizers(optimizer: ConfigDict) -> dict[str, optax.GradientTransformation]:
    """Adam with two time scales (Heusel et al. 2017): half the rate and twice the rate."""
    factors = {"generator": 0.5, "discriminator": 2.0} if optimizer.ttur else {}
    return {
        group: adam(
            linear_decay(
                factors.get(group, 1.0) * optimizer.learning_rate,
                optimizer.decay_start_step,
                optimizer.total_steps,
                staircase=optimizer.epoch_steps,
            ),
            optimizer.beta1,
            optimizer.beta2,
            weight_decay=0.0,
        )
        for group in ("generator", "discriminator")
    }


def _check(method: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    allowed = {
        "attention": ATTENTIONS,
        "up_sampling": tuple(DOUBLINGS),
        "norm": NORMS,
        "test_statistics": ("running", "batch"),
        "dtype": tuple(DTYPES),
    }
    for field, values in allowed.items():
        if method[field] not in values:
            raise ConfigError(
                f"config.method.{field} is {method[field]!r}: use one of {', '.join(values)}"
            )
    multiple = 1 << DOUBLINGS[method.up_sampling]
    if method.crop_size % multiple or _height(method) % multiple:
        raise ConfigError(
            f"config.method.crop_size is {method.crop_size} and the height {_height(method)}: "
            f"with up_sampling {method.up_sampling!r} both are multiples of {multiple}"
        )
    if method.num_classes < 1:
        raise ConfigError(f"config.method.num_classes is {method.num_classes}: give at least 1")
    if method.perceptual_weight and not method.perceptual_weights:
        raise ConfigError(
            "config.method.perceptual_weights is empty: name torchvision's vgg19 .pth file, or set "
            "config.method.perceptual_weight=0 to train without the perceptual loss"
        )
