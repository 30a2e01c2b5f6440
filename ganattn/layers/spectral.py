"""Spectral normalization as explicit state.

For each normalized weight, the `spectral` collection has the power-iteration vectors u (out,) and
v (in,). A training application runs one iteration; an evaluation uses the stored vectors unchanged
(like `torch.nn.utils.spectral_norm`; Flax's own runs one more iteration). The layer's output is
divided by sigma, which avoids materializing a normalized copy of the weight.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from ganattn.layers.convolution import (
    Conv,
    ConvTranspose,
    convolve,
    convolve_transposed,
    pad,
    parameters,
)
from ganattn.layers.dense import Dense

EPSILON = 1e-12


def spectral_norms(module: nn.Module, kernel: Array, passes: int, update_stats: bool) -> Array:
    """Estimates (passes,) of the largest singular value for consecutive applications of `kernel`.

    kernel: (..., out), reshaped to a matrix (in, out). update_stats: each pass runs one power
    iteration and the vectors are stored; otherwise all passes use the stored ones.
    Gradients flow through the kernel only. Source: Miyato et al. 2018, algorithm 1.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    size_in, size_out = matrix.shape
    u = module.variable("spectral", "u", _random_unit, module, size_out, kernel.dtype)
    v = module.variable("spectral", "v", _random_unit, module, size_in, kernel.dtype)
    fixed = jax.lax.stop_gradient(matrix)
    if not update_stats or module.is_initializing():
        value = jnp.dot(v.value, jnp.dot(fixed, u.value))
        return jnp.repeat(_with_gradient(matrix, value, u.value, v.value)[None], passes)
    estimates = []
    for _ in range(passes):
        v.value = _unit(jnp.dot(fixed, u.value))
        image = jnp.dot(v.value, fixed)
        u.value = _unit(image)
        value = jnp.dot(u.value, image)
        estimates.append(_with_gradient(matrix, value, u.value, v.value))
    return jnp.stack(estimates)


def divide_passes(outputs: Array, norms: Array) -> Array:
    """Divides outputs (passes * n, ...) by norms (passes,), pass by pass."""
    grouped = outputs.astype(norms.dtype).reshape(norms.shape[0], -1) / norms[:, None]
    return grouped.reshape(outputs.shape).astype(outputs.dtype)


class SpectralConv(Conv):
    """`Conv` with a spectrally normalized kernel.

    The input may contain several passes one after the other, such as a batch of real and a batch
    of fake images: each has a power iteration of its own, as if they were applied in turn.
    """

    use_bias: bool = True

    @nn.compact
    def __call__(self, images: Array, passes: int = 1, update_stats: bool = False) -> Array:
        """images (passes * n, h, w, c)."""
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.features)
        kernel, bias = parameters(self, shape)
        norms = spectral_norms(self, kernel, passes, update_stats)
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        images = pad(images, self.padding, self.pad_mode)
        output = convolve(images, kernel, self.stride, self.dilation)
        output = divide_passes(output, norms)
        return output if bias is None else output + bias[None, None, None]


class SpectralConvTranspose(ConvTranspose):
    """`ConvTranspose`, with stride 2 or 1, with a spectrally normalized kernel.

    The kernel is reshaped to a matrix (k * k * out, in), so u has an entry for each input channel,
    as in PyTorch's layout of 2018, where a transposed convolution's weight is (in, out, k, k).
    stride: 2 doubles height and width (kernel_size 3 or 4), 1 keeps them (odd kernel_size).
    """

    use_bias: bool = True
    stride: int = 2

    @nn.compact
    def __call__(self, images: Array, update_stats: bool = False) -> Array:
        """images (n, h, w, c)."""
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.features)
        kernel, bias = parameters(self, shape)
        norms = spectral_norms(self, kernel.transpose(0, 1, 3, 2), 1, update_stats)
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        if self.stride == 2:
            output = convolve_transposed(images, kernel)
        else:
            output = convolve(pad(images, self.kernel_size // 2, "zero"), kernel)
        output = divide_passes(output, norms)
        return output if bias is None else output + bias[None, None, None]


class SpectralDense(Dense):
    """`Dense` with a spectrally normalized kernel. dtype: see `Conv`."""

    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, update_stats: bool = False) -> Array:
        kernel, bias = parameters(self, (x.shape[-1], self.features))
        norms = spectral_norms(self, kernel, 1, update_stats)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        output = divide_passes(x @ kernel, norms)
        return output if bias is None else output + bias[None]


def _random_unit(module: nn.Module, size: int, dtype: Any) -> Array:
    return _unit(jax.random.normal(module.make_rng("params"), (size,), dtype))


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), EPSILON)


@jax.custom_vjp
def _with_gradient(matrix: Array, value: Array, u: Array, v: Array) -> Array:
    """Returns `value`, whose derivative with respect to the matrix is the outer product of v and u.

    The power iteration has computed the value; otherwise the backward pass would read the matrix
    again.
    """
    del matrix, u, v
    return value


def _forward(matrix, value, u, v):
    return value, (u, v)


def _backward(residuals, gradient):
    u, v = residuals
    return (
        gradient * v[:, None] * u[None, :],
        jnp.zeros_like(gradient),
        *map(jnp.zeros_like, (u, v)),
    )


_with_gradient.defvjp(_forward, _backward)
