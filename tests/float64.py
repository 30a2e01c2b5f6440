"""Convolutions of float64 as matrix products.

XLA's CPU back end calls a library for convolutions of float32 and emits plain loops for those of
float64, which take seconds where the compiler does not optimize. The sums are the same to rounding.
"""

import functools
import math

import jax.numpy as jnp
from jax import lax
from jax._src.lax.convolution import _conv_general_dilated_lower
from jax.interpreters import mlir


def install():
    """Changes how this process lowers convolutions of float64 for CPUs."""
    by_default = functools.partial(_conv_general_dilated_lower, expand_complex_convolutions=True)
    by_product = mlir.lower_fun(_convolve, multiple_results=False)

    def lower(context, images, kernel, **options):
        grouped = options["feature_group_count"] * options["batch_group_count"] > 1
        wide = context.avals_in[0].dtype == jnp.float64
        rule = by_product if wide and not grouped else by_default
        return rule(context, images, kernel, **options)

    mlir.register_lowering(lax.conv_general_dilated_p, lower, platform="cpu")


def _convolve(
    images, kernel, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, **_
):
    """The product of slices of the images, side by side as channels, with the kernel.

    The slices are one for each tap of the kernel, or one for each output where those are fewer, as
    in the gradient by the kernel, whose own kernel is as large as the images.
    """
    images = images.transpose(dimension_numbers.lhs_spec)  # n, c, height, width
    kernel = kernel.transpose(dimension_numbers.rhs_spec)  # features, c, height, width
    edges = [(low, high, d - 1) for (low, high), d in zip(padding, lhs_dilation, strict=True)]
    if any(edges[0] + edges[1]):
        images = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0)] * 2 + edges)
    count, features, taps = len(images), len(kernel), kernel.shape[2:]
    outputs = tuple(
        (side - (n - 1) * d - 1) // s + 1
        for side, n, d, s in zip(images.shape[2:], taps, rhs_dilation, window_strides, strict=True)
    )
    if math.prod(taps) <= math.prod(outputs):
        slices = _slices(images, taps, rhs_dilation, outputs, window_strides)
        flat = kernel.transpose(0, 3, 2, 1).reshape(features, -1)
        result = lax.dot_general(
            flat, slices.reshape(count, flat.shape[1], -1), (((1,), (1,)), ((), ()))
        )
        result = result.reshape(features, count, *outputs).transpose(1, 0, 2, 3)
    else:
        slices = _slices(images, outputs, window_strides, taps, rhs_dilation)
        slices = slices.reshape(count * math.prod(outputs), -1)
        result = lax.dot_general(slices, kernel.reshape(features, -1), (((1,), (1,)), ((), ())))
        result = result.reshape(count, *outputs[::-1], features).transpose(0, 3, 2, 1)
    order = dimension_numbers.out_spec
    return result.transpose([order.index(axis) for axis in range(len(order))])


def _slices(images, counts, offsets, sizes, strides):
    """The strided windows that begin at multiples of the offsets.

    images (n, c, height, width); the result is (n, columns * rows * c, *sizes), for `counts` rows
    and columns.
    """
    for axis in (2, 3):
        begins = [i * offsets[axis - 2] for i in range(counts[axis - 2])]
        length, stride = (sizes[axis - 2] - 1) * strides[axis - 2] + 1, strides[axis - 2]
        windows = [lax.slice_in_dim(images, b, b + length, stride, axis) for b in begins]
        images = lax.concatenate(windows, 1)
    return images
