"""`evaluation.jsonl`: the results of evaluating a run, one JSON object a line.

Always present: "step", "metric", "value" (null when it is not finite). Where they apply:
"direction" (a2b, b2a), "std", "convention", "features" (their name and the hash of their file),
"samples" (number of images on each side), and other qualifications of the number.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganattn.runs.storage import is_remote, write_atomic

Result = dict[str, Any]
NAME = "evaluation.jsonl"
QUALIFIERS = ("convention", "features", "estimator", "weights", "label_set")
_log = logging.getLogger(__name__)


def read_lines(path: Path, required: Sequence[str] = ("step",)) -> tuple[list[Result], list[int]]:
    """The JSON objects of a file that have the required fields, and the numbers of other lines.

    "step" must be an integer. A killed process leaves half a line.
    """
    lines, skipped = [], []
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        valid = isinstance(entry, dict) and set(required) <= set(entry)
        if valid and isinstance(entry["step"], int):
            lines.append(entry)
        else:
            skipped.append(number)
    return lines, skipped


def read_results(workdir: Path) -> list[Result]:
    """All results of a run in the order in which they were written; [] where there are none.

    Other lines are skipped with a warning.
    """
    lines, skipped = read_lines(workdir / NAME, ("step", "metric", "value"))
    for number in skipped:
        _log.warning("%s: skipping line %d: not a result", workdir / NAME, number)
    return lines


def append_results(workdir: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Appends lines; creates the folder.

    A run in progress keeps appending to a local file; in a bucket, where nothing can be appended,
    its next lines replace these.
    """
    path = workdir / NAME
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = [f"{json.dumps(finite(result), allow_nan=False)}\n" for result in results]
    if before and not before.endswith("\n"):
        lines.insert(0, "\n")  # a killed process has left half a line
    if is_remote(path):
        write_atomic(path, before + "".join(lines))
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def finite(result: Mapping[str, Any]) -> Result:
    """The same result, with None for a value or a deviation that is NaN or infinite."""

    def checked(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: checked(value) for key, value in result.items()}


def summary(step: int, results: Sequence[Result]) -> Result:
    """The results of one step as one object.

    Metric -> mean over directions, None where a value is not finite, and "directions": direction ->
    metric -> value. A metric with several conventions has one entry for each.
    """
    directions: dict[str, dict[str, float | None]] = {}
    for result in map(finite, results):
        values = directions.setdefault(result.get("direction", ""), {})
        metric = result["metric"]
        if metric in values:
            metric = f"{metric} ({result.get('convention', len(values))})"
        values[metric] = result["value"]
    means = {}
    for metric in dict.fromkeys(metric for values in directions.values() for metric in values):
        numbers = [values.get(metric) for values in directions.values()]
        means[metric] = None if None in numbers else math.fsum(numbers) / len(numbers)  # type: ignore[arg-type]
    return {"step": step, **means, "directions": directions}


def key(result: Mapping[str, Any]) -> str:
    """ "metric/direction", or the metric alone where there is no direction."""
    return "/".join(str(result[part]) for part in ("metric", "direction") if result.get(part))


def name(result: Mapping[str, Any]) -> str:
    """The key and the qualifiers: what distinguishes the curves of a run."""
    qualifiers = [str(result[part]) for part in QUALIFIERS if result.get(part)]
    return key(result) + (f" ({', '.join(qualifiers)})" if qualifiers else "")
