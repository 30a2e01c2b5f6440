"""MUNIT: multimodal unpaired translation by content and style codes (Huang et al., ECCV 2018)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import latents, losses
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.methods.base import DTYPES, Input, Output, Panels, columns, dtype_of, weights_of
from ganattn.methods.families.autoencoders import OTHER, Autoencoders, check_config, given
from ganattn.networks.munit import STYLE_DOWNSAMPLINGS, AdaINGenerator
from ganattn.state import TrainState, Tree, Variables

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
class MUNIT(Autoencoders):
    """`Autoencoders` of content and style.

    A translation decodes the content of one domain with the other domain's decoder and a style of
    that domain: drawn from N(0, 1), or encoded from an example image. Both updates of a step draw
    styles: "dis/style_a", "dis/style_b", "gen/style_a" and "gen/style_b"; the style of a is that of
    images translated to a.

    Differences of the authors' code from the paper, which are followed here: every parameter has
    weight decay; the scales of layer normalization start uniform in [0, 1]; the explicit cycle
    term, in the paper a consequence of the others, has a weight in some data sets' settings. The
    encoded styles have no prior of their own: only the reconstructions train the style encoder.

    style_size: length of a style code.
    """

    weights: MUNITWeights = MUNITWeights()
    style_size: int = 8

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        _check(config)
        method = config.method
        generator = AdaINGenerator(
            method.width,
            method.style_size,
            method.mlp_width,
            method.num_downsamplings,
            method.num_residual_blocks,
            remat=method.remat,
            dtype=DTYPES[method.dtype],
        )
        return cls.build(config, generator, weights_of(MUNITWeights, method))

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The image to translate and, optionally, an image of the target domain with the style."""
        inputs = super().inputs(direction)
        return {**inputs, "style": inputs["image"]._replace(optional=True, multiple=1)}

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

    def _encode(self, generators: Tree, images: Mapping[str, Array]) -> Tree:
        """{domain: (content, style)} of each domain's images by its own encoders."""
        return {
            domain: self._apply(generators, f"generator_{domain}", "encode", images[domain])
            for domain in OTHER
        }

    def _fakes(self, generators: Tree, codes: Tree, drawn: Mapping[str, Array]) -> dict[str, Array]:
        """Translations with the drawn styles."""
        return {
            domain: self._decode(generators, domain, codes[other][0], drawn[domain])
            for domain, other in OTHER.items()
        }

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

    def _draws(
        self, state: TrainState, draws: Mapping[str, Any], codes: Tree
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The styles of both updates by domain, given or drawn from N(0, 1)."""
        rng = jax.random.fold_in(state.rng, state.step)
        _, encoded = codes["a"]
        count, dtype = len(encoded), dtype_of(state.variables)
        styles: dict[str, dict[str, Array]] = {"dis": {}, "gen": {}}
        for index, (update, domain) in enumerate(DRAWS):
            style = given(draws, update, f"style_{domain}")
            if style is None:
                style = self._draw(jax.random.fold_in(rng, index), count, dtype)
            styles[update][domain] = self._code(style, count, dtype)
        return styles["dis"], styles["gen"]

    def _generator_loss(self, codes, generators, fixed, real, drawn):
        """Eq. 5 for fixed discriminators; drawn: styles."""
        absolute = losses.mean_absolute
        terms = dict.fromkeys(("adversarial", "reconstruction", "style", "content"), 0.0)
        fake = {}
        for domain, other in OTHER.items():
            contents = jnp.concatenate([codes[domain][0], codes[other][0]])
            both = jnp.concatenate([codes[domain][1], drawn[domain]])
            images = self._decode(generators, domain, contents, both)
            reconstruction, fake[domain] = jnp.split(images, 2)
            terms["reconstruction"] += absolute(reconstruction, real[domain])  # eq. 1
            terms["adversarial"] += self._adversarial(fixed, domain, fake[domain])  # eq. 4
        again = self._encode(generators, fake)
        for domain, other in OTHER.items():
            content, style = again[domain]
            terms["content"] += absolute(content, codes[other][0])  # eq. 2, through both codes
            terms["style"] += absolute(style, drawn[domain])  # eq. 3
        if self.weights.cycle:
            # Style-augmented cycle consistency (section 4), as a term of its own.
            terms["cycle"] = sum(
                absolute(
                    self._decode(generators, other, again[domain][0], codes[other][1]), real[other]
                )
                for domain, other in OTHER.items()
            )
        return self._objective(terms, fixed, real, fake)


def _is_image(style: Array) -> bool:
    return style.ndim == 4 and style.shape[1:3] != (1, 1) and style.shape[2:] != (1, 1)


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    check_config(config, 1 << STYLE_DOWNSAMPLINGS)
    for field in ("style_size", "mlp_width"):
        check(config, f"method.{field}", least=1)
