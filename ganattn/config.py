"""The config fields that every method shares, and how a variant string selects values.

A config file gives `get_config(variant="")`: it starts from `base()`, adds its method's fields, and
passes the variants it knows to `choose`. Every field is written once, with its meaning or unit.
"""

import copy
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ml_collections

from ganattn.errors import ConfigError

Config: TypeAlias = ml_collections.ConfigDict


def base() -> Config:
    """Fields of the frame: data, training loop, devices."""
    config = Config()
    config.seed = 0  # of the parameters, the data order and every draw
    config.parallel = "auto"  # pmap | shard_map | auto (see parallel.map_method)

    data = config.data = Config()
    data.source = "folder"  # folder | tfds | arrays | procedural
    data.layout = (
        "unpaired"  # unpaired | paired (by name) | aligned (side by side) | semantic | single
    )
    data.folders = ("A", "B")  # endings of the two domains' folders: trainA trainB
    data.swap = False  # exchange the domains
    data.palette = ""  # colours of label ids in domain a: facades | spectrum; "" reads pictures
    data.path = ""  # folder with trainA trainB testA testB | TFDS name | .npz with a, b
    data.download = False  # let TFDS fetch what is not there
    data.batch_size = 1  # global: over all devices and processes
    data.load_size = 286  # pixels; pictures are resized to this square, then cropped
    data.crop_size = 256  # pixels
    data.aspect_ratio = 1.0  # width over height of the crop; other than 1 for "semantic" only
    data.interpolation = "bilinear"  # bilinear | bicubic, antialiased when shrinking (as Pillow)
    data.flip = True  # mirror half of the pictures left to right
    data.on_error = "stop"  # what a broken picture does: stop | skip
    data.cache = False  # keep decoded pictures in memory
    data.workers = 0  # threads of the input pipeline; 0 lets tf.data choose

    train = config.train = Config()
    train.log_every = 50  # steps between lines of metrics
    train.pictures_every = 1_000  # steps between picture grids; 0 never
    train.histograms_every = 1_000  # steps between histograms of rho; 0 never
    train.checkpoint_every = 1_000  # steps
    train.keep_checkpoints = 3
    train.profile_at = 0  # step at which a profile of five steps is taken; 0 never

    evaluation = config.evaluation = Config()
    evaluation.every = 0  # steps between evaluations, the last step included; 0 never
    evaluation.metrics = ()  # of ganattn evaluate; (): truth where the data knows it, else kid
    evaluation.features = ""  # for fid, kid: Inception's weights, or MODULE:FUNCTION; "" random
    evaluation.convention = "pytorch-fid"  # pytorch-fid | tf | clean: preprocessing for Inception
    evaluation.best = ""  # metric, or metric/direction, whose best checkpoint is kept; "" none
    evaluation.better = "lower"  # lower | higher values of it
    return config


def choose(config: Config, variant: str, known: Mapping[str, Callable[[Config], None]]) -> Config:
    """Applies a comma-separated variant string: each word is a key of `known`.

    Raises ConfigError for a word that is not known. The result is locked.
    """
    for word in filter(None, (part.strip() for part in variant.split(","))):
        if word not in known:
            raise ConfigError(f"unknown config variant {word!r}: use one of {', '.join(known)}")
        known[word](config)
    return config.lock()


def check(
    config: Config,
    field: str,
    *,
    choices: Iterable[Any] | None = None,
    least: float | None = None,
    below: float | None = None,
    multiple_of: int | None = None,
) -> None:
    """Raises ConfigError when a field's value is not allowed; a field that is absent is skipped.

    field: path such as "method.width". choices: the allowed values. least: the smallest one; below:
    an exclusive upper bound. multiple_of: what divides it.
    """
    *sections, name = field.split(".")
    node = config
    for section in sections:
        node = node[section]
    if name not in node:
        return
    value, allowed = node[name], []
    if choices is not None:
        choices = list(choices)
        if value in choices:
            return
        raise ConfigError(
            f"config.{field} is {value!r}: use one of {', '.join(str(c) for c in choices)}"
        )
    if multiple_of is not None and value % multiple_of:
        allowed.append(f"a multiple of {multiple_of}")
    if least is not None and not value >= least:
        allowed.append(f"at least {least}")
    if below is not None and not value < below:
        allowed.append(f"below {below}")
    if allowed:
        raise ConfigError(f"config.{field} is {value}: give {', '.join(allowed)}")


def to_dict(config: Config) -> dict:
    """A plain copy that JSON can hold."""
    return copy.deepcopy(config.to_dict())


def from_dict(values: Mapping) -> Config:
    """Inverse of `to_dict`, after a detour through JSON too (which turns tuples into lists)."""

    def restored(value):
        if isinstance(value, Mapping):
            return {key: restored(entry) for key, entry in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return Config(restored(values)).lock()


def folder() -> Path:
    """Where the config files lie: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find(name: str) -> Path:
    """The path of a config file, given as a path or by its name alone ("ugatit").

    Raises ConfigError when there is no such file.
    """
    for path in (Path(name), folder() / name, folder() / Path(name).name):
        for candidate in (path, path.with_name(f"{path.name}.py")):
            if candidate.is_file():
                return candidate.absolute()
    known = ", ".join(sorted(path.stem for path in folder().glob("*.py")))
    raise ConfigError(f"no config file {name}: give a path or one of {known}")


def load(path: str | os.PathLike, variant: str = "") -> Config:
    """Runs `get_config(variant)` of a config file."""
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file: give a config file with get_config")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)
