"""Checksums of checkpoints: of every leaf, of their description, and the list of their files.

Orbax keeps no checksums of array data: it would restore a flipped bit silently.
"""

import concurrent.futures
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ganattn.runs.storage import is_remote, write_atomic
from ganattn.state import Tree

_log = logging.getLogger(__name__)
_FILES = "files.json"  # in each checkpoint: names and sizes of all other files
Meta = dict[str, Any]


def describe(step: int, config: Mapping, state: Tree, raw: Tree) -> Meta:
    """The JSON description of a checkpoint, with a SHA-256 of every leaf and one of all of it.

    raw: the state with random keys replaced by their numbers, which are what is stored. Replicated
    arrays are complete on every device, so the first one of this process is read.
    """
    arrays = [np.asarray(leaf.addressable_data(0)) for leaf in jax.tree.leaves(raw)]
    pairs = zip(describe_leaves(state), _checksums(arrays), strict=True)
    leaves = [{**description, "sha256": checksum} for description, checksum in pairs]
    meta = json.loads(json.dumps({"step": step, "config": config, "leaves": leaves}))
    return {**meta, "sha256": _checksum_of_json(meta)}


def describe_leaves(tree: Tree) -> list[dict[str, Any]]:
    """Path, shape and dtype of every leaf; a random key is one leaf of dtype "key<...>"."""
    return [
        {
            "path": [jax.tree_util.keystr((entry,), simple=True) for entry in path],
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
        }
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def types(leaves: Iterable[Mapping]) -> dict[str, str]:
    """Path -> dtype and shape, such as "float32(3, 3)", of described leaves."""
    return {
        "/".join(leaf["path"]): f"{leaf['dtype']}({', '.join(map(str, leaf['shape']))})"
        for leaf in leaves
    }


def check_meta(meta: Meta, step: int) -> None:
    """Raises ValueError unless the description matches its checksum and the step."""
    content = {name: value for name, value in meta.items() if name != "sha256"}
    if meta["sha256"] != _checksum_of_json(content) or meta["step"] != step:
        raise ValueError("the description does not match its checksum")


def check_leaves(tree: Tree, meta: Meta) -> None:
    """Raises ValueError unless every leaf of a tree of numpy arrays matches its checksum."""
    expected = {tuple(leaf["path"]): leaf["sha256"] for leaf in meta["leaves"]}
    paths = [leaf["path"] for leaf in describe_leaves(tree)]
    for path, checksum in zip(paths, _checksums(jax.tree.leaves(tree)), strict=True):
        if checksum != expected[tuple(path)]:
            raise ValueError(f"{'/'.join(path)} does not match its checksum")


def list_files(checkpoint: Path) -> None:
    """Lists the files of a complete checkpoint in it, unless it has the list.

    Without the list, after a kill right before it was written, the checksums of the leaves decide.
    """
    if not is_remote(checkpoint) and not (checkpoint / _FILES).exists():
        sizes = {name: size for name, size in _sizes(checkpoint).items() if name != _FILES}
        write_atomic(checkpoint / _FILES, json.dumps(sizes))


def check_files(checkpoint: Path) -> None:
    """Raises ValueError for a listed file that is missing or has another size."""
    if is_remote(checkpoint):
        return
    if not (checkpoint / _FILES).exists():
        _log.info("checkpoint %s has no list of its files: relying on checksums", checkpoint)
        return
    sizes = _sizes(checkpoint)
    for name, size in json.loads((checkpoint / _FILES).read_text(encoding="utf-8")).items():
        if sizes.get(name) != size:
            raise ValueError(f"{name} has {sizes.get(name, 'no')} of {size} bytes")


def _sizes(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


def _checksums(arrays: Sequence[np.ndarray]) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashlib releases the GIL
        return list(pool.map(_checksum, arrays))


def _checksum(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _checksum_of_json(meta: Meta) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
