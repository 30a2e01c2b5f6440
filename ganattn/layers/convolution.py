"""Padded convolutions, and nearest up-sampling with a convolution as one operation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array, lax

from ganattn.layers.cpu_convolution import convolve_on_cpu
from ganattn.layers.lowering import on_cpu

Padding = int | tuple[tuple[int, int], tuple[int, int]]
Initializer = Callable[..., Array]


def torch_uniform(fan_in_axes: tuple[int, ...] = (0, 1, 2)) -> Initializer:
    """PyTorch's default for kernels: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        fan_in = 1
        for axis in fan_in_axes:
            fan_in *= shape[axis]
        return bounded_uniform(fan_in)(key, shape, dtype)

    return initialize


def bounded_uniform(fan_in: int) -> Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for biases."""

    def initialize(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bound = float(fan_in) ** -0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def pad(images: Array, padding: Padding, mode: str) -> Array:
    """Pads height and width. mode: "reflect", "edge" or "zero"."""
    rows, columns = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    if not any((*rows, *columns)):
        return images
    widths = ((0, 0), rows, columns, (0, 0))
    return jnp.pad(images, widths, mode={"zero": "constant"}.get(mode, mode))


def convolve(images: Array, kernel: Array, stride: int = 1) -> Array:
    """Valid convolution. images (n, h, w, c), kernel (kh, kw, c, features)."""
    if on_cpu():
        return convolve_on_cpu(images, kernel, stride)
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


class Conv(nn.Module):
    """Padding, convolution and bias.

    padding: pixels on each side, or ((top, bottom), (left, right)). dtype: of the computation; None
    takes the wider of input and kernel.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = 0
    pad_mode: str = "reflect"
    use_bias: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.features)
        kernel, bias = conv_parameters(self, shape)
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        output = convolve(pad(images, self.padding, self.pad_mode), kernel, self.stride)
        return output if bias is None else output + bias[None, None, None]


class UpConv(nn.Module):
    """Nearest up-sampling by 2, reflection padding by 1 and a 3x3 convolution.

    Computed as four 2x2 convolutions of the edge-padded source, one for each parity of the output
    pixel, whose kernels add up the rows and columns of the 3x3 kernel that meet the same source
    pixel: the same numbers with 4/9 of the multiplications.
    """

    features: int
    use_bias: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        kernel, bias = conv_parameters(self, (3, 3, images.shape[-1], self.features))
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        output = up_convolve(images, kernel)
        return output if bias is None else output + bias[None, None, None]


def up_convolve(images: Array, kernel: Array) -> Array:
    """(n, h, w, c) and a 3x3 kernel to (n, 2h, 2w, features); see `UpConv`."""
    count, height, width, _ = images.shape
    source = pad(images, 1, "edge")
    rows = _merge_taps(kernel, axis=0)
    parities = [
        convolve(source[:, y : y + height + 1, x : x + width + 1], _merge_taps(row, axis=1)[x])
        for y, row in enumerate(rows)
        for x in range(2)
    ]
    grid = jnp.stack(parities).reshape(2, 2, count, height, width, -1)
    return grid.transpose(2, 3, 0, 4, 1, 5).reshape(count, 2 * height, 2 * width, -1)


def _merge_taps(kernel: Array, axis: int) -> tuple[Array, Array]:
    first, middle, last = jnp.split(kernel, 3, axis)
    even = jnp.concatenate([first, middle + last], axis)
    odd = jnp.concatenate([first + middle, last], axis)
    return even, odd


def conv_parameters(module: nn.Module, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
    """Declares "kernel" and, if the module uses one, "bias", with PyTorch's defaults."""
    kernel = module.param("kernel", module.kernel_init or torch_uniform(), shape, jnp.float32)
    if not module.use_bias:
        return kernel, None
    bias_init = module.bias_init or bounded_uniform(shape[0] * shape[1] * shape[2])
    return kernel, module.param("bias", bias_init, shape[-1:], jnp.float32)
