"""What a person may choose about an evaluation, with the defaults that papers use."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganattn.errors import ConfigError
from ganattn.evaluation.features import Features, InceptionFeatures
from ganattn.evaluation.kernel import BLOCK, SEED, SUBSET_SIZE, SUBSETS


@dataclasses.dataclass(frozen=True)
class Settings:
    """Each field is an option of `ganattn evaluate`, whose help says what it does.

    features: a callable from (n, h, w, 3) uint8 pictures to (n, d), such as an InceptionFeatures.
    segmenter: a callable from such pictures to (n, h, w) class numbers.
    """

    features: Features | None = None  # None: Inception with random weights
    cache: Path | None = None
    progress: bool = False
    kid: str = "subsets"
    subset_size: int | None = None  # None: 1000, or half of the smaller side
    subsets: int = SUBSETS
    block_size: int = BLOCK
    seed: int = SEED
    weights: str = "equal"
    segmenter: Callable[..., Any] | None = None
    labels: Path | None = None
    label_set: str = "plain"
    absent: str = "zero"
    void: str = "ignore"

    def subset(self, fakes: int, reals: int) -> int:
        """The size of KID's subsets for so many pictures."""
        least = min(fakes, reals)
        if self.subset_size is None:
            return SUBSET_SIZE if least >= SUBSET_SIZE else max(2, least // 2)
        return self.subset_size


def load_features(given: str | None, convention: str, layer: str = "2048") -> Features:
    """Features by a weight file or "module:function"; None gives Inception with random weights.

    Raises ConfigError for a function that cannot be imported, ForeignFileError for a wrong file.
    """
    if given is None:
        return InceptionFeatures.random(convention, layer)
    if ":" in given and not Path(given).exists():
        return load_callable(given)
    return InceptionFeatures.from_file(given, convention, layer)


def load_callable(name: str) -> Callable[..., Any]:
    """What "module:function" names; modules are also looked for in the current folder.

    Raises ConfigError when there is none.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot import {name} ({error}): write MODULE:FUNCTION") from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ConfigError(f"{name} is no function: name one that takes (n, h, w, 3) uint8 pictures")
    return found
