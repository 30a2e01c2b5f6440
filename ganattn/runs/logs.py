"""What a run has written beside its checkpoints, read while it may still be writing."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ganattn.errors import DataError
from ganattn.runs.checkpoints import best_step
from ganattn.runs.results import Result, read_results

Lines = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Logs:
    """losses, rho, scores: lines of metrics.jsonl, rho.jsonl, scores.jsonl, by ascending step.

    results: lines of evaluation.jsonl. pictures: kind -> step -> file; the pictures of the end of
    a run are of the kinds "result_DIRECTION", at step 0. config, versions: {} where there are none.
    parameters: the table of parameters, or "". best: the step of the best checkpoint, or None.
    """

    workdir: Path
    losses: Lines
    rho: Lines
    scores: Lines
    results: Sequence[Result]
    pictures: Mapping[str, Mapping[int, Path]]
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    parameters: str
    best: int | None

    @classmethod
    def read(cls, workdir: Path) -> Self:
        """Reads what is there; raises DataError when config.json or versions.json is broken."""
        parameters = workdir / "parameters.txt"
        return cls(
            workdir,
            _lines(workdir / "metrics.jsonl"),
            _lines(workdir / "rho.jsonl"),
            _lines(workdir / "scores.jsonl"),
            read_results(workdir),
            _pictures(workdir),
            _object(workdir / "config.json"),
            _object(workdir / "versions.json"),
            parameters.read_text(encoding="utf-8") if parameters.is_file() else "",
            best_step(workdir / "checkpoints"),
        )


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """Objects with a step; a line that is none, such as half of one, is passed over."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                found.append(entry)
    return sorted(found, key=lambda entry: entry["step"])


def _object(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}): restore it from a copy") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object: restore it from a copy")
    return content


def _pictures(workdir: Path) -> dict[str, dict[int, Path]]:
    found: dict[str, dict[int, Path]] = {}
    for path in _pngs(workdir / "pictures"):
        if match := re.fullmatch(r"(.+)_(\d+)", path.stem):
            found.setdefault(match[1], {})[int(match[2])] = path
    for path in _pngs(workdir):
        if path.stem.startswith("result_"):
            found[path.stem] = {0: path}
    return found


def _pngs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix == ".png")
    return sorted(found, key=lambda path: path.name)
