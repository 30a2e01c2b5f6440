"""A run as one self-contained HTML page: curves, bars, grids of images and config."""

import os
from pathlib import Path

from ganattn.errors import ConfigError, DataError
from ganattn.runs.storage import locate, write_atomic

__all__ = ["write_report"]


def write_report(
    workdir: str | os.PathLike, output: str | os.PathLike | None = None, grids: int = 6
) -> Path:
    """Writes `index.html` and the charts as PNG into `output`; returns the path of the page.

    output: a folder (default: WORKDIR/report). grids: number of grids of each kind, spread over
    the run, the newest included. Only logs are read, also those of a run in progress.
    Raises DataError when `workdir` holds no logs, ConfigError when matplotlib is missing.
    """
    from ganattn.report import charts, page  # here, so that the command line starts fast
    from ganattn.runs.logs import Run

    workdir = locate(workdir)
    if grids < 1:
        raise ConfigError(f"the number of grids is {grids}: show at least 1")
    run = Run(workdir)
    if not (run.metrics or run.evaluation or run.results or run.grids or run.final_grids):
        raise DataError(f"no logs of a run in {workdir}: name the workdir of ganattn train")
    folder = workdir / "report" if output is None else locate(output)
    drawn = charts.draw(run)
    text = page.render(run, drawn, grids)
    for name, png in drawn.items():
        write_atomic(folder / f"{name}.png", png)
    write_atomic(folder / "index.html", text)
    return folder / "index.html"
