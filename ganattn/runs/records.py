"""A run's logs as curves over its steps: for notebooks and scripts."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn.errors import DataError
from ganattn.runs.logs import Logs


class Curve(NamedTuple):
    """A number over the steps of a run: (n,) int64 and (n,) float64."""

    steps: np.ndarray
    values: np.ndarray


class Record:
    """A run's numbers and pictures; files are read when asked for, so it follows a run at work.

    Raises DataError for a folder that holds no run.
    """

    def __init__(self, workdir: str | os.PathLike):
        self.workdir = Path(workdir)
        if not (self.workdir / "config.json").is_file():
            raise DataError(f"no run in {self.workdir}: give the workdir of a `ganattn train`")

    @property
    def logs(self) -> Logs:
        """All that the run has written so far."""
        return Logs.read(self.workdir)

    @property
    def config(self) -> ConfigDict:
        """The run's resolved config."""
        return configuration.from_dict(self.logs.config)

    @property
    def metrics(self) -> dict[str, Curve]:
        """Losses as "group/term", and "seconds" of training so far."""
        return curves(self.logs.losses)

    @property
    def scores(self) -> dict[str, Curve]:
        """Scores against the truth, where the data has one."""
        return curves(self.logs.scores)

    @property
    def rho(self) -> dict[str, Curve]:
        """Mean, min and max of every rho: "generator_a2b/decode1/norm1/rho/mean" and so on."""
        return curves(self.logs.rho)

    @property
    def speed(self) -> Curve:
        """Steps a second, between one line of metrics and the next of the same start."""
        seconds = self.metrics.get("seconds", Curve(np.zeros(0, np.int64), np.zeros(0)))
        taken = np.diff(seconds.values)
        forward = taken > 0
        rates = np.diff(seconds.steps)[forward] / taken[forward]
        return Curve(seconds.steps[1:][forward], rates)

    @property
    def grids(self) -> dict[str, dict[int, Path]]:
        """The pictures that were drawn: name -> step -> file, oldest first."""
        return {
            name: dict(sorted(files.items()))
            for name, files in self.logs.pictures.items()
            if not name.startswith("result_")  # the last step's, drawn once
        }


def curves(lines: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Every number of lines that have a step, by its name; nested names are joined by "/"."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in _numbers(line):
            points.setdefault(name, []).append((line["step"], value))
    return {
        name: Curve(np.array([s for s, _ in pairs]), np.array([v for _, v in pairs], float))
        for name, pairs in points.items()
        if name != "step"
    }


def smooth(curve: Curve, window: int) -> Curve:
    """The mean of each point and up to `window - 1` before it; raises ValueError below 1."""
    if window < 1:
        raise ValueError(f"window is {window}: give at least 1")
    sums = np.cumsum(np.insert(curve.values, 0, 0.0))
    ends = np.arange(1, len(curve.values) + 1)
    starts = np.maximum(ends - window, 0)
    return Curve(curve.steps, (sums[ends] - sums[starts]) / (ends - starts))


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
