"""What a run has written beside its checkpoints: for reports, tables, notebooks and scripts."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn.errors import DataError
from ganattn.runs.checkpoints import Checkpoints, best_step
from ganattn.runs.results import Result, name, read_lines, read_results
from ganattn.runs.storage import locate


class Curve(NamedTuple):
    """A number over the steps of a run: (n,) int64 and (n,) float64."""

    steps: np.ndarray
    values: np.ndarray


class Run:
    """The config, numbers and images of a run.

    A file is read when it is first asked for: create another `Run` to see what a run in progress
    has added.
    """

    def __init__(self, workdir: str | os.PathLike):
        self.workdir = locate(workdir)

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """config.json as it is, {} where there is none; raises DataError when it is broken."""
        return _object(self.workdir / "config.json")

    @property
    def config(self) -> ConfigDict:
        """The resolved config; raises DataError for a folder without a run."""
        if not self.fields:
            raise DataError(f"no run in {self.workdir}: give the workdir of a `ganattn train`")
        return configuration.from_dict(self.fields)

    @property
    def total(self) -> int:
        """The number of steps that the run is trained for, 0 where it is unknown."""
        return int(self.fields.get("optimizer", {}).get("total_steps", 0))

    @cached_property
    def step(self) -> int:
        """Step of the newest checkpoint, or 0."""
        return Checkpoints(self.workdir / "checkpoints").latest() or 0

    @cached_property
    def best(self) -> int | None:
        """Step of the best checkpoint, or None."""
        return best_step(self.workdir / "checkpoints")

    @cached_property
    def versions(self) -> Mapping[str, Any]:
        """versions.json, {} where there is none; raises DataError when it is broken."""
        return _object(self.workdir / "versions.json")

    @cached_property
    def parameters(self) -> str:
        """The table of parameters, "" where there is none."""
        path = self.workdir / "parameters.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def metrics(self) -> dict[str, Curve]:
        """Losses as "group/term", and "seconds" of training so far."""
        return _curves(read_lines(self.workdir / "metrics.jsonl")[0])

    @cached_property
    def rho(self) -> dict[str, Curve]:
        """Mean, min and max of every rho: "generator_a2b/decode1/norm1/rho/mean" and so on."""
        return _curves(read_lines(self.workdir / "rho.jsonl")[0])

    @cached_property
    def results(self) -> list[Result]:
        """The results of all evaluations; see `runs.results`."""
        return read_results(self.workdir)

    @cached_property
    def evaluation(self) -> dict[str, Curve]:
        """Each metric by direction and qualifiers, as "kid/a2b (tf, inception 6726825d)"."""
        curves = _curves({"step": r["step"], name(r): r["value"]} for r in self.results)
        return curves or _curves(read_lines(self.workdir / "scores.jsonl")[0])  # of version 0.1

    @property
    def speed(self) -> Curve:
        """Steps a second, between one line of metrics and the next of the same start."""
        seconds = self.metrics.get("seconds", Curve(np.zeros(0, np.int64), np.zeros(0)))
        durations = np.diff(seconds.values)
        forward = durations > 0
        rates = np.diff(seconds.steps)[forward] / durations[forward]
        return Curve(seconds.steps[1:][forward], rates)

    @cached_property
    def grids(self) -> dict[str, dict[int, Path]]:
        """Grids of images drawn during training: name -> step -> file, oldest first."""
        grids: dict[str, dict[int, Path]] = {}
        for path in _images(self.workdir / "pictures"):
            if match := re.fullmatch(r"(.+)_(\d+)", path.stem):
                grids.setdefault(match[1], {})[int(match[2])] = path
        return {name: dict(sorted(files.items())) for name, files in grids.items()}

    @cached_property
    def final_grids(self) -> dict[str, Path]:
        """The grids of the last evaluation: "result_DIRECTION" -> file."""
        return {p.stem: p for p in _images(self.workdir) if p.stem.startswith("result_")}


def smooth(curve: Curve, window: int) -> Curve:
    """The mean of each point and up to `window - 1` before it; raises ValueError below 1."""
    if window < 1:
        raise ValueError(f"window is {window}: give at least 1")
    sums = np.cumsum(np.insert(curve.values, 0, 0.0))
    ends = np.arange(1, len(curve.values) + 1)
    starts = np.maximum(ends - window, 0)
    return Curve(curve.steps, (sums[ends] - sums[starts]) / (ends - starts))


def _curves(lines: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Every number of lines by its name and by ascending step; nested names are joined by "/".

    Of several lines of one step the last one counts.
    """
    points: dict[str, dict[int, float]] = {}
    for line in lines:
        for label, value in _numbers(line):
            if label != "step":
                points.setdefault(label, {})[line["step"]] = value
    return {
        label: Curve(np.array(sorted(values)), np.array([values[s] for s in sorted(values)], float))
        for label, values in points.items()
    }


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for label, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{label}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{label}", float(value)


def _object(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): restore it from a copy") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object: restore it from a copy")
    return content


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    images = (path for path in folder.iterdir() if path.suffix == ".png")
    return sorted(images, key=lambda path: path.name)
