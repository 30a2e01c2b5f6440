"""Checkpoints that are whole or refused: every leaf and the description of all carry a checksum.

A step is a directory with two items and a list of their files. `state` holds the arrays (random
keys as their raw numbers). `meta` is JSON: the step, the config, path, shape, dtype and SHA-256 of
every leaf, and a SHA-256 over all of that. Orbax keeps none of array data: a flipped bit would be
restored silently.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from ganattn import parallel, processes
from ganattn.errors import CheckpointError
from ganattn.runs.best import COMMITTED, set_apart
from ganattn.runs.storage import is_remote, locate, remove_tree, trouble, write_whole
from ganattn.state import TrainState, Tree

_log = logging.getLogger(__name__)
_LEAST_SHARED = 1 << 20  # bytes of a replicated array's part that is worth a device of its own
_FILES = "files.json"  # in each checkpoint: the names and sizes of all others
_MOST_NAMED = 5  # leaves named in one message
_BEST = "best"  # folder beside the steps with one step in it
Meta = dict[str, Any]
Step = int | Literal["best"]


class Checkpoints:
    """The checkpoints of one run: written in the background, newest whole one restored.

    directory: made absolute, created by the first `save`. keep: how many of the newest stay.
    messages: one line for every damaged checkpoint that `restore` passed over.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3):
        self.directory = locate(directory)
        self.keep = keep
        self.messages: list[str] = []
        self._manager: ocp.CheckpointManager | None = None
        self._best: int | None = None  # to be set apart once it is whole

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, ascending, without one that is still being written."""
        return _steps(self.directory)

    def latest(self) -> int | None:
        """Step of the newest checkpoint on disk, or None."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: TrainState, config: Mapping | ml_collections.ConfigDict):
        """Starts to write `state`; its buffers may be donated as soon as this returns.

        Waits for the save before it. Raises ValueError unless `step` is beyond the newest one.
        """
        self.wait()
        if self._manager is None:
            self._manager = self._open()
        if step <= (newest := max(self.steps(), default=-1)):
            raise ValueError(f"step {step} is not beyond the newest checkpoint, {newest}")
        raw = jax.tree.map(_raw, state)
        config = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
        meta = {"step": step, "config": config, "leaves": _described_with_checksums(state, raw)}
        meta = json.loads(json.dumps(meta))
        meta["sha256"] = _checksum_of_json(meta)
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(raw), meta=ocp.args.JsonSave(meta))
        with self._written():
            self._manager.save(step, args=items, force=True)

    def best(self) -> int | None:
        """Step of the checkpoint that `keep_best` set apart, or None."""
        return best_step(self.directory)

    def keep_best(self, step: int) -> None:
        """Sets the checkpoint of `step` apart from those of which only the newest stay.

        It replaces the one before it, at the next `wait`, when it is whole. To be called by one
        process only; it does not wait for the others.
        """
        self._best = step

    def wait(self) -> None:
        """Returns when what was saved is whole on disk and what it replaced is gone.

        Raises CheckpointError when it could not be written.
        """
        if self._manager is not None:
            with self._written():
                self._manager.wait_until_finished()
                self._seal()
        if self._best is not None and self._best in self.steps():
            set_apart(self.directory / str(self._best), self.directory / _BEST)
            self._best = None
        self._empty_trash()

    def _seal(self) -> None:
        """Lists the files of the newest checkpoint in it, so that one that goes is missed.

        Without the list, of a run that was killed just before, the leaves' checksums decide alone.
        """
        newest = self.latest()
        if jax.process_index() or newest is None or is_remote(self.directory):
            return
        path = self.directory / str(newest)
        if not (path / _FILES).exists():
            sizes = {name: size for name, size in _sizes(path).items() if name != _FILES}
            write_whole(path / _FILES, json.dumps(sizes))

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """A full disk and the like as one line; what is whole on disk stays so."""
        try:
            yield
        except Exception as error:  # the library underneath has no class for it
            reason = trouble(error)
            if not reason:
                raise
            self._manager = None
            newest = self.latest()
            kept = "there is none yet" if newest is None else f"the newest whole one is {newest}"
            raise CheckpointError(
                f"a checkpoint could not be written to {self.directory} ({reason}); {kept}: make "
                "room or get the right to write there, and start the same command again"
            ) from error

    def close(self) -> None:
        """Waits, then ends the background threads."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def restore(self, like: TrainState, mesh: Mesh) -> tuple[TrainState, Meta]:
        """The newest whole checkpoint, in fresh buffers that are replicated over `mesh`.

        like: TrainState of ShapeDtypeStructs, from `jax.eval_shape`. The mesh may have any number
        of devices. Newer damaged checkpoints are passed over with a warning and moved to
        `damaged/`, where they are not in the way of later saves.
        Raises CheckpointError when there is none, when none is whole, or when the newest readable
        one has other leaves, shapes or dtypes than `like`; then nothing on disk is changed.
        """
        wanted = _described(like)

        def targets(meta: Meta) -> Tree:
            self._require_same(wanted, meta)
            return jax.eval_shape(lambda tree: jax.tree.map(_raw, tree), like)

        steps = self.steps()
        tree, meta, messages = _newest_whole(self.directory, steps, targets)
        self.messages += messages
        self._set_aside([step for step in steps if step > meta["step"]])
        implementations = jax.tree.map(_key_implementation, like)
        place = parallel.replicate(
            lambda tree: jax.tree.map(
                lambda x, name: jax.random.wrap_key_data(x, impl=name) if name else jnp.copy(x),
                tree,
                implementations,
            ),
            mesh,
        )
        return place(tree), meta

    def _require_same(self, wanted: Sequence[Mapping], meta: Meta) -> None:
        differences = _differences(wanted, meta["leaves"])
        if differences:
            rest = len(differences) - _MOST_NAMED
            named = "; ".join(differences[:_MOST_NAMED])
            raise CheckpointError(
                f"checkpoint {self.directory / str(meta['step'])} belongs to another architecture: "
                f"{named}{f'; and {rest} more' if rest > 0 else ''}. Use the config that it was "
                "trained with, or another workdir"
            )

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep,
            todelete_subdir="trash",  # a rename is atomic, a deletion is not
            cleanup_tmp_directories=True,
        )
        handlers = {"state": _array_handler(), "meta": ocp.JsonCheckpointHandler()}
        return ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)

    def _empty_trash(self) -> None:
        trash = self.directory / "trash"
        if jax.process_index() == 0 and trash.is_dir():
            for entry in trash.iterdir():
                remove_tree(entry)

    def _set_aside(self, steps: Sequence[int]) -> None:
        if jax.process_index() == 0:
            for step in steps:
                target = self.directory / "damaged" / str(step)
                remove_tree(target)
                target.parent.mkdir(exist_ok=True)
                (self.directory / str(step)).rename(target)
        processes.wait_for_all("damaged checkpoints are set aside")


def best_step(directory: Path) -> int | None:
    """Step of the checkpoint that evaluation chose, in the `checkpoints` of a run, or None."""
    return max(_steps(directory / _BEST), default=None)


def restore_variables(
    directory: str | os.PathLike, step: Step | None = None
) -> tuple[dict[str, Any], Meta]:
    """Network variables of the newest whole checkpoint, or of `step` alone.

    Needs no code of the model. directory: the `checkpoints` directory of a run; nothing in it is
    changed. step: a number, or "best" for the one that evaluation chose. Returns (network ->
    collection -> tree of numpy arrays, meta with "step" and "config"). Raises CheckpointError when
    there is no such checkpoint or none is whole.
    """
    trees, meta = restore_trees(directory, step, ("variables",))
    return trees["variables"], meta


def restore_trees(
    directory: str | os.PathLike, step: Step | None, parts: Sequence[str]
) -> tuple[dict[str, Any], Meta]:
    """As `restore_variables`, for any parts of a TrainState: ({part: tree}, meta).

    A part without arrays is {}.
    """
    directory = locate(directory)
    if step == "best":
        directory, step = directory / _BEST, None
        if not _steps(directory):
            raise CheckpointError(
                f"no best checkpoint in {directory.parent}: train with config.evaluation.every and "
                "config.evaluation.best, or name a step"
            )
    steps = _steps(directory)
    if step is not None and step not in steps:
        found = ", ".join(map(str, steps)) or "none"
        raise CheckpointError(f"no checkpoint of step {step} in {directory}: there are {found}")

    def targets(meta: Meta) -> Tree:
        tree: dict = {}
        for leaf in meta["leaves"]:
            *parents, name = leaf["path"]
            if parents and parents[0] in parts:
                node = tree
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[name] = jax.ShapeDtypeStruct(leaf["shape"], leaf["dtype"])
        return tree

    tree, meta, _ = _newest_whole(directory, steps if step is None else [step], targets)
    return {**{part: {} for part in parts}, **tree}, meta


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    found = (entry for entry in directory.iterdir() if entry.name.isdecimal())
    if is_remote(directory):  # nothing is renamed in a bucket: Orbax marks what is complete
        found = (entry for entry in found if (entry / COMMITTED).exists())
    return sorted(int(entry.name) for entry in found)


def _newest_whole(
    directory: Path, steps: Sequence[int], targets: Callable[[Meta], Tree]
) -> tuple[Tree, Meta, list[str]]:
    """(numpy tree shaped as `targets(meta)`, meta, a line about each damaged one passed over)."""
    messages: list[str] = []
    for step in sorted(steps, reverse=True):
        problem = None
        try:
            meta = _read_meta(directory / str(step), step)
            tree = _read_leaves(directory / str(step), targets(meta), meta)
        except (CheckpointError, MemoryError):
            raise
        # Damaged files surface as ValueError, KeyError, AttributeError, bare Exception and others.
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "")[:150]
            problem = f"{type(error).__name__}: {reason}"
        if _on_all_processes(problem is None):
            for message in messages:
                _log.warning("%s; step %d is used", message, step)
            return tree, meta, messages
        problem = problem or "another process could not read it"
        messages.append(f"checkpoint {directory / str(step)} is damaged ({problem})")
    if not messages:
        raise CheckpointError(f"no checkpoint in {directory}: train first, or name another workdir")
    raise CheckpointError(
        f"no whole checkpoint in {directory}: {'; '.join(messages)}. Restore the files from a "
        "copy, or train again in another workdir"
    )


def _on_all_processes(whole: bool) -> bool:
    return set(processes.gather_text(str(whole))) == {"True"}


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax's, but small arrays are not cut up: a slice program for each costs seconds."""
    handlers = ocp.type_handlers
    arrays = handlers.ArrayHandler(
        use_replica_parallel=True, min_slice_bytes_for_replica_parallel=_LEAST_SHARED
    )
    registry = handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _sizes(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


def _check_files(path: Path) -> None:
    listed = path / _FILES
    if is_remote(path):
        return
    if not listed.exists():
        _log.info("checkpoint %s has no list of its files: its checksums decide", path)
        return
    found = _sizes(path)
    for name, size in json.loads(listed.read_text(encoding="utf-8")).items():
        if found.get(name) != size:
            raise ValueError(f"{name} has {found.get(name, 'no')} of {size} bytes")


def _read_meta(path: Path, step: int) -> Meta:
    _check_files(path)
    # Not by a Checkpointer, here and below: it waits for other processes, which may see no damage.
    meta = ocp.JsonCheckpointHandler().restore(epath.Path(path / "meta"))
    checksum = meta.pop("sha256")
    if checksum != _checksum_of_json(meta) or meta["step"] != step:
        raise ValueError("the description does not match its checksum")
    return meta


def _read_leaves(path: Path, targets: Tree, meta: Meta) -> Tree:
    """Reads the leaves that `targets` has to host memory and compares them with their checksums."""
    arguments = ocp.args.PyTreeRestore(
        item=targets,
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), targets),
        partial_restore=True,
    )
    tree = ocp.PyTreeCheckpointHandler().restore(epath.Path(path / "state"), args=arguments)
    expected = {tuple(leaf["path"]): leaf["sha256"] for leaf in meta["leaves"]}
    paths = [leaf["path"] for leaf in _described(tree)]
    for leaf, checksum in zip(paths, _checksums(jax.tree.leaves(tree)), strict=True):
        if checksum != expected[tuple(leaf)]:
            raise ValueError(f"{'/'.join(leaf)} does not match its checksum")
    return tree


def _described(tree: Tree) -> list[dict[str, Any]]:
    """Path, shape and dtype of every leaf; a random key is one leaf of dtype "key<...>"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        {
            "path": [jax.tree_util.keystr((entry,), simple=True) for entry in path],
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
        }
        for path, leaf in leaves
    ]


def _described_with_checksums(state: Tree, raw: Tree) -> list[dict[str, Any]]:
    # A replicated array is whole on every device, so the first one of this process has all of it.
    arrays = [np.asarray(leaf.addressable_data(0)) for leaf in jax.tree.leaves(raw)]
    pairs = zip(_described(state), _checksums(arrays), strict=True)
    return [{**description, "sha256": checksum} for description, checksum in pairs]


def _differences(wanted: Sequence[Mapping], stored: Sequence[Mapping]) -> list[str]:
    """One phrase for each leaf that is missing, too many, or of another shape or dtype."""
    ours, theirs = ({tuple(leaf["path"]): leaf for leaf in side} for side in (wanted, stored))
    phrases = []
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        here, there = (side.get(path) for side in (ours, theirs))
        name = "/".join(path)
        if there is None:
            phrases.append(f"{name} is missing in the checkpoint")
        elif here is None:
            phrases.append(f"{name} is only in the checkpoint")
        elif _kind(here) != _kind(there):
            phrases.append(f"{name} is {_kind(there)} in the checkpoint and {_kind(here)} here")
    return phrases


def _kind(leaf: Mapping) -> str:
    return f"{leaf['dtype']}({', '.join(map(str, leaf['shape']))})"


def _checksums(arrays: Sequence[np.ndarray]) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashlib lets go of the lock
        return list(pool.map(_checksum, arrays))


def _checksum(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _checksum_of_json(meta: Meta) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _key_implementation(leaf: jax.ShapeDtypeStruct) -> str:
    """Name of a key's generator, "" for what is no key (None would vanish from the tree)."""
    if not _is_key(leaf):
        return ""
    found = []
    jax.eval_shape(lambda key: found.append(str(jax.random.key_impl(key))), leaf)
    return found[0]
