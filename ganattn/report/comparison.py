"""A paper's table as text beside the values of runs, and the commands that are left to run."""

import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ganattn.report.matching import (
    Fields,
    differences,
    find_runs,
    has_data,
    newest,
    wanted_config,
)
from ganattn.report.tables import Column, Table, TableRow, Training
from ganattn.runs.logs import Run
from ganattn.runs.results import QUALIFIERS, Result

MISSING, ELSEWHERE = "-", ""
NAMED = 3  # differing fields that are named of a run close to a row
STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.mean,
    "median": statistics.median,
    "lowest": min,
}
Matches = Mapping[Training, Sequence[Run]]


def compare(table: Table, folder: Path) -> str:
    """The table with the results of the runs below `folder`, and commands for missing ones.

    A cell without a result is "-", one of a system that is not trained here is blank. Raises
    ConfigError for a table whose configs are missing.
    """
    runs, wanted = find_runs(folder), _wanted(table)
    matched = {
        training: [run for run in runs if not differences(run, config, training.data)]
        for training, config in wanted.items()
    }
    lines = [f"{table.source}: {table.title}", ""]
    for group in table.groups():
        lines += [*_group(table, group, matched), ""]
    lines += table.notes
    lines.append(
        f"Measured by {len(runs)} runs in {folder}; {MISSING} is not measured, blank is not "
        "trained here."
    )
    lines += _qualifiers(table, matched)
    lines += _close(runs, wanted, matched)
    commands = _commands(table, matched, folder)
    lines += ["", "To measure what is missing:", *commands] if commands else []
    return "\n".join(lines)


def _wanted(table: Table) -> dict[Training, Fields]:
    cells = [row.training(column) for row in table.rows for column in table.columns]
    trainings = [each for cell in cells if cell for each in (cell.source, cell) if each]
    return {training: wanted_config(training) for training in trainings}


def _group(table: Table, group: str, matched: Matches) -> list[str]:
    """The lines of the columns of one group."""
    columns = [(i, column) for i, column in enumerate(table.columns) if column.group == group]
    lines = [[group or "Model"]]
    for _, column in columns:
        lines[0] += [column.name, "measured"] if column.metric else [column.name]
    for row in table.rows:
        line = [row.name]
        for i, column in columns:
            line.append(row.cells[i])
            if column.metric:
                line.append(_value(table, row, column, matched))
        if any(line[1:]):
            lines.append(line)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [
        f"| {' | '.join(cell.ljust(n) for cell, n in zip(line, widths, strict=True))} |"
        for line in lines
    ]


def _value(table: Table, row: TableRow, column: Column, matched: Matches) -> str:
    training = row.training(column)
    if training is None:
        return ELSEWHERE
    results = _results(table, row, column, matched)
    if not results:
        return MISSING
    digits = _digits(table, column)
    values = [column.scale * result["value"] for _, result in results]
    text = f"{STATISTICS[column.statistic](values):.{digits}f}"
    if len(results) > 1:
        spread = f" ± {statistics.stdev(values):.{digits}f}" if column.statistic == "mean" else ""
        text += f"{spread} ({len(results)} runs)"
    elif results[0][1].get("std") is not None:
        text += f" ± {column.scale * results[0][1]['std']:.{digits}f}"
    steps, run = min(((result["step"], run) for run, result in results), key=lambda each: each[0])
    return text if steps >= run.total else f"{text} at step {steps:,} of {run.total:,}"


def _results(
    table: Table, row: TableRow, column: Column, matched: Matches
) -> list[tuple[Run, Result]]:
    """The runs of a cell that have a result, and that result."""
    runs = matched.get(row.training(column), ())  # type: ignore[arg-type]
    pairs = [(run, newest(run, table, row, column)) for run in runs]
    return [(run, result) for run, result in pairs if result is not None]


def _qualifiers(table: Table, matched: Matches) -> list[str]:
    """A line for each way in which the values were measured."""
    names = (*QUALIFIERS, "samples")
    lines = [
        "; ".join(f"{name} {result[name]}" for name in names if result.get(name) is not None)
        for row in table.rows
        for column in table.columns
        for _, result in _results(table, row, column, matched)
    ]
    return [f"Measured with {line}." for line in dict.fromkeys(lines) if line]


def _digits(table: Table, column: Column) -> int:
    """The largest number of digits that the paper prints."""
    cells = [row.cells[list(table.columns).index(column)] for row in table.rows]
    return max(len(cell.split(" ")[0].partition(".")[2]) for cell in cells)


def _close(runs: Sequence[Run], wanted: Mapping[Training, Fields], matched: Matches) -> list[str]:
    """Why a run of a row's method and data does not belong to it, one line a run."""
    lines = []
    used = {run.workdir for group in matched.values() for run in group}
    for run in runs:
        name = run.fields.get("method", {}).get("name")
        candidates = [
            (differences(run, config, training.data), training)
            for training, config in wanted.items()
            if config["method"]["name"] == name and has_data(run, training.data)
        ]
        if candidates and run.workdir not in used:
            fields, training = min(candidates, key=lambda each: len(each[0]))
            more = "; ..." if len(fields) > NAMED else ""
            lines.append(f"{run.workdir} is not {training}: {'; '.join(fields[:NAMED])}{more}")
    return lines


def _commands(table: Table, matched: Matches, folder: Path) -> list[str]:
    """The commands for missing cells, each once."""
    missing: dict[Training, dict[str, set[str]]] = {}  # arguments -> directions
    for row in table.rows:
        for column in table.columns:
            training = row.training(column)
            if training and not _results(table, row, column, matched):
                directions = missing.setdefault(training, {}).setdefault(column.evaluate, set())
                directions.add(row.direction(column))
    known = {column.direction for column in table.columns if column.metric}
    commands = []
    for training, wanted in missing.items():
        workdir, train = _train(training, matched, folder)
        commands += train
        for arguments, directions in wanted.items():
            only = sorted(directions) if len(directions) < len(known) else [""]
            commands += [
                f"ganattn evaluate --workdir {_quoted(workdir)} {arguments}"
                + (f" --direction {direction}" if direction else "")
                for direction in only
            ]
    return commands


def _train(training: Training, matched: Matches, folder: Path) -> tuple[Path, list[str]]:
    """The workdir to evaluate, and the commands that start or resume its training, if any."""
    if runs := matched[training]:
        run = max(runs, key=lambda each: each.step)
        resume = [f"ganattn train --workdir {_quoted(run.workdir)}"]
        return run.workdir, resume if run.step < run.total else []
    name, _, variant = training.config.partition(":")
    words = [name, *filter(None, variant.split(",")), *(["swapped"] if training.swap else [])]
    workdir = _free(folder / "_".join(words))
    config = f"configs/{name}.py" + (f":{variant}" if variant else "")
    words = [f"ganattn train --config {config} --workdir {_quoted(workdir)}"]
    commands: list[str] = []
    if training.source:
        source, commands = _train(training.source, matched, folder)
        words.append(f"--from {_quoted(source)}")
    words.append(training.options)
    if training.swap:
        words.append("--config.data.swap=True")
    return workdir, [*commands, " ".join(filter(None, words))]


def _free(folder: Path) -> Path:
    """A folder that does not exist yet."""
    number, free = 2, folder
    while free.exists():
        number, free = number + 1, folder.with_name(f"{folder.name}_{number}")
    return free


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
