"""Unpaired translation whose generators take attention maps beside the images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import blend, neutral_value, to_unit_range
from ganattn.methods.base import apply_passes
from ganattn.methods.families.two_domains import DISCRIMINATORS, DOMAINS, TwoDomains
from ganattn.state import Tree

LEARNED_START = 0.25  # of the unscaled maps of images that were not visited (attn_cycle_gan_v3)
# The constant map under which the authors' test code translates an image without a map in the
# buffer: images times 1.5, which is 1 + the mean of a map in [0, 1], or the ones of a new buffer.
# With interpolated maps, F1 to F4 multiply features by the same 1.5.
TEST_VALUES = {"rmult": 0.5, "mult": 1.0, "alpha": 1.0, "none": 1.0}


@dataclasses.dataclass(frozen=True)
class GuidedDomains(TwoDomains):
    """How maps are scaled, blended with images, and passed to the networks; see `Guidance`.

    A map is (n, h/8, w/8, 1), or None for a pass without guidance at a stage other than F0.
    """

    blend: str = "rmult"
    guidance: str = "buffer"
    fusion_stage: str = "F0"
    upsampler: str = "bilinear"

    @property
    def _initial(self) -> float:
        """The value of the maps of images that were not visited yet."""
        return LEARNED_START if self.upsampler == "learned" else 1.0

    def _scale(self, heatmap: Array) -> Array:
        """A discriminator's map as it guides a generator, constant to what follows."""
        heatmap = jax.lax.stop_gradient(heatmap)
        return heatmap if self.upsampler == "learned" else to_unit_range(heatmap)

    def _maps(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        return {domain: self._scale(output.heatmap) for domain, output in outputs.items()}

    def _map_of_new(self, images: Array) -> Any:
        """The map under which an image that was never visited is translated first."""
        if self.guidance == "decomposed":
            return self._without_map(images)
        is_learned = self.upsampler == "learned"
        return self._constant_map(images, LEARNED_START if is_learned else TEST_VALUES[self.blend])

    def _without_map(self, images: Array) -> Any:
        """What stands for the map of a pass without guidance."""
        if self.fusion_stage != "F0":
            return None
        return self._constant_map(images, neutral_value(self.blend))

    def _unguided(self, images: Mapping[str, Array]) -> dict[str, Any]:
        return {domain: self._without_map(each) for domain, each in images.items()}

    def _constant_map(self, images: Array, value: float) -> Array:
        count, height, width, _ = images.shape
        return jnp.full((count, height // 8, width // 8, 1), value, images.dtype)

    def _generate(self, variables: Tree, name: str, *passes: tuple[Array, Any]) -> list[Array]:
        """One generator's images for several (images, map): no layer mixes examples."""
        network = self.networks[name]
        if self.fusion_stage == "F0":
            images = jnp.concatenate([blend(*each, self.blend) for each in passes])
            output = network.apply(variables, images)
        elif any(attention is None for _, attention in passes):
            return [network.apply(variables, x, attention=a).images for x, a in passes]
        else:
            images, attention = (jnp.concatenate(parts) for parts in zip(*passes, strict=True))
            output = network.apply(variables, images, attention=attention)
        return jnp.split(output.images, len(passes))

    def _translations(
        self, generators: Tree, images: Mapping[str, Array], maps: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Every domain's images, with their maps, translated: by the domain they are now of."""
        translations = {}
        for direction in self.directions:
            name, source = f"generator_{direction}", direction.source
            each = images[source], maps[source]
            (translations[direction.target],) = self._generate(generators[name], name, each)
        return translations

    def _discriminate(
        self, discriminators: Tree, carried: Tree, images: Mapping[str, Array], times: int = 1
    ) -> tuple[dict[str, Any], Tree]:
        """The output of each domain's discriminator for its images, and the new carried state.

        times: how often the authors' code applies it; the output is the same each time, but batch
        normalization's averages move.
        """
        outputs, new_carried = {}, {}
        for domain, name in zip(DOMAINS, DISCRIMINATORS, strict=True):
            passes = [(images[domain],)] * (times if carried[name] else 1)
            every, new_carried[name] = apply_passes(
                self.networks[name], discriminators[name], carried[name], passes, joint=False
            )
            outputs[domain] = every[-1]
        return outputs, new_carried
