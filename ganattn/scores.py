"""The hook that scores translations against a known truth, where the data has one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ganattn import figures
from ganattn.evaluation.attention import heatmap_iou
from ganattn.evaluation.paired import paired_scores
from ganattn.storage import write_whole
from ganattn.workdir import JsonLines

ROWS = 8  # of the grids


class Scores:
    """Lines in `scores.jsonl`; at the last step `result.json` and a grid for each direction.

    truth: domain d -> "d", "d_truth", pictures in [-1, 1], and "d_mask", as
    `evaluation.paired.paired_scores` takes them; methods with attention are also scored by
    `evaluation.attention.heatmap_iou`. result.json holds the mean over directions, and
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
        self._workdir, self._truth, self._every, self._total = workdir, truth, every, total
        self._directions = method.directions
        self._translate = jax.jit(method.translate, static_argnames="direction")
        self._lines = JsonLines(workdir / "scores.jsonl", step)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, Any]) -> None:
        """Scores when the step is due, and at the last one."""
        last = step == self._total
        if not last and (not self._every or step % self._every):
            return
        variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), state.variables)
        scores = {}
        for direction in self._directions:
            source = direction[0]
            pictures, truth, mask = (self._truth[f"{source}{k}"] for k in ("", "_truth", "_mask"))
            made = jax.device_get(self._translate(variables, pictures, direction=direction))
            scores[direction] = paired_scores(pictures, made.images, truth, mask)
            if made.attention is not None:
                scores[direction]["attention_iou"] = heatmap_iou(made.attention, mask)
            if last:
                attention = {} if made.attention is None else {"attention": made.attention}
                columns = {"source": pictures, **attention, "translation": made.images}
                shown = {k: v[:ROWS] for k, v in {**columns, "truth": truth}.items()}
                figures.save_grid(self._workdir / f"result_{direction}.png", shown)
        mean = {k: float(np.mean([s[k] for s in scores.values()])) for k in scores[direction]}
        self._lines.write({"step": step, **mean})
        if last:
            result = {"step": step, **mean, "directions": scores}
            write_whole(self._workdir / "result.json", json.dumps(result, indent=2) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()
