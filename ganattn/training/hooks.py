"""Everything that happens now and then during training, each a small class.

The loop calls `Hooks` after every step. Hooks that look at the state run at once, because the next
step takes its buffers; hooks that read numbers get them one step later, when the next step has been
dispatched and fetching them holds nothing up.
"""

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import tqdm.auto as tqdm
from clu import profiler
from ml_collections import ConfigDict

from ganattn import figures
from ganattn.errors import DivergenceError
from ganattn.runs.checkpoints import Checkpoints
from ganattn.runs.workdir import JsonLines
from ganattn.state import TrainState, with_averages
from ganattn.training.evaluation import Evaluate, Evaluation

_log = logging.getLogger(__name__)
PICTURES_SHOWN = 8
PROFILED_STEPS = 5
Metrics = Mapping[str, Any]


class Hook(Protocol):
    """Called after every step with the number of finished steps.

    state: may be read only during the call, the next step takes its buffers. metrics: scalars of
    this step, still on the device: reading one waits for the step.
    """

    def __call__(self, step: int, state: Any, metrics: Metrics) -> None: ...

    def close(self) -> None: ...


class Hooks:
    """All hooks of a run behind one call.

    readers: get (step, None, {name: float}), one step late. watchers: get (step, state, metrics).
    saver: the watcher that writes checkpoints; it runs before the others.
    """

    def __init__(self, readers: Sequence[Hook], watchers: Sequence[Hook], saver: "SaveCheckpoints"):
        self._readers = readers
        self._watchers = (saver, *watchers)
        self._saver = saver
        self._pending: tuple[int, Metrics] | None = None

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Reports the step before, then shows this one to the watchers."""
        self._report()
        self._pending = (step, metrics)
        for hook in self._watchers:
            hook(step, state, metrics)

    def finish(self, step: int, state: TrainState) -> dict[str, float]:
        """Reports the last step, starts to save its state, and returns its metrics."""
        metrics = self._report()
        self._saver.save(step, state, metrics)
        return metrics

    def close(self) -> None:
        """Closes every hook, also when one of them raises."""
        with contextlib.ExitStack() as stack:
            for hook in (*self._readers, *self._watchers):
                stack.callback(hook.close)

    def _report(self) -> dict[str, float]:
        if self._pending is None:
            return {}
        (step, metrics), self._pending = self._pending, None
        values = fetch(metrics)
        for hook in self._readers:
            hook(step, None, values)
        return values


def standard(
    config: ConfigDict,
    workdir: Path,
    store: Checkpoints,
    *,
    method: Any,
    batches: Any,
    step: int,
    evaluation: Evaluation | None = None,
    extra: Iterable[Hook] = (),
) -> Hooks:
    """The hooks that `config.train` asks for, for a run that continues after `step`.

    On other processes than 0 only checkpoints and the watch for numbers that are not finite run;
    they write nothing else.
    """
    every, total = config.train, config.optimizer.total_steps
    readers: list[Hook] = [StopWhenNotFinite(store)]
    watchers: list[Hook] = []
    if jax.process_index() == 0:
        writer = create_writer(workdir)
        readers.append(Scalars(workdir / "metrics.jsonl", writer, every.log_every, step, total))
        readers.append(Progress(writer, step, total))
        if every.pictures_every:
            watchers.append(Pictures(workdir, writer, method, batches, every.pictures_every))
        if evaluation:
            watchers.append(Evaluate(config, workdir, store, evaluation, step))
        if every.histograms_every:
            watchers.append(Histograms(workdir, writer, every.histograms_every, step))
        if every.profile_at:
            watchers.append(Profile(workdir / "profile", every.profile_at))
    saver = SaveCheckpoints(store, config, every.checkpoint_every)
    return Hooks(readers, [*watchers, *extra], saver)


def create_writer(workdir: Path) -> Any | None:
    """clu's writer of TensorBoard events and log lines, or None without TensorFlow."""
    try:
        from clu import metric_writers
    except ImportError as error:
        _log.info("No TensorBoard events (%s); metrics are in metrics.jsonl", error)
        return None
    return metric_writers.create_default_writer(os.fspath(workdir))


def fetch(metrics: Metrics) -> dict[str, float]:
    """Copies scalars to the host in one go; waits for the step that makes them."""
    return {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}


class StopWhenNotFinite:
    """Raises DivergenceError as soon as a metric is NaN or infinite."""

    def __init__(self, store: Checkpoints):
        self._store = store

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Looks at every metric."""
        _refuse(step, _not_finite_metrics(metrics), self._store)

    def close(self) -> None:
        """Nothing is held."""


def _refuse(step: int, bad: Sequence[str], store: Checkpoints) -> None:
    if not bad:
        return
    store.wait()
    newest = store.latest()
    where = (
        "there is no checkpoint before it"
        if newest is None
        else f"the newest good checkpoint is step {newest} in {store.directory}"
    )
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    raise DivergenceError(
        f"{', '.join(bad[:5])}{more} at step {step}; {where}: "
        "lower config.optimizer.learning_rate and start again"
    )


class SaveCheckpoints:
    """Saves the state every so many steps, never one with a number that is not finite."""

    def __init__(self, store: Checkpoints, config: ConfigDict, every: int):
        self._store, self._config, self._every = store, config, every

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Saves when the step is due."""
        if _due(step, self._every):
            self.save(step, state, fetch(metrics))

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Starts to save unless that step is saved; raises DivergenceError for a broken state."""
        self._store.wait()
        if self._store.latest() == step:
            return
        _refuse(step, _not_finite_metrics(metrics), self._store)
        _refuse(step, _not_finite_leaves(state), self._store)
        self._store.save(step, state, self._config)

    def close(self) -> None:
        """Waits for the last save."""
        self._store.wait()


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])


def _not_finite_metrics(metrics: Mapping[str, float]) -> list[str]:
    return [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]


def _not_finite_leaves(state: TrainState) -> list[str]:
    trained = {"variables": state.variables, "opt_state": state.opt_state, "ema": state.ema}
    named = {k: v for k, v in _named(trained).items() if jnp.issubdtype(v.dtype, jnp.inexact)}
    if not named:
        return []
    finite = np.asarray(_all_finite(list(named.values())))
    return [f"{name} is not finite" for name, good in zip(named, finite, strict=True) if not good]


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class Progress:
    """A bar with the totals (all losses without one); with TensorFlow also steps per second."""

    def __init__(self, writer: Any | None, step: int, total: int):
        live = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar = tqdm.tqdm(
            initial=step,
            total=total,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if live else 30.0,  # a log file gets a line now and then
        )
        self._report = None
        if writer is not None:
            from clu import periodic_actions

            self._report = periodic_actions.ReportProgress(num_train_steps=total, writer=writer)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Moves the bar."""
        totals = {name: value for name, value in metrics.items() if name.endswith("/total")}
        losses = {name: f"{value:.3g}" for name, value in (totals or metrics).items()}
        self._bar.set_postfix(losses, refresh=False)
        self._bar.update(step - self._bar.n)
        if self._report is not None:
            self._report(step)

    def close(self) -> None:
        """Leaves the bar where it is."""
        self._bar.close()


class Scalars:
    """JSON lines {"step", terms..., "seconds"}, and scalars for clu's writer, which it closes.

    seconds: training time so far, that of the resumed run included.
    """

    def __init__(self, path: Path, writer: Any | None, every: int, step: int, total: int):
        self._lines = JsonLines(path, step)
        self._writer, self._every, self._total = writer, every, total
        self._start = time.monotonic() - self._lines.last.get("seconds", 0.0)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Writes when the step is due, and at the last one."""
        if not _due(step, self._every) and step != self._total:
            return
        seconds = round(time.monotonic() - self._start, 3)
        self._lines.write({"step": step, **metrics, "seconds": seconds})
        if self._writer is not None:
            self._writer.write_scalars(step, dict(metrics))

    def close(self) -> None:
        """Flushes and closes the file and the writer."""
        for sink in (self._lines, self._writer):
            if sink is not None:
                sink.close()


class Pictures:
    """Draws test pictures as grids: `pictures/NAME_STEP.png`, and image summaries."""

    def __init__(self, workdir: Path, writer: Any | None, method: Any, batches: Any, every: int):
        self._directory, self._writer, self._every = workdir / "pictures", writer, every
        self._method, self._batch = method, batches.test_batch(PICTURES_SHOWN)
        self._make = jax.jit(self._pictures)
        self._columns: dict[str, list[str]] = {}

    def _pictures(self, variables: Any, batch: Any) -> Any:
        grids = self._method.pictures(variables, batch)
        # jit returns dictionaries sorted by key: the order is noted while it traces.
        self._columns = {name: list(columns) for name, columns in grids.items()}
        return grids

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Draws when the step is due, on the first device of this process."""
        if not _due(step, self._every):
            return
        variables = with_averages(state.variables, state.ema)
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), variables)
        grids = jax.device_get(self._make(variables, self._batch))
        for name, columns in self._columns.items():
            path = self._directory / f"{name}_{step:07d}.png"
            picture = figures.grid({column: grids[name][column] for column in columns})
            figures.save_picture(path, picture)
            if self._writer is not None:
                self._writer.write_images(step, {name: np.asarray(picture)[None]})

    def close(self) -> None:
        """Nothing is held."""


class Histograms:
    """How every rho is spread over [0, 1]: a line in `rho.jsonl`, and histogram summaries."""

    def __init__(self, workdir: Path, writer: Any | None, every: int, step: int):
        self._lines = JsonLines(workdir / "rho.jsonl", step)
        self._writer, self._every = writer, every

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Writes mean, min and max of each leaf when the step is due."""
        if not _due(step, self._every):
            return
        rho = {name: v["rho"] for name, v in state.variables.items() if "rho" in v}
        leaves = _named(jax.device_get(rho))
        if not leaves:
            return
        summary = {
            name: {kind: float(getattr(leaf, kind)()) for kind in ("mean", "min", "max")}
            for name, leaf in leaves.items()
        }
        self._lines.write({"step": step, **summary})
        if self._writer is not None:
            self._writer.write_histograms(step, leaves)

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()


class Profile:
    """Takes a profile of a few steps, once, for TensorBoard or Perfetto."""

    def __init__(self, directory: Path, first: int):
        self._directory, self._first = directory, first
        self._running = False

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Starts and stops at its steps."""
        if step == self._first:
            profiler.start(os.fspath(self._directory))
            self._running = True
        elif self._running and step == self._first + PROFILED_STEPS:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Writes what was recorded if the run ended in between."""
        if self._running:
            self._running = False
            profiler.stop()
