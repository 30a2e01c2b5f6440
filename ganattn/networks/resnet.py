"""The residual generator of CycleGAN (Zhu et al. 2017, appendix 7.2; Johnson et al. 2016)."""

from collections import OrderedDict
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ganattn.layers.attention import blend
from ganattn.layers.convolution import Conv, ConvTranspose
from ganattn.layers.dropout import dropout
from ganattn.layers.initialization import WeightInit
from ganattn.layers.normalization import Normalization
from ganattn.networks.outputs import GeneratorOutput


class ResNetBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions with norms, a ReLU between them, and a skip."""

    features: int
    norm: Normalization
    site: int = 0
    dtype: Any = None
    weight_init: WeightInit = WeightInit()

    @nn.compact
    def __call__(self, x: Array, dropout_keys: Array | None = None) -> Array:
        """x (n, h, w, features); dropout_keys: see `dropout`, None without dropout."""
        options = {
            "use_bias": self.norm.conv_bias, **self.weight_init.conv(), "dtype": self.dtype,
        }  # fmt: skip
        y = Conv(self.features, 3, padding=1, **options, name="conv1")(x)
        y = nn.relu(self.norm(y, "norm1"))
        y = dropout(y, dropout_keys, self.site)
        y = Conv(self.features, 3, padding=1, **options, name="conv2")(y)
        return x + self.norm(y, "norm2")


class ResNetGenerator(nn.Module):
    """Two strided convolutions, residual blocks, two transposed convolutions.

    width: channels of the first layer (the authors' ngf). Images may have any number of channels.
    norm: "instance", "batch" or "none"; "batch" takes its statistics over the devices of
    `axis_name`. num_residual_blocks: 9 is the authors' resnet_9blocks, 6 their resnet_6blocks.
    Stages are "stem", "down1", "down2", "block1" and so on, "up1" and "up2". pyramid: a module of
    `layers.pyramid`, applied to the features of stage `pyramid_after`; its attention maps are
    returned. guided_after: the stage whose features are multiplied by 1 + a given attention map,
    which is enlarged to their size: by `upsampler`, a module for maps of an eighth of the images'
    sides, or by bilinear interpolation where it is None. remat: recompute residual blocks in the
    backward pass instead of storing them.
    Source: CycleGAN appendix 7.2 (c7s1-64, d128, d256, 9 R256, u128, u64, c7s1-3); strided
    convolutions have zero padding as in the authors' code, where the appendix says reflection.
    Guidance: Lin et al. 2021, supplement, section 3, and the authors' InterResnetGenerator.
    """

    width: int = 64
    num_residual_blocks: int = 9
    norm: str = "instance"
    channels: int = 3
    pyramid: nn.Module | None = None
    pyramid_after: str = "up1"
    guided_after: str = ""
    upsampler: nn.Module | None = None
    remat: bool = False
    axis_name: str | None = None
    dtype: Any = None
    weight_init: WeightInit = WeightInit()

    @property
    def multiple(self) -> int:
        """What divides the height and width of images."""
        return 4

    @nn.compact
    def __call__(
        self,
        images: Array,
        dropout_keys: Array | None = None,
        statistics: str = "running",
        attention: Array | None = None,
    ) -> GeneratorOutput:
        """Maps images (n, h, w, c) in [-1, 1], h and w multiples of 4, to (n, h, w, channels).

        dropout_keys: see `dropout`, None without dropout. statistics: of batch normalization, see
        `BatchNorm`. attention: (n, h', w', 1) for `guided_after`, or None
        without guidance.
        """
        attention_maps: OrderedDict[str, Array] = OrderedDict()
        if self.upsampler is not None and (attention is not None or self.is_initializing()):
            count, height, width, _ = images.shape
            nothing = jnp.zeros((count, height // 8, width // 8, 1), images.dtype)
            attention = self.upsampler(nothing if attention is None else attention)

        def finish(stage, x):
            if attention is not None and stage == self.guided_after:
                x = blend(x, attention, "rmult")
            if self.pyramid is None or stage != self.pyramid_after:
                return x
            pooled = self.pyramid(x, norm)
            attention_maps.update(pooled.attentions)
            return pooled.features

        init = self.weight_init
        norm = Normalization(self.norm, statistics, self.axis_name, init.scale)
        options = {"use_bias": norm.conv_bias, **init.conv(), "dtype": self.dtype}
        block = nn.remat(ResNetBlock) if self.remat else ResNetBlock

        x = Conv(self.width, 7, padding=3, **options, name="stem")(images)
        x = finish("stem", nn.relu(norm(x, "stem_norm")))
        for i in (1, 2):
            down = Conv(
                self.width << i, 3, 2, padding=1, pad_mode="zero", **options, name=f"down{i}"
            )
            x = finish(f"down{i}", nn.relu(norm(down(x), f"down{i}_norm")))
        for i in range(self.num_residual_blocks):
            name = f"block{i + 1}"
            module = block(4 * self.width, norm, i, self.dtype, init, name=name)
            x = module(x, dropout_keys)
            x = finish(name, x)
        for i in (1, 2):
            transposed = {**options, **init.transposed()}
            up = ConvTranspose(self.width << (2 - i), 3, **transposed, name=f"up{i}")
            x = finish(f"up{i}", nn.relu(norm(up(x), f"up{i}_norm")))
        output = Conv(self.channels, 7, padding=3, **{**options, "use_bias": True}, name="output")
        return GeneratorOutput(jnp.tanh(output(x)), attention_maps)
