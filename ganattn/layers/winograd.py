"""Winograd's F(2x2, 3x3) convolution, for CPUs (Lavin and Gray, CVPR 2016, section 4.1).

A 4x4 tile of inputs gives a 2x2 patch of outputs by 16 products for a pair of channels, not 36:
patch = A^T [(G kernel G^T) * (B^T tile B)] A. Summed over input channels, the products are 16
matrix products. The result is that of a convolution up to rounding.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])
PATCH = A.shape[1]
MIRRORED = np.array([3, 1, 2, 0])  # order of G's rows for a kernel read backwards


@jax.custom_vjp
def winograd(images: Array, kernel: Array) -> Array:
    """Valid convolution of (n, h, w, c) with (3, 3, c, features)."""
    return _convolve(images, _transform_kernel(kernel))


def _forward(images, kernel):
    # Tiles take four times the memory of images: the backward pass makes them again.
    return winograd(images, kernel), (images, kernel)


def _backward(residuals, gradient):
    images, kernel = residuals
    bordered = jnp.pad(gradient, ((0, 0), (2, 2), (2, 2), (0, 0)))
    mirrored = _transform_kernel(kernel)[MIRRORED][:, MIRRORED].swapaxes(2, 3)
    tiles, patches = _windows(B.T, images), _windows(A, gradient)
    products = jnp.einsum("yxnhwc,yxnhwf->yxcf", tiles, patches)
    return _convolve(bordered, mirrored), _mix(G.T, _mix(G.T, products, 0), 1)


winograd.defvjp(_forward, _backward)


def _convolve(images: Array, transformed_kernel: Array) -> Array:
    _, height, width, _ = images.shape
    products = jnp.einsum("yxnhwc,yxcf->yxnhwf", _windows(B.T, images), transformed_kernel)
    return _join(_mix(A.T, _mix(A.T, products, 0), 1))[:, : height - 2, : width - 2]


def _transform_kernel(kernel: Array) -> Array:
    """G kernel G^T: (4, 4, c, features)."""
    return _mix(G, _mix(G, kernel, 0), 1)


def _windows(matrix: np.ndarray, images: Array) -> Array:
    """matrix window matrix^T of windows that start at every second pixel.

    (n, h, w, c) to (4, 4, n, rows, columns, c). A window has as many pixels a side as the matrix
    has columns, and the last ones reach into zeros.
    """
    size = matrix.shape[1]
    rows, columns = (-(-(side - size + PATCH) // PATCH) for side in images.shape[1:3])
    missing = [
        (0, PATCH * (windows - 1) + size - side)
        for windows, side in zip((rows, columns), images.shape[1:3], strict=True)
    ]
    images = jnp.pad(images, ((0, 0), *missing, (0, 0)))
    taps = [images[:, y:][:, : PATCH * rows : PATCH] for y in range(size)]
    lines = _mix(matrix, jnp.stack(taps), 0)
    taps = [lines[:, :, :, x:][:, :, :, : PATCH * columns : PATCH] for x in range(size)]
    return _mix(matrix, jnp.stack(taps, 1), 1)


def _join(patches: Array) -> Array:
    """(2, 2, n, rows, columns, features) to (n, 2 rows, 2 columns, features)."""
    _, _, count, rows, columns, features = patches.shape
    patches = patches.transpose(2, 3, 0, 4, 1, 5)
    return patches.reshape(count, PATCH * rows, PATCH * columns, features)


def _mix(matrix: np.ndarray, parts: Array, axis: int) -> Array:
    """Product of the matrix with one axis, by additions."""
    split = [lax.index_in_dim(parts, i, axis, keepdims=False) for i in range(parts.shape[axis])]
    rows = [
        [float(weight) * part for weight, part in zip(row, split, strict=True) if weight]
        for row in matrix
    ]
    return jnp.stack([functools.reduce(operator.add, row) for row in rows], axis)
