"""Tables between the authors' parameter names and ours, and the machinery that applies them.

A system (`ugatit`, ...) is a module of this package with `NETWORKS` (authors' network name -> ours)
and `rows(network, keys)`, which returns the table of one network. Arrays keep their dtype.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ganattn.errors import ForeignFileError

Arrays = Mapping[str, np.ndarray]


class Layout(NamedTuple):
    """How an array is rearranged on its way to us, and back."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda x: x, lambda x: x)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
DENSE = Layout(np.transpose, np.transpose)
POINTWISE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
CHANNEL = Layout(np.ravel, lambda x: x.reshape(1, -1, 1, 1))
# (in, out, h, w), mirrored: ours is the kernel of the equal convolution over zero-stuffed pictures.
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

    path: None for an array that has no effect and is dropped. default: taken where the key is
    missing, None if it must be there.
    """

    key: str
    path: str | None
    layout: Layout
    default: np.ndarray | None = None


def to_ours(name: str, arrays: Arrays, rows: Iterable[Row]) -> dict:
    """One network's arrays as {collection: tree}.

    Raises ForeignFileError that names keys which the table does not know or does not find.
    """
    table = {row.key: row for row in rows}
    plain = {key.removeprefix("module."): np.asarray(value) for key, value in arrays.items()}
    plain = {key: row.default for key, row in table.items() if row.default is not None} | plain
    _compare(name, plain, table)
    tree: dict = {}
    for key, row in table.items():
        if row.path is None:
            continue
        *parents, leaf = row.path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = np.asarray(row.layout.ours(plain[key]), order="C")
    return tree


def to_theirs(tree: Mapping, rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """Inverse of `to_ours`."""
    arrays = {}
    for row in rows:
        if row.path is None:
            continue
        node = tree
        for part in row.path.split("/"):
            node = node[part]
        arrays[row.key] = np.asarray(row.layout.theirs(np.asarray(node)), order="C")
    return arrays


def _compare(name: str, found: Collection[str], expected: Collection[str]) -> None:
    missing = sorted(set(expected) - set(found))
    unknown = sorted(set(found) - set(expected))
    parts = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unknown", unknown))
        if keys
    ]
    if parts:
        raise ForeignFileError(
            f"network {name!r} has {' and '.join(parts)} keys: "
            "give a state_dict of the authors' released code"
        )
