"""Normalization of feature maps (n, h, w, c): instance, layer, their learned mix, group, batch."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ganattn.layers.convolution import Initializer
from ganattn.parallel import Examples

EPSILON = 1e-5
NORMS = ("instance", "batch")
STATISTICS = ("batch", "running", "image")


def statistics_dtype(dtype: Any) -> Any:
    """The type of statistics: float32 for half-precision features, else that of the features."""
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype


def mix_instance_and_layer(
    features: Array, rho: Array | float, gamma: Array, beta: Array, unbiased: bool
) -> Array:
    """gamma * (rho * instance-normalized + (1 - rho) * layer-normalized) + beta.

    features: (n, h, w, c). rho: (c,) or a number; 1 is instance, 0 layer normalization. gamma,
    beta: broadcast against (n, 1, 1, c). unbiased: variances are divided by the count minus one.
    Layer statistics follow exactly from the instance ones, and both normalizations are affine per
    channel, so the map is read for two reductions and written once.
    Source: U-GAT-IT eq. 1; variances are unbiased in the authors' PyTorch code and biased in their
    TensorFlow code.
    """
    dtype = features.dtype
    x = features.astype(statistics_dtype(dtype))
    pixels, channels = x.shape[1] * x.shape[2], x.shape[3]
    mean = x.mean((1, 2), keepdims=True)
    deviations = jnp.square(x - mean).sum((1, 2), keepdims=True)
    layer_mean = mean.mean(3, keepdims=True)
    layer_deviations = deviations.sum(3, keepdims=True) + pixels * jnp.square(
        mean - layer_mean
    ).sum(3, keepdims=True)
    instance = lax.rsqrt(deviations / (pixels - unbiased) + EPSILON)
    layer = lax.rsqrt(layer_deviations / (pixels * channels - unbiased) + EPSILON)
    rho = jnp.broadcast_to(jnp.asarray(rho, x.dtype), (1, 1, 1, channels))
    scale = gamma * (rho * instance + (1 - rho) * layer)
    shift = gamma * (1 - rho) * layer * (mean - layer_mean) + beta
    return ((x - mean) * scale + shift).astype(dtype)


def instance_norm(features: Array, epsilon: float = EPSILON) -> Array:
    """Instance normalization (Ulyanov et al. 2016) without parameters, with biased variance.

    features: (n, h, w, c). epsilon: added to the variance.
    """
    dtype = features.dtype
    x = features.astype(statistics_dtype(dtype))
    mean = x.mean((1, 2), keepdims=True)
    variance = jnp.square(x - mean).mean((1, 2), keepdims=True)
    return ((x - mean) * lax.rsqrt(variance + epsilon)).astype(dtype)


class InstanceNorm(nn.Module):
    """Instance normalization with biased variance; `affine` adds a scale and shift per channel."""

    affine: bool = False

    @nn.compact
    def __call__(self, features: Array) -> Array:
        if not self.affine:
            return instance_norm(features)
        gamma, beta = _affine(self, features)
        return mix_instance_and_layer(features, 1.0, gamma, beta, unbiased=False)


class AdaLIN(nn.Module):
    """Adaptive layer-instance normalization: scale and shift are inputs.

    rho_init: initial value of `rho` (c,), which has its own collection. rho_offset: subtracted from
    rho, and the difference is clipped to [0, 1] (the TensorFlow code's "smoothing"). unbiased: see
    `mix_instance_and_layer`. Source: U-GAT-IT eq. 1.
    """

    rho_init: float = 0.9
    rho_offset: float = 0.0
    unbiased: bool = True

    @nn.compact
    def __call__(self, features: Array, gamma: Array, beta: Array) -> Array:
        """features (n, h, w, c); gamma, beta (n, c)."""
        rho = _rho(self, features.shape[-1], self.rho_init)
        if self.rho_offset:
            rho = jnp.clip(rho - self.rho_offset, 0.0, 1.0)
        gamma, beta = gamma[:, None, None], beta[:, None, None]
        return mix_instance_and_layer(features, rho, gamma, beta, self.unbiased)


class LIN(nn.Module):
    """Layer-instance normalization with a learned scale and shift per channel.

    The authors call it ILN (PyTorch) and layer_instance_norm (TensorFlow). rho starts at 0.
    Source: U-GAT-IT section 2.1.1 and table 4.
    """

    rho_init: float = 0.0
    unbiased: bool = True

    @nn.compact
    def __call__(self, features: Array) -> Array:
        rho = _rho(self, features.shape[-1], self.rho_init)
        gamma, beta = _affine(self, features)
        return mix_instance_and_layer(features, rho, gamma, beta, self.unbiased)


class AdaIN(nn.Module):
    """Adaptive instance normalization (Huang and Belongie 2017): AdaLIN whose rho is 1."""

    unbiased: bool = True

    def __call__(self, features: Array, gamma: Array, beta: Array) -> Array:
        """features (n, h, w, c); gamma, beta (n, c)."""
        gamma, beta = gamma[:, None, None], beta[:, None, None]
        return mix_instance_and_layer(features, 1.0, gamma, beta, self.unbiased)


class LayerNorm(nn.Module):
    """Layer normalization over height, width and channels with a learned scale and shift."""

    unbiased: bool = True

    @nn.compact
    def __call__(self, features: Array) -> Array:
        gamma, beta = _affine(self, features)
        return mix_instance_and_layer(features, 0.0, gamma, beta, self.unbiased)


class DeviationLayerNorm(nn.Module):
    """Layer normalization over height, width and channels by the unbiased standard deviation.

    (x - mean) / (deviation + 1e-5): the constant is added to the deviation, not to the variance.
    Learns a scale, which starts uniform in [0, 1], and a shift a channel. Source: MUNIT's code; the
    paper only says layer normalization (appendix B).
    """

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """(n, h, w, c), any precision, to the same."""
        gamma, beta = _affine(self, features, nn.initializers.uniform(1.0))
        x = features.astype(statistics_dtype(features.dtype))
        x = x - x.mean((1, 2, 3), keepdims=True)
        variance = jnp.square(x).sum((1, 2, 3), keepdims=True) / (x[0].size - 1)
        scale = gamma / (jnp.sqrt(variance) + EPSILON)
        return (x * scale + beta).astype(features.dtype)


class GroupNorm(nn.Module):
    """Group normalization (Wu and He 2018) with 32 groups, or one per channel where c < 32."""

    @nn.compact
    def __call__(self, features: Array) -> Array:
        norm = nn.GroupNorm(
            num_groups=min(32, features.shape[-1]), epsilon=EPSILON, use_fast_variance=False
        )
        return norm(features).astype(features.dtype)


def near_one(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """N(1, 0.02): the initial scale of batch normalization in CycleGAN and pix2pix."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy 2015), with PyTorch's running averages.

    `batch_stats` has the averages, which move by a tenth (the variance's towards the unbiased
    estimate), and `batches`, the number of their updates. axis_name: the mapped axis over whose
    devices statistics are taken. affine: adds a scale and shift per channel. counts: whether
    `batches` is incremented. gamma_init: of the scale.
    """

    axis_name: str | None = None
    affine: bool = True
    counts: bool = True
    gamma_init: Initializer = near_one

    @nn.compact
    def __call__(self, features: Array, statistics: str = "running") -> Array:
        """features (n, h, w, c).

        statistics: "batch" normalizes by this batch and updates the averages if they are mutable,
        "running" normalizes by the averages, "image" normalizes each image by its own statistics.
        Raises ValueError for another value.
        """
        if statistics not in STATISTICS:
            raise ValueError(f"statistics is {statistics!r}: use one of {', '.join(STATISTICS)}")
        channels = features.shape[-1:]
        average = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variances = self.variable("batch_stats", "variance", jnp.ones, channels, jnp.float32)
        batches = self.variable("batch_stats", "batches", jnp.zeros, (), jnp.float32)

        dtype = features.dtype
        x = features.astype(statistics_dtype(dtype))
        if statistics == "running":
            mean, variance = average.value[None, None, None], variances.value[None, None, None]
        else:
            axes = (1, 2) if statistics == "image" else (0, 1, 2)
            is_batch = statistics == "batch" and not self.is_initializing()
            axis_name = self.axis_name if is_batch else None
            examples = Examples(axis_name)
            mean = examples.mean(x.mean(axes, keepdims=True))
            variance = examples.mean(jnp.square(x - mean).mean(axes, keepdims=True))
            if is_batch and self.is_mutable_collection("batch_stats"):
                count = x.size // x.shape[-1] * (lax.axis_size(axis_name) if axis_name else 1)
                unbiased = variance.ravel() * (count / max(count - 1, 1))
                average.value = _move(average.value, mean.ravel())
                variances.value = _move(variances.value, unbiased)
                batches.value = batches.value + self.counts
        normalized = (x - mean) * lax.rsqrt(variance + EPSILON)
        if not self.affine:
            return normalized.astype(dtype)
        gamma, beta = _affine(self, features, self.gamma_init)
        return (gamma * normalized + beta).astype(dtype)


def _move(average: Array, value: Array) -> Array:
    return (0.9 * average + 0.1 * value).astype(average.dtype)


@dataclasses.dataclass(frozen=True)
class Normalization:
    """The normalization of a network, with the statistics of one application.

    kind: "instance" (no parameters), "batch" or "none" (the identity). statistics, axis_name,
    gamma_init: of `BatchNorm`.
    """

    kind: str
    statistics: str = "running"
    axis_name: str | None = None
    gamma_init: Initializer = near_one

    @property
    def conv_bias(self) -> bool:
        """Whether convolutions have biases: with instance normalization, as in CycleGAN's code.

        With "none" they have no biases there either.
        """
        return self.kind == "instance"

    def __call__(self, features: Array, name: str) -> Array:
        """Normalizes (n, h, w, c) inside a compact module; `name` holds the parameters."""
        if self.kind == "none":
            return features
        if self.kind == "instance":
            return instance_norm(features)
        norm = BatchNorm(self.axis_name, gamma_init=self.gamma_init, name=name)
        return norm(features, self.statistics)


def _rho(module: nn.Module, channels: int, value: float) -> Array:
    return module.variable("rho", "rho", lambda: jnp.full((channels,), value, jnp.float32)).value


def _affine(
    module: nn.Module, features: Array, gamma_init: Initializer = nn.initializers.ones
) -> tuple[Any, Any]:
    shape = features.shape[-1:]
    gamma = module.param("gamma", gamma_init, shape, jnp.float32)
    beta = module.param("beta", nn.initializers.zeros, shape, jnp.float32)
    return gamma[None, None, None], beta[None, None, None]
