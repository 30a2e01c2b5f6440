"""Several processes that train one model: how they discover each other and what must be equal.

In a process that trains alone, every function here does nothing or returns its own answer.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from ganattn.errors import ConfigError

T = TypeVar("T")
_START = 300  # seconds within which all processes must have started


def join(coordinator: str | None, count: int | None, index: int | None, timeout: int) -> None:
    """Starts `jax.distributed`; must be called before JAX is asked for its devices.

    coordinator: HOST:PORT at which process 0 listens; None: JAX detects the cluster (Slurm, TPU
    pod). timeout: seconds after which a silent process counts as dead. Raises ConfigError when JAX
    does not detect who takes part.
    """
    alone = coordinator is not None and coordinator.split(":")[0] in ("127.0.0.1", "localhost")
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            coordinator_bind_address=coordinator if alone else None,
            initialization_timeout=_START,
            heartbeat_timeout_seconds=2 * timeout,  # the supervisors act first, and name the dead
            shutdown_timeout_seconds=timeout,
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ConfigError(
            f"the processes do not find each other ({reason}): pass --coordinator HOST:PORT "
            "--num-processes N --process-id I, or --num-processes 1 to train alone"
        ) from error


def own_share(items: Sequence[T]) -> Sequence[T]:
    """This process's share of a sequence that all processes have: every N-th item."""
    return items[jax.process_index() :: jax.process_count()]


def gather_text(text: str) -> list[str]:
    """Every process's text, in the order of the processes.

    A collective: every process must call it.
    """
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(own), np.int32))
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def agree(text: str, subject: str, remedy: str) -> None:
    """Raises ConfigError when `text` differs between processes.

    A collective: every process must call it.
    """
    digests = gather_text(hashlib.sha256(text.encode()).hexdigest())
    others = [str(i) for i, digest in enumerate(digests) if digest != digests[0]]
    if others:
        plural = "es" if len(others) > 1 else ""
        raise ConfigError(
            f"{subject} differs between process 0 and process{plural} {', '.join(others)}: {remedy}"
        )


def wait_for_all(name: str) -> None:
    """Returns when every process has called it with this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def check_shared(folder: Any) -> None:
    """Raises ConfigError unless every process sees in `folder` what process 0 writes there.

    A collective: every process must call it.
    """
    if jax.process_count() == 1:
        return
    token = folder / f".shared-{gather_text(os.urandom(8).hex())[0]}.partial"
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        token.write_text("")
    wait_for_all("a token is in the workdir")
    answers = gather_text(str(token.exists()))
    if jax.process_index() == 0:
        token.unlink()
    blind = [str(i) for i, answer in enumerate(answers) if answer != "True"]
    if blind:
        raise ConfigError(
            f"workdir {folder} is not the same folder on process {', '.join(blind)} as on 0: "
            "use a folder on storage that all processes share"
        )
