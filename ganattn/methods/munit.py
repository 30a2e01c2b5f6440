"""MUNIT: multimodal unpaired translation by content and style codes (Huang et al., ECCV 2018)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import latents, losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.interop.vgg import read_vgg16
from ganattn.methods.base import (
    DTYPES,
    Input,
    Output,
    Panels,
    as_metrics,
    columns,
    dtype_of,
    weights_of,
)
from ganattn.methods.families.perceptual import PERCEPTUAL, Perceptual
from ganattn.methods.families.two_domains import DISCRIMINATORS, TwoDomains
from ganattn.networks.munit import (
    STYLE_DOWNSAMPLINGS,
    AdaINGenerator,
    ImagePyramidDiscriminator,
)
from ganattn.networks.vgg import VGG16Features, invariant_perceptual_distance
from ganattn.optimizers import adam, step_decay
from ganattn.state import TrainState, Tree, Variables, split_networks

OTHER = {"a": "b", "b": "a"}
GROUPS = {"generator": ("generator_a", "generator_b"), "discriminator": DISCRIMINATORS}
DRAWS = (("dis", "a"), ("dis", "b"), ("gen", "a"), ("gen", "b"))
PANEL_STYLES = 3


@dataclasses.dataclass(frozen=True)
class MUNITWeights:
    """Weights of the terms of eq. 5, then of the cycle of section 4 and the loss of section 5.1."""

    adversarial: float = 1.0
    reconstruction: float = 10.0
    style: float = 1.0
    content: float = 1.0
    cycle: float = 0.0
    perceptual: float = 0.0


@dataclasses.dataclass(frozen=True)
class MUNIT(Perceptual, TwoDomains):
    """For each domain an auto-encoder of content and style, and a multi-scale discriminator.

    A translation decodes the content of one domain with the other domain's decoder and a style of
    that domain: drawn from N(0, 1), or encoded from an example image. A step updates the
    discriminators, then the generators against the updated discriminators, with newly drawn styles
    for the second update, as the authors' loop does. The encoders do not change in between, so the
    codes of the batch are computed once.

    Differences of the authors' code from the paper, which are followed here: every parameter has
    weight decay; the scales of layer normalization start uniform in [0, 1]; the explicit cycle
    term, in the paper a consequence of the others, has a weight in some data sets' settings. The
    encoded styles have no prior of their own: only the reconstructions train the style encoder.

    style_size: length of a style code. adversarial: a key of `losses.ADVERSARIAL`.
    """

    weights: MUNITWeights = MUNITWeights()
    style_size: int = 8
    adversarial: str = "least_squares"

    perceptual_file: ClassVar[str] = "a .pth file of VGG16 with Caffe's weights"
    read_perceptual: ClassVar = read_vgg16

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method, optimizer = config.method, config.optimizer
        dtype = DTYPES[method.dtype]
        generator = AdaINGenerator(
            method.width,
            method.style_size,
            method.mlp_width,
            method.num_downsamplings,
            method.num_residual_blocks,
            remat=method.remat,
            dtype=dtype,
        )
        discriminator = ImagePyramidDiscriminator(
            method.discriminator_width, method.discriminator_layers, method.num_scales, dtype
        )
        networks: dict[str, Any] = dict.fromkeys(GROUPS["generator"], generator)
        networks |= dict.fromkeys(DISCRIMINATORS, discriminator)
        if method.perceptual_weight:
            networks[PERCEPTUAL] = VGG16Features(dtype)
        schedule = step_decay(
            optimizer.learning_rate, optimizer.decay_factor, optimizer.decay_every
        )
        chain = adam(schedule, optimizer.beta1, optimizer.beta2, optimizer.weight_decay)
        return cls(
            networks,
            GROUPS,
            dict.fromkeys(GROUPS, chain),
            weights=weights_of(MUNITWeights, method),
            multiple=1 << method.num_downsamplings,
            **cls.values_of(method),
        )

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The image to translate and, optionally, an image of the target domain with the style."""
        inputs = super().inputs(direction)
        return {**inputs, "style": inputs["image"]._replace(optional=True, multiple=1)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The source's auto-encoder encodes the content, the target's the style, and decodes."""
        direction = self.direction(direction)
        return f"generator_{direction.source}", f"generator_{direction.target}"

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """Translations of "image" (n, h, w, 3) with a style of the target domain.

        "style": example images (n, h', w', 3) of the target domain, h' and w' at least 16, or
        codes (n, size), (n, 1, 1, size) or (n, size, 1, 1). Without it, `rng` draws codes from
        N(0, 1), that of an example by its index, whatever n is; with neither, all styles are zero,
        their mean. extras: "style" (n, size), the codes. Raises ConfigError for codes of another
        size.
        """
        source, target = self.networks_for(direction)
        image, style = inputs["image"], inputs.get("style")
        if style is not None and _is_image(style):
            code = self._apply(variables, target, "style", style)
        elif style is not None:
            code = self._code(style, len(image), image.dtype)
        elif rng is not None:
            code = self._draw(rng, len(image), image.dtype)
        else:
            code = jnp.zeros((len(image), self.style_size), image.dtype)
        content = self._apply(variables, source, "content", image)
        output = self._apply(variables, target, "decode", content, code)
        return Output(output.images, extras=OrderedDict(style=code))

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Per direction: source, reconstruction, translations, and the cycle of the first.

        Three translations have a drawn style each, the same for all rows; "guided" has the style
        of "example", the image of the target domain in the same row.
        """
        codes = jax.random.normal(rng, (PANEL_STYLES, 1, self.style_size))
        figures: Panels = OrderedDict()
        for direction in self.directions:
            image, example = batch[direction.source], batch[direction.target]
            network, _ = self.networks_for(direction)
            dtype = dtype_of({network: variables[network]})
            reconstruction = self.networks[network].apply(variables[network], image.astype(dtype))

            def translate(image, style, direction=direction):
                return self.generate(variables, {"image": image, "style": style}, direction).images

            shape = (len(image), self.style_size)
            styles = [translate(image, jnp.broadcast_to(code, shape)) for code in codes]
            figures[direction] = columns(
                [
                    ("source", image),
                    ("reconstruction", reconstruction.images),
                    *((f"style {i + 1}", images) for i, images in enumerate(styles)),
                    ("example", example),
                    ("guided", translate(image, example)),
                    ("cycle", translate(styles[0], image, direction.reverse)),
                ]
            )
        return figures

    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Any]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of the discriminators, then one of the generators.

        draws: "dis/style_a", "dis/style_b", "gen/style_a" and "gen/style_b", flat or nested; the
        style of a is that of images translated to a. Metrics are sums over both domains.
        """
        real = self.real_images(state, batch)
        styles = self._styles(state, draws, len(real["a"]), real["a"].dtype)
        generators, _ = split_networks(state.variables, self.groups["generator"])
        generators = self.examples.vary(generators)
        codes, pull_back = jax.vjp(lambda g: self._encode(g, real), generators)

        fake = {
            domain: self._decode(generators, domain, codes[other][0], styles["dis", domain])
            for domain, other in OTHER.items()
        }
        state, metrics = self.minimize(
            state, "discriminator", self._discriminator_loss, real, jax.lax.stop_gradient(fake)
        )
        fixed = {name: tree for name, tree in state.variables.items() if name not in generators}
        loss = jax.grad(self._generator_loss, argnums=(0, 1), has_aux=True)
        drawn = {domain: styles["gen", domain] for domain in OTHER}
        (cotangents, gradients), terms = loss(codes, generators, fixed, real, drawn)
        gradients = jax.tree.map(jnp.add, gradients, *pull_back(cotangents))
        return self.update(state, "generator", gradients, {}), {**metrics, **terms}

    def _apply(self, variables: Mapping[str, Variables], name: str, part: str, *arrays: Array):
        return self.networks[name].apply(variables[name], *arrays, method=part)

    def _encode(self, generators: Tree, images: Mapping[str, Array]) -> Tree:
        """{domain: (content, style)} of each domain's images by its own encoders."""
        return {
            domain: self._apply(generators, f"generator_{domain}", "encode", images[domain])
            for domain in OTHER
        }

    def _decode(self, generators: Tree, domain: str, content: Array, style: Array) -> Array:
        return self._apply(generators, f"generator_{domain}", "decode", content, style).images

    def _code(self, style: Array, count: int, dtype: Any) -> Array:
        """A given code as (count, style_size)."""
        if style.shape[0] != count or style.size != count * self.style_size:
            raise ConfigError(
                f"a style has shape {style.shape}: give images (n, h, w, 3) or codes "
                f"({count}, {self.style_size})"
            )
        return style.reshape(count, self.style_size).astype(dtype)

    def _draw(self, rng: Array, count: int, dtype: Any) -> Array:
        keys = self.examples.keys(rng, count)
        return latents.draw(keys, self.style_size, "normal", 0.0, dtype)

    def _styles(
        self, state: TrainState, draws: Mapping[str, Any], count: int, dtype: Any
    ) -> dict[tuple[str, str], Array]:
        """The codes of both updates, given or drawn from N(0, 1)."""
        rng = jax.random.fold_in(state.rng, state.step)
        styles = {}
        for index, (update, domain) in enumerate(DRAWS):
            name = f"style_{domain}"
            given = draws.get(f"{update}/{name}", draws.get(update, {}).get(name))
            if given is None:
                given = self._draw(jax.random.fold_in(rng, index), count, dtype)
            styles[update, domain] = self._code(given, count, dtype)
        return styles

    def _discriminator_loss(self, discriminators, _, real, fake):
        """Eq. 4, with least squares in place of the logarithms, summed over scales."""
        adversarial, loss = 0.0, losses.ADVERSARIAL[self.adversarial]
        for domain in OTHER:
            name = f"discriminator_{domain}"
            both = jnp.concatenate([fake[domain], real[domain]])
            for logits in self.networks[name].apply(discriminators[name], both).logits:
                fake_logits, real_logits = jnp.split(logits, 2)
                adversarial += loss(fake_logits, False) + loss(real_logits, True)
        total = self.weights.adversarial * adversarial
        return total, ({}, as_metrics("discriminator", {"adversarial": adversarial}, total))

    def _generator_loss(self, codes, generators, fixed, real, styles):
        """Eq. 5 for fixed discriminators; codes: of the real images, styles: drawn."""
        absolute, loss = losses.mean_absolute, losses.ADVERSARIAL[self.adversarial]
        terms = dict.fromkeys(("adversarial", "reconstruction", "style", "content"), 0.0)
        fake = {}
        for domain, other in OTHER.items():
            contents = jnp.concatenate([codes[domain][0], codes[other][0]])
            both = jnp.concatenate([codes[domain][1], styles[domain]])
            images = self._decode(generators, domain, contents, both)
            reconstruction, fake[domain] = jnp.split(images, 2)
            terms["reconstruction"] += absolute(reconstruction, real[domain])  # eq. 1
            name = f"discriminator_{domain}"
            for logits in self.networks[name].apply(fixed[name], fake[domain]).logits:
                terms["adversarial"] += loss(logits, True)  # eq. 4
        again = self._encode(generators, fake)
        for domain, other in OTHER.items():
            content, style = again[domain]
            terms["content"] += absolute(content, codes[other][0])  # eq. 2, through both codes
            terms["style"] += absolute(style, styles[domain])  # eq. 3
        if self.weights.cycle:
            # Style-augmented cycle consistency (section 4), as a term of its own.
            terms["cycle"] = sum(
                absolute(
                    self._decode(generators, other, again[domain][0], codes[other][1]), real[other]
                )
                for domain, other in OTHER.items()
            )
        if PERCEPTUAL in fixed:
            # The domain-invariant perceptual loss (section 5.1), summed over domains.
            translated = jnp.concatenate([fake[domain] for domain in OTHER])
            source = jnp.concatenate([real[other] for other in OTHER.values()])
            terms["perceptual"] = len(OTHER) * invariant_perceptual_distance(
                self.networks[PERCEPTUAL], fixed[PERCEPTUAL], translated, source
            )
        total = sum(getattr(self.weights, name) * value for name, value in terms.items())
        return total, as_metrics("generator", terms, total)


def _is_image(style: Array) -> bool:
    return style.ndim == 4 and style.shape[1:3] != (1, 1) and style.shape[2:] != (1, 1)


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    method = config.method
    check(config, "method.adversarial", choices=losses.ADVERSARIAL)
    positive = ("width", "style_size", "mlp_width", "discriminator_width")
    for field in (*positive, "discriminator_layers", "num_scales"):
        check(config, f"method.{field}", least=1)
    for field in ("num_downsamplings", "num_residual_blocks", "perceptual_weight"):
        check(config, f"method.{field}", least=0)
    # A reflection by one pixel needs two, also in the last layer of the coarsest scale.
    coarsest = (((1 << method.discriminator_layers) - 1) << (method.num_scales - 1)) + 1
    smallest = max(coarsest, 1 << STYLE_DOWNSAMPLINGS)
    multiple = 1 << method.num_downsamplings
    check(config, "method.image_size", least=smallest, multiple_of=multiple)
    check(config, "optimizer.decay_every", least=1)
