"""Valid convolutions as matrix products, for CPUs.

XLA's CPU convolution is slow where a matrix side is small: deep maps of few pixels, and kernels
with few input or output channels. Each form below is exact up to rounding; `convolve_on_cpu`
selects one by shape, from the measurements in launch/BENCHMARKS.md. For shapes, see
`layers.convolution.convolve`.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import Array, lax

from ganattn.layers.cpu.winograd import winograd

FEW_CHANNELS = 4
MANY_CHANNELS = 32
DEEP_TAPS = 4096  # kernel height * width * input channels
SMALL_MAP = 1024  # output pixels


def convolve_on_cpu(images: Array, kernel: Array, stride: int) -> Array:
    """Valid convolution of images (n, h, w, c) with a kernel (kh, kw, c, features)."""
    size, _, channels, features = kernel.shape
    pixels = _output_size(images.shape[1], size, stride) * _output_size(
        images.shape[2], size, stride
    )
    if size * size * channels >= DEEP_TAPS and pixels <= SMALL_MAP:
        return _by_patches(images, kernel, stride)
    many = min(channels, features) >= MANY_CHANNELS
    # The tiles of larger maps take much memory.
    if stride == 1 and size == 3 and many and pixels <= SMALL_MAP:
        return winograd(images, kernel)
    if stride == 1 and size >= 5 and channels <= FEW_CHANNELS:
        return _by_columns(images, kernel)
    if stride == 1 and size >= 5 and features <= FEW_CHANNELS:
        return _to_few_channels(images, kernel)
    return _convolve(images, kernel, stride)


def _convolve(images, kernel, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=numbers
    )


def _output_size(size: int, kernel: int, stride: int) -> int:
    return (size - kernel) // stride + 1


def _tap(images: Array, y: int, x: int, height: int, width: int, stride: int = 1) -> Array:
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return images[:, y : y + rows : stride, x : x + columns : stride]


def _by_patches(images: Array, kernel: Array, stride: int) -> Array:
    """One matrix product of all patches with the kernel."""
    size, _, channels, features = kernel.shape
    height, width = (_output_size(side, size, stride) for side in images.shape[1:3])
    taps = [_tap(images, y, x, height, width, stride) for y in range(size) for x in range(size)]
    patches = jnp.concatenate(taps, -1).reshape(-1, size * size * channels)
    return (patches @ kernel.reshape(-1, features)).reshape(-1, height, width, features)


def _by_columns(images: Array, kernel: Array) -> Array:
    """The kernel's rows become channels, so that a convolution with one row remains."""
    size, _, _, features = kernel.shape
    height = images.shape[1] - size + 1
    stacked = jnp.concatenate([images[:, y : y + height] for y in range(size)], -1)
    return _convolve(stacked, kernel.transpose(1, 0, 2, 3).reshape(1, size, -1, features))


@jax.custom_vjp
def _to_few_channels(images: Array, kernel: Array) -> Array:
    """One product gives each pixel's share in each tap; the shifted shares are summed."""
    count, height, width, channels = images.shape
    size, _, _, features = kernel.shape
    rows, columns = height - size + 1, width - size + 1
    weights = kernel.transpose(2, 1, 0, 3).reshape(channels, -1)
    shares = (images.reshape(-1, channels) @ weights).reshape(count, height, width, size, -1)
    shares = _sum(shares[:, :, x : x + columns, x] for x in range(size))
    shares = shares.reshape(count, height, columns, size, features)
    return _sum(shares[:, y : y + rows, :, y] for y in range(size))


def _sum(arrays: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, arrays)


def _transposed(gradient: Array, kernel: Array) -> Array:
    """The images' derivative: a convolution of few channels with the mirrored kernel."""
    border = kernel.shape[0] - 1
    padded = jnp.pad(gradient, ((0, 0), (border, border), (border, border), (0, 0)))
    return _by_columns(padded, kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def _forward(images, kernel):
    return _to_few_channels(images, kernel), (images, kernel)


def _backward(residuals, gradient):
    # <gradient, convolution(images, kernel)> = <transposed(gradient, kernel), images>, so the
    # kernel's derivative is that of the transposed form, which is fast, with the images as its
    # cotangent.
    images, kernel = residuals
    pulled, pull_back = jax.vjp(lambda k: _transposed(gradient, k), kernel)
    return pulled, pull_back(images)[0]


_to_few_channels.defvjp(_forward, _backward)
