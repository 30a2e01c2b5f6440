"""Tables between the authors' parameter names and ours, and the machinery that applies them.

A system (`ugatit`, ...) is a module of this package with `NETWORKS`, which maps the authors'
network names to ours; and `KINDS`, which maps the start of their names to the `Kind` of network.
Optional are

- `combine(fields, given)`, which completes the fields of all networks; given: fields of
  config.method that answer what arrays do not show (ConfigError where one is missing);
- `repeat(networks)`, which adds the arrays that the authors store in several of their networks;
- `theirs(name, leaves)`, the authors' name of one of our networks, where several names mean it;
- `OPTIONS`, fields of config.method that the authors' keys depend on;
- `FILES`, which maps the start of their names to the name of the file, with {network} for one
  network in a file, {kind} for those whose names have the same word before "_", and {step}.

Keys come without the "module." of DataParallel (see `plain`).
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from ganattn.errors import CheckpointError, ForeignFileError, join_first

Arrays = Mapping[str, np.ndarray]


class Layout(NamedTuple):
    """How an array is rearranged on its way to us, and back.

    ours: None for an array that has no effect: it is not read, and `theirs` computes it from the
    array at the row's path. theirs: None for an array that their files do not hold.
    """

    ours: Callable[[np.ndarray], np.ndarray] | None
    theirs: Callable[[np.ndarray], np.ndarray] | None


SAME = Layout(lambda x: x, lambda x: x)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
DENSE = Layout(np.transpose, np.transpose)
POINTWISE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
CHANNEL = Layout(np.ravel, lambda x: x.reshape(1, -1, 1, 1))
# (in, out, h, w), flipped: ours is the kernel of the equal convolution over zero-stuffed images.
TRANSPOSED_CONV = Layout(
    lambda x: x[:, :, ::-1, ::-1].transpose(2, 3, 0, 1),
    lambda x: x[::-1, ::-1].transpose(2, 3, 0, 1),
)
COUNT = Layout(lambda x: x.astype(np.float32), lambda x: x.astype(np.int64))


def kernel_vector(size: int) -> Layout:
    """A power-iteration vector over (in, size, size), which we keep over (size, size, in)."""
    area = size * size
    return Layout(lambda v: v.reshape(-1, area).T.ravel(), lambda v: v.reshape(area, -1).T.ravel())


class Row(NamedTuple):
    """One parameter: the authors' key, our path "collection/module/.../name", and the layout.

    path: None for an array that has no effect and is dropped. default: used where the key is
    missing; None for a key that is required.
    """

    key: str
    path: str | None
    layout: Layout
    default: np.ndarray | None = None


class Kind(NamedTuple):
    """What the networks of one kind have in common.

    rows: the table of a network, from the authors' keys or our paths, which determine its depth.
    fields: the fields of config.method that a network's arrays determine, from the authors' name
    and arrays; it raises ForeignFileError for a network that takes other images than RGB ones.
    complete: adds arrays that follow from the others and are not in the authors' files.
    """

    rows: Callable[..., list[Row]]
    fields: Callable[[str, Mapping], dict[str, object]]
    complete: Callable[[dict], dict] = dict


AVERAGES = ("running_mean", "running_var", "num_batches_tracked")


def conv_rows(theirs: str, ours: str, layout: Layout = CONV, bias: bool = True) -> list[Row]:
    """A convolution or dense layer: its kernel, and its bias if it has one."""
    kernel = Row(f"{theirs}.weight", f"params/{ours}/kernel", layout)
    return [kernel, Row(f"{theirs}.bias", f"params/{ours}/bias", SAME)] if bias else [kernel]


def norm_rows(theirs: str, ours: str, instance: bool, keys: Collection[str]) -> list[Row]:
    """Batch normalization; of instance normalization, old files' averages, which are dropped."""
    if instance:
        names = [f"{theirs}.{name}" for name in AVERAGES]
        return [Row(name, None, SAME) for name in names if name in keys]
    return [
        Row(f"{theirs}.weight", f"params/{ours}/gamma", SAME),
        Row(f"{theirs}.bias", f"params/{ours}/beta", SAME),
        *average_rows(theirs, ours),
    ]


def average_rows(theirs: str, ours: str) -> list[Row]:
    """The running averages of a batch normalization."""
    mean, variance, batches = (f"{theirs}.{name}" for name in AVERAGES)
    return [
        Row(mean, f"batch_stats/{ours}/mean", SAME),
        Row(variance, f"batch_stats/{ours}/variance", SAME),
        Row(batches, f"batch_stats/{ours}/batches", COUNT, np.zeros((), np.int64)),
    ]


def spectral_rows(
    theirs: str, ours: str, kernel: Layout = CONV, vector: Layout = SAME, bias: bool = False
) -> list[Row]:
    """A spectrally normalized layer; vector: of the power-iteration vector over the inputs."""
    return [
        *([Row(f"{theirs}.bias", f"params/{ours}/bias", SAME)] if bias else []),
        Row(f"{theirs}.weight_orig", f"params/{ours}/kernel", kernel),
        Row(f"{theirs}.weight_u", f"spectral/{ours}/u", SAME),
        Row(f"{theirs}.weight_v", f"spectral/{ours}/v", vector),
    ]


def plain(arrays: Mapping) -> dict:
    """The same without the "module." that DataParallel puts before every key."""
    return {key.removeprefix("module."): value for key, value in arrays.items()}


def count(pattern: str, keys: Iterable[str]) -> int:
    """The number of keys that the regular expression matches from start to end."""
    return sum(re.fullmatch(pattern, key) is not None for key in keys)


def check_channels(name: str, channels: int, expected: int) -> None:
    """Raises ForeignFileError for a network that takes other images than RGB ones."""
    if channels != expected:
        raise ForeignFileError(
            f"network {name!r} takes {channels} channels instead of {expected}: "
            "give one that was trained on RGB images"
        )


def to_ours(name: str, arrays: Arrays, rows: Iterable[Row]) -> dict:
    """One network's arrays as {collection: tree}.

    Raises ForeignFileError, naming the keys, when some are unknown or missing, or have a shape
    that their layer cannot have.
    """
    table = {row.key: row for row in rows}
    defaults = {key: row.default for key, row in table.items() if row.default is not None}
    values = defaults | {key: np.asarray(value) for key, value in arrays.items()}
    _compare(name, values, table)
    ours = {}
    for key, row in table.items():
        if row.path is not None and row.layout.ours is not None:
            try:
                ours[row.path] = np.asarray(row.layout.ours(values[key]), order="C")
            except (IndexError, ValueError):
                raise ForeignFileError(
                    f"{key!r} of network {name!r} has shape {values[key].shape}, which its layer "
                    "cannot have: give a state_dict of the authors' released code"
                ) from None
    return unflatten_dict(ours, sep="/")


def to_theirs(name: str, leaves: Arrays, rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """Inverse of `to_ours`; leaves: one network's arrays by our paths.

    Raises CheckpointError for arrays without a place in the authors' network, or missing ones.
    """
    table = [(row.key, row.path, row.layout.theirs) for row in rows if row.path is not None]
    if differing := sorted({path for _, path, _ in table} ^ set(leaves)):
        raise CheckpointError(
            f"the authors' network {name!r} differs from this one in {join_first(differing)}: "
            "only networks that their code can build have their layout"
        )
    return {
        key: np.asarray(arrange(np.asarray(leaves[path])), order="C")
        for key, path, arrange in table
        if arrange is not None
    }


def _compare(name: str, keys: Collection[str], expected: Collection[str]) -> None:
    missing = sorted(set(expected) - set(keys))
    unknown = sorted(set(keys) - set(expected))
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    if parts:
        raise ForeignFileError(
            f"network {name!r} has {' and '.join(parts)} keys: "
            "give a state_dict of the authors' released code"
        )
