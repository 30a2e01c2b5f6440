"""The hook that measures a run while it trains, and keeps its best checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ganattn.errors import ConfigError
from ganattn.evaluation import measures
from ganattn.runs import results
from ganattn.runs.checkpoints import Checkpoints
from ganattn.runs.workdir import JsonLines
from ganattn.state import with_averages

_log = logging.getLogger(__name__)


def create_measures(config: Any, method: Any, batches: Any) -> list[measures.Measure]:
    """What `config.evaluation` asks for, [] where it asks for nothing; compiles nothing yet.

    Raises ConfigError when its fields do not fit each other, the data, or the checkpoints.
    """
    fields = config.get("evaluation")
    if not fields or not fields.every:
        return []
    if fields.every < 0:
        raise ConfigError(f"config.evaluation.every is {fields.every}: use a number of steps, or 0")
    if fields.better not in ("lower", "higher"):
        raise ConfigError(f"config.evaluation.better is {fields.better!r}: use lower or higher")
    often = config.train.checkpoint_every
    if fields.best and (often <= 0 or fields.every % often):
        raise ConfigError(
            f"config.evaluation.every is {fields.every}, no multiple of "
            f"config.train.checkpoint_every, {often}: the best of the checkpoints is kept, "
            "so evaluate where there is one"
        )
    return measures.create(config, method, batches)


class Evaluate:
    """Lines in `evaluation.jsonl` every so many steps and at the last one; for process 0 alone.

    A checkpoint is best by the mean, over directions, of the metric that `config.evaluation.best`
    names. The lines say which was best so far when a run resumes.
    """

    def __init__(
        self,
        config: Any,
        workdir: Path,
        store: Checkpoints,
        wanted: Sequence[measures.Measure],
        step: int,
    ):
        fields = config.evaluation
        self._every, self._total = fields.every, config.optimizer.total_steps
        self._best, self._sign = fields.best, 1 if fields.better == "lower" else -1
        self._store, self._measures = store, wanted
        self._lines = JsonLines(workdir / results.NAME, step)
        self._least = self._resume(results.read_results(workdir)) if self._best else np.inf

    def __call__(self, step: int, state: Any, metrics: Mapping[str, Any]) -> None:
        """Measures when the step is due; its checkpoint is being written, the last one soon."""
        if step % self._every and step != self._total:
            return
        # On the first device alone: nothing here waits for another process.
        averaged = with_averages(state.variables, state.ema)
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), averaged)
        found = [result for measure in self._measures for result in measure(variables, step)]
        for result in found:
            self._lines.write(results.finite(result))
        if not self._best:
            return
        value = self._value(found)
        if value is None:
            names = sorted({results.key(result) for result in found})
            _log.warning(
                "no finite %s at step %d, which config.evaluation.best names: there are %s",
                self._best, step, ", ".join(names),
            )  # fmt: skip
        elif self._sign * value < self._least:
            self._least = self._sign * value
            self._store.keep_best(step)
            _log.info("step %d is the best so far: %s is %.4g", step, self._best, value)

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def _value(self, found: Sequence[results.Result]) -> float | None:
        chosen = [r["value"] for r in found if self._best in (r["metric"], results.key(r))]
        whole = bool(chosen) and all(v is not None and np.isfinite(v) for v in chosen)
        return float(np.mean(chosen)) if whole else None

    def _resume(self, found: Sequence[results.Result]) -> float:
        """The best value so far (times the sign) of those whose checkpoint is still there."""
        there = {*self._store.steps(), self._store.best()}
        steps = {result["step"] for result in found} & there
        values = {s: self._value([r for r in found if r["step"] == s]) for s in steps}
        least = {s: self._sign * value for s, value in values.items() if value is not None}
        if not least:
            return np.inf
        best = min(least, key=lambda s: (least[s], s))
        self._store.keep_best(best)
        return least[best]
