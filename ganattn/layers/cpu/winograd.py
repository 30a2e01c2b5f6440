"""Winograd's F(2x2, 3x3) convolution, for CPUs (Lavin and Gray, CVPR 2016, section 4.1).

A 4x4 tile of inputs gives a 2x2 patch of outputs with 16 products for a pair of channels instead
of 36: patch = A^T [(G kernel G^T) * (B^T tile B)] A. Summed over input channels, they become 16
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
BACKWARDS = [3, 1, 2, 0]  # the order of G's rows for a reversed kernel


@jax.custom_vjp
def winograd(images: Array, kernel: Array) -> Array:
    """Valid convolution of (n, h, w, c) with (3, 3, c, features)."""
    count, height, width, _ = images.shape
    tiles, matrices = _windows(B.T, images), _transform_kernel(kernel)
    products = jnp.einsum("yxnhwc,yxcf->yxnhwf", tiles, matrices)
    return _outputs(A.T, products, (count, height - 2, width - 2))


def _forward(images, kernel):
    # Tiles take four times the memory of the images: the backward pass recomputes them.
    return winograd(images, kernel), (images, kernel)


def _backward(residuals, gradient):
    images, kernel = residuals
    tiles, patches = _windows(B.T, images), _windows(A, gradient)
    products = jnp.einsum("yxnhwc,yxnhwf->yxcf", tiles, patches)
    # The images' derivative is a convolution with the reversed kernel. Its transform has the same
    # matrices in another order, so tiles and products are reordered instead.
    bordered = jnp.pad(gradient, ((0, 0), (2, 2), (2, 2), (0, 0)))
    tiles = _windows(B.T[BACKWARDS], bordered)
    pulled = jnp.einsum("yxnhwf,yxcf->yxnhwc", tiles, _transform_kernel(kernel))
    pulled = _outputs(A.T[:, BACKWARDS], pulled, images.shape)
    return pulled, _mix(G.T, _mix(G.T, products, 0), 1)


winograd.defvjp(_forward, _backward)


def _outputs(matrix: np.ndarray, products: Array, shape: tuple[int, ...]) -> Array:
    """A^T products A, tiled, and cropped to the height and width of `shape`."""
    patches = _mix(matrix, _mix(matrix, products, 0), 1)
    _, _, count, rows, columns, features = patches.shape
    patches = patches.transpose(2, 3, 0, 4, 1, 5)
    output = patches.reshape(count, PATCH * rows, PATCH * columns, features)
    return output[:, : shape[1], : shape[2]]


def _transform_kernel(kernel: Array) -> Array:
    """G kernel G^T: (4, 4, c, features)."""
    return _mix(G, _mix(G, kernel, 0), 1)


def _windows(matrix: np.ndarray, images: Array) -> Array:
    """matrix window matrix^T for windows that start at every second pixel.

    Maps (n, h, w, c) to (4, 4, n, rows, columns, c). The side of a window is the number of the
    matrix's columns; the last windows are padded with zeros.
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


def _mix(matrix: np.ndarray, parts: Array, axis: int) -> Array:
    """Product of the matrix with one axis of `parts`, as sums of scaled slices."""
    split = [lax.index_in_dim(parts, i, axis, keepdims=False) for i in range(parts.shape[axis])]
    rows = [
        [float(weight) * part for weight, part in zip(row, split, strict=True) if weight]
        for row in matrix
    ]
    return jnp.stack([functools.reduce(operator.add, row) for row in rows], axis)
