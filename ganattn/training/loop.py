"""The one training loop; it does not know which method it runs."""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jax
from ml_collections import ConfigDict

from ganattn import data, methods, parallel, processes
from ganattn.config import to_dict
from ganattn.runs.checkpoints import Checkpoints, Step
from ganattn.runs.storage import locate, remove_partial
from ganattn.runs.workdir import (
    parameter_counts,
    write_config,
    write_parameters,
    write_start,
    write_versions,
)
from ganattn.training.evaluation import create_evaluation
from ganattn.training.hooks import Hook, standard
from ganattn.training.preemption import Interrupt
from ganattn.training.start import Source, Start, seed, start

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended: after which step, with which metrics, and what to do next (`message`)."""

    reason: Literal["finished", "preempted"]
    step: int
    workdir: Path
    metrics: dict[str, float]
    message: str


def train(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    source: str | os.PathLike | None = None,
    source_step: Step | None = None,
    method: methods.Method | None = None,
    batches: Any | None = None,
    hooks: Iterable[Hook] | None = None,
) -> Result:
    """Trains until `config.optimizer.total_steps`, from the newest intact checkpoint in `workdir`.

    Without a checkpoint the state is fresh. SIGINT and SIGTERM save the state and end the run with
    reason "preempted"; a second signal interrupts at once. Nothing is written before config, data
    and an existing checkpoint have been checked.

    source: workdir of another run, with whose networks a new run starts: those that training moves,
    not their averages. Its step is 0, its optimizers and averages are fresh. It is saved at once as
    step 0, so that it resumes without the source, which start.json names. source_step: of the
    source's checkpoint, which may be "best"; the newest intact one if None.
    method, batches: used instead of those that `config` describes. hooks: called after the standard
    ones. Raises ConfigError, DataError, CheckpointError, or DivergenceError when a number is no
    longer finite.
    """
    workdir, total = locate(workdir), config.optimizer.total_steps
    mesh = parallel.create_mesh()
    method = method or methods.create(config)
    parallel.check_batch_size(config.data.batch_size, mesh, method.accumulate_steps)
    processes.agree(json.dumps(to_dict(config)), "the config", "start all with the same command")
    step_fn = parallel.map_method(method, mesh, config.parallel)
    with Interrupt() as interrupt, contextlib.ExitStack() as stack:
        if batches is None:
            share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
            batches = stack.enter_context(contextlib.closing(data.create(config, **share)))
        processes.agree(f"{batches.sizes}", "the data", "let all read the same files")
        method.check_data(batches.sizes)
        evaluation = create_evaluation(config, method, batches)
        store = Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints)
        stack.callback(store.close)
        origin = None if source is None else Source(locate(source), source_step)
        first = start(config, workdir, store, method, mesh, origin)
        _prepare(workdir, config, store, first)
        state, step = first.state, first.step
        run = standard(config, workdir, store, method, batches, step, evaluation, hooks or ())
        stack.callback(run.close)
        while step < total and not interrupt.requested(step):
            state, metrics = step_fn(state, batches(step))
            step += 1
            run(step, state, metrics)
        last = run.finish(step, state)
    if batches.skipped and jax.process_index() == 0:
        _log.warning("%d corrupt images were skipped: %s", len(batches.skipped), batches.skipped)
    return _result(step, total, workdir, last)


def _prepare(workdir: Path, config: ConfigDict, store: Checkpoints, first: Start) -> None:
    """Writes what describes the run, and removes what a killed one was writing.

    A run that starts with another run's networks is saved before it has a config, which it needs to
    resume without naming one: it never resumes without them.
    """
    processes.check_shared(workdir)
    is_new = store.latest() is None
    if jax.process_index() == 0:
        for folder in (workdir, workdir / "pictures"):
            remove_partial(folder)
        if is_new:
            write_start(first.source, workdir)
    if first.source is not None:
        store.save(first.step, first.state, config)
        store.wait()
    if jax.process_index() == 0:
        write_config(config, workdir)
        write_versions(workdir)
        write_parameters(first.state.variables, workdir)


def _result(step: int, total: int, workdir: Path, metrics: dict[str, float]) -> Result:
    if step >= total:
        message = f"finished at step {step}; everything is in {workdir}"
        return Result("finished", step, workdir, metrics, message)
    message = f"preempted: step {step} of {total} is saved; resume with the same config: "
    message += f"ganattn train --workdir {workdir}"
    if jax.process_index() == 0:
        _log.warning(message)
    return Result("preempted", step, workdir, metrics, message)


def describe(config: ConfigDict) -> str:
    """What `train` would run, without running it: config, network sizes, devices.

    Raises ConfigError like `train`; initializes no parameters and reads no data.
    """
    mesh = parallel.create_mesh()
    method = methods.create(config)
    parallel.check_batch_size(config.data.batch_size, mesh, method.accumulate_steps)
    state = jax.eval_shape(method.create_state, seed(config))
    sizes = parameter_counts(state.variables)
    device = jax.devices()[0].device_kind
    share = config.data.batch_size // mesh.size
    devices = f"{mesh.size} x {device}, {share} of {config.data.batch_size} examples each"
    return "\n".join([json.dumps(to_dict(config), indent=2), *sizes, devices])
