"""The runs below a folder, and the rows of tables to which they belong."""

import ast
import json
import logging
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ganattn import config as configuration
from ganattn.errors import DataError
from ganattn.report.tables import Column, Table, TableRow, Training
from ganattn.runs.logs import Run
from ganattn.runs.results import Result

_log = logging.getLogger(__name__)
DEPTH = 3  # folders below the one that is searched
# Fields that may differ between runs of one row: they change the cost, not the result.
FREE = {"method.dtype", "method.remat"}
DATA = ("batch_size", "load_size", "crop_size", "interpolation", "flip", "swap")  # that must agree
Fields = Mapping[str, Any]


def data_name(run: Run) -> str:
    """The path or TFDS name of a run's data, or "procedural"."""
    data = run.fields.get("data", {})
    return "procedural" if data.get("source") == "procedural" else str(data.get("path", ""))


def has_data(run: Run, name: str) -> bool:
    """Whether a run's data are those of a name: the last or the last two parts of their path.

    "data/celeba_hq_128" and celeb_a_hq/128 are the same.
    """
    parts = Path(data_name(run).removesuffix(".npz")).parts
    return _plain(name) in (_plain("".join(parts[-1:])), _plain("".join(parts[-2:])))


def newest(run: Run, table: Table, row: TableRow, column: Column) -> Result | None:
    """The result of the highest step that is comparable with a cell.

    Where the cell names no direction, it is the mean over the directions of that step.
    """
    results = [result for result in run.results if _compares(result, table, row, column)]
    last = max((result["step"] for result in results), default=0)
    by_direction = {r.get("direction"): r for r in results if r["step"] == last}
    if not by_direction:
        return None
    result = list(by_direction.values())[-1]
    if len(by_direction) == 1:
        return result
    value = statistics.mean(each["value"] for each in by_direction.values())
    return {**result, "direction": "", "value": value, "std": None}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _compares(result: Result, table: Table, row: TableRow, column: Column) -> bool:
    wanted = {"metric": column.metric, **column.where}
    if column.direction:
        wanted["direction"] = row.direction(column)
    return (
        result["value"] is not None
        and all(result.get(key) == value for key, value in wanted.items())
        and table.features in str(result.get("features", ""))
    )


def find_runs(folder: Path) -> list[Run]:
    """Every run in or below a folder; one with a broken config.json is skipped with a warning."""
    runs = []
    for workdir in sorted(_workdirs(folder, DEPTH)):
        run = Run(workdir)
        try:
            if run.fields:
                runs.append(run)
        except DataError as error:
            _log.warning("skipping a run: %s", error)
    return runs


def _workdirs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file():
        yield folder
    elif depth and folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _workdirs(entry, depth - 1)


def wanted_config(training: Training) -> Fields:
    """The config of a run of this training, as JSON; raises ConfigError where there is none."""
    name, _, variant = training.config.partition(":")
    config = configuration.load(configuration.find(name), variant)
    with config.unlocked():
        config.data.swap = training.swap
        for option in training.options.split():
            field, _, text = option.removeprefix("--config.").partition("=")
            *sections, last = field.split(".")
            node = config
            for section in sections:
                node = node[section]
            node[last] = text if isinstance(node[last], str) else ast.literal_eval(text)
    return json.loads(json.dumps(configuration.to_dict(config)))


def differences(run: Run, wanted: Fields, data: str) -> list[str]:
    """Fields in which a run differs from a row, [] when it belongs to that row.

    A field that the run does not know yet counts as equal.
    """
    lines = []
    for section in ("method", "optimizer", "data"):
        fields = DATA if section == "data" else wanted[section]
        for field in fields:
            ours, name = wanted[section].get(field), f"{section}.{field}"
            theirs = run.fields.get(section, {}).get(field, ours)
            if theirs != ours and name not in FREE:
                lines.append(f"config.{name} is {theirs}, not {ours}")
    if not has_data(run, data):
        lines.append(f"its data are {data_name(run)}, not {data}")
    return lines
