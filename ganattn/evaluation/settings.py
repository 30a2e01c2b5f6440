"""How metrics are computed: settings with their defaults; this module imports nothing heavy."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganattn.errors import ConfigError

CONVENTIONS = ("pytorch-fid", "tf", "clean")  # how images are prepared for Inception
KID_ESTIMATORS = ("subsets", "blocks")
SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020  # of KID, as in torch-fidelity
BLOCK = 10  # images, in the tool that U-GAT-IT's author published; TF-GAN's own default is 1024
# Shares of the distance to the target and to the source, by the versions of that tool.
MEAN_WEIGHTS = {"equal": (0.5, 0.5), "2019-08": (0.01, 0.49)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How metrics are computed; each field is an option of `ganattn evaluate`, see its help.

    features: a callable from (n, h, w, 3) uint8 images to (n, d), such as an `InceptionFeatures`;
    None is Inception with random weights. segmenter: a callable from such images to (n, h, w) class
    numbers. subset_size: None is 1000, or half of the smaller side where that has fewer images.
    """

    features: Callable[..., Any] | None = None
    cache: Path | None = None
    progress: bool = False
    kid: str = "subsets"
    subset_size: int | None = None
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
        """The size of KID's subsets for these numbers of images."""
        least = min(fakes, reals)
        if self.subset_size is None:
            return SUBSET_SIZE if least >= SUBSET_SIZE else max(2, least // 2)
        return self.subset_size


def cache_folder() -> Path:
    """Where features are cached: below XDG_CACHE_HOME, or below ~/.cache where it is not set."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "ganattn" / "features"


def load_callable(name: str) -> Callable[..., Any]:
    """The object that "module:function" names; modules of the current folder are importable.

    Raises ConfigError when it cannot be imported or called.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot import {name} ({error}): write MODULE:FUNCTION") from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(function):
        raise ConfigError(f"{name} is not callable: name a function of (n, h, w, 3) uint8 images")
    return function
