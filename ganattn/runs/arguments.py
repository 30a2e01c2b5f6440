"""Command-line arguments that name a run and one of its checkpoints; loads nothing heavy."""

import argparse
from pathlib import Path
from typing import Literal, cast

from etils import epath


def add_workdir(parser: argparse.ArgumentParser) -> None:
    """Adds --workdir."""
    parser.add_argument("--workdir", type=folder, required=True, help="folder of the run")


def add_step(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Adds --step; prefix: of its help."""
    text = f'{prefix}checkpoint step or "best" (default: latest intact)'
    parser.add_argument("--step", type=_step, help=text)


def folder(text: str) -> Path:
    """A local folder, or one in a bucket such as gs://name/run."""
    return cast(Path, epath.Path(text)) if "://" in text else Path(text)


def _step(text: str) -> int | Literal["best"]:
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a valid step: give a number or "best"')
    return "best" if text == "best" else int(text)
