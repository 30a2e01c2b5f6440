"""`ganattn report` and `ganattn table`: their options and what they print; loads nothing heavy."""

import argparse
from pathlib import Path

from ganattn.runs.arguments import add_workdir


def add_report(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `report`."""
    add_workdir(parser)
    parser.add_argument("--output", type=Path, help="folder of the page (default: WORKDIR/report)")
    parser.add_argument(
        "--pictures", type=int, default=6, help="image grids of each kind, spread over the run"
    )


def report(options: argparse.Namespace) -> None:
    """Writes the page and prints its path."""
    from ganattn.report import write_report

    print(write_report(options.workdir, options.output, options.pictures))


def add_table(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `table`."""
    parser.add_argument("table", metavar="TABLE", help="such as ugatit-1, spap-1 or guidance-1")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder that holds the workdirs"
    )


def table(options: argparse.Namespace) -> None:
    """Prints the table."""
    from ganattn.report.comparison import compare
    from ganattn.report.tables import read_table

    print(compare(read_table(options.table), options.runs))
