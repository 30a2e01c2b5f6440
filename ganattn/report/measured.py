"""The runs below a folder, and which row of a table each of them is."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ganattn import config as configuration
from ganattn.report.tables import Column, Row, Table, Training
from ganattn.runs.checkpoints import Checkpoints
from ganattn.runs.results import Result, read_results

_log = logging.getLogger(__name__)
DEPTH = 3  # folders below the one that is searched
# What may differ between runs of one row: it changes cost, not what is learned.
FREE = {"method.dtype", "method.remat"}
DATA = ("batch_size", "load_size", "crop_size", "interpolation", "flip", "swap")  # that must agree
Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """A folder with the config and the results of a run. step: of its newest checkpoint, or 0."""

    workdir: Path
    config: Fields
    results: list[Result]
    step: int

    @property
    def data(self) -> str:
        """The path or TFDS name of its data, or "procedural"."""
        data = self.config.get("data", {})
        return "procedural" if data.get("source") == "procedural" else str(data.get("path", ""))

    def has(self, name: str) -> bool:
        """Whether its data are those of a name: the last or the last two parts of their path.

        "data/celeba_hq_128" and celeb_a_hq/128 are the same.
        """
        parts = Path(self.data.removesuffix(".npz")).parts
        return _plain(name) in (_plain("".join(parts[-1:])), _plain("".join(parts[-2:])))

    @property
    def total(self) -> int:
        """How many steps it was to be trained."""
        return int(self.config.get("optimizer", {}).get("total_steps", 0))

    def newest(self, table: Table, row: Row, column: Column) -> Result | None:
        """Its result of the highest step that the cell can be compared with."""
        found = [result for result in self.results if _compares(result, table, row, column)]
        return max(reversed(found), key=lambda result: result["step"], default=None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _compares(result: Result, table: Table, row: Row, column: Column) -> bool:
    wanted = {"metric": column.metric, **column.where}
    if column.direction:
        wanted["direction"] = row.direction(column)
    return (
        result["value"] is not None
        and all(result.get(key) == value for key, value in wanted.items())
        and table.features in str(result.get("features", ""))
    )


def find_runs(folder: Path) -> list[Run]:
    """Every run in or below a folder; one whose config.json is broken is passed over."""
    runs = []
    for workdir in sorted(_workdirs(folder, DEPTH)):
        try:
            config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
            whole = isinstance(config, dict)
        except ValueError:
            whole = False
        if not whole:
            _log.warning("%s is broken and its run passed over", workdir / "config.json")
            continue
        step = Checkpoints(workdir / "checkpoints").latest() or 0
        runs.append(Run(workdir, config, read_results(workdir), step))
    return runs


def _workdirs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file():
        yield folder
    elif depth and folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _workdirs(entry, depth - 1)


def wanted_config(training: Training) -> Fields:
    """The config of a run that is this training, as JSON holds it; raises ConfigError if none."""
    name, _, variant = training.config.partition(":")
    config = configuration.load(configuration.find(name), variant)
    with config.unlocked():
        config.data.swap = training.swap
    return json.loads(json.dumps(configuration.to_dict(config)))


def differences(run: Run, wanted: Fields, data: str) -> list[str]:
    """Fields in which a run is not what a row asks for, [] when it is that row's.

    A field that is newer than the run counts as equal.
    """
    found = []
    for section in ("method", "optimizer", "data"):
        fields = DATA if section == "data" else wanted[section]
        for field in fields:
            ours, name = wanted[section].get(field), f"{section}.{field}"
            theirs = run.config.get(section, {}).get(field, ours)
            if theirs != ours and name not in FREE:
                found.append(f"config.{name} is {theirs}, not {ours}")
    if not run.has(data):
        found.append(f"its data are {run.data}, not {data}")
    return found
