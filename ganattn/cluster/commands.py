"""`ganattn train`: its options and what it starts; loads nothing heavy."""

import argparse

from ml_collections import ConfigDict

from ganattn.errors import ConfigError
from ganattn.runs.arguments import add_step, add_workdir, folder


def add_train(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `train`."""
    add_workdir(parser)
    text = "FILE[:VARIANT], with --config.FIELD=VALUE (default when resuming: the run's own)"
    parser.add_argument("--config", help=text)
    text = "start a new run with the networks of this one (default of --config: its config)"
    parser.add_argument("--from", type=folder, dest="source", metavar="WORKDIR", help=text)
    add_step(parser, "(with --from) ")
    text = "print the resolved config and devices, and exit"
    parser.add_argument("--dry-run", action="store_true", help=text)
    text = (
        "Processes discover each other on TPU pods and under Slurm; elsewhere pass the first three "
        "options."
    )
    add = parser.add_argument_group("several processes", text).add_argument
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    add("--num-processes", type=int, metavar="N", help="number of processes; 1 trains alone")
    add("--process-id", type=int, metavar="I", help="index of this process, from 0")
    add("--local-processes", type=int, default=1, metavar="N", help="start N on this machine")
    text = "restarts allowed after a process dies"
    add("--max-restarts", type=int, default=0, metavar="R", help=text)
    text = "seconds without a sign of life after which a process counts as dead"
    add("--worker-timeout", type=int, default=60, metavar="S", help=text)


def train(options: argparse.Namespace, config: ConfigDict) -> int | None:
    """Trains, or with --dry-run describes what would run; returns the exit code."""
    if options.step is not None and options.source is None:
        raise ConfigError(f"--step is {options.step}: name the run of that checkpoint with --from")
    if options.dry_run:
        from ganattn.training.loop import describe

        print(describe(config))
        return None
    from ganattn.cluster import launcher

    return launcher.run(options, config)
