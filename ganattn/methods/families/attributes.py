"""Unpaired translation by a shared content and attributes of each domain: forward computations."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ganattn import losses
from ganattn.errors import ConfigError
from ganattn.methods.base import Input, Output, Panels, columns, dtype_of, images_spec
from ganattn.methods.families.two_domains import TwoDomains
from ganattn.networks.drit import DOWNSAMPLINGS
from ganattn.state import TrainState, Tree, Variables

OTHER = {"a": "b", "b": "a"}
CONTENT, ATTRIBUTE, GENERATOR = "content_encoder", "attribute_encoder", "generator"
PANEL_ATTRIBUTES = 3
Domains = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class AttributeTranslation(TwoDomains):
    """Three networks, each with both domains: "content_encoder", "attribute_encoder", "generator".

    A translation decodes the content of one domain with the other domain's decoder and an attribute
    of that domain: drawn from N(0, 1), or encoded from an example image. In training, contents have
    noise.

    attribute_size: length of an attribute.
    """

    attribute_size: int = 8

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """An image; a content for the generator and a discriminator of contents."""
        if name not in (GENERATOR, "content_discriminator"):
            return super().network_input(name)
        side = self.image_size >> DOWNSAMPLINGS
        return images_spec(1, side, side, self.networks[CONTENT].width << DOWNSAMPLINGS)

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The image to translate and, optionally, an image of the target domain with the style."""
        inputs = super().inputs(direction)
        return {**inputs, "style": inputs["image"]._replace(optional=True, multiple=1)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The encoders and the generator."""
        self.direction(direction)
        return CONTENT, ATTRIBUTE, GENERATOR

    def _translate(self, variables, inputs, direction, rng) -> Output:
        """Translations of "image" (n, h, w, 3) with an attribute of the target domain.

        "style": example images (n, h', w', 3) of the target domain, h' and w' at least 16, or
        attributes (n, size), (n, 1, 1, size) or (n, size, 1, 1). Without it, `rng` draws attributes
        from N(0, 1), that of an example by its index, whatever n is; with neither, they are zero,
        their mean. Where encoded attributes have variances, `rng` draws them too, as the authors'
        test does, and without it they are the means. extras: "style" (n, size), the attributes.
        Raises ConfigError for attributes of another size.
        """
        image, style = inputs["image"], inputs.get("style")
        count, shape = len(image), (len(image), self.attribute_size)
        noise = jnp.zeros(shape, image.dtype)
        if rng is not None:
            noise = self.draw_normal(rng, count, self.attribute_size, dtype=image.dtype)
        if style is None:
            attribute = noise
        elif _is_image(style):
            statistics = self._apply(variables, ATTRIBUTE, "encode", style, direction.target)
            attribute = sample(statistics, noise)
        elif style.shape[0] != count or style.size != noise.size:
            raise ConfigError(
                f"a style has shape {style.shape}: give images (n, h, w, 3) or attributes {shape}"
            )
        else:
            attribute = style.reshape(shape).astype(image.dtype)
        content = self._apply(variables, CONTENT, "encode", image, direction.source)
        output = self._apply(variables, GENERATOR, "decode", content, attribute, direction.target)
        return Output(output.images, extras=OrderedDict(style=attribute))

    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """Per direction: source, reconstruction, translations, and the cycle of the first.

        Three translations have a drawn attribute each, the same for all rows; "guided" has the
        attribute of "example", the image of the target domain in the same row.
        """
        codes = jax.random.normal(rng, (PANEL_ATTRIBUTES, 1, self.attribute_size))
        figures: Panels = OrderedDict()
        for direction in self.directions:
            image, example = batch[direction.source], batch[direction.target]
            real = image.astype(dtype_of(variables))
            content = self._apply(variables, CONTENT, "encode", real, direction.source)
            own, _ = self._apply(variables, ATTRIBUTE, "encode", real, direction.source)
            (same,) = self._decode(variables, direction.source, [(content, own)])

            def translate(image, style, direction=direction):
                return self.generate(variables, {"image": image, "style": style}, direction).images

            shape = (len(image), self.attribute_size)
            images = [translate(image, jnp.broadcast_to(code, shape)) for code in codes]
            figures[direction] = columns(
                [
                    ("source", image),
                    ("reconstruction", same),
                    *((f"style {i + 1}", each) for i, each in enumerate(images)),
                    ("example", example),
                    ("guided", translate(image, example)),
                    ("cycle", translate(images[0], image, direction.reverse)),
                ]
            )
        return figures

    def draw_normal(self, rng: Array, count: int, *shape: int, dtype: Any) -> Array:
        """(count, *shape) from N(0, 1), by the indices of the examples."""
        keys = self.examples.keys(rng, count)
        return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)

    def draw_noise(
        self,
        state: TrainState,
        images: Array,
        given: Mapping[str, Array],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> dict[str, Array]:
        """The random numbers of a step, one of each name for each of the images.

        given: those that are not drawn, by name. shapes: of one example, by name.
        """
        rng = jax.random.fold_in(state.rng, state.step)
        draws = {name: given[name] for name in shapes if name in given}
        for index, shape in enumerate(dict.fromkeys(shapes.values())):
            missing = [name for name in shapes if name not in draws and shapes[name] == shape]
            if missing:
                key, count = jax.random.fold_in(rng, index), len(images)
                values = self.draw_normal(key, count, len(missing), *shape, dtype=images.dtype)
                draws |= {name: values[:, i] for i, name in enumerate(missing)}
        return draws

    def encode_contents(
        self, variables: Variables, images: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The contents of both domains' images, with noise; variables: of the content encoder."""
        return {
            domain: self._encode_content(
                variables, images[domain], domain, draws[f"content_noise_{domain}"]
            )
            for domain in OTHER
        }

    def encode_attributes(
        self, variables: Variables, images: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[dict[str, Array], Array]:
        """The attributes of both domains' images, and their divergence from N(0, 1).

        variables: of the attribute encoder. The divergence is a sum over numbers and domains and a
        mean over examples; where attributes have no variance it is the mean square.
        """
        attributes, divergence = {}, jnp.zeros(())
        for domain, image in images.items():
            networks = {ATTRIBUTE: variables}
            mean, variance = self._apply(networks, ATTRIBUTE, "encode", image, domain)
            attributes[domain] = sample((mean, variance), draws.get(f"attr_eps_{domain}"))
            if variance is None:
                divergence = divergence + jnp.mean(jnp.square(mean))
            else:
                every = losses.kl_to_standard_normal(mean, variance)
                divergence = divergence + every / len(mean)
        return attributes, divergence

    def translate_guided(
        self, variables: Tree, contents: Domains, attributes: Domains, draws: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """Images of each domain from encoded attributes.

        "fake": with the other domain's content. "same": with the same image's. "cycle": with the
        codes of "fake", which give the image of the domain again (the cross-cycle).
        """
        images: dict[str, dict[str, Array]] = {"fake": {}, "same": {}, "cycle": {}}
        content_again, attribute_again = {}, {}
        for domain, other in OTHER.items():
            pairs = [(contents[each], attributes[domain]) for each in (other, domain)]
            fake, images["same"][domain] = self._decode(variables, domain, pairs)
            images["fake"][domain] = fake
            noise = draws[f"content_noise_{other}_again"]
            content_again[other] = self._encode_content(variables[CONTENT], fake, domain, noise)
            statistics = self._apply(variables, ATTRIBUTE, "encode", fake, domain)
            attribute_again[domain] = sample(statistics, draws.get(f"attr_eps_{domain}_again"))
        for domain in OTHER:
            pair = content_again[domain], attribute_again[domain]
            (images["cycle"][domain],) = self._decode(variables, domain, [pair])
        return images

    def translate_random(
        self, variables: Tree, contents: Domains, draws: Mapping[str, Array]
    ) -> dict[str, Any]:
        """ "fake": images of each domain, one for each of the drawn attributes "z_random" and, if
        any, "z_random2", from the other domain's content. "latent": the means of the attributes
        that are encoded from the first.
        """
        fakes, latent = {}, {}
        drawn = [draws[name] for name in ("z_random", "z_random2") if name in draws]
        for domain, other in OTHER.items():
            pairs = [(contents[other], code) for code in drawn]
            fakes[domain] = self._decode(variables, domain, pairs)
            encoded = self._apply(variables, ATTRIBUTE, "encode", fakes[domain][0], domain)
            latent[domain] = encoded[0]
        return {"fake": fakes, "latent": latent}

    def _apply(self, variables: Mapping[str, Variables], name: str, part: str, *arguments: Any):
        return self.networks[name].apply(variables[name], *arguments, method=part)

    def _encode_content(self, variables, images, domain, noise):
        content = self._apply({CONTENT: variables}, CONTENT, "encode", images, domain)
        return content + noise.astype(content.dtype)

    def _decode(
        self, variables: Tree, domain: str, pairs: Sequence[tuple[Array, Array]]
    ) -> list[Array]:
        """Images of a domain for pairs of content and attribute, as one batch."""
        contents, attributes = (jnp.concatenate(parts) for parts in zip(*pairs, strict=True))
        output = self._apply(variables, GENERATOR, "decode", contents, attributes, domain)
        return jnp.split(output.images, len(pairs))


def sample(statistics: tuple[Array, Array | None], noise: Array | None) -> Array:
    """Attributes of their means and log variances (n, size), for noise from N(0, 1).

    They are the means where there is no variance or no noise.
    """
    mean, variance = statistics
    if variance is None or noise is None:
        return mean
    return mean + noise * jnp.exp(variance / 2)


def _is_image(style: Array) -> bool:
    return style.ndim == 4 and style.shape[1:3] != (1, 1) and style.shape[2:] != (1, 1)
