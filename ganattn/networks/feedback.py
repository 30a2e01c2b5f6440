"""Feedback adversarial learning's generator (Huh et al., CVPR 2019): encoder and modulated decoder.

The layers follow the code of Lin et al. 2021 (voidstrike/ASGIT, netG "lat"): a residual generator,
cut after its fourth block, with two small networks in between.
"""

from collections import OrderedDict
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS, Conv, ConvTranspose
from ganattn.layers.normalization import Normalization
from ganattn.networks.outputs import GeneratorOutput
from ganattn.networks.resnet import ResNetBlock

ENCODER_BLOCKS = 4
MODULATIONS = ("global", "spatial")


class FeedbackEncoder(nn.Module):
    """The residual generator of CycleGAN up to its fourth block.

    width: channels of the first layer (the authors' ngf). norm: "instance" or "batch"; the latter
    takes its statistics over the devices of `axis_name`.
    """

    width: int = 64
    norm: str = "batch"
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, images: Array, dropout_keys: Array | None = None, statistics: str = "running"
    ) -> Array:
        """images (n, h, w, c) in [-1, 1] to the code (n, h/4, w/4, 4 * width).

        dropout_keys: one typed key for each example, or None without dropout. statistics: of batch
        normalization, see `BatchNorm`.
        """
        norm = Normalization(self.norm, statistics, self.axis_name)
        options = {"use_bias": norm.conv_bias, **DCGAN_INITS, "dtype": self.dtype}
        x = Conv(self.width, 7, padding=3, **options, name="stem")(images)
        x = nn.relu(norm(x, "stem_norm"))
        for i in (1, 2):
            down = Conv(
                self.width << i, 3, 2, padding=1, pad_mode="zero", **options, name=f"down{i}"
            )
            x = nn.relu(norm(down(x), f"down{i}_norm"))
        for i in range(ENCODER_BLOCKS):
            block = ResNetBlock(4 * self.width, norm, i, self.dtype, name=f"block{i + 1}")
            x = block(x, dropout_keys)
        return x


class FeedbackDecoder(nn.Module):
    """One round: modulates the code by the last round's outcome, and decodes it.

    The new code is gamma * code + beta, both computed from the code, the last image and the
    discriminator's response to it. modulation: "global" has one gamma and beta a channel, from
    strided convolutions over the whole map, as in the code of Lin et al.; "spatial" has one a
    pixel, the idea of Huh et al. num_residual_blocks: with those of the encoder. Further fields: of
    `FeedbackEncoder`.
    """

    width: int = 64
    num_residual_blocks: int = 9
    norm: str = "batch"
    modulation: str = "global"
    channels: int = 3
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        code: Array,
        images: Array | None = None,
        response: Array | None = None,
        dropout_keys: Array | None = None,
        statistics: str = "running",
    ) -> GeneratorOutput:
        """code (n, h/4, w/4, 4 * width) to images (n, h, w, channels); extras: the new "code".

        images (n, h, w, channels) and response (n, h, w, 1): of the last round, zeros in the first
        one (None). dropout_keys, statistics: as of `FeedbackEncoder`.
        """
        norm = Normalization(self.norm, statistics, self.axis_name)
        options = {"use_bias": norm.conv_bias, **DCGAN_INITS, "dtype": self.dtype}
        count, height, width, _ = code.shape
        if images is None:
            images = jnp.zeros((count, 4 * height, 4 * width, self.channels), code.dtype)
        if response is None:
            response = jnp.zeros((*images.shape[:3], 1), code.dtype)
        x = code = self._modulate(code, jnp.concatenate([images, response], -1), norm)
        for i in range(ENCODER_BLOCKS, self.num_residual_blocks):
            block = ResNetBlock(4 * self.width, norm, i, self.dtype, name=f"block{i + 1}")
            x = block(x, dropout_keys)
        for i in (1, 2):
            up = ConvTranspose(self.width << (2 - i), 3, **options, name=f"up{i}")
            x = nn.relu(norm(up(x), f"up{i}_norm"))
        output = Conv(self.channels, 7, padding=3, **{**options, "use_bias": True}, name="output")
        return GeneratorOutput(jnp.tanh(output(x)), extras=OrderedDict(code=code))

    def _modulate(self, code: Array, outcome: Array, norm: Normalization) -> Array:
        options = {"use_bias": True, **DCGAN_INITS, "dtype": self.dtype}
        features = 4 * self.width
        x = Conv(self.width, 2, 2, **options, name="feedback1")(outcome)
        x = nn.relu(norm(x, "feedback1_norm"))
        x = Conv(features, 2, 2, **options, name="feedback2")(x)
        x = jnp.concatenate([code, x], -1)
        if self.modulation == "spatial":
            layers = [(3, 1, features), (3, 1, 2 * features)]
            options |= {"padding": 1, "pad_mode": "zero"}
        else:
            # 4, 4 and 4 for the authors' maps of 64 pixels.
            middle = max(1, code.shape[1] // 16)
            layers = [(4, 4, features), (middle, middle, features), (4, 1, 2 * features)]
        for i, (size, stride, channels) in enumerate(layers, start=1):
            if i > 1:
                x = nn.relu(norm(x, f"modulation{i - 1}_norm"))
            x = Conv(channels, size, stride, **options, name=f"modulation{i}")(x)
        gamma, beta = jnp.split(x, 2, axis=-1)
        shape = code.shape if self.modulation == "spatial" else (code.shape[0], 1, 1, features)
        return gamma.reshape(shape) * code + beta.reshape(shape)
