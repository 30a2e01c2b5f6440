"""Checksummed checkpoints: a restore is exact or refused.

A step is a directory with two items and a list of their files. `state` holds the arrays (random
keys as their raw numbers). `meta` is JSON: the step, the config, path, shape, dtype and SHA-256 of
every leaf, and a SHA-256 of all of that.
"""

import contextlib
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
from flax import traverse_util
from jax.sharding import Mesh

from ganattn import parallel, processes
from ganattn.errors import CheckpointError, join_first, storage_problem
from ganattn.runs import integrity
from ganattn.runs.best import is_complete, preserve
from ganattn.runs.integrity import Meta
from ganattn.runs.storage import locate, remove_tree
from ganattn.state import TrainState, Tree, compare

_log = logging.getLogger(__name__)
_LEAST_SHARED = 1 << 20  # bytes; smaller parts of a replicated array are not sharded on save
_BEST = "best"  # folder beside the steps with one step in it
Step = int | Literal["best"]


class Checkpoints:
    """The checkpoints of one run: written in the background; the newest intact one is restored.

    directory: created by the first `save`. keep: how many of the newest checkpoints remain.
    messages: one line for every damaged checkpoint that `restore` skipped.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3):
        self.directory = locate(directory)
        self.keep = keep
        self.messages: list[str] = []
        self._manager: ocp.CheckpointManager | None = None
        self._best: int | None = None  # to be preserved once it is complete

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, ascending, without one that is still being written."""
        return _steps(self.directory)

    def latest(self) -> int | None:
        """Step of the newest checkpoint on disk, or None."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: TrainState, config: Mapping | ml_collections.ConfigDict):
        """Starts to write `state`; its buffers may be donated as soon as this returns.

        A collective: every process must call it. Waits for the previous save. Raises ValueError
        unless `step` is beyond the newest one.
        """
        self.wait()
        if self._manager is None:
            self._manager = self._open()
        if step <= (newest := max(self.steps(), default=-1)):
            raise ValueError(f"step {step} is not beyond the newest checkpoint, {newest}")
        raw = jax.tree.map(_raw, state)
        config = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
        meta = integrity.describe(step, config, state, raw)
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(raw), meta=ocp.args.JsonSave(meta))
        with self._explained():
            self._manager.save(step, args=items, force=True)

    def best(self) -> int | None:
        """Step of the checkpoint that `keep_best` chose, or None."""
        return best_step(self.directory)

    def keep_best(self, step: int) -> None:
        """Keeps the checkpoint of `step` beside the newest ones.

        It replaces the previous best at the next `wait` after it is complete. For one process only;
        it does not wait for the others.
        """
        self._best = step

    def wait(self) -> None:
        """Returns when the last save is complete on disk and what it replaces is removed.

        Raises CheckpointError when it could not be written.
        """
        if self._manager is not None:
            with self._explained():
                self._manager.wait_until_finished()
                if jax.process_index() == 0 and (newest := self.latest()) is not None:
                    integrity.list_files(self.directory / str(newest))
        if self._best is not None and self._best in self.steps():
            preserve(self.directory / str(self._best), self.directory / _BEST)
            self._best = None
        self._empty_trash()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns a storage problem into one line; complete checkpoints stay on disk."""
        try:
            yield
        except Exception as error:  # Orbax has no class for these errors
            reason = storage_problem(error)
            if not reason:
                raise
            self._manager = None
            newest = self.latest()
            state = "there is none yet" if newest is None else f"the newest intact one is {newest}"
            raise CheckpointError(
                f"a checkpoint could not be written to {self.directory} ({reason}); {state}: free "
                "some space or fix the permissions, and start the same command again"
            ) from error

    def close(self) -> None:
        """Waits, then ends the background threads."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def restore(self, like: TrainState, mesh: Mesh) -> tuple[TrainState, Meta]:
        """The newest intact checkpoint, in fresh buffers that are replicated over `mesh`.

        like: TrainState of ShapeDtypeStructs, from `jax.eval_shape`. The mesh may have any number
        of devices. Newer damaged checkpoints are skipped with a warning and quarantined: moved to
        `damaged/`, where they do not block later saves. A collective: every process must call it.
        Raises CheckpointError when there is none, when none is intact, or when the newest readable
        one has other leaves, shapes or dtypes than `like`; then nothing on disk is changed.
        """
        expected = integrity.types(integrity.describe_leaves(like))

        def targets(meta: Meta) -> Tree:
            self._require_same(expected, meta)
            return jax.eval_shape(lambda tree: jax.tree.map(_raw, tree), like)

        steps = self.steps()
        tree, meta, messages = _newest_intact(self.directory, steps, targets)
        self.messages += messages
        self._quarantine([step for step in steps if step > meta["step"]])
        place = parallel.replicate(lambda tree: jax.tree.map(_from_raw, tree, like), mesh)
        return place(tree), meta

    def _require_same(self, expected: Mapping[str, str], meta: Meta) -> None:
        phrases = compare(integrity.types(meta["leaves"]), expected, "type")
        if phrases:
            raise CheckpointError(
                f"checkpoint {self.directory / str(meta['step'])} belongs to another architecture: "
                f"{join_first(phrases, '; ')}. Use the config that it was trained with, or another "
                "workdir"
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

    def _quarantine(self, steps: Sequence[int]) -> None:
        if jax.process_index() == 0:
            for step in steps:
                target = self.directory / "damaged" / str(step)
                remove_tree(target)
                target.parent.mkdir(exist_ok=True)
                (self.directory / str(step)).rename(target)
        processes.wait_for_all("damaged checkpoints are quarantined")


def best_step(directory: Path) -> int | None:
    """Step of the best checkpoint in the `checkpoints` directory of a run, or None."""
    return max(_steps(directory / _BEST), default=None)


def restore_variables(
    directory: str | os.PathLike, step: Step | None = None
) -> tuple[dict[str, Any], Meta]:
    """Network variables of the newest intact checkpoint, or of `step` alone.

    Needs no model code. directory: the `checkpoints` directory of a run; nothing in it is changed.
    step: a number, or "best" for the one that evaluation chose. Returns (network -> collection ->
    tree of numpy arrays, meta with "step" and "config"). Raises CheckpointError when there is no
    such checkpoint or none is intact.
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
        available = ", ".join(map(str, steps)) or "none"
        raise CheckpointError(f"no checkpoint of step {step} in {directory}: there are {available}")

    def targets(meta: Meta) -> Tree:
        leaves = [leaf for leaf in meta["leaves"] if leaf["path"][0] in parts]
        return traverse_util.unflatten_dict(
            {tuple(x["path"]): jax.ShapeDtypeStruct(x["shape"], x["dtype"]) for x in leaves}
        )

    tree, meta, _ = _newest_intact(directory, steps if step is None else [step], targets)
    return {**{part: {} for part in parts}, **tree}, meta


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    entries = (entry for entry in directory.iterdir() if entry.name.isdecimal())
    return sorted(int(entry.name) for entry in entries if is_complete(entry))


def _newest_intact(
    directory: Path, steps: Sequence[int], targets: Callable[[Meta], Tree]
) -> tuple[Tree, Meta, list[str]]:
    """(numpy tree shaped as `targets(meta)`, meta, a line about each damaged one skipped)."""
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
        if set(processes.gather_text(str(problem is None))) == {"True"}:
            for message in messages:
                _log.warning("%s; using step %d", message, step)
            return tree, meta, messages
        problem = problem or "another process could not read it"
        messages.append(f"checkpoint {directory / str(step)} is damaged ({problem})")
    if not messages:
        raise CheckpointError(f"no checkpoint in {directory}: train first, or name another workdir")
    raise CheckpointError(
        f"no intact checkpoint in {directory}: {'; '.join(messages)}. Restore the files from a "
        "backup, or train again in another workdir"
    )


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax's, but small arrays are not sharded on save: slicing each would compile a program."""
    handlers = ocp.type_handlers
    arrays = handlers.ArrayHandler(
        use_replica_parallel=True, min_slice_bytes_for_replica_parallel=_LEAST_SHARED
    )
    registry = handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _read_meta(path: Path, step: int) -> Meta:
    integrity.check_files(path)
    # No Checkpointer, here and below: it waits for other processes, which may find no damage.
    meta = ocp.JsonCheckpointHandler().restore(epath.Path(path / "meta"))
    integrity.check_meta(meta, step)
    return meta


def _read_leaves(path: Path, targets: Tree, meta: Meta) -> Tree:
    """Reads the leaves of `targets` into host memory and verifies their checksums."""
    arguments = ocp.args.PyTreeRestore(
        item=targets,
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), targets),
        partial_restore=True,
    )
    tree = ocp.PyTreeCheckpointHandler().restore(epath.Path(path / "state"), args=arguments)
    integrity.check_leaves(tree, meta)
    return tree


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _from_raw(raw: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """The inverse of `_raw`, in a new buffer. A random key has the generator of `like`."""
    if not _is_key(like):
        return jnp.copy(raw)
    generators: list[Any] = []
    jax.eval_shape(lambda key: generators.append(jax.random.key_impl(key)), like)
    return jax.random.wrap_key_data(raw, impl=generators[0])
