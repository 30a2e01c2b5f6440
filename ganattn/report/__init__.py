"""A run as one HTML page: curves, bars, pictures and config, with nothing left outside it."""

import os
from pathlib import Path

from ganattn.errors import ConfigError, DataError
from ganattn.report import charts, page
from ganattn.runs.logs import Logs
from ganattn.runs.storage import locate, write_atomic

__all__ = ["write_report"]


def write_report(
    workdir: str | os.PathLike, output: str | os.PathLike | None = None, pictures: int = 6
) -> Path:
    """Writes `index.html` and the charts as PNG into `output`; returns the page's path.

    output: a folder, WORKDIR/report unless named. pictures: how many grids of each kind are shown,
    spread over the run, the newest included. Only logs are read: the run may go on meanwhile.
    Raises DataError when `workdir` holds no logs, ConfigError when matplotlib is missing.
    """
    workdir = locate(workdir)
    if pictures < 1:
        raise ConfigError(f"{pictures} pictures of a kind are asked for: show at least 1")
    logs = Logs.read(workdir)
    if not (logs.losses or logs.results or logs.scores or logs.pictures):
        raise DataError(f"no logs of a run in {workdir}: name the workdir of ganattn train")
    folder = workdir / "report" if output is None else locate(output)
    drawn = charts.draw(logs)
    for name, png in drawn.items():
        write_atomic(folder / f"{name}.png", png)
    path = folder / "index.html"
    write_atomic(path, page.render(logs, drawn, pictures))
    return path
