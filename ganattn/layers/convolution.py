"""Padded and transposed convolutions, and nearest up-sampling fused with a convolution."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array, lax

from ganattn.layers.cpu.convolution import convolve_on_cpu
from ganattn.layers.lowering import on_cpu

Padding = int | tuple[tuple[int, int], tuple[int, int]]
Initializer = Callable[..., Array]


# Initial convolutions of DCGAN (Radford et al. 2016), CycleGAN and pix2pix.
DCGAN_INITS = {"kernel_init": nn.initializers.normal(0.02), "bias_init": nn.initializers.zeros}


def torch_uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """PyTorch's default for kernels (..., out): U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return bounded_uniform(math.prod(shape[:-1]))(key, shape, dtype)


def bounded_uniform(fan_in: int) -> Initializer:
    """PyTorch's default for biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

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


def convolve(images: Array, kernel: Array, stride: int = 1, dilation: int = 1) -> Array:
    """Valid convolution of images (n, h, w, c) with a kernel (kh, kw, c, features).

    dilation: distance in pixels between neighboring taps of the kernel.
    """
    if on_cpu() and dilation == 1:
        return convolve_on_cpu(images, kernel, stride)
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class Conv(nn.Module):
    """Padding, convolution and bias.

    padding: pixels on each side, or ((top, bottom), (left, right)). pad_mode: see `pad`. dtype: of
    the computation; None selects the wider one of input and kernel. dilation: see `convolve`.
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
    dilation: int = 1

    @nn.compact
    def __call__(self, images: Array) -> Array:
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.features)
        kernel, bias = parameters(self, shape)
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        images = pad(images, self.padding, self.pad_mode)
        output = convolve(images, kernel, self.stride, self.dilation)
        return output if bias is None else output + bias[None, None, None]


class UpConv(nn.Module):
    """Nearest up-sampling by 2, reflection padding by 1 and a 3x3 convolution.

    It is computed as four 2x2 convolutions of the edge-padded source, one for each parity of the
    output pixel. Their kernels add up the rows and columns of the 3x3 kernel that meet the same
    source pixel: the result is the same up to rounding, with 4/9 of the multiplications.
    """

    features: int
    use_bias: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        kernel, bias = parameters(self, (3, 3, images.shape[-1], self.features))
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        output = up_convolve(images, kernel)
        return output if bias is None else output + bias[None, None, None]


def up_convolve(images: Array, kernel: Array) -> Array:
    """Maps (n, h, w, c), with a 3x3 kernel, to (n, 2h, 2w, features); see `UpConv`."""
    _, height, width, _ = images.shape
    source = pad(images, 1, "edge")
    rows = _merge_taps(kernel, axis=0)
    parities = [
        convolve(source[:, y : y + height + 1, x : x + width + 1], _merge_taps(row, axis=1)[x])
        for y, row in enumerate(rows)
        for x in range(2)
    ]
    return _interleave(parities)


class ConvTranspose(nn.Module):
    """Transposed convolution with stride 2 that doubles height and width.

    The kernel (size, size, in, features) is that of the equivalent convolution over zero-stuffed
    images: PyTorch's kernel, mirrored. kernel_size: 3 (PyTorch's padding 1, output_padding 1) or 4
    (padding 1).
    """

    features: int
    kernel_size: int
    use_bias: bool = False
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.features)
        kernel, bias = parameters(self, shape)
        images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
        output = convolve_transposed(images, kernel)
        return output if bias is None else output + bias[None, None, None]


def convolve_transposed(images: Array, kernel: Array) -> Array:
    """Maps (n, h, w, c), with a 3x3 or 4x4 kernel, to (n, 2h, 2w, features).

    See `ConvTranspose`.
    """
    form = _zero_stuffed_on_cpu if on_cpu() else _convolve_zero_stuffed
    return form(images, kernel)


def _convolve_zero_stuffed(images: Array, kernel: Array) -> Array:
    pads = ((kernel.shape[0] - 2, 2),) * 2
    return lax.conv_general_dilated(
        images, kernel, (1, 1), pads, (2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def _zero_stuffed_on_cpu(images: Array, kernel: Array) -> Array:
    """`_convolve_zero_stuffed` with the derivative of `_convolve_parities`.

    XLA's own derivative is tens of times slower on CPUs.
    """
    return _convolve_zero_stuffed(images, kernel)


def _forward(images, kernel):
    return _convolve_zero_stuffed(images, kernel), (images, kernel)


def _backward(residuals, gradient):
    _, pull_back = jax.vjp(_convolve_parities, *residuals)
    return pull_back(gradient)


_zero_stuffed_on_cpu.defvjp(_forward, _backward)


def _convolve_parities(images: Array, kernel: Array) -> Array:
    """One convolution for each parity of the output pixel, with the taps that meet no zeros."""
    _, height, width, _ = images.shape
    size = kernel.shape[0]
    source = pad(images, 1, "zero")

    def taps(parity):
        first = (size - parity) % 2
        return slice(first, None, 2), 1 + (parity + first - (size - 2)) // 2

    parities = []
    for rows, top in map(taps, range(2)):
        for columns, left in map(taps, range(2)):
            part = kernel[rows, columns]
            bottom, right = top + height + part.shape[0] - 1, left + width + part.shape[1] - 1
            parities.append(convolve(source[:, top:bottom, left:right], part))
    return _interleave(parities)


def _interleave(parities: list[Array]) -> Array:
    """Interleaves four (n, h, w, c), for even and odd rows and columns, to (n, 2h, 2w, c)."""
    count, height, width, channels = parities[0].shape
    grid = jnp.stack(parities).reshape(2, 2, count, height, width, channels)
    return grid.transpose(2, 3, 0, 4, 1, 5).reshape(count, 2 * height, 2 * width, channels)


def _merge_taps(kernel: Array, axis: int) -> tuple[Array, Array]:
    first, middle, last = jnp.split(kernel, 3, axis)
    even = jnp.concatenate([first, middle + last], axis)
    odd = jnp.concatenate([first + middle, last], axis)
    return even, odd


def parameters(module: nn.Module, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
    """Declares "kernel" and, if the module uses it, "bias", with PyTorch's defaults.

    shape: of the kernel, (kh, kw, c, features) or (c, features). Returns None for an unused bias.
    """
    kernel = module.param("kernel", module.kernel_init or torch_uniform, shape, jnp.float32)
    if not module.use_bias:
        return kernel, None
    bias_init = module.bias_init or bounded_uniform(math.prod(shape[:-1]))
    return kernel, module.param("bias", bias_init, shape[-1:], jnp.float32)
