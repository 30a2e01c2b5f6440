"""The papers' tables, and beside each cell what runs of this library have measured.

A table is a TOML file in this folder: its cells are the paper's, to the last digit; its columns say
which result of which data set is compared (what all share is in `defaults`), its rows which config
is to be trained.
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ganattn.errors import ConfigError

FOLDER = Path(__file__).parent / "papers"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a paper's table.

    data: the data set's name. metric, direction, where: what a result must be, where "" and {} ask
    nothing. metric "" is what nobody measures. scale: of measured values. statistic: over
    runs, mean, median or lowest. train, evaluate: further arguments of those
    two commands.
    """

    name: str
    group: str = ""
    data: str = ""
    metric: str = ""
    direction: str = ""
    scale: float = 1.0
    statistic: str = "mean"
    train: str = ""
    evaluate: str = ""
    where: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: cells as they are printed, "" for none. config: FILE:VARIANT, "" is not built here.

    "{data}" in config stands for the column's data set. one_way: the system translates a to b
    alone, so that the other direction is a run with exchanged domains.
    """

    name: str
    cells: Sequence[str]
    config: str = ""
    one_way: bool = False

    def training(self, column: Column) -> "Training | None":
        """What to train for a cell, None where there is nothing to train or to measure."""
        if not (self.config and column.metric):
            return None
        swap = self.one_way and column.direction == "b2a"
        return Training(self.config.format(data=column.data), column.data, column.train, swap)

    def direction(self, column: Column) -> str:
        """Of the results that belong into a cell."""
        return "a2b" if self.one_way and column.direction else column.direction


@dataclasses.dataclass(frozen=True)
class Training:
    """One thing to train: FILE:VARIANT on a data set, perhaps with its domains exchanged.

    options: further arguments of the command, such as where the data are.
    """

    config: str
    data: str
    options: str = ""
    swap: bool = False

    def __str__(self) -> str:
        return self.config + (" with domains exchanged" if self.swap else "")


@dataclasses.dataclass(frozen=True)
class Table:
    """A paper's table; title, source: what it shows and where.

    features: how the hash of the features' file begins that makes values comparable, "" for none.
    """

    title: str
    source: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    features: str = ""
    notes: Sequence[str] = ()

    def groups(self) -> list[str]:
        """The names of the column groups, in order."""
        return list(dict.fromkeys(column.group for column in self.columns))


def names() -> list[str]:
    """The names of all tables."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_table(name: str) -> Table:
    """Reads a table; raises ConfigError for a name that is not known."""
    if name not in names():
        raise ConfigError(f"no table {name!r}: use one of {', '.join(names())}")
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    defaults = content.pop("defaults")
    columns = [Column(**{**defaults, **column}) for column in content.pop("columns")]
    rows = [Row(**row) for row in content.pop("rows")]
    return Table(columns=columns, rows=rows, **content)
