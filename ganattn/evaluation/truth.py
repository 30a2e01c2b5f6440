"""Translations of a method scored against a known truth."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ganattn.evaluation.attention import heatmap_iou
from ganattn.evaluation.paired import paired_scores


class Truth:
    """Scores of one method against `truth`; compiled once.

    truth: domain d -> "d", "d_truth", pictures in [-1, 1], and "d_mask", as `paired_scores` takes
    them; methods with attention are also scored by `heatmap_iou`.
    """

    def __init__(self, method: Any, truth: Mapping[str, np.ndarray]):
        self.directions: tuple[str, ...] = method.directions
        self._truth = truth
        self._translate = jax.jit(method.translate, static_argnames="direction")

    def __call__(
        self, variables: Any, direction: str
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """(score name -> value, the columns of a grid that shows what was scored)."""
        source = direction[0]
        pictures, truth, mask = (self._truth[f"{source}{k}"] for k in ("", "_truth", "_mask"))
        made = jax.device_get(self._translate(variables, pictures, direction=direction))
        scores = paired_scores(pictures, made.images, truth, mask)
        attention = {}
        if made.attention is not None:
            scores["attention_iou"] = heatmap_iou(made.attention, mask)
            attention = {"attention": made.attention}
        columns = {"source": pictures, **attention, "translation": made.images, "truth": truth}
        return scores, columns
