"""pix2pix: translation learned from pairs (Isola et al., CVPR 2017)."""

import dataclasses
from typing import Self

from ml_collections import ConfigDict

from ganattn.methods.families import image_translation
from ganattn.methods.families.paired import DISCRIMINATOR, GENERATOR, Paired


@dataclasses.dataclass(frozen=True)
class Pix2Pix(Paired):
    """`Paired` with a PatchGAN discriminator; eq. 4 of the paper is the objective.

    Where the paper and the authors' PyTorch code differ, the code is followed: dropout is in the
    decoder levels of 8 times the width but the innermost (section 6.1.1: in the first three levels
    of the decoder), no norm follows the innermost strided convolution, and the rate falls in the
    second 100 epochs (section 3.3 has no schedule). The discriminator's loss is halved in both. The
    authors' models with gan_mode wgangp never call their gradient penalty, so its weight is 0; its
    place in the loss, where there is a weight, is chosen here.

    norm: of both networks, "instance", "batch" or "none".
    """

    norm: str = "batch"

    @classmethod
    def from_config(cls, config: ConfigDict) -> Self:
        method = config.method
        image_translation.check_config(config)
        generator = image_translation.create_generator(method)
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
        """Without batch normalization no layer mixes examples."""
        return self.norm != "batch"
