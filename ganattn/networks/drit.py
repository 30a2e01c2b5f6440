"""DRIT's encoders, generator and discriminators (Lee et al. 2018, figure 3 and the authors' code).

The paper names the parts and leaves their layers to the code. Each network of the pair holds both
domains, because the last block of the content encoder, and the first of the generator that
concatenates attributes, belong to both. Widths are multiples of `width`, 64 in the authors' code.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import Conv, ConvTranspose
from ganattn.layers.dense import Dense
from ganattn.layers.normalization import LayerNorm, instance_norm
from ganattn.layers.pooling import halve
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput

DOMAINS = ("a", "b")
DOWNSAMPLINGS = 2  # from the image to its content
ATTRIBUTE_DOWNSAMPLINGS = 4
# Of convolutions; their biases, and the dense layers, start with PyTorch's defaults.
_NORMAL = {"use_bias": True, "kernel_init": nn.initializers.normal(0.02)}
_leaky_relu = partial(jax.nn.leaky_relu, negative_slope=0.01)
_steep_leaky_relu = partial(jax.nn.leaky_relu, negative_slope=0.2)


class ContentBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))): 3x3 convolutions and instance normalization."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(n, h, w, features), h and w at least 2, to the same."""
        conv = partial(Conv, self.features, 3, padding=1, **_NORMAL, dtype=self.dtype)
        y = nn.relu(instance_norm(conv(name="conv1")(x)))
        return x + instance_norm(conv(name="conv2")(y))


class DomainContentEncoder(nn.Module):
    """The part of the content encoder that one domain has for itself."""

    width: int = 64
    num_residual_blocks: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images (n, h, w, c) in [-1, 1] to (n, h/4, w/4, 4 * width)."""
        conv = partial(Conv, **_NORMAL, dtype=self.dtype)
        x = _leaky_relu(conv(self.width, 7, padding=3, name="stem")(images))
        for i in range(1, DOWNSAMPLINGS + 1):
            down = conv(self.width << i, 3, 2, padding=1, name=f"down{i}")
            x = nn.relu(instance_norm(down(x)))
        for i in range(self.num_residual_blocks):
            x = ContentBlock(x.shape[-1], self.dtype, name=f"block{i + 1}")(x)
        return x


class SharedContentEncoder(nn.Module):
    """An encoder for each domain, then a block that both share (section 3.1).

    The authors' code adds N(0, 1) to the content in training. That is the caller's part.
    """

    width: int = 64
    num_residual_blocks: int = 3
    dtype: Any = None

    def setup(self) -> None:
        encoder = partial(DomainContentEncoder, self.width, self.num_residual_blocks, self.dtype)
        self.encoder = {domain: encoder() for domain in DOMAINS}
        self.shared = ContentBlock(self.width << DOWNSAMPLINGS, self.dtype)

    def __call__(self, images: Array) -> dict[str, Array]:
        """The content of the same images as those of either domain."""
        return {domain: self.encode(images, domain) for domain in DOMAINS}

    def encode(self, images: Array, domain: str) -> Array:
        """images (n, h, w, c) of a domain, in [-1, 1], to their content (n, h/4, w/4, c')."""
        return self.shared(self.encoder[domain](images))


class PooledResidualBlock(nn.Module):
    """conv(lrelu(conv(lrelu(x)))), halved by average pooling, plus a halved 1x1 convolution of x.

    Leaky ReLU has a slope of 0.2 here.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(n, h, w, c), h and w at least 2, to (n, h // 2, w // 2, features)."""
        conv = partial(Conv, **_NORMAL, dtype=self.dtype)
        pool = partial(nn.avg_pool, window_shape=(2, 2), strides=(2, 2))
        y = conv(x.shape[-1], 3, padding=1, name="conv1")(_steep_leaky_relu(x))
        y = conv(self.features, 3, padding=1, name="conv2")(_steep_leaky_relu(y))
        return pool(y) + conv(self.features, 1, name="shortcut")(pool(x))


class GaussianAttributeEncoder(nn.Module):
    """Mean and log variance of the attribute of one domain's images, without normalization."""

    width: int = 64
    size: int = 8
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        """images (n, h, w, c) in [-1, 1], at least 16 pixels a side, to two (n, size)."""
        stem = Conv(self.width, 4, 2, padding=1, **_NORMAL, dtype=self.dtype, name="stem")
        x = stem(images)
        for i in range(1, ATTRIBUTE_DOWNSAMPLINGS):
            block = PooledResidualBlock((i + 1) * self.width, self.dtype, name=f"block{i}")
            x = block(x)
        x = _steep_leaky_relu(x).mean((1, 2))
        return Dense(self.size, True, name="mean")(x), Dense(self.size, True, name="variance")(x)


class PlainAttributeEncoder(nn.Module):
    """The attribute of one domain's images, without variance and normalization."""

    width: int = 64
    size: int = 8
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, None]:
        """images (n, h, w, c) in [-1, 1], at least 16 pixels a side, to (n, size) and None."""
        conv = partial(Conv, **_NORMAL, dtype=self.dtype)
        x = nn.relu(conv(self.width, 7, padding=3, name="stem")(images))
        for i in range(1, ATTRIBUTE_DOWNSAMPLINGS + 1):
            x = nn.relu(conv(self.width << min(i, 2), 4, 2, padding=1, name=f"down{i}")(x))
        x = x.mean((1, 2), keepdims=True)
        return conv(self.size, 1, name="output")(x)[:, 0, 0], None


class AttributeEncoders(nn.Module):
    """An attribute encoder for each domain: Gaussian if attributes are concatenated, else plain."""

    width: int = 64
    size: int = 8
    concat: bool = True
    dtype: Any = None

    def setup(self) -> None:
        encoder = GaussianAttributeEncoder if self.concat else PlainAttributeEncoder
        self.encoder = {d: encoder(self.width, self.size, self.dtype) for d in DOMAINS}

    def __call__(self, images: Array) -> dict[str, tuple[Array, Array | None]]:
        """The attributes of the same images as those of either domain."""
        return {domain: self.encode(images, domain) for domain in DOMAINS}

    def encode(self, images: Array, domain: str) -> tuple[Array, Array | None]:
        """images (n, h, w, c) of a domain to the mean (n, size) and, if any, the log variance."""
        return self.encoder[domain](images)


class ConcatDecoder(nn.Module):
    """Content to images of one domain; the attribute is concatenated in front of every stage.

    Each stage keeps its channels (residual blocks) or halves them (transposed convolutions), those
    of the attribute included.
    """

    num_residual_blocks: int = 3
    channels: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, content: Array, attribute: Array) -> Array:
        """content (n, h, w, c), attribute (n, size) to images (n, 4 * h, 4 * w, channels)."""
        x = _concatenate(content, attribute)
        for i in range(self.num_residual_blocks):
            x = ContentBlock(x.shape[-1], self.dtype, name=f"block{i + 1}")(x)
        for i in range(1, DOWNSAMPLINGS + 1):
            x = _upsample(_concatenate(x, attribute), i, self.dtype)
        conv = Conv(self.channels, 1, **_NORMAL, dtype=self.dtype, name="output")
        return jnp.tanh(conv(_concatenate(x, attribute)))


class TransformBlock(nn.Module):
    """x plus twice: a 3x3 convolution, instance normalization, and a transform by an attribute.

    The transform is two 1x1 convolutions with ReLU of the features and the attribute.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, attribute: Array) -> Array:
        """x (n, h, w, features), attribute (n, any) to (n, h, w, features)."""
        conv, y = partial(Conv, **_NORMAL, dtype=self.dtype), x
        for i in (1, 2):
            y = instance_norm(conv(self.features, 3, padding=1, name=f"conv{i}")(y))
            y = _concatenate(y, attribute)
            y = nn.relu(conv(y.shape[-1], 1, name=f"transform{i}_hidden")(y))
            y = nn.relu(conv(self.features, 1, name=f"transform{i}")(y))
        return x + y


class TransformDecoder(nn.Module):
    """Content to images of one domain by feature-wise transforms, one MLP output for each block."""

    num_residual_blocks: int = 4
    channels: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, content: Array, attribute: Array) -> Array:
        """content (n, h, w, c), attribute (n, size) to images (n, 4 * h, 4 * w, channels)."""
        x, z, features = content, attribute, content.shape[-1]
        for i in (1, 2):
            z = nn.relu(Dense(features, True, name=f"dense{i}")(z))
        z = Dense(self.num_residual_blocks * features, True, name="dense3")(z)
        for i in range(self.num_residual_blocks):
            part = z[:, i * features : (i + 1) * features]
            x = TransformBlock(features, self.dtype, name=f"block{i + 1}")(x, part)
        for i in range(1, DOWNSAMPLINGS + 1):
            x = _upsample(x, i, self.dtype)
        conv = Conv(self.channels, 1, **_NORMAL, dtype=self.dtype, name="output")
        return jnp.tanh(conv(x))


class AttributeGenerator(nn.Module):
    """Decoders of both domains.

    concat: the attribute is concatenated to the features, behind a block that both domains share,
    for tasks that keep shapes. Otherwise each decoder has one more block in its place, and
    transforms features by the attribute: for tasks that change shapes, such as cats to dogs.
    """

    width: int = 64
    attribute_size: int = 8
    num_residual_blocks: int = 3
    concat: bool = True
    channels: int = 3
    dtype: Any = None

    def setup(self) -> None:
        blocks, options = self.num_residual_blocks, {"dtype": self.dtype}
        if self.concat:
            self.shared = ContentBlock(self.width << DOWNSAMPLINGS, self.dtype)
            decoder = partial(ConcatDecoder, blocks, self.channels, **options)
        else:
            decoder = partial(TransformDecoder, blocks + 1, self.channels, **options)
        self.decoder = {domain: decoder() for domain in DOMAINS}

    def __call__(self, content: Array) -> dict[str, GeneratorOutput]:
        """The images of both domains that the mean of the attributes gives."""
        attribute = jnp.zeros((len(content), self.attribute_size), content.dtype)
        return {domain: self.decode(content, attribute, domain) for domain in DOMAINS}

    def decode(self, content: Array, attribute: Array, domain: str) -> GeneratorOutput:
        """Images of a domain, in [-1, 1], of any domain's content and an attribute (n, size)."""
        x = self.shared(content) if self.concat else content
        return GeneratorOutput(self.decoder[domain](x, attribute))


class UnnormalizedDiscriminator(nn.Module):
    """Strided convolutions with leaky ReLU of slope 0.01, and a 1x1 classifier, at every scale.

    The kernels are 4x4, those of a discriminator of a single scale 3x3. There is no normalization:
    the authors' code asks for one, and compares the wrong string.
    """

    width: int = 64
    num_layers: int = 4
    num_scales: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> DiscriminatorOutput:
        """images (n, h, w, c) in [-1, 1] to a list of the scales' logits, the finest first."""
        conv = partial(Conv, **_NORMAL, dtype=self.dtype)
        size = 3 if self.num_scales == 1 else 4
        logits = []
        for scale in range(self.num_scales):
            x = images = halve(images) if scale else images
            for i in range(self.num_layers):
                name = f"scale{scale}_conv{i + 1}"
                x = _leaky_relu(conv(self.width << i, size, 2, padding=1, name=name)(x))
            logits.append(conv(1, 1, name=f"scale{scale}_classifier")(x))
        return DiscriminatorOutput(logits)


class ContentDiscriminator(nn.Module):
    """Which domain a content comes from (section 3.1).

    Strided convolutions with reflection padding by 1, a 4x4 convolution without padding, all with
    leaky ReLU of slope 0.01, and a 1x1 classifier. As in `UnnormalizedDiscriminator`, the
    normalization that the authors' code asks for is never built.
    """

    num_layers: int = 3
    kernel_size: int = 7
    dtype: Any = None

    @nn.compact
    def __call__(self, content: Array) -> DiscriminatorOutput:
        """content (n, h, w, c), sides at least `smallest_content`, to logits (n, h', w', 1)."""
        features, x = content.shape[-1], content
        conv = partial(Conv, **_NORMAL, dtype=self.dtype)
        for i in range(self.num_layers):
            layer = conv(features, self.kernel_size, 2, padding=1, name=f"conv{i + 1}")
            x = _leaky_relu(layer(x))
        x = _leaky_relu(conv(features, 4, name=f"conv{self.num_layers + 1}")(x))
        return DiscriminatorOutput(conv(1, 1, name="classifier")(x))


def smallest_content(num_layers: int, kernel_size: int) -> int:
    """The smallest side of a content for `ContentDiscriminator`."""
    side = 4
    for _ in range(num_layers):
        side = max(2, 2 * (side - 1) + kernel_size - 2)
    return side


def _upsample(x: Array, index: int, dtype: Any) -> Array:
    """Doubles the sides and halves the channels, inside a compact module."""
    up = ConvTranspose(x.shape[-1] // 2, 3, **_NORMAL, dtype=dtype, name=f"up{index}")
    return nn.relu(LayerNorm(unbiased=False, name=f"up{index}_norm")(up(x)))


def _concatenate(x: Array, attribute: Array) -> Array:
    """(n, h, w, c) and (n, size) to (n, h, w, c + size)."""
    shape = (*x.shape[:3], attribute.shape[-1])
    tiled = jnp.broadcast_to(attribute[:, None, None], shape)
    return jnp.concatenate([x, tiled.astype(x.dtype)], axis=-1)
