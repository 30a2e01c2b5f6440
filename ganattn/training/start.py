"""How a run starts: from its own newest checkpoint, with another run's networks, or fresh."""

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ganattn import parallel, processes
from ganattn.errors import CheckpointError
from ganattn.methods import Method
from ganattn.runs.checkpoints import Checkpoints, Step, restore_variables
from ganattn.runs.workdir import read_start, refuse_other_method
from ganattn.state import TrainState, Variables

_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """A run whose networks a new run starts with.

    step: of its checkpoint, which may be "best"; None for the newest intact one.
    """

    workdir: Path
    step: Step | None = None


class Start(NamedTuple):
    """The first state of a run, or the one that it continues from.

    source: what start.json records of the run whose networks a new run starts with, None for a run
    that resumes or is fresh.
    """

    state: TrainState
    step: int
    source: dict[str, Any] | None = None


def start(
    config: ConfigDict,
    workdir: Path,
    store: Checkpoints,
    method: Method,
    mesh: Mesh,
    source: Source | None,
) -> Start:
    """The newest intact checkpoint of the run, else a state at step 0 with a fresh optimizer.

    source: gives the networks of a new run; the run itself resumes without it. A collective: every
    process must call it; it writes nothing. Raises CheckpointError for a run that did not start
    from `source`, and where the networks do not fit; ConfigError for a method that needs a source.
    """
    key = seed(config)
    processes.agree(
        f"{store.steps()}", f"the content of {store.directory}", "name a workdir that all share"
    )
    if store.latest() is not None:
        if source is not None:
            _refuse_other_source(workdir, source)
        refuse_other_method(config, workdir)
        state, meta = store.restore(jax.eval_shape(method.create_state, key), mesh)
        _log.info("resuming %s after step %d", workdir, meta["step"])
        return Start(state, meta["step"])
    given, record = _read(method, source)
    state = parallel.replicate(method.create_state, mesh)(key, given)
    return Start(state, 0, record)


def seed(config: ConfigDict) -> np.ndarray:
    """The random key of a run, as raw numbers."""
    return np.asarray(jax.random.key_data(jax.random.key(config.seed)))


def _read(
    method: Method, source: Source | None
) -> tuple[dict[str, Variables], dict[str, Any] | None]:
    """The variables that a new run starts with, and what is recorded of their origin."""
    if source is None:
        return dict(method.initial_variables(None)), None
    variables, meta = restore_variables(source.workdir / "checkpoints", source.step)
    processes.agree(meta["sha256"], f"the run in {source.workdir}", "name one that all share")
    try:
        given = dict(method.initial_variables(variables))
        method.check_variables(given)
    except CheckpointError as error:
        raise CheckpointError(f"step {meta['step']} of {source.workdir}: {error}") from None
    names = ", ".join(sorted(given))
    _log.info("starting with %s of step %d of %s", names, meta["step"], source.workdir)
    record = {
        "workdir": os.fspath(source.workdir),
        "step": meta["step"],
        "method": meta["config"]["method"]["name"],
        "networks": sorted(given),
        "sha256": meta["sha256"],
    }
    return given, record


def _refuse_other_source(workdir: Path, source: Source) -> None:
    record = read_start(workdir)
    same_step = not isinstance(source.step, int) or source.step == record.get("step")
    if record.get("workdir") != os.fspath(source.workdir) or not same_step:
        step = "" if same_step else f"step {source.step} of "
        raise CheckpointError(
            f"{workdir} already holds a run, which did not start from {step}{source.workdir}: "
            "leave out --from to resume it, or name another workdir"
        )
