"""Pyramids of atrous convolutions in a method's networks, as config.method describes them.

Source: Sun and Wu 2019 (SPAP).
"""

from functools import partial
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.layers.pyramid import PYRAMIDS, AtrousMean
from ganattn.methods.base import DTYPES
from ganattn.optimizers import Delay, delayed


def check_pyramids(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    check(config, "method.pyramid", choices=PYRAMIDS)
    check(config, "method.pyramid_start_step", least=0)
    for field in ("pyramid_rates", "atrous_rates"):
        rates = tuple(config.method[field])
        if not rates or min(rates) < 2 or len(set(rates)) < len(rates):
            raise ConfigError(
                f"config.method.{field} is {rates}: give different numbers of pixels, at least 2"
            )


def create_pyramids(method: ConfigDict, **spectral: bool) -> tuple[Any, nn.Module | None]:
    """A generator's pyramid and a discriminator's `AtrousMean`, None for one that is not used.

    spectral: "generator" and "discriminator", whether each normalizes its kernels spectrally.
    """
    create, options = PYRAMIDS[method.pyramid], {"dtype": DTYPES[method.dtype]}
    rates, atrous_rates = tuple(method.pyramid_rates), tuple(method.atrous_rates)
    pyramid = create and create(rates, spectral=spectral["generator"], **options)
    mean = AtrousMean(atrous_rates, spectral=spectral["discriminator"], **options)
    return pyramid, mean if method.atrous_discriminator else None


def delay_until(start_step: int) -> Delay | None:
    """Freezes pyramids and atrous convolutions until a step; None for 0. Source: section 4.3."""
    if not start_step:
        return None
    return partial(delayed, start_step=start_step, is_late=lambda path: "pyramid" in path)
