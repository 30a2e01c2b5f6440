"""Options of `ganattn evaluate`; those that are not given are None, and `Settings` has defaults."""

import argparse
import os
from pathlib import Path

from ganattn.evaluation.names import CONVENTIONS, KID_ESTIMATORS, MEAN_WEIGHTS, METRICS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command, except --step."""
    add = parser.add_argument
    add("--workdir", type=Path, help="folder of the run whose pictures are scored")
    add("--fakes", type=Path, help="or: folder of pictures, whoever made them")
    add("--reals", help="what --fakes are compared with: folder, or .npz file of statistics")
    add("--source", type=Path, help="folder of what --fakes were made from, for mean_*")
    add("--metrics", default="fid,kid", help=f"comma-separated: {', '.join(METRICS)}")
    add("--output", type=Path, help="folder for the results and, of a run, the made pictures")
    add("--direction", help="such as a2b; all that the method has")
    add("--pairs", action="store_true", help="test pictures of both domains are pairs by name")
    add("--samples", type=int, default=0, help="of a run that makes pictures from noise: how many")
    add("--size", type=int, help="resize the pictures of folders to this square first")
    add = parser.add_argument_group("features").add_argument
    add(
        "--features",
        metavar="FILE",
        help="pt_inception-2015-12-05-6726825d.pth, or MODULE:FUNCTION from (n, h, w, 3) uint8 to "
        "(n, d); without it Inception has random weights, which compares with no paper",
    )
    add("--convention", choices=CONVENTIONS, default="pytorch-fid", help="how Inception is fed")
    add("--layer", default="2048", help="of Inception: 64, 192, 768 or 2048")
    add(
        "--cache",
        type=Path,
        default=cache_folder(),
        help="folder where features are kept (%(default)s)",
    )
    add("--no-cache", action="store_true", help="keep none")
    add("--save-statistics", type=Path, help="write those of --reals, as pytorch-fid does")
    add = parser.add_argument_group("KID").add_argument
    add("--kid", choices=KID_ESTIMATORS, help="torch-fidelity's or TF-GAN's; subsets")
    add("--subset-size", type=int, help="1000, or half of the smaller side")
    add("--subsets", type=int, help="how many; 100")
    add("--block-size", type=int, help="10")
    add("--seed", type=int, help="of the subsets; 2020")
    add(
        "--weights",
        choices=MEAN_WEIGHTS,
        help="of target and source in mean_*: half each, or those that U-GAT-IT's tool has had "
        "since August 2019 (0.01 and 0.49)",
    )
    add = parser.add_argument_group("label maps").add_argument
    add(
        "--segmenter",
        metavar="MODULE:FUNCTION",
        help="for fcn: from (n, h, w, 3) uint8 to (n, h, w) class numbers",
    )
    add("--labels", type=Path, help="folder of true label maps, named like the pictures")
    add("--label-set", help="cityscapes, cityscapes-train, facades or plain")
    add("--absent", choices=("zero", "skip"), help="what classes in no true map count; zero")
    add("--void", choices=("ignore", "wrong"), help="what pixels of no class count; ignore")


def cache_folder() -> Path:
    """Where features are kept: below XDG_CACHE_HOME, or ~/.cache where it is not set."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "ganattn" / "features"
