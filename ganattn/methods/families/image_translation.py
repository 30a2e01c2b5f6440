"""What the code base of CycleGAN and pix2pix shares: discriminators, losses, Adam and its schedule.

Source: junyanz/pytorch-CycleGAN-and-pix2pix.
"""

import flax.linen as nn
import jax
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.layers.normalization import NORMS
from ganattn.methods.base import DTYPES
from ganattn.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from ganattn.optimizers import Delay, adam, epoch_decay
from ganattn.parallel import Examples

# config.method.test_statistics -> `statistics` of `BatchNorm`. The authors' test code translates
# one image at a time with networks in training mode: "batch". With --eval it is "running".
TEST_STATISTICS = {"batch": "image", "running": "running"}
# config.method.test_guidance: what guides the generator for an image that has no map in a buffer,
# a constant map as in the authors' test code, or the discriminator's map of a first translation.
TEST_GUIDANCE = ("constant", "discriminator")


def create_discriminator(method: ConfigDict) -> nn.Module:
    """The discriminator that config.method describes."""
    width, norm, dtype = method.discriminator_width, method.norm, DTYPES[method.dtype]
    if method.discriminator == "pixel":
        return PixelDiscriminator(width, norm, dtype=dtype)
    return PatchDiscriminator(width, method.discriminator_layers, norm, dtype=dtype)


def create_optimizer(
    optimizer: ConfigDict, delay: Delay | None = None
) -> optax.GradientTransformation:
    """The Adam chain that config.optimizer describes; delay: see `optimizers.adam`."""
    schedule = epoch_decay(
        optimizer.learning_rate,
        optimizer.decay_start_step,
        optimizer.total_steps,
        optimizer.epoch_steps,
        optimizer.scheduler_step,
    )
    return adam(schedule, optimizer.beta1, optimizer.beta2, weight_decay=0.0, delay=delay)


def translation_keys(examples: Examples, rng: Array | None, images: Array) -> Array:
    """Dropout keys for `generate`: (n,), one an image; without `rng` one fixed key, (), for all."""
    return jax.random.key(0) if rng is None else examples.keys(rng, len(images))


def real_and_fake(adversarial: str, real: Array, fake: Array) -> Array:
    """A discriminator's loss on its logits of real and of fake images.

    adversarial: a key of `losses.ADVERSARIAL`. Source: CycleGAN and pix2pix eq. 1.
    """
    loss = losses.ADVERSARIAL[adversarial]
    return loss(real, True) + loss(fake, False)


def check_config(config: ConfigDict, multiple: int) -> None:
    """Raises ConfigError for values outside their range; sides are multiples of `multiple`."""
    check(config, "method.norm", choices=NORMS)
    check(config, "method.discriminator", choices=("patch", "pixel"))
    check(config, "method.adversarial", choices=losses.ADVERSARIAL)
    check(config, "method.test_statistics", choices=TEST_STATISTICS)
    check(config, "method.discriminator_layers", least=1)
    check(config, "method.pool_size", least=0)
    method = config.method
    strided = 0 if method.discriminator == "pixel" else method.discriminator_layers
    check(config, "method.image_size", multiple_of=multiple, least=max(8, 3 << strided))
