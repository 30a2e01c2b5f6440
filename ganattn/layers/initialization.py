"""Initial weights that the code of CycleGAN and pix2pix offers."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ganattn.layers.convolution import Initializer

INITS = ("normal", "xavier", "kaiming", "orthogonal")


@dataclasses.dataclass(frozen=True)
class WeightInit:
    """How a network draws its weights; biases start at 0.

    kind: "normal" (standard deviation `gain`), "xavier" (Glorot and Bengio 2010, normal, times
    `gain`), "kaiming" (He et al. 2015, normal, fan-in; without a gain, as in the authors' code) or
    "orthogonal" (Saxe et al. 2014, times `gain`). gain: also the standard deviation of the scale of
    batch normalization around 1. Source: DCGAN and pix2pix appendix 6.2 for "normal" with 0.02;
    init_weights of junyanz/pytorch-CycleGAN-and-pix2pix.
    """

    kind: str = "normal"
    gain: float = 0.02

    def conv(self) -> dict[str, Initializer]:
        """Initializers of `Conv`."""
        kernels = {
            "normal": nn.initializers.normal(self.gain),
            "xavier": nn.initializers.variance_scaling(self.gain**2, "fan_avg", "normal"),
            "kaiming": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
            "orthogonal": nn.initializers.orthogonal(self.gain),
        }
        return {"kernel_init": kernels[self.kind], "bias_init": nn.initializers.zeros}

    def transposed(self) -> dict[str, Initializer]:
        """Initializers of `ConvTranspose`, whose inputs are PyTorch's outputs."""
        kernels = {
            "kaiming": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            "orthogonal": nn.initializers.orthogonal(self.gain, column_axis=-2),
        }
        return {
            **self.conv(),
            **({"kernel_init": kernels[self.kind]} if self.kind in kernels else {}),
        }

    def scale(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """The initial scale of batch normalization: N(1, gain)."""
        return 1 + self.gain * jax.random.normal(key, shape, dtype)
