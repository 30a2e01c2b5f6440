"""Options of `ganattn evaluate`; this module imports nothing heavy."""

import argparse
from pathlib import Path

from ganattn.evaluation.metrics import METRICS
from ganattn.evaluation.settings import (
    BLOCK,
    CONVENTIONS,
    KID_ESTIMATORS,
    MEAN_WEIGHTS,
    SEED,
    SUBSET_SIZE,
    SUBSETS,
    cache_folder,
)
from ganattn.runs.arguments import add_step, folder


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command; those of `Settings` are None where they are not given."""
    add = parser.add_argument
    add("--workdir", type=folder, metavar="RUN", help="folder of the run to evaluate")
    add_step(parser)
    text = "folder of generated images from any source, in place of --workdir"
    add("--fakes", type=Path, metavar="FOLDER", help=text)
    text = "images to compare --fakes with: folder, or .npz file of statistics"
    add("--reals", metavar="FOLDER", help=text)
    text = "folder of the images that --fakes were generated from"
    add("--source", type=Path, metavar="FOLDER", help=text)
    text = f"comma-separated names: {', '.join(METRICS)} (default: %(default)s)"
    add("--metrics", default="fid,kid", metavar="NAMES", help=text)
    text = "folder for the results and, for a run, its generated images"
    add("--output", type=Path, metavar="FOLDER", help=text)
    add("--direction", help="such as a2b (default: all directions of the method)")
    add("--pairs", action="store_true", help="test images with equal names are pairs")
    text = "number of images to generate from noise (default: number of test images)"
    add("--samples", type=int, default=0, metavar="N", help=text)
    text = "resize the images of folders to N x N pixels first"
    add("--size", type=int, metavar="N", help=text)
    add = parser.add_argument_group("features of FID and KID").add_argument
    text = (
        "pt_inception-2015-12-05-6726825d.pth, or MODULE:FUNCTION from (n, h, w, 3) uint8 to "
        "(n, d) (default: Inception with random weights, not comparable with published numbers)"
    )
    add("--features", metavar="FILE", help=text)
    text = "how images are prepared for Inception (default: %(default)s)"
    add("--convention", choices=CONVENTIONS, default="pytorch-fid", help=text)
    text = "layer of Inception: 64, 192, 768 or 2048 (default: %(default)s)"
    add("--layer", default="2048", help=text)
    text = "folder in which features are cached (default: %(default)s)"
    add("--cache", type=Path, default=cache_folder(), metavar="FOLDER", help=text)
    add("--no-cache", action="store_true", help="do not cache features")
    text = "write the statistics of --reals to this .npz file"
    add("--save-statistics", type=Path, metavar="FILE", help=text)
    add = parser.add_argument_group("KID").add_argument
    add("--kid", choices=KID_ESTIMATORS, help="torch-fidelity's (default) or TF-GAN's estimator")
    text = f"images in a subset (default: {SUBSET_SIZE}, or half of the smaller side)"
    add("--subset-size", type=int, metavar="N", help=text)
    add("--subsets", type=int, metavar="N", help=f"number of subsets (default: {SUBSETS})")
    add("--block-size", type=int, metavar="N", help=f"images in a block (default: {BLOCK})")
    add("--seed", type=int, help=f"seed of the subsets (default: {SEED})")
    text = (
        "of target and source in mean_fid and mean_kid: half each (default), or those of "
        "U-GAT-IT's tool since August 2019 (0.01 and 0.49)"
    )
    add("--weights", choices=tuple(MEAN_WEIGHTS), help=text)
    add = parser.add_argument_group("label maps").add_argument
    text = "for fcn: from (n, h, w, 3) uint8 to (n, h, w) class numbers"
    add("--segmenter", metavar="MODULE:FUNCTION", help=text)
    text = "folder of true label maps, named like the images"
    add("--labels", type=Path, metavar="FOLDER", help=text)
    text = "cityscapes, cityscapes-train, facades or plain (default: plain)"
    add("--label-set", metavar="NAME", help=text)
    text = "classes without true pixels count as 0 (default) or are left out of the means"
    add("--absent", choices=("zero", "skip"), help=text)
    text = "pixels of no class are ignored (default) or count as wrong"
    add("--void", choices=("ignore", "wrong"), help=text)
