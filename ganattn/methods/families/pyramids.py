"""Pyramids of atrous convolutions in a method's networks, as config.method describes them.

Source: Sun and Wu 2019 (SPAP), whose authors released no code.
"""

from functools import partial
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.layers.pyramid import ASPP, PYRAMIDS, AtrousMean
from ganattn.methods.base import DTYPES
from ganattn.optimizers import Delay, delayed

# Fields that configs of earlier runs lack, with what these runs did.
EARLIER = {
    "pyramid_reduction": 16,
    "pyramid_shared_attention": False,
    "pyramid_second_map": False,
    "pyramid_fuse_convolution": True,
    "aspp_discriminator": False,
    "aspp_residual": False,
    "delay_aspp": True,
}


def check_pyramids(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    check(config, "method.pyramid", choices=PYRAMIDS)
    check(config, "method.pyramid_start_step", least=0)
    check(config, "method.pyramid_reduction", least=1)
    for field in ("pyramid_rates", "atrous_rates"):
        rates = tuple(config.method[field])
        if not rates or min(rates) < 2 or len(set(rates)) < len(rates):
            raise ConfigError(
                f"config.method.{field} is {rates}: give different numbers of pixels, at least 2"
            )
    if config.method.atrous_discriminator and _value(config.method, "aspp_discriminator"):
        raise ConfigError(
            "config.method.aspp_discriminator and config.method.atrous_discriminator are both "
            "True: set one of them to False"
        )


def create_pyramids(
    method: ConfigDict, *, generator: bool, discriminator: bool
) -> tuple[nn.Module | None, nn.Module | None]:
    """A generator's pyramid, and a discriminator's `AtrousMean` or `ASPP`; None for none.

    generator, discriminator: whether each normalizes its kernels spectrally.
    """
    create, value = PYRAMIDS[method.pyramid], partial(_value, method)
    rates, atrous_rates = tuple(method.pyramid_rates), tuple(method.atrous_rates)
    dtype, residual = DTYPES[method.dtype], value("aspp_residual")
    pyramid: nn.Module | None = None
    if create is ASPP:
        pyramid = ASPP(rates, generator, dtype, residual)
    elif create is not None:
        pyramid = create(
            rates,
            generator,
            dtype,
            reduction=value("pyramid_reduction"),
            shared_attention=value("pyramid_shared_attention"),
            second_map=value("pyramid_second_map"),
            fuse_convolution=value("pyramid_fuse_convolution"),
        )
    if value("aspp_discriminator"):
        return pyramid, ASPP(atrous_rates, discriminator, dtype, residual)
    if method.atrous_discriminator:
        return pyramid, AtrousMean(atrous_rates, spectral=discriminator, dtype=dtype)
    return pyramid, None


def delay_pyramid(method: ConfigDict, pyramid: nn.Module | None, start_step: int) -> Delay | None:
    """Freezes a network's SPAP or atrous convolutions until a step; None where they do not wait.

    Before that step SPAP is the identity, and the atrous convolutions of a discriminator take part
    with their initial values: the paper speaks of their update alone, and a mean that began later
    would halve the output of the layer at once. The paper does not name ASPP among what waits; it
    does with config.method.delay_aspp, and then its initial convolutions are all that a generator
    without its residual connection has in that place. Source: section 4.3.
    """
    waits = not isinstance(pyramid, ASPP) or _value(method, "delay_aspp")
    if not start_step or not waits:
        return None
    return partial(delayed, start_step=start_step, is_late=lambda path: "pyramid" in path)


def _value(method: ConfigDict, field: str) -> Any:
    return method.get(field, EARLIER[field])
