"""Attention from class activation maps."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from ganattn.layers.convolution import Initializer, bounded_uniform, torch_uniform
from ganattn.layers.spectral import divide_passes, spectral_norms


class Attended(NamedTuple):
    """features (n, h, w, c) after attention; cam_logits (n, 2); heatmap (n, h, w, 1), unscaled."""

    features: Array
    cam_logits: Array
    heatmap: Array


class ClassActivationAttention(nn.Module):
    """Weighs feature maps by the weights of a classifier on their pooled values.

    One logit comes from average, one from maximum pooling; the maps times the two weight rows go
    through a 1x1 convolution (2c to c, folded into one c-to-c kernel) and an activation; the heat
    map is the sum of the result over channels.

    negative_slope: of the activation; 0 is ReLU. spectral: the logits use spectrally normalised
    weights. shared: both poolings share one classifier with a bias, and normalised weight plus bias
    multiply the maps (TensorFlow code); else there are two without bias, and the raw weight
    multiplies the maps even where the logit's is normalised (PyTorch code).
    Source: U-GAT-IT section 2.1.1; Zhou et al. 2016.
    """

    negative_slope: float = 0.0
    spectral: bool = False
    shared: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array, passes: int = 1, update_stats: bool = False) -> Attended:
        """features (passes * n, h, w, c)."""
        channels = features.shape[-1]
        average = self._classifier("shared" if self.shared else "average")
        maximum = average if self.shared else self._classifier("maximum")
        average_logit, average_row = average(features.mean((1, 2)), passes, update_stats)
        maximum_logit, maximum_row = maximum(features.max((1, 2)), passes, update_stats)
        kernel_init = self.kernel_init or torch_uniform((0,))
        bias_init = self.bias_init or bounded_uniform(2 * channels)
        kernel = self.param("kernel", kernel_init, (2 * channels, channels), jnp.float32)
        bias = self.param("bias", bias_init, (channels,), jnp.float32)
        folded = average_row[:, None] * kernel[:channels] + maximum_row[:, None] * kernel[channels:]
        features, folded, bias = promote_dtype(features, folded, bias, dtype=self.dtype)
        mixed = nn.leaky_relu(features @ folded + bias[None, None, None], self.negative_slope)
        logits = jnp.concatenate([average_logit, maximum_logit], -1)
        return Attended(mixed, logits, mixed.sum(-1, keepdims=True))

    def _classifier(self, name: str) -> "_Classifier":
        return _Classifier(self.spectral, self.shared, self.kernel_init, self.bias_init, name=name)


class _Classifier(nn.Module):
    """One logit from pooled features (passes * n, c), and the row (c,) that weighs the maps."""

    spectral: bool
    biased: bool
    kernel_init: Initializer | None
    bias_init: Initializer | None

    @nn.compact
    def __call__(self, pooled: Array, passes: int, update_stats: bool) -> tuple[Array, Array]:
        channels = pooled.shape[-1]
        kernel_init = self.kernel_init or torch_uniform((0,))
        kernel = self.param("kernel", kernel_init, (channels, 1), jnp.float32)
        row = kernel[:, 0]
        logit = pooled.astype(kernel.dtype) @ kernel
        if self.spectral:
            norms = spectral_norms(self, kernel, passes, update_stats)
            logit = divide_passes(logit, norms)
            # With one output the estimate is exact after one iteration, so every pass has this row.
            row = row / norms[-1] if self.biased else row
        if self.biased:
            bias_init = self.bias_init or bounded_uniform(channels)
            bias = self.param("bias", bias_init, (1,), jnp.float32)
            logit, row = logit + bias[None], row + bias
        return logit, row
