"""`ganattn report` and `ganattn table`: their options and what they print; loads nothing heavy."""

import argparse
from pathlib import Path

from ganattn.runs.arguments import add_workdir


def add_report(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `report`."""
    add_workdir(parser)
    text = "folder of the page (default: WORKDIR/report)"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=text)
    text = "image grids of each kind, spread over the run (default: %(default)s)"
    parser.add_argument("--grids", type=int, default=6, metavar="N", help=text)


def report(options: argparse.Namespace) -> None:
    """Writes the page and prints its path."""
    from ganattn.report import write_report

    print(write_report(options.workdir, options.output, options.grids))


def add_table(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `table`."""
    parser.add_argument("table", metavar="TABLE", help="such as ugatit-1, spap-1 or guidance-1")
    text = "folder that holds the workdirs (default: %(default)s)"
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help=text)


def table(options: argparse.Namespace) -> None:
    """Prints the table."""
    from ganattn.report.comparison import compare
    from ganattn.report.tables import read_table

    print(compare(read_table(options.table), options.runs))
