"""Batch normalization whose scale and shift are a function of the latent vector."""

from typing import Any

import flax.linen as nn
from jax import Array

from ganattn.layers.convolution import DCGAN_INITS
from ganattn.layers.normalization import BatchNorm
from ganattn.layers.spectral import SpectralDense

HIDDEN = 32


class SelfModulatedBatchNorm(nn.Module):
    """Batch normalization, scaled and shifted by a small network of its own on the latent vector.

    The scale is about 1 and the shift about 0 at initialization. spectral: normalize the network's
    weights spectrally. Source: Chen et al. 2019, eq. 3 and 4, in the form without labels.
    """

    spectral: bool = True
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        features: Array,
        latents: Array,
        statistics: str = "running",
        update_stats: bool = False,
    ) -> Array:
        """features (n, h, w, c), latents (n, z); statistics: see `BatchNorm`."""

        def dense(x, size, bias, name):
            inits = {**DCGAN_INITS, "bias_init": nn.initializers.constant(bias)}
            if self.spectral:
                module = SpectralDense(size, **inits, dtype=self.dtype, name=name)
                return module(x, update_stats=update_stats)
            return nn.Dense(size, **inits, dtype=self.dtype, name=name)(x)

        norm = BatchNorm(self.axis_name, affine=False, name="norm")
        normalized = norm(features, statistics)
        hidden = nn.relu(dense(latents, HIDDEN, 0.0, "hidden"))
        gamma = dense(hidden, features.shape[-1], 1.0, "gamma")[:, None, None]
        beta = dense(hidden, features.shape[-1], 0.0, "beta")[:, None, None]
        return (normalized * gamma + beta).astype(features.dtype)
