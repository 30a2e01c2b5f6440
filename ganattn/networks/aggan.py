"""AGGAN's networks (Mejjati et al. 2018): attention, generator, discriminator.

They follow the authors' TensorFlow 1 code (AlamiMejjati/Unsupervised-Attention-guided-Image-to-
Image-Translation). Every convolution has a bias, also in front of a normalization.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from ganattn.layers.convolution import Conv, ConvTranspose, convolve_transposed, parameters
from ganattn.layers.normalization import instance_norm
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput

# The standard deviation is that before the truncation at two of them.
INITS = {
    "kernel_init": nn.initializers.truncated_normal(0.02),
    "bias_init": nn.initializers.zeros,
}
# Of the attention network's last three convolutions, by the authors' code and by the paper.
DECODER_KERNELS = ((1, 1, 1), (3, 3, 7))
# TensorFlow's SAME padding of a 3x3 convolution with stride 2 on even sides.
SAME = ((0, 1), (0, 1))

_conv = partial(Conv, use_bias=True, pad_mode="zero", **INITS)


class AffineInstanceNorm(nn.Module):
    """Instance normalization with a scale that starts near 1, and a shift, for each channel."""

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """(n, h, w, c), any precision, to the same."""
        shape = features.shape[-1:]
        gamma = self.param("gamma", _near_one, shape, jnp.float32)
        beta = self.param("beta", nn.initializers.zeros, shape, jnp.float32)
        normalized = gamma[None, None, None] * instance_norm(features) + beta[None, None, None]
        return normalized.astype(features.dtype)


class ShiftedConvTranspose(ConvTranspose):
    """TensorFlow's transposed convolution with stride 2 and SAME padding, for kernel size 3.

    Of the complete result (2h + 1, 2w + 1) the last row and column are cut off. The base class cuts
    off the first ones, as PyTorch does, so its images lie one pixel higher and further left.
    """

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """(n, h, w, c) to (n, 2h, 2w, features)."""
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.features)
        kernel, bias = parameters(self, shape)
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        # Turned by 180 degrees, the last row and column are the first.
        turned = convolve_transposed(images[:, ::-1, ::-1], kernel[::-1, ::-1])
        output = turned[:, ::-1, ::-1]
        return output if bias is None else output + bias[None, None, None]


class RectifiedBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))) with 3x3 convolutions; pad_mode: of these."""

    features: int
    pad_mode: str
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(n, h, w, features) to the same."""
        conv = partial(_conv, padding=1, pad_mode=self.pad_mode, dtype=self.dtype)
        y = AffineInstanceNorm(name="conv1_norm")(conv(self.features, 3, name="conv1")(x))
        y = conv(self.features, 3, name="conv2")(nn.relu(y))
        return nn.relu(x + AffineInstanceNorm(name="conv2_norm")(y))


class AGGANAttention(nn.Module):
    """Says which pixels are translated: two strided convolutions, a residual block, a decoder.

    width: channels of the first layer (the authors' ngf). decoder_kernels: one of DECODER_KERNELS.
    The paper's decoder has 3x3, 3x3 and 7x7 kernels. In the authors' code all three are 1x1, since
    their sizes go to an argument that the layer ignores; then every map is constant on 4x4 blocks
    of pixels. The paper's list of layers also has a first convolution without stride, after which
    its two up-samplings would give a map of twice the image's side: the code's stride 2 is used.
    """

    width: int = 32
    decoder_kernels: tuple[int, ...] = (1, 1, 1)
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images (n, h, w, c) in [-1, 1], sides multiples of 4, to a map (n, h, w, 1) in [0, 1]."""
        width, conv = self.width, partial(_conv, dtype=self.dtype)
        stem = conv(width, 7, stride=2, padding=3, pad_mode="reflect", name="stem")
        x = nn.relu(AffineInstanceNorm(name="stem_norm")(stem(images)))
        x = conv(2 * width, 3, stride=2, padding=SAME, name="down1")(x)
        x = nn.relu(AffineInstanceNorm(name="down1_norm")(x))
        x = RectifiedBlock(2 * width, "reflect", self.dtype, name="block1")(x)
        factor = 1
        layers = (("up1", 2 * width, 2), ("up2", width, 2), ("output", 1, 1))
        for size, (name, features, up) in zip(self.decoder_kernels, layers, strict=True):
            factor *= up
            if size > 1:  # what works on each pixel by itself can come before the enlargement
                x, factor = _enlarge(x, factor), 1
            x = conv(features, size, padding=size // 2, name=name)(x)
            if name != "output":
                x = nn.relu(AffineInstanceNorm(name=f"{name}_norm")(x))
        return _enlarge(nn.sigmoid(x), factor)


class AGGANGenerator(nn.Module):
    """Two strided convolutions, residual blocks, two transposed convolutions.

    CycleGAN's with half of its width, zero instead of reflection padding, and a ReLU behind every
    block. width: channels of the first layer (the authors' ngf). remat: recompute residual blocks
    in the backward pass instead of storing them.
    """

    width: int = 32
    num_residual_blocks: int = 9
    channels: int = 3
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> GeneratorOutput:
        """Maps images (n, h, w, c) in [-1, 1], h and w multiples of 4, to (n, h, w, channels)."""
        width, conv = self.width, partial(_conv, dtype=self.dtype)
        block = nn.remat(RectifiedBlock) if self.remat else RectifiedBlock
        x = conv(width, 7, padding=3, name="stem")(images)
        x = nn.relu(AffineInstanceNorm(name="stem_norm")(x))
        for i in (1, 2):
            x = conv(width << i, 3, stride=2, padding=SAME, name=f"down{i}")(x)
            x = nn.relu(AffineInstanceNorm(name=f"down{i}_norm")(x))
        for i in range(self.num_residual_blocks):
            x = block(4 * width, "zero", self.dtype, name=f"block{i + 1}")(x)
        for i in (1, 2):
            up = ShiftedConvTranspose(
                width << (2 - i), 3, use_bias=True, **INITS, dtype=self.dtype, name=f"up{i}"
            )
            x = nn.relu(AffineInstanceNorm(name=f"up{i}_norm")(up(x)))
        return GeneratorOutput(jnp.tanh(conv(self.channels, 7, padding=3, name="output")(x)))


class AGGANDiscriminator(nn.Module):
    """C64-C128-C256 with stride 2, C512 with stride 1, and a classifier, all 4x4.

    Each is zero-padded by 2 pixels, so that maps grow: 35x35 logits of 256x256 pixels. Unlike
    PatchGAN's, the first layer is normalized, too. width: channels of the first layer (the authors'
    ndf).
    """

    width: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, normalize: Array | bool = True) -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1]; normalize: whether the layers are, () bool."""
        conv = partial(_conv, kernel_size=4, padding=2, dtype=self.dtype)
        x, features = images, []
        for i in range(4):
            x = conv(self.width << i, stride=2 if i < 3 else 1, name=f"conv{i + 1}")(x)
            normalized = AffineInstanceNorm(name=f"conv{i + 1}_norm")(x)
            x = nn.leaky_relu(jnp.where(normalize, normalized, x), 0.2)
            features.append(x)
        return DiscriminatorOutput(conv(1, name="classifier")(x), tuple(features))


def _near_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    return 1 + INITS["kernel_init"](key, shape, dtype)


def _enlarge(x: Array, factor: int) -> Array:
    """Nearest up-sampling."""
    return jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)
