"""Options of `ganattn evaluate` with their defaults; this module imports nothing heavy."""

import argparse
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganattn.errors import ConfigError
from ganattn.evaluation.metrics import METRICS

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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command, except --step; those not given are None."""
    add = parser.add_argument
    add("--workdir", type=Path, help="folder of the run to evaluate")
    add("--fakes", type=Path, help="or: folder of generated images, produced by any tool")
    add("--reals", help="images that --fakes are compared with: folder, or .npz of statistics")
    add("--source", type=Path, help="folder of the images that --fakes were generated from")
    add("--metrics", default="fid,kid", help=f"comma-separated: {', '.join(METRICS)}")
    add("--output", type=Path, help="folder for the results and, for a run, its generated images")
    add("--direction", help="such as a2b (default: all directions of the method)")
    add("--pairs", action="store_true", help="test images of both domains are pairs by name")
    add("--samples", type=int, default=0, help="(noise methods) number of images to generate")
    add("--size", type=int, help="resize the images of folders to this square first")
    add = parser.add_argument_group("features").add_argument
    add(
        "--features",
        metavar="FILE",
        help="pt_inception-2015-12-05-6726825d.pth, or MODULE:FUNCTION from (n, h, w, 3) uint8 to "
        "(n, d) (default: Inception with random weights, not comparable with published numbers)",
    )
    add(
        "--convention",
        choices=CONVENTIONS,
        default="pytorch-fid",
        help="how images are prepared for Inception",
    )
    add("--layer", default="2048", help="layer of Inception: 64, 192, 768 or 2048")
    add(
        "--cache",
        type=Path,
        default=cache_folder(),
        help="folder in which features are cached (%(default)s)",
    )
    add("--no-cache", action="store_true", help="do not cache features")
    add("--save-statistics", type=Path, help="write the statistics of --reals to this .npz file")
    add = parser.add_argument_group("KID").add_argument
    add("--kid", choices=KID_ESTIMATORS, help="torch-fidelity's (default) or TF-GAN's estimator")
    add("--subset-size", type=int, help="default: 1000, or half of the smaller side")
    add("--subsets", type=int, help="number of subsets (default: 100)")
    add("--block-size", type=int, help="default: 10")
    add("--seed", type=int, help="seed of the subsets (default: 2020)")
    add(
        "--weights",
        choices=tuple(MEAN_WEIGHTS),
        help="of target and source in mean_*: half each (default), or the weights that U-GAT-IT's "
        "tool has had since August 2019 (0.01 and 0.49)",
    )
    add = parser.add_argument_group("label maps").add_argument
    add(
        "--segmenter",
        metavar="MODULE:FUNCTION",
        help="for fcn: from (n, h, w, 3) uint8 to (n, h, w) class numbers",
    )
    add("--labels", type=Path, help="folder of true label maps, named like the images")
    add("--label-set", help="cityscapes, cityscapes-train, facades or plain")
    add("--absent", choices=("zero", "skip"), help="value of classes in no true map (default: 0)")
    add("--void", choices=("ignore", "wrong"), help="how void pixels count (default: ignore)")


def cache_folder() -> Path:
    """Where features are cached: below XDG_CACHE_HOME, or below ~/.cache where it is not set."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "ganattn" / "features"


def load_callable(name: str) -> Callable[..., Any]:
    """The object that "module:function" names; modules of the current folder are found, too.

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
