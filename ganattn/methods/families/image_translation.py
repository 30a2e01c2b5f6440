"""What the code base of CycleGAN and pix2pix shares: discriminators, losses, Adam and its schedule.

Source: junyanz/pytorch-CycleGAN-and-pix2pix.
"""

from collections.abc import Mapping

import flax.linen as nn
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.errors import ConfigError
from ganattn.layers.normalization import NORMS
from ganattn.methods.base import DTYPES, Method, Translation, dtype_of
from ganattn.networks.patchgan import Judged, PatchDiscriminator, PixelDiscriminator
from ganattn.optimizers import Delay, adam, epoch_decay
from ganattn.state import Variables


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


def real_and_fake(adversarial: str, real: Judged, fake: Judged) -> Array:
    """A discriminator's loss on both; see `losses.ADVERSARIAL`."""
    loss = losses.ADVERSARIAL[adversarial]
    return loss(real.logits, True) + loss(fake.logits, False)


def translate(
    method: Method,
    test_statistics: str,
    variables: Mapping[str, Variables],
    images: Array,
    direction: str,
) -> Translation:
    """One direction's translation, without dropout. Raises ConfigError for an unknown one."""
    if direction not in method.directions:
        raise ConfigError(f"direction is {direction!r}: use one of {', '.join(method.directions)}")
    name = f"generator_{direction}"
    images = images.astype(dtype_of({name: variables[name]}))
    statistics = {"batch": "picture", "running": "running"}[test_statistics]
    made, sown = method.networks[name].apply(
        variables[name], images, statistics=statistics, mutable=["intermediates"]
    )
    (attentions,) = sown.get("intermediates", {}).get("attentions", ({},))
    if not attentions:
        return Translation(made)
    return Translation(made, list(attentions.values())[-1], attentions=attentions)


def check(method: ConfigDict, multiple: int) -> None:
    """Raises ConfigError for values outside their range; sides are multiples of `multiple`."""
    allowed = {
        "norm": NORMS,
        "discriminator": ("patch", "pixel"),
        "adversarial": tuple(losses.ADVERSARIAL),
        "test_statistics": ("batch", "running"),
        "dtype": tuple(DTYPES),
    }
    for field, values in allowed.items():
        if method[field] not in values:
            raise ConfigError(
                f"config.method.{field} is {method[field]!r}: use one of {', '.join(values)}"
            )
    for field, least in {"discriminator_layers": 1, "pool_size": 0}.items():
        if method.get(field, least) < least:
            raise ConfigError(f"config.method.{field} is {method[field]}: give at least {least}")
    strided = 0 if method.discriminator == "pixel" else method.discriminator_layers
    smallest = max(8, 3 << strided)
    if method.image_size % multiple or method.image_size < smallest:
        raise ConfigError(
            f"config.method.image_size is {method.image_size}: give a multiple of {multiple}, "
            f"at least {smallest}"
        )
