"""The config fields that all methods share, and what config files are built from.

A config file defines `get_config(variant="")`: it starts from `base()`, adds the fields of its
method, and passes its variants to `choose`. Every field is written once, with its meaning or unit.
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
Variant: TypeAlias = Callable[[Config], None]


def base() -> Config:
    """The fields that every config has: data, training loop, evaluation, and some of a method."""
    config = Config()
    config.seed = 0  # of the initial parameters, the order of the data and all other random numbers
    config.parallel = "auto"  # pmap | shard_map | auto (see parallel.map_method)

    method = config.method = Config()
    method.ema_decay = 0.0  # of the moving average of the generators; 0 keeps none
    method.ema_start_step = 0  # the moving average is a copy until then

    optimizer = config.optimizer = Config()
    optimizer.accumulate_steps = 1  # parts of a batch computed one after the other

    data = config.data = Config()
    data.source = "folder"  # folder | tfds | arrays | procedural
    # unpaired | paired (by name) | aligned (side by side) | semantic (label maps) | single
    data.layout = "unpaired"
    data.folders = ("A", "B")  # endings of the two domains' folders: trainA trainB
    data.swap = False  # exchange the domains
    data.smooth_edges = False  # add "b_smooth": the images of domain b with blurred edges
    data.palette = ""  # colors of label ids in domain a: facades | spectrum; "" reads images
    data.path = ""  # folder with trainA trainB testA testB | TFDS name | .npz with a, b
    data.download = False  # let TFDS download a missing data set
    data.held_out_percent = 0.0  # of "single": reserved for testing where there is no test part
    data.num_classes = 0  # of "semantic": label ids are 0 to this number - 1
    data.use_dontcare = False  # of "semantic": one more class, for the label id 255
    data.use_instances = False  # of "semantic": read instance maps
    data.condition_channels = 0  # of "semantic": of labels that are images; 0 reads ids
    data.batch_size = 1  # global: over all devices and processes
    data.load_size = 286  # pixels of the width to which images are resized before they are cropped
    data.crop_size = 256  # pixels of the crop's width
    data.aspect_ratio = 1.0  # width over height; other than 1 for "semantic" only
    data.interpolation = "bilinear"  # bilinear | bicubic, antialiased when shrinking (as Pillow)
    data.flip = True  # mirror half of the images left to right
    data.shuffle = True  # False takes the examples in their order, the same in every epoch
    data.on_error = "stop"  # on a corrupt image: stop | skip
    data.cache = False  # keep decoded images in memory; needs no TensorFlow
    data.workers = 0  # threads of the input pipeline; 0 lets tf.data choose

    train = config.train = Config()
    train.log_every = 50  # steps between lines of metrics
    train.pictures_every = 1_000  # steps between grids of sample images; 0 never
    train.histograms_every = 1_000  # steps between histograms of rho; 0 never
    train.checkpoint_every = 1_000  # steps between checkpoints
    train.keep_checkpoints = 3  # the newest ones; older checkpoints are deleted
    train.profile_at = 0  # step at which a profile of five steps is taken; 0 never

    evaluation = config.evaluation = Config()
    evaluation.every = 0  # steps between evaluations, the last step included; 0 never
    evaluation.metrics = ()  # of ganattn evaluate; (): truth where the data knows it, else kid
    evaluation.features = ""  # for fid, kid: Inception's weights, or MODULE:FUNCTION; "" random
    evaluation.convention = "pytorch-fid"  # pytorch-fid | tf | clean: preprocessing for Inception
    evaluation.best = ""  # metric, or metric/direction, whose best checkpoint is kept; "" none
    evaluation.better = "lower"  # whether lower or higher values of it are better
    return config


def choose(config: Config, variant: str, known: Mapping[str, Variant]) -> Config:
    """Applies a comma-separated variant string: each word is a key of `known`.

    The result is locked. Raises ConfigError for an unknown word.
    """
    for word in filter(None, (part.strip() for part in variant.split(","))):
        if word not in known:
            raise ConfigError(f"unknown config variant {word!r}: use one of {', '.join(known)}")
        known[word](config)
    return config.lock()


def set_method(**fields: Any) -> Variant:
    """A variant that sets fields of `config.method`."""
    return lambda config: config.method.update(fields)


def dataset(name: str, epoch_steps: int | None = None, **method: Any) -> Variant:
    """A variant that reads data/NAME.

    epoch_steps: of `config.optimizer`: the number of examples (of the larger domain), or of
    batches. method: fields of `config.method`.
    """

    def apply(config: Config) -> None:
        config.data.path = f"data/{name}"
        config.method.update(method)
        if epoch_steps is not None:
            config.optimizer.epoch_steps = epoch_steps

    return apply


def small(config: Config, size: int = 32, batch_size: int = 8, **method: Any) -> None:
    """Turns `config` into that of a small model on procedural images, neither cropped nor mirrored.

    size: pixels of the images. method: fields of `config.method`.
    """
    config.method.update(method)
    config.data.update(source="procedural", load_size=size, flip=False, batch_size=batch_size)


def short(config: Config, steps: int, every: int) -> None:
    """Sets the length of the training; the learning rate falls over the second half of the `steps`.

    every: steps between checkpoints, and between sample images; a tenth of it between log lines.
    """
    optimizer = config.optimizer
    if "epoch_steps" in optimizer:
        optimizer.epoch_steps = 1
    if "decay_start_step" in optimizer:
        optimizer.decay_start_step = steps // 2
    optimizer.total_steps = steps
    config.train.update(
        log_every=max(1, every // 10),
        pictures_every=every,
        histograms_every=every,
        checkpoint_every=every,
    )


def epoch_schedule(config: Config, learning_rate: float, epoch_steps: int) -> None:
    """Fields of CycleGAN's Adam: 100 epochs at a constant rate, and 100 in which it falls."""
    optimizer = config.optimizer
    optimizer.learning_rate = learning_rate
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.schedule = "linear"  # linear | step | plateau | cosine (the authors' lr_policy)
    optimizer.decay_epochs = 50  # of "step": epochs until a tenth of the rate (lr_decay_iters)
    optimizer.epoch_steps = epoch_steps  # steps for which the decaying rate is held
    optimizer.decay_start_step = 100 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 200 * optimizer.get_ref("epoch_steps")  # length of the training
    optimizer.scheduler_step = "end"  # of an epoch: end (code of 2025) | start (2020 to 2025)


def check(
    config: Config,
    field: str,
    *,
    choices: Iterable[Any] | None = None,
    least: float | None = None,
    below: float | None = None,
    multiple_of: int | None = None,
    required: str | None = None,
) -> None:
    """Raises ConfigError unless the value of a field is allowed.

    field: path such as "method.width"; one that the config lacks is not checked. choices: the
    allowed values. least: the smallest allowed number. below: an exclusive upper bound.
    multiple_of: a divisor of the allowed numbers. required: what the value names, such as "the
    folder of the images", where it must not be empty.
    """
    node: Any = config
    for name in field.split("."):
        if name not in node:
            return
        node = node[name]
    if choices is not None and node not in (allowed := list(choices)):
        raise ConfigError(f"config.{field} is {node!r}: use one of {', '.join(map(str, allowed))}")
    if required is not None and not node:
        raise ConfigError(f"config.{field} is empty: set it to {required}")
    wanted = []
    if multiple_of is not None and node % multiple_of:
        wanted.append(f"a multiple of {multiple_of}")
    if (least is not None and not node >= least) or (below is not None and not node < below):
        bounds = {"at least": least, "below": below}.items()
        wanted.append(" and ".join(f"{word} {n}" for word, n in bounds if n is not None))
    if wanted:
        raise ConfigError(f"config.{field} is {node!r}: give {', '.join(wanted)}")


def to_dict(config: Config) -> dict:
    """A plain copy that JSON can hold."""
    return copy.deepcopy(config.to_dict())


def from_dict(values: Mapping) -> Config:
    """The inverse of `to_dict`, with or without JSON in between (which turns tuples into lists).

    Fields of `base` that an older config lacks get their defaults, or the value that the field of
    the same name has in `config.method`, where it stood before.
    """

    def restore(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: restore(entry) for key, entry in value.items()}
        return tuple(value) if isinstance(value, list) else value

    restored = restore(values)
    for section, defaults in base().items():
        if isinstance(defaults, ml_collections.ConfigDict) and section in restored:
            for name, default in defaults.to_dict().items():
                restored[section].setdefault(name, restored.get("method", {}).get(name, default))
    return Config(restored).lock()


def folder() -> Path:
    """The folder of the config files: inside an installed package, beside it in a checkout."""
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
    return _module(path).get_config(variant)


def variants(path: str | os.PathLike) -> dict[str, Variant]:
    """The variants of a config file by their names, for a config that is built on it."""
    return dict(_module(path).VARIANTS)


def _module(path: str | os.PathLike) -> Any:
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file: give a config file with get_config")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
