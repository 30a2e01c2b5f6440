"""Scalar losses of arrays. Reductions are means unless noted, as in the authors' code."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


def mean_absolute(prediction: Array, target: Array) -> Array:
    """Mean |prediction - target| over all elements: cycle and identity loss.

    prediction, target: any equal shapes. Source: CycleGAN eq. 2; U-GAT-IT eq. 3 and 4; pix2pix
    eq. 3.
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


def hinge(logits: Array, is_real: bool) -> Array:
    """Mean relu(1 - logits) for real and relu(1 + logits) for fake images: a discriminator's loss.

    logits: any shape, unbounded. Source: Lim and Ye 2017; SPADE's code.
    """
    return jnp.mean(jax.nn.relu(1 - logits if is_real else 1 + logits))


def wasserstein(logits: Array, is_real: bool) -> Array:
    """Mean of -logits for real and of logits for fake images.

    logits: any shape, unbounded. Source: Arjovsky et al. 2017, eq. 3.
    """
    return jnp.mean(-logits if is_real else logits)


def gradient_penalty(gradients: Array, one_sided: bool = False) -> Array:
    """Mean over examples of the squared distance of the gradient's norm from 1.

    gradients: (n, ...), those of a discriminator's output. one_sided: norms below 1 cost nothing.
    Source: Gulrajani et al. 2017, eq. 3 (WGAN-GP); Petzka et al. 2018, eq. 8 (WGAN-LP).
    """
    norms = jnp.sqrt(jnp.sum(jnp.square(gradients.reshape(len(gradients), -1)), axis=1))
    excess = jax.nn.relu(norms - 1) if one_sided else norms - 1
    return jnp.mean(jnp.square(excess))


def feature_matching(fake: Sequence[Sequence[Array]], real: Sequence[Sequence[Array]]) -> Array:
    """Mean over scales of the summed mean absolute differences of a discriminator's features.

    fake, real: a list of features for each scale; real ones receive no gradient. Source: pix2pixHD
    eq. 4, without its weights per layer, as in the authors' code.
    """
    terms = [
        mean_absolute(f, jax.lax.stop_gradient(r))
        for scale in zip(fake, real, strict=True)
        for f, r in zip(*scale, strict=True)
    ]
    return sum(terms[1:], terms[0]) / len(fake)


def kl_to_standard_normal(mean: Array, log_variance: Array) -> Array:
    """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1), summed over all.

    mean, log_variance: any equal shapes. Source: Kingma and Welling 2014, appendix B; the sum over
    the batch follows GauGAN's code.
    """
    return -0.5 * jnp.sum(1 + log_variance - jnp.square(mean) - jnp.exp(log_variance))


class AdversarialLoss(NamedTuple):
    """discriminator: of logits and is_real. generator: of logits of fakes."""

    discriminator: Callable[[Array, bool], Array]
    generator: Callable[[Array], Array]


def _both(loss: Callable[[Array, bool], Array]) -> AdversarialLoss:
    return AdversarialLoss(loss, lambda logits: loss(logits, True))


# Of images from latent vectors. Source: Goodfellow et al. 2014; Lim and Ye 2017, Miyato et al. 2018
LATENT = {
    "non_saturating": _both(binary_cross_entropy),
    "hinge": AdversarialLoss(hinge, lambda logits: -jnp.mean(logits)),
}
# Of U-GAT-IT's TensorFlow code, there named lsgan, gan, hinge, wgan-gp, wgan-lp and dragan; the
# discriminators of the last three have a gradient penalty, too.
PENALIZED = ("wgan_gp", "wgan_lp", "dragan")
PENALIZABLE = {
    "least_squares": _both(least_squares),
    "cross_entropy": LATENT["non_saturating"],
    "hinge": LATENT["hinge"],
    "wgan_gp": _both(wasserstein),
    "wgan_lp": _both(wasserstein),
    "dragan": LATENT["non_saturating"],
}
ADVERSARIAL = {"least_squares": least_squares, "cross_entropy": binary_cross_entropy}
