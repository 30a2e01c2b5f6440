"""How `ganattn train` begins: alone, under a supervisor, or as one process of several."""

import argparse
import glob
import importlib.util
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

from ml_collections import ConfigDict

from ganattn.cluster import supervisor
from ganattn.errors import ConfigError, explain

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")


def run(options: argparse.Namespace, config: ConfigDict) -> int:
    """Trains, here or in processes of their own; returns the exit code.

    options: of `ganattn train`. Raises ConfigError for flags that contradict each other.
    """
    check(options)
    if supervisor.LINK in os.environ:
        _train_supervised(options, config)
    several = options.coordinator is not None or options.local_processes > 1
    if several or _is_task(options) or options.max_restarts:
        again = partial(commands, options)
        return supervisor.supervise(again, options.max_restarts, options.worker_timeout)
    from ganattn.training.loop import train

    print(train(config, options.workdir).message)
    return 0


def _is_task(options: argparse.Namespace) -> bool:
    return options.num_processes is None and in_cluster()


def in_cluster(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a task of several in Slurm, or on a TPU machine: JAX knows the others there.

    Looks at the environment and at devices' files alone; starts no backend.
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
    """Raises ConfigError for flags out of range, or of which only some are given."""
    for name, least in (("local_processes", 1), ("max_restarts", 0), ("worker_timeout", 1)):
        if getattr(options, name) < least:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is {getattr(options, name)}: set it to {least} or more")
    given = [options.coordinator, options.num_processes, options.process_id]
    alone = given == [None, 1, None]
    if not alone and None in given and given != [None] * 3:
        raise ConfigError("--coordinator, --num-processes and --process-id go together: give all")
    if options.coordinator is None:
        return
    host, _, port = options.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--coordinator is {options.coordinator}: write HOST:PORT")
    if not 0 <= options.process_id < options.num_processes:
        raise ConfigError(
            f"--process-id is {options.process_id} of {options.num_processes} processes: "
            "they count from 0"
        )
    if options.local_processes > 1 and options.num_processes != options.local_processes:
        raise ConfigError("--local-processes starts all on one machine: leave out --coordinator")


def commands(options: argparse.Namespace) -> list[list[str]]:
    """The command of each training process on this machine."""
    command = [sys.executable, "-m", "ganattn.cli", *options.arguments]
    count = options.local_processes
    if count == 1 or options.coordinator is not None:
        return [command]
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    shared = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    return [[*command, *shared, "--process-id", str(i)] for i in range(count)]


def _train_supervised(options: argparse.Namespace, config: ConfigDict) -> NoReturn:
    """Trains in this process and leaves it, without the runtime's wait for others that failed."""
    import jax

    from ganattn import processes

    link = processes.Link.from_environment()
    assert link is not None
    try:
        if options.coordinator is not None or _is_task(options):
            processes.join(
                options.coordinator,
                options.num_processes,
                options.process_id,
                options.worker_timeout,
            )
        from ganattn.training.loop import train

        if jax.process_index() > 0:
            logging.getLogger("ganattn").setLevel(logging.WARNING)
        result = train(config, options.workdir)
        if jax.process_index() == 0:
            print(result.message)
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()
        code = 0
    except BaseException as error:
        code = _report(error, link)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _report(error: BaseException, link: Any) -> int:
    """Tells the supervisor what a person can mend, prints the rest; returns the exit code."""
    if _is_echo(error):  # the supervisor ends this process first if another is to blame
        time.sleep(2 * supervisor.SETTLE)
        traceback.print_exc()
        return supervisor.LOST
    text = explain(error)
    if text is None:
        traceback.print_exc()
        return 1
    link.tell({"error": text})
    return supervisor.MENDABLE


def _is_echo(error: BaseException) -> bool:
    """Whether this is how the death of another process looks from here."""
    import jax

    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
