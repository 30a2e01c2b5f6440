"""Evaluation during training, and the best checkpoint."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.evaluation import metrics as registry
from ganattn.evaluation.evaluate import evaluate_run
from ganattn.evaluation.features import load_features
from ganattn.evaluation.settings import CONVENTIONS, Settings, cache_folder
from ganattn.evaluation.snapshots import Snapshot
from ganattn.inference.model import Model
from ganattn.runs import results
from ganattn.runs.checkpoints import Checkpoints
from ganattn.runs.storage import write_atomic
from ganattn.runs.workdir import JsonLines
from ganattn.state import with_averages

_log = logging.getLogger(__name__)
# Of a method's variables and a step; the folder for grids of examples, or None.
Evaluation = Callable[[Mapping[str, Any], int, Path | None], list[results.Result]]


def create_evaluation(config: Any, method: Any, batches: Any) -> Evaluation | None:
    """The evaluation that `config.evaluation` describes, None without one; compiles nothing yet.

    Without `metrics` it is `metrics.default_metrics`. Features of real images are cached as by
    `ganattn evaluate`. Raises ConfigError when its fields do not fit each other, the data, or the
    checkpoints, and what loading features raises.
    """
    fields = config.get("evaluation")
    if not fields or not fields.every:
        return None
    check(config, "evaluation.every", least=0)
    check(config, "evaluation.better", choices=("lower", "higher"))
    check(config, "evaluation.convention", choices=CONVENTIONS)
    often = config.train.checkpoint_every
    if fields.best and (often <= 0 or fields.every % often):
        raise ConfigError(
            f"config.evaluation.every is {fields.every}, not a multiple of "
            f"config.train.checkpoint_every, {often}: only a step with a checkpoint can be the "
            "best, so set it to a multiple"
        )
    snapshot = Snapshot(Model(method, {}, config), batches)
    examples = [snapshot.examples(direction) for direction in method.directions]
    # Configs of runs before version 0.2 call the field `measures`.
    names = tuple(fields.get("metrics") or fields.get("measures") or ())
    names = names or registry.default_metrics(examples[0])
    registry.check_names(names, "config.evaluation.metrics")
    settings = Settings(cache=cache_folder())
    if set(names) & set(registry.FEATURES):
        features = load_features(fields.features or None, fields.convention)
        settings = dataclasses.replace(settings, features=features)
    for each in examples:
        registry.create(names, each, settings)

    def evaluate(variables, step, grids):
        model = snapshot.model.with_variables(variables, step)
        return evaluate_run(
            dataclasses.replace(snapshot, model=model), names, settings, grids=grids
        )

    return evaluate


class Evaluate:
    """Lines in `evaluation.jsonl` every so many steps and at the last one; for process 0 alone.

    The last step also leaves a summary in `result.json`, and a grid of examples for each direction.
    A checkpoint is best by the mean, over directions, of the metric that `config.evaluation.best`
    names; when a run resumes, the lines tell which one was.
    """

    def __init__(
        self, config: Any, workdir: Path, store: Checkpoints, evaluation: Evaluation, step: int
    ):
        fields = config.evaluation
        self._every, self._total = fields.every, config.optimizer.total_steps
        self._best, self._sign = fields.best, 1 if fields.better == "lower" else -1
        self._workdir, self._store, self._evaluation = workdir, store, evaluation
        self._lines = JsonLines(workdir / results.NAME, step)
        self._least = self._resume(results.read_results(workdir)) if self._best else np.inf

    def __call__(self, step: int, state: Any, metrics: Mapping[str, Any]) -> None:
        """Evaluates when the step is due; its checkpoint is being written, the last one soon."""
        last = step == self._total
        if step % self._every and not last:
            return
        # On this process's devices alone: nothing here waits for another process.
        averaged = with_averages(state.variables, state.ema)
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), averaged)
        lines = self._evaluation(variables, step, self._workdir if last else None)
        for line in lines:
            self._lines.write(results.finite(line))
        if last:
            text = json.dumps(results.summary(step, lines), indent=2)
            write_atomic(self._workdir / "result.json", f"{text}\n")
        if self._best:
            self._compare(step, lines)

    def flush(self) -> None:
        """Writes the lines to storage."""
        self._lines.flush()

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def _compare(self, step: int, lines: Sequence[results.Result]) -> None:
        value = self._value(lines)
        if value is None:
            names = ", ".join(sorted({results.key(line) for line in lines}))
            message = "no finite %s at step %d, which config.evaluation.best names: there are %s"
            _log.warning(message, self._best, step, names)
        elif self._sign * value < self._least:
            self._least = self._sign * value
            self._store.keep_best(step)
            _log.info("step %d is the best so far: %s is %.4g", step, self._best, value)

    def _value(self, lines: Sequence[results.Result]) -> float | None:
        values = [r["value"] for r in lines if self._best in (r["metric"], results.key(r))]
        valid = bool(values) and all(v is not None and np.isfinite(v) for v in values)
        return float(np.mean(values)) if valid else None

    def _resume(self, lines: Sequence[results.Result]) -> float:
        """The best value so far (times the sign) among steps whose checkpoint still exists."""
        existing = {*self._store.steps(), self._store.best()}
        steps = {line["step"] for line in lines} & existing
        values = {s: self._value([r for r in lines if r["step"] == s]) for s in steps}
        least = {s: self._sign * value for s, value in values.items() if value is not None}
        if not least:
            return np.inf
        best = min(least, key=lambda s: (least[s], s))
        self._store.keep_best(best)
        return least[best]
