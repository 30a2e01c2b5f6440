"""UNIT's generator: one variational auto-encoder a domain (Liu et al., NIPS 2017, figure 1)."""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.networks.autoencoders import ContentDecoder, ContentEncoder
from ganattn.networks.outputs import GeneratorOutput


class VAEGenerator(nn.Module):
    """The auto-encoder of one domain, whose codes both domains share.

    A code is the mean of N(code, 1); the noise is added outside of the network. The networks of two
    domains share no weights, as in the authors' later code; the paper shares the last layers of the
    encoders and the first ones of the decoders.

    width: channels of the first layer. remat: recompute residual blocks in the backward pass.
    """

    width: int = 64
    num_downsamplings: int = 2
    num_residual_blocks: int = 4
    channels: int = 3
    remat: bool = False
    dtype: Any = None

    def setup(self) -> None:
        blocks, options = self.num_residual_blocks, {"remat": self.remat, "dtype": self.dtype}
        self.encoder = ContentEncoder(self.width, self.num_downsamplings, blocks, **options)
        self.decoder = ContentDecoder(self.num_downsamplings, blocks, self.channels, **options)

    def __call__(self, images: Array) -> GeneratorOutput:
        """Reconstructions of images (n, h, w, channels), without noise; h, w multiples of 4."""
        return self.decode(self.encode(images))

    def encode(self, images: Array) -> Array:
        """The code (n, h/4, w/4, 4 * width) of images in [-1, 1]."""
        return self.encoder(images)

    def decode(self, code: Array) -> GeneratorOutput:
        """Images of this domain, in [-1, 1], of a code of any domain."""
        return GeneratorOutput(self.decoder(code))
