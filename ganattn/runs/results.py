"""`evaluation.jsonl`: what was measured of a run, one JSON object a line.

Always there: "step", "metric", "value" (null when it was not finite). Where it applies: "direction"
(a2b, b2a), "std", "convention", "features" (what they are, with the hash of their file), "samples"
(how many pictures on each side), and whatever else a metric has to say.
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
TOLD = ("convention", "features", "estimator", "weights", "label_set")  # ways of measuring
_log = logging.getLogger(__name__)


def read_results(workdir: Path) -> list[Result]:
    """All results of a run in the order in which they were made; [] where there are none.

    Lines that are no such result, such as the half line that a killed process leaves, are passed
    over with a warning.
    """
    path = workdir / NAME
    if not path.is_file():
        return []
    results = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            result = json.loads(line)
            whole = {"step", "metric", "value"} <= set(result) and isinstance(result["step"], int)
        except (ValueError, TypeError):
            whole = False
        if whole:
            results.append(result)
        else:
            _log.warning("line %d of %s is no result and is passed over", number, path)
    return results


def append_results(workdir: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Adds lines at the end; makes the folder.

    A training that still runs goes on adding its own to a local file; in a bucket, where nothing
    can be appended, its next lines replace these.
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
    """The same, with None for a value or a deviation that is NaN or infinite."""

    def checked(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: checked(value) for key, value in result.items()}


def key(result: Mapping[str, Any]) -> str:
    """ "metric/direction", or the metric alone where there is no direction."""
    return "/".join(str(result[part]) for part in ("metric", "direction") if result.get(part))


def name(result: Mapping[str, Any]) -> str:
    """What tells the curves of a run apart: the key, and how it was measured."""
    told = [str(result[part]) for part in TOLD if result.get(part)]
    return key(result) + (f" ({', '.join(told)})" if told else "")
