"""pix2pix: translation learned from pairs (Isola et al., CVPR 2017)."""

import dataclasses
from typing import Self

from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.methods.base import DTYPES
from ganattn.methods.families import image_translation
from ganattn.methods.families.paired import DISCRIMINATOR, GENERATOR, Paired
from ganattn.networks.unet import UNetGenerator


@dataclasses.dataclass(frozen=True)
class Pix2Pix(Paired):
    """`Paired` with a PatchGAN discriminator; eq. 4 of the paper is the objective.

    norm: of both networks, "instance" or "batch".
    """

    norm: str = "batch"

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        check(config, "method.num_downs", least=2)
        image_translation.check_config(config, multiple=1 << method.num_downs)
        generator = UNetGenerator(
            method.width, method.num_downs, method.norm, dtype=DTYPES[method.dtype]
        )
        discriminator = image_translation.create_discriminator(method)
        groups = {"generator": (GENERATOR,), "discriminator": (DISCRIMINATOR,)}
        return cls(
            {GENERATOR: generator, DISCRIMINATOR: discriminator},
            groups,
            dict.fromkeys(groups, image_translation.create_optimizer(config.optimizer)),
            **cls.values_of(method),
        )

    @property
    def joint(self) -> bool:
        """With instance normalization no layer mixes examples."""
        return self.norm == "instance"
