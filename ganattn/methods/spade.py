"""SPADE and GauGAN: images from label maps (Park et al., CVPR 2019)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.interop.vgg import read_vgg19
from ganattn.layers.label_maps import semantics
from ganattn.layers.normalization import NORMS
from ganattn.methods.base import (
    DTYPES,
    Direction,
    Input,
    Output,
    Panels,
    as_metrics,
    columns,
    dtype_of,
    images_spec,
    split_passes,
    weights_of,
)
from ganattn.methods.families.perceptual import PERCEPTUAL, Perceptual
from ganattn.networks.multiscale import MultiscaleDiscriminator
from ganattn.networks.spade import ATTENTION, DOUBLINGS, SPADEGenerator, StyleEncoder
from ganattn.networks.vgg import VGG19Features, perceptual_distance
from ganattn.optimizers import adam, linear_decay
from ganattn.state import TrainState, Variables, split_networks

GENERATOR, DISCRIMINATOR, ENCODER = "generator", "discriminator", "encoder"
VOID = 255  # the id of pixels without a label


@dataclasses.dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of feature matching, the perceptual loss, and the divergence of the styles."""

    feature_matching: float = 10.0
    perceptual: float = 10.0
    divergence: float = 0.05


@dataclasses.dataclass(frozen=True)
class SPADE(Perceptual):
    """A generator that is conditioned on the label map at every level, and a discriminator.

    A step updates the generator (and the style encoder), then the discriminator on new fakes of the
    updated generator, as the authors' loop does: both networks' statistics and power iterations are
    updated twice.

    classes: channels of the label map, which is one-hot or, where `one_hot` is False, an image of
    any kind, such as edges or another domain. void: whether the last class is that of id 255.
    instances: whether boundaries of instances are an input. latent_size: of the style, 0 without a
    style encoder. test_statistics: "running" averages (the authors' test code is in eval mode), or
    those of the "batch" at hand. test_style: of an example image in `generate`, "sampled" from the
    encoder's distribution as in the authors' test code, or its "mean".
    height, width: of the training images. multiple: what divides the heights and widths of label
    maps; with a style encoder they are those of training.
    """

    weights: ObjectiveWeights = ObjectiveWeights()
    classes: int = 35
    void: bool = False
    instances: bool = True
    one_hot: bool = True
    latent_size: int = 0
    test_statistics: str = "running"
    test_style: str = "sampled"
    height: int = 256
    width: int = 512
    multiple: int = 64

    perceptual_file: ClassVar[str] = "torchvision's vgg19 .pth file"
    read_perceptual: ClassVar = read_vgg19

    directions: ClassVar[tuple[Direction, ...]] = (Direction("label", "image"),)

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method, dtype = config.method, DTYPES[config.method.dtype]
        networks: dict[str, Any] = {
            GENERATOR: SPADEGenerator(
                method.width,
                method.up_sampling,
                method.attention,
                method.norm,
                remat=method.remat,
                dtype=dtype,
            ),
            DISCRIMINATOR: MultiscaleDiscriminator(
                method.discriminator_width,
                method.get("discriminator_layers", 4),
                method.get("discriminator_scales", 2),
                dtype,
            ),
        }
        trained = [GENERATOR]
        if method.use_vae:
            networks[ENCODER] = StyleEncoder(method.width, method.latent_size, dtype=dtype)
            trained.append(ENCODER)
        if method.perceptual_weight:
            networks[PERCEPTUAL] = VGG19Features(dtype=dtype)
        return cls(
            networks,
            {"generator": tuple(trained), "discriminator": (DISCRIMINATOR,)},
            _optimizers(config.optimizer),
            weights=weights_of(ObjectiveWeights, method),
            classes=method.condition_channels or method.num_classes + method.use_dontcare,
            void=bool(method.use_dontcare and not method.condition_channels),
            one_hot=not method.condition_channels,
            instances=method.use_instances,
            latent_size=method.latent_size if method.use_vae else 0,
            test_statistics=method.test_statistics,
            test_style=method.get("test_style", "sampled"),
            height=_height(method),
            width=method.crop_size,
            multiple=1 << DOUBLINGS[method.up_sampling],
            perceptual_weights=method.perceptual_weights,
        )

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """ "label", with instances "instance", and the true "image" in [-1, 1]."""
        specs = {}
        for name, field in self.inputs().items():
            if not field.optional:
                kind = jnp.int32 if field.kind == "ids" else jnp.float32
                specs[name] = jax.ShapeDtypeStruct((count, *field.shape), kind)
        return {**specs, "image": images_spec(count, self.height, self.width, 3)}

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """ "label", with instances "instance", with a style encoder optionally "style"."""
        shape = (self.height, self.width)
        # The dense layer that reads the style fixes the size.
        multiple = None if self.latent_size else self.multiple
        label = Input("image", (*shape, self.classes), multiple=multiple)
        if self.one_hot:
            label = Input("ids", (*shape, 1), False, multiple, self.classes, self.void)
        inputs = {"label": label}
        if self.instances:
            inputs["instance"] = Input("ids", (*shape, 1), multiple=multiple)
        if self.latent_size:
            inputs["style"] = Input("image", (*shape, 3), optional=True)
        return inputs

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The generator and, where there is one, the style encoder."""
        return tuple(name for name in (GENERATOR, ENCODER) if name in self.networks)

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """Label map and instance boundaries, an image, or both side by side."""
        channels = self.classes + self.instances
        channels = {GENERATOR: channels, DISCRIMINATOR: channels + 3}.get(name, 3)
        return images_spec(1, self.height, self.width, channels)

    def initialize(self, name: str, rng: Array) -> Variables:
        """As `Perceptual.initialize`; the generator receives a style where there are styles."""
        if name == GENERATOR and self.latent_size:
            spec = self.network_input(name)
            latent = jnp.zeros((1, self.latent_size))
            return self.networks[name].init(rng, jnp.zeros(spec.shape, spec.dtype), latent)
        return super().initialize(name, rng)

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the generator and the style encoder, then one of the discriminator.

        batch: as `batch_spec` describes it. draws: with a style encoder, "generator/style_noise"
        and "discriminator/style_noise", (n, latent_size) each: the normal noise that is scaled by
        the standard deviations of the styles. Metrics are unweighted terms and weighted totals.
        """
        dtype = dtype_of(state.variables)
        image, condition = batch["image"].astype(dtype), self._semantics(batch, dtype)
        rng = jax.random.fold_in(state.rng, state.step)

        def noise(group, number, like):
            name = f"{group}/style_noise"
            if name in draws:
                return draws[name].astype(like.dtype)
            return self._normal(jax.random.fold_in(rng, number), len(like), like.dtype)

        state, metrics = self.minimize(
            state,
            "generator",
            self._generator_loss,
            state.variables,
            condition,
            image,
            partial(noise, "generator", 0),
        )
        generators = split_networks(state.variables, self.groups["generator"])
        fake, carried, _ = self._forward(
            *generators, condition, image, partial(noise, "discriminator", 1)
        )
        fake = jax.lax.stop_gradient(fake)
        loss = self._discriminator_loss
        state, terms = self.minimize(
            state, "discriminator", loss, condition, image, fake, carried=carried
        )
        return state, {**metrics, **terms}

    def generate(
        self,
        variables: Mapping[str, Variables],
        inputs: Mapping[str, Array],
        direction: str | None = None,
        rng: Array | None = None,
    ) -> Output:
        """Images for inputs["label"] and inputs["instance"], as `inputs` describes them.

        inputs["style"], in the form with a style encoder: example images (n, h, w, 3), whose styles
        are taken as `test_style` says, with noise that `rng` draws, or without it the same fixed
        noise for all; or codes (n, size) or (n, 1, 1, size). Without "style" `rng` draws one for
        each example, and without `rng` the style is the mean one, zeros. DAGAN's attention is
        "channel" (n, 1, c, 1), then "spatial" (n, h, w, 1), in (0, 1). Raises ConfigError for an
        unknown direction, for sizes that `inputs` excludes, for a style where there is no style
        encoder, and for an example image without the encoder's variables.
        """
        self.direction(direction)
        height, width = inputs["label"].shape[1:3]
        if self.latent_size and (height, width) != (self.height, self.width):
            raise ConfigError(
                f"a label map has {height} x {width} pixels: with a style encoder give "
                f"{self.height} x {self.width}, the size in training"
            )
        if height % self.multiple or width % self.multiple:
            raise ConfigError(
                f"a label map has {height} x {width} pixels: give multiples of {self.multiple}"
            )
        dtype = dtype_of({GENERATOR: variables[GENERATOR]})
        style = self._style(variables, inputs, rng, dtype)
        return self.networks[GENERATOR].apply(
            variables[GENERATOR], self._semantics(inputs, dtype), style, self.test_statistics
        )

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Label map, attention if any, image of the mean style, and the true image if known."""
        names = [name for name, field in self.inputs().items() if not field.optional]
        output = self.generate(variables, {name: batch[name] for name in names})
        images = {"synthesis": output.images, "target": batch.get("image")}
        pairs = [("label", batch["label"]), ("attention", output.heatmap), *images.items()]
        return OrderedDict(label2image=columns(pairs))

    def _semantics(self, batch, dtype):
        label, instance = batch["label"], batch["instance"] if self.instances else None
        if self.void:
            label = jnp.where(label == VOID, self.classes - 1, label)
        return semantics(label, self.classes if self.one_hot else 0, instance, dtype)

    def _style(self, variables, inputs, rng, dtype) -> Array | None:
        """Style codes (n, latent_size), None in the form without a style encoder."""
        style, count = inputs.get("style"), len(inputs["label"])
        if not self.latent_size:
            if style is not None:
                raise ConfigError(
                    "the method has no style encoder: train with config.method.use_vae=True to "
                    "give styles"
                )
            return None
        if style is None:
            shape = (count, self.latent_size)
            return jnp.zeros(shape, dtype) if rng is None else self._normal(rng, count, dtype)
        if style.ndim == 2 or style.shape[1:3] == (1, 1):
            return style.reshape(count, self.latent_size).astype(dtype)
        if ENCODER not in variables:
            raise ConfigError(f"a style image needs the variables of {ENCODER!r}: give a code")
        mean, log_variance = self.networks[ENCODER].apply(variables[ENCODER], style.astype(dtype))
        if self.test_style == "mean":
            return mean
        fixed = jax.random.normal(jax.random.key(0), (1, self.latent_size), dtype)
        noise = fixed if rng is None else self._normal(rng, count, dtype)
        return mean + jnp.exp(0.5 * log_variance) * noise

    def _normal(self, rng, count, dtype) -> Array:
        keys = self.examples.keys(rng, count)
        return jax.vmap(lambda key: jax.random.normal(key, (self.latent_size,), dtype))(keys)

    def _forward(self, trained, carried, condition, image, noise):
        """(fakes, new carried collections, divergence of the styles or None).

        noise: gives the styles' normal noise in the shape and precision of an array.
        """
        carried, latent, divergence = dict(carried), None, None
        if self.latent_size:
            (mean, log_variance), carried[ENCODER] = self.networks[ENCODER].apply(
                {**trained[ENCODER], **carried[ENCODER]}, image, True, mutable=["spectral"]
            )
            latent = mean + jnp.exp(0.5 * log_variance) * noise(mean)
            divergence = losses.kl_to_standard_normal(mean, log_variance)
        output, carried[GENERATOR] = self.networks[GENERATOR].apply(
            {**trained[GENERATOR], **carried[GENERATOR]},
            condition,
            latent,
            "batch",
            True,
            mutable=["batch_stats", "spectral"],
        )
        return output.images, carried, divergence

    def _discriminate(self, trained, statistics, condition, fake, real):
        """Outputs for fake and for real images: one application, one power iteration."""
        pair = [jnp.concatenate([condition, images], -1) for images in (fake, real)]
        output, new = self.networks[DISCRIMINATOR].apply(
            {**trained[DISCRIMINATOR], **statistics[DISCRIMINATOR]},
            jnp.concatenate(pair),
            True,
            mutable=["spectral"],
        )
        return *split_passes(output, 2), {DISCRIMINATOR: new}

    def _generator_loss(self, trained, carried, variables, condition, image, noise):
        """pix2pixHD eq. 5 with the hinge loss (SPADE section 3), and SPADE's divergence."""
        fake, carried, divergence = self._forward(trained, carried, condition, image, noise)
        discriminator = split_networks(variables, (DISCRIMINATOR,))
        on_fake, on_real, statistics = self._discriminate(*discriminator, condition, fake, image)
        terms = {
            # Miyato et al. 2018, eq. 17.
            "adversarial": -sum(logits.mean() for logits in on_fake.logits) / len(on_fake.logits),
            # pix2pixHD eq. 4.
            "feature_matching": losses.feature_matching(on_fake.features, on_real.features),
        }
        total = terms["adversarial"] + self.weights.feature_matching * terms["feature_matching"]
        if PERCEPTUAL in variables:
            # pix2pixHD section 3.3, end; Johnson et al. 2016, eq. 2, with L1.
            terms["perceptual"] = perceptual_distance(
                self.networks[PERCEPTUAL], variables[PERCEPTUAL], fake, image
            )
            total += self.weights.perceptual * terms["perceptual"]
        if divergence is not None:
            terms["divergence"] = divergence  # SPADE appendix A, "Learning objective": L_KLD
            total += self.weights.divergence * divergence
        return total, ({**carried, **statistics}, as_metrics("generator", terms, total))

    def _discriminator_loss(self, trained, statistics, condition, image, fake):
        """Miyato et al. 2018, eq. 16: the hinge loss, averaged over scales."""
        *outputs, statistics = self._discriminate(trained, statistics, condition, fake, image)
        terms = {
            name: sum(losses.hinge(x, name == "real") for x in output.logits) / len(output.logits)
            for name, output in zip(("fake", "real"), outputs, strict=True)
        }
        total = terms["fake"] + terms["real"]
        return total, (statistics, as_metrics("discriminator", terms, total))


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


def _check(config: ConfigDict) -> None:
    check(config, "method.attention", choices=ATTENTION)
    check(config, "method.up_sampling", choices=DOUBLINGS)
    check(config, "method.norm", choices=NORMS)
    check(config, "method.test_statistics", choices=("running", "batch"))
    check(config, "method.test_style", choices=("sampled", "mean"))
    for field in ("num_classes", "discriminator_layers", "discriminator_scales"):
        check(config, f"method.{field}", least=1)
    method, multiple = config.method, 1 << DOUBLINGS[config.method.up_sampling]
    if method.crop_size % multiple or _height(method) % multiple:
        raise ConfigError(
            f"config.method.crop_size is {method.crop_size} and the height {_height(method)}: "
            f"with up_sampling {method.up_sampling!r} both must be multiples of {multiple}"
        )
