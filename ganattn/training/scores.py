"""The hook that scores translations against a known truth, where the data has one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ganattn import figures
from ganattn.evaluation.truth import Truth
from ganattn.runs.storage import write_atomic
from ganattn.runs.workdir import JsonLines

ROWS = 8  # of the grids


class Scores:
    """Lines in `scores.jsonl`; at the last step `result.json` and a grid for each direction.

    truth: as `evaluation.truth.Truth` takes it. result.json holds the mean over directions, and
    each direction's own.
    """

    def __init__(
        self,
        workdir: Path,
        method: Any,
        truth: Mapping[str, np.ndarray],
        *,
        every: int,
        step: int,
        total: int,
    ):
        self._workdir, self._every, self._total = workdir, every, total
        self._truth = Truth(method, truth)
        self._lines = JsonLines(workdir / "scores.jsonl", step)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, Any]) -> None:
        """Scores when the step is due, and at the last one."""
        last = step == self._total
        if not last and (not self._every or step % self._every):
            return
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), state.variables)
        scores = {}
        for direction in self._truth.directions:
            scores[direction], columns = self._truth(variables, direction)
            if last:
                shown = {name: pictures[:ROWS] for name, pictures in columns.items()}
                figures.save_grid(self._workdir / f"result_{direction}.png", shown)
        mean = {k: float(np.mean([s[k] for s in scores.values()])) for k in scores[direction]}
        self._lines.write({"step": step, **mean})
        if last:
            result = {"step": step, **mean, "directions": scores}
            write_atomic(self._workdir / "result.json", json.dumps(result, indent=2) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()
