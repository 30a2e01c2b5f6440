"""Attention-based spatial guidance with pairs: pix2pix whose discriminator says where to look.

Lin et al., WACV 2021, section 4 and supplement section 2; the authors' pix2pix_attn.

The supplement has no network that enlarges maps; the authors' code has. It gives the weight of the
L1 distance as "10" and as 100, which is the code's. Its U-Net is that of 128 pixels, with instance
normalization; the code's default is that of 256. Their README has no command for pix2pix_attn.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ganattn import memory
from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.layers.attention import blend
from ganattn.methods.base import DTYPES, Output, images_spec
from ganattn.methods.families.image_translation import (
    TEST_GUIDANCE,
    TEST_STATISTICS,
    create_optimizer,
)
from ganattn.methods.families.paired import DISCRIMINATOR, GENERATOR, Paired
from ganattn.networks.guided_discriminators import GUIDED_DISCRIMINATORS
from ganattn.networks.map_upsampler import MapUpsampler
from ganattn.networks.unet import UNetGenerator
from ganattn.state import TrainState, Tree, Variables

UPSAMPLER = "upsampler_a2b"


@dataclasses.dataclass(frozen=True)
class SupervisedGuidance(Paired):
    """`Paired` with a discriminator of attention, and a network that enlarges its maps.

    The source is multiplied by 1 + the enlarged map that the discriminator returned for the
    latest translation of this image. `memory` is the buffer of these maps, (images,
    h/8, w/8, 1), unscaled and all ones at first, the same on every device; "index_a" (n,) int of a
    batch says which images it holds.

    buffer_size: number of training pairs. test_guidance: a key of `TEST_GUIDANCE`; a "constant" map
    for a new image is the one of a new buffer, all ones, and "discriminator" is the map that the
    discriminator gives for the translation under it.
    """

    buffer_size: int = 0
    test_guidance: str = "constant"

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        check(config, "method.discriminator", choices=GUIDED_DISCRIMINATORS)
        check(config, "method.num_downs", least=2)
        check(config, "method.image_size", least=24, multiple_of=max(8, 1 << method.num_downs))
        check(config, "method.buffer_size", least=1)
        check(config, "method.test_guidance", choices=TEST_GUIDANCE)
        check(config, "method.test_statistics", choices=TEST_STATISTICS)
        dtype = DTYPES[method.dtype]
        discriminator = GUIDED_DISCRIMINATORS[method.discriminator]
        networks = {
            GENERATOR: UNetGenerator(method.width, method.num_downs, "instance", dtype=dtype),
            UPSAMPLER: MapUpsampler(method.upsampler_width, dtype=dtype),
            DISCRIMINATOR: discriminator(method.discriminator_width, dtype=dtype),
        }
        groups = {"generator": (GENERATOR, UPSAMPLER), "discriminator": (DISCRIMINATOR,)}
        return cls(
            networks,
            groups,
            dict.fromkeys(groups, create_optimizer(config.optimizer)),
            **cls.values_of(method),
        )

    @property
    def multiple(self) -> int:
        """What divides the height and width of images: a map is an eighth of them."""
        return max(8, super().multiple)

    def check_data(self, sizes: Mapping[str, int]) -> None:
        """Raises ConfigError when the buffer is too small for these images."""
        if sizes["a"] > self.buffer_size:
            raise ConfigError(
                f"config.method.buffer_size is {self.buffer_size}: there are {sizes['a']} "
                "images, set it to that"
            )

    def create_memory(self, dtype: Any) -> Tree:
        """The buffer of attention maps."""
        side = self.image_size // 8
        return memory.create_buffer(self.buffer_size, side, side, dtype)

    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """As `Paired.batch_spec`, and the images' indices, "index_a" (count,) int32."""
        return {**super().batch_spec(count), "index_a": jax.ShapeDtypeStruct((count,), jnp.int32)}

    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """The generator and the upsampler, and the discriminator where its map guides."""
        guide = (DISCRIMINATOR,) if self.test_guidance == "discriminator" else ()
        return GENERATOR, UPSAMPLER, *guide

    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """As `Paired.network_input`; an attention map for the network that enlarges it."""
        if name != UPSAMPLER:
            return super().network_input(name)
        return images_spec(1, self.image_size // 8, self.image_size // 8, 1)

    def recall(self, state: TrainState, batch: Mapping[str, Array]) -> Array:
        """The maps (n, h/8, w/8, 1) of the batch's images; ConfigError without "index_a"."""
        if "index_a" not in batch:
            raise ConfigError("the data give no index_a: use a source that numbers its images")
        return memory.recall(state.memory, batch["index_a"])

    def remember(self, state: TrainState, batch: Mapping[str, Array], output: Any) -> TrainState:
        """Stores the map of each new translation."""
        indices, maps = batch["index_a"], output.heatmap
        return state.replace(memory=memory.remember(state.memory, indices, maps, self.examples))

    def forward(self, trained, carried, images, guide, keys):
        """As `Paired.forward`, guided by the maps `guide` (n, h/8, w/8, 1)."""
        images = blend(images, self._enlarge(trained, guide), "rmult")
        return super().forward(trained, carried, images, None, keys)

    def _translate(
        self, variables: Mapping[str, Variables], images: Array, keys: Array | None
    ) -> Output:
        """attention has "attention", the map that guides the generator, (n, h, w, 1) in (0, 1).

        The authors' test code begins with a new buffer, so every image has the map of ones.
        """
        count, height, width, _ = images.shape
        maps = jnp.ones((count, height // 8, width // 8, 1), images.dtype)
        output = self._guided(variables, images, maps, keys)
        if self.test_guidance == "constant":
            return output
        pair, statistics = [images, output.images], TEST_STATISTICS[self.test_statistics]
        guide = self.networks[DISCRIMINATOR].apply(
            variables[DISCRIMINATOR], jnp.concatenate(pair, -1), statistics
        )
        return self._guided(variables, images, guide.heatmap, keys)

    def _guided(self, variables, images, maps, keys) -> Output:
        attention = self._enlarge(variables, maps)
        output = super()._translate(variables, blend(images, attention, "rmult"), keys)
        return output._replace(attention=OrderedDict(attention=attention))

    def _enlarge(self, variables, maps):
        return self.networks[UPSAMPLER].apply(variables[UPSAMPLER], maps)
