"""Training hooks: progress, logs, figures, checkpoints, profiling.

The loop calls `Hooks` after every step. Watchers look at the state and run at once, because the
next step takes its buffers. Readers get the numbers one step later, when the next step has been
dispatched, so that fetching them does not hold it up. Where a checkpoint is due, all of them write
first: a run that resumes from it starts after its step and does not report that step again.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import tqdm.auto as tqdm
from clu import profiler
from ml_collections import ConfigDict

from ganattn import figures
from ganattn.runs.checkpoints import Checkpoints
from ganattn.runs.workdir import JsonLines
from ganattn.state import TrainState, flatten, with_averages
from ganattn.training.evaluation import Evaluate, Evaluation
from ganattn.training.saving import SaveCheckpoints, StopWhenNotFinite, is_due

_log = logging.getLogger(__name__)
ROWS = 8  # of a figure
PROFILED_STEPS = 5
Metrics = Mapping[str, Any]


class Hook(Protocol):
    """Called after every step with the number of finished steps.

    state: may be read only during the call, the next step takes its buffers. metrics: scalars of
    this step, still on the device: reading one waits for the step. A hook may also have the methods
    `flush()`, called before a checkpoint is saved, and `close()`, called at the end.
    """

    def __call__(self, step: int, state: Any, metrics: Metrics) -> None: ...


class Hooks:
    """All hooks of a run behind one call.

    readers: get (step, None, {name: float}), one step late. watchers: get (step, state, metrics).
    saver: saves the state when the others have reported its step.
    """

    def __init__(self, readers: Sequence[Hook], watchers: Sequence[Hook], saver: SaveCheckpoints):
        self._readers, self._watchers, self._saver = readers, watchers, saver
        self._pending: tuple[int, Metrics] | None = None
        self._values: dict[str, float] = {}

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Reports the step before, shows this one to the watchers, and saves it when it is due."""
        self._report()
        self._pending = (step, metrics)
        due = self._saver.due(step)
        if due:
            self._report()
        for hook in self._watchers:
            hook(step, state, metrics)
        if due:
            self._save(step, state)

    def finish(self, step: int, state: TrainState) -> dict[str, float]:
        """Reports the last step, starts to save its state, and returns its metrics."""
        self._report()
        self._save(step, state)
        return self._values

    def close(self) -> None:
        """Closes every hook, even if one of them raises."""
        with contextlib.ExitStack() as stack:
            for close in (*self._methods("close"), self._saver.close):
                stack.callback(close)

    def _report(self) -> None:
        if self._pending is not None:
            (step, metrics), self._pending = self._pending, None
            values = jax.device_get(dict(metrics))  # waits for the step that computes them
            self._values = {name: float(value) for name, value in values.items()}
            for hook in self._readers:
                hook(step, None, self._values)

    def _save(self, step: int, state: TrainState) -> None:
        for flush in self._methods("flush"):
            flush()
        self._saver.save(step, state)

    def _methods(self, name: str) -> list[Callable[[], None]]:
        hooks = (*self._readers, *self._watchers)
        return [getattr(hook, name) for hook in hooks if hasattr(hook, name)]


def standard(
    config: ConfigDict,
    workdir: Path,
    store: Checkpoints,
    method: Any,
    batches: Any,
    step: int,
    evaluation: Evaluation | None = None,
    extra: Iterable[Hook] = (),
) -> Hooks:
    """The hooks that `config.train` asks for, for a run that continues after `step`.

    extra: more watchers. Processes other than 0 save checkpoints and check that numbers are finite;
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
            watchers.append(Figures(config, workdir, writer, method, batches))
        if evaluation:
            watchers.append(Evaluate(config, workdir, store, evaluation, step))
        if every.histograms_every:
            watchers.append(Histograms(workdir, writer, every.histograms_every, step))
        if every.profile_at:
            watchers.append(ProfileSteps(workdir / "profile", every.profile_at))
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


class Progress:
    """A progress bar with the totals, else all losses; with TensorFlow also steps per second."""

    def __init__(self, writer: Any | None, step: int, total: int):
        live = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar = tqdm.tqdm(
            initial=step,
            total=total,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if live else 30.0,  # so that a log file stays short
        )
        self._report = None
        if writer is not None:
            from clu import periodic_actions

            self._report = periodic_actions.ReportProgress(num_train_steps=total, writer=writer)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Advances the bar."""
        totals = {name: value for name, value in metrics.items() if name.endswith("/total")}
        losses = {name: f"{value:.3g}" for name, value in (totals or metrics).items()}
        self._bar.set_postfix(losses, refresh=False)
        self._bar.update(step - self._bar.n)
        if self._report is not None:
            self._report(step)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


class Scalars:
    """JSON lines {"step", terms..., "seconds"}, and scalars for clu's writer, which it closes.

    seconds: training time so far, including that before the run was resumed.
    """

    def __init__(self, path: Path, writer: Any | None, every: int, step: int, total: int):
        self._lines = JsonLines(path, step)
        self._writer, self._every, self._total = writer, every, total
        self._sinks = [self._lines, writer] if writer is not None else [self._lines]
        self._start = time.monotonic() - self._lines.last.get("seconds", 0.0)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Writes when the step is due, and after the last one."""
        if not is_due(step, self._every) and step != self._total:
            return
        seconds = round(time.monotonic() - self._start, 3)
        self._lines.write({"step": step, **metrics, "seconds": seconds})
        if self._writer is not None:
            self._writer.write_scalars(step, dict(metrics))

    def flush(self) -> None:
        """Returns when every line and summary is written; other hooks share the writer."""
        for sink in self._sinks:
            sink.flush()

    def close(self) -> None:
        """Flushes and closes the file and the writer."""
        for sink in self._sinks:
            sink.close()


class Figures:
    """Draws test images as grids: `pictures/NAME_STEP.png`, and image summaries.

    The networks' moving averages are used where there are some; `config.seed` fixes what is random.
    """

    def __init__(
        self, config: ConfigDict, workdir: Path, writer: Any | None, method: Any, batches: Any
    ):
        self._every, self._seed = config.train.pictures_every, config.seed
        self._directory, self._writer = workdir / "pictures", writer
        self._batch = batches.test_batch(ROWS)
        self._panels = jax.jit(method.panels)

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Draws when the step is due, on the first device of this process."""
        if not is_due(step, self._every):
            return
        variables = with_averages(state.variables, state.ema)
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), variables)
        panels = self._panels(variables, self._batch, jax.random.key(self._seed))
        for name, columns in jax.device_get(panels).items():
            image = figures.grid(columns)
            figures.save_image(self._directory / f"{name}_{step:07d}.png", image)
            if self._writer is not None:
                self._writer.write_images(step, {name: np.asarray(image)[None]})


class Histograms:
    """The distribution of every rho in [0, 1]: a line in `rho.jsonl`, and histogram summaries."""

    def __init__(self, workdir: Path, writer: Any | None, every: int, step: int):
        self._lines = JsonLines(workdir / "rho.jsonl", step)
        self._writer, self._every = writer, every

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Writes mean, min and max of each leaf when the step is due."""
        if not is_due(step, self._every):
            return
        rho = {name: v["rho"] for name, v in state.variables.items() if "rho" in v}
        leaves = flatten(jax.device_get(rho))
        if not leaves:
            return
        summary = {
            name: {kind: float(getattr(leaf, kind)()) for kind in ("mean", "min", "max")}
            for name, leaf in leaves.items()
        }
        self._lines.write({"step": step, **summary})
        if self._writer is not None:
            self._writer.write_histograms(step, leaves)

    def flush(self) -> None:
        """Returns when every line is written."""
        self._lines.flush()

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()


class ProfileSteps:
    """Profiles a few steps, once, for TensorBoard or Perfetto."""

    def __init__(self, directory: Path, first: int):
        self._directory, self._first = directory, first
        self._running = False

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Starts and stops the profiler at its steps."""
        if step == self._first:
            profiler.start(os.fspath(self._directory))
            self._running = True
        elif self._running and step == self._first + PROFILED_STEPS:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Writes the profile if the run ends while it is recorded."""
        if self._running:
            self._running = False
            profiler.stop()
