"""Starts `ganattn train`: alone, under a supervisor, or as one process of several."""

import argparse
import glob
import importlib.util
import os
import socket
import sys
from collections.abc import Mapping

from ml_collections import ConfigDict

from ganattn.cluster import supervisor
from ganattn.errors import ConfigError

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")


def run(options: argparse.Namespace, config: ConfigDict) -> int:
    """Trains, here or in processes of their own; returns the exit code.

    options: of `ganattn train`. Raises ConfigError for flags that contradict each other.
    """
    check(options)
    several = options.coordinator is not None or (options.num_processes is None and in_cluster())
    if supervisor.LINK in os.environ:
        from ganattn.cluster import worker

        worker.run(options, config, several)
    if several or options.local_processes > 1 or options.max_restarts:
        return supervisor.supervise(
            lambda: commands(options), options.max_restarts, options.worker_timeout
        )
    from ganattn.training.loop import train

    result = train(config, options.workdir, source=options.source, source_step=options.step)
    print(result.message)
    return 0


def in_cluster(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of several tasks under Slurm or on TPU hosts, which JAX detects.

    Reads the environment and looks for device files; starts no backend.
    """
    if all(name in environment for name in _SLURM):
        return int(environment.get("SLURM_NTASKS", "1")) > 1
    if environment.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return False
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if workers:
        return "," in workers or int(environment.get("MEGASCALE_NUM_SLICES", "1")) > 1
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    asks_metadata = "TPU_SKIP_MDS_QUERY" not in environment
    return bool(chips) and asks_metadata and importlib.util.find_spec("libtpu") is not None


def check(options: argparse.Namespace) -> None:
    """Raises ConfigError for flags that are out of range or incomplete."""
    for name, least in (("local_processes", 1), ("max_restarts", 0), ("worker_timeout", 1)):
        if getattr(options, name) < least:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is {getattr(options, name)}: set it to {least} or more")
    flags = [options.coordinator, options.num_processes, options.process_id]
    alone = flags == [None, 1, None]
    if not alone and None in flags and flags != [None] * 3:
        raise ConfigError("--coordinator, --num-processes and --process-id go together: pass all")
    if options.coordinator is None:
        return
    host, _, port = options.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--coordinator is {options.coordinator}: use HOST:PORT")
    if not 0 <= options.process_id < options.num_processes:
        raise ConfigError(
            f"--process-id is {options.process_id} of {options.num_processes} processes: "
            "they are numbered from 0"
        )
    if options.local_processes > 1 and options.num_processes != options.local_processes:
        raise ConfigError("--local-processes starts all on one machine: omit --coordinator")


def commands(options: argparse.Namespace) -> list[list[str]]:
    """The command of each training process on this machine."""
    command = [sys.executable, "-m", "ganattn.cli", *options.arguments]
    count = options.local_processes
    if count == 1 or options.coordinator is not None:
        return [command]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    shared = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    return [[*command, *shared, "--process-id", str(i)] for i in range(count)]
