"""The papers' tables, with the configs and results that belong to each cell.

A table is a TOML file in `papers`: its cells are the paper's, to the last digit; its columns say
which result on which data set is compared (shared fields are in `defaults`), its rows which config
to train.
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

    data: name of the data set. metric, direction, where: fields of a comparable result; without a
    direction it is the mean over directions; a column without a metric is not measured. scale:
    factor of measured values. statistic: over runs: mean, median or lowest. train, evaluate:
    further arguments of those two commands; a run belongs to the row only with those of train.
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
class TableRow:
    """One row: cells as printed, "" for none. config: FILE:VARIANT, "" is not trained here.

    "{data}" in config stands for the data set of the column. one_way: the system translates a to b
    only, so that the other direction is a run with exchanged domains. train: further arguments of
    that command. lacks: metrics that the system does not have. columns: names of the columns that
    it has; () for all. source: FILE:VARIANT of the run whose networks this one starts with, "" for
    none.
    """

    name: str
    cells: Sequence[str]
    config: str = ""
    one_way: bool = False
    train: str = ""
    lacks: Sequence[str] = ()
    columns: Sequence[str] = ()
    source: str = ""

    def training(self, column: Column) -> "Training | None":
        """The training of a cell, None where there is nothing to train or to measure."""
        if not (self.config and column.metric) or column.metric in self.lacks:
            return None
        if self.columns and column.name not in self.columns:
            return None
        swap = self.one_way and column.direction == "b2a"
        options = " ".join(filter(None, (column.train, self.train)))
        source, common = None, (column.data, options, swap)
        if self.source:
            source = Training(self.source.format(data=column.data), *common)
        return Training(self.config.format(data=column.data), *common, source)

    def direction(self, column: Column) -> str:
        """The direction of the results of a cell."""
        return "a2b" if self.one_way and column.direction else column.direction


@dataclasses.dataclass(frozen=True)
class Training:
    """FILE:VARIANT on a data set, optionally with exchanged domains.

    options: further arguments of the command, such as the path of the data. source: the training
    whose networks this one starts with, None for none.
    """

    config: str
    data: str
    options: str = ""
    swap: bool = False
    source: "Training | None" = None

    def __str__(self) -> str:
        return self.config + (" with domains exchanged" if self.swap else "")


@dataclasses.dataclass(frozen=True)
class Table:
    """A paper's table; title, source: what it shows and its place.

    features: first characters of the hash of the features' file, "" where any are comparable.
    """

    title: str
    source: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    features: str = ""
    notes: Sequence[str] = ()

    def groups(self) -> list[str]:
        """The names of the column groups, in order."""
        return list(dict.fromkeys(column.group for column in self.columns))


def names() -> list[str]:
    """The names of all tables."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_table(name: str) -> Table:
    """Reads a table; raises ConfigError for an unknown name."""
    if name not in names():
        raise ConfigError(f"no table {name!r}: use one of {', '.join(names())}")
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    defaults = content.pop("defaults")
    columns = [Column(**{**defaults, **column}) for column in content.pop("columns")]
    rows = [TableRow(**row) for row in content.pop("rows")]
    return Table(columns=columns, rows=rows, **content)
