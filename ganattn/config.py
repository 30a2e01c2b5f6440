"""The config fields that every method shares, and how a variant string selects values.

A config file gives `get_config(variant="")`: it starts from `base()`, adds its method's fields, and
passes the variants it knows to `choose`. Every field is written once, with its meaning or unit.
"""

import copy
from collections.abc import Callable, Mapping

import ml_collections

from ganattn.errors import ConfigError

Config = ml_collections.ConfigDict


def base() -> Config:
    """Fields of the frame: data, training loop, devices."""
    config = Config()
    config.seed = 0  # of the parameters, the data order and every draw
    config.parallel = "auto"  # pmap | shard_map | auto (pmap in one process)

    data = config.data = Config()
    data.source = "folder"  # folder | tfds | arrays | procedural
    data.path = ""  # folder with trainA trainB testA testB | TFDS name | .npz with a, b
    data.batch_size = 1  # global: over all devices and processes
    data.load_size = 286  # pixels; pictures are resized to this square, then cropped
    data.crop_size = 256  # pixels
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


def to_dict(config: Config) -> dict:
    """A plain copy that JSON can hold."""
    return copy.deepcopy(config.to_dict())
