"""The U-Net generator of pix2pix (Isola et al. 2017, figure 3 and appendix 6.1.1)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import Conv, ConvTranspose
from ganattn.layers.dropout import dropout
from ganattn.layers.initialization import WeightInit
from ganattn.layers.normalization import Normalization
from ganattn.networks.outputs import GeneratorOutput


class UNetGenerator(nn.Module):
    """Strided 4x4 convolutions to 1/2^num_downs, transposed ones back, and skip connections.

    The innermost strided convolution has no norm, as in the authors' code; the paper's list of
    layers (appendix 6.1.1) has one there, and dropout in the first three levels of the decoder.

    width: channels of the first layer (the authors' ngf); level i has width * 2^(i - 1), at most
    8 times the width. num_downs: 8 is the authors' unet_256, 7 their unet_128. Dropout is
    applied in the decoder levels of 8 times the width, except the innermost. norm: "instance",
    "none" or "batch", which is over the devices of `axis_name` together.
    """

    width: int = 64
    num_downs: int = 8
    norm: str = "batch"
    channels: int = 3
    axis_name: str | None = None
    dtype: Any = None
    weight_init: WeightInit = WeightInit()

    @property
    def multiple(self) -> int:
        """What divides the height and width of images."""
        return 1 << self.num_downs

    @nn.compact
    def __call__(
        self, images: Array, dropout_keys: Array | None = None, statistics: str = "running"
    ) -> GeneratorOutput:
        """images (n, h, w, c) in [-1, 1], h and w multiples of 2^num_downs, to (n, h, w, channels).

        dropout_keys: see `dropout`, None without dropout. statistics: of batch normalization, see
        `BatchNorm`.
        """
        init = self.weight_init
        norm = Normalization(self.norm, statistics, self.axis_name, init.scale)
        options = {"use_bias": norm.conv_bias, **init.conv(), "dtype": self.dtype}
        transposed = {**options, **init.transposed()}
        widths = [self.width * min(1 << i, 8) for i in range(self.num_downs)]
        innermost = self.num_downs

        skips, x = [], images
        for level, features in enumerate(widths, start=1):
            if level > 1:
                skips.append(x)
                x = nn.leaky_relu(x, 0.2)
            down = Conv(features, 4, 2, padding=1, pad_mode="zero", **options, name=f"down{level}")
            x = down(x)
            if 1 < level < innermost:
                x = norm(x, f"down{level}_norm")
        for level in range(innermost, 1, -1):
            up = ConvTranspose(widths[level - 2], 4, **transposed, name=f"up{level}")
            x = norm(up(nn.relu(x)), f"up{level}_norm")
            if 4 < level < innermost:
                x = dropout(x, dropout_keys, level)
            x = jnp.concatenate([skips.pop(), x], -1)
        output = ConvTranspose(self.channels, 4, **{**transposed, "use_bias": True}, name="up1")
        return GeneratorOutput(jnp.tanh(output(nn.relu(x))))
