"""Scalar losses over arrays. All reductions are means, as in the authors' code."""

import jax
import jax.numpy as jnp
from jax import Array


def mean_absolute(prediction: Array, target: Array) -> Array:
    """Mean |prediction - target| over all elements: cycle and identity loss.

    Any equal shapes. Source: CycleGAN eq. 2; U-GAT-IT eq. 3 and 4.
    """
    return jnp.mean(jnp.abs(prediction - target))


def least_squares(logits: Array, is_real: bool) -> Array:
    """Mean squared distance of every logit to 1 (real) or 0 (fake).

    logits: any shape, unbounded. Source: LSGAN eq. 9; U-GAT-IT eq. 2, with the labels of the
    authors' code (the paper prints them swapped).
    """
    return jnp.mean(jnp.square(logits - float(is_real)))


def binary_cross_entropy(logits: Array, is_real: bool) -> Array:
    """Mean cross entropy of sigmoid(logits) to 1 (real) or 0 (fake).

    logits: any shape, unbounded. Source: U-GAT-IT eq. 5; pix2pix eq. 1.
    """
    return jnp.mean(jax.nn.softplus(-logits if is_real else logits))


ADVERSARIAL = {"least_squares": least_squares, "cross_entropy": binary_cross_entropy}
