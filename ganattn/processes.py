"""Several processes that train one model: how they find each other, and what they must agree on.

Every function here does nothing, or answers for one, in a process that trains alone.
"""

import hashlib
import json
import os
import select
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from ganattn.cluster.supervisor import LINK, LOST
from ganattn.errors import ConfigError

T = TypeVar("T")
BEAT = 1.0  # seconds between signs of life
_START = 300  # seconds in which all processes must have started


def join(coordinator: str | None, count: int | None, index: int | None, timeout: int) -> None:
    """Starts `jax.distributed`; must come before anything that asks JAX for its devices.

    coordinator: HOST:PORT at which process 0 listens; None leaves all to what JAX finds out from
    Slurm or a TPU pod. timeout: seconds after which a silent process counts as dead. Raises
    ConfigError where JAX cannot find out who takes part.
    """
    alone = coordinator is not None and coordinator.split(":")[0] in ("127.0.0.1", "localhost")
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            coordinator_bind_address=coordinator if alone else None,
            initialization_timeout=_START,
            heartbeat_timeout_seconds=2 * timeout,  # the supervisors are first, and name the dead
            shutdown_timeout_seconds=timeout,
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ConfigError(
            f"the processes do not find each other ({reason}): give --coordinator HOST:PORT "
            "--num-processes N --process-id I, or --num-processes 1 to train alone"
        ) from error
    link = Link.from_environment()
    if link is not None:
        link.introduce(coordinator)


def own_share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of what all of them have in the same order: every N-th item."""
    return items[jax.process_index() :: jax.process_count()]


class Link:
    """What a training process tells its supervisor: signs of life, and why it ends.

    The supervisor holds the other end of standard input: when that closes, it is gone.
    """

    _only: "Link | None" = None

    def __init__(self, descriptor: str, port: str, token: str):
        self._descriptor, self._port, self._token = int(descriptor), int(port), token
        threading.Thread(target=self._live, name="signs of life", daemon=True).start()

    @classmethod
    def from_environment(cls) -> "Link | None":
        """The link of this process, opened at the first call; None without a supervisor."""
        if cls._only is None and LINK in os.environ:
            cls._only = cls(*os.environ.pop(LINK).split(","))
        return cls._only

    def introduce(self, coordinator: str | None) -> None:
        """Tells the supervisor which process this is, and where that of process 0 listens."""
        here = coordinator.rsplit(":", 1)[0] if coordinator else _outward_address()
        address = gather_text(json.dumps([here, self._port, self._token]))[0]
        names = gather_text(socket.gethostname())
        self.tell({"index": jax.process_index(), "names": names, "address": json.loads(address)})

    def tell(self, message: Mapping[str, Any]) -> None:
        """Sends one message."""
        os.write(self._descriptor, f"{json.dumps(message)}\n".encode())

    def _live(self) -> NoReturn:
        while True:
            try:
                os.write(self._descriptor, b"\n")
                ready, _, _ = select.select([0], [], [], BEAT)
                gone = bool(ready) and not os.read(0, 1)
            except OSError:
                gone = True
            if gone:
                os._exit(LOST)


def _outward_address() -> str:
    """The address under which other machines reach this one; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def gather_text(text: str) -> list[str]:
    """Every process's text, in the order of the processes; all must ask."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(own), np.int32))
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def agree(text: str, where: str, remedy: str) -> None:
    """Raises ConfigError when `text` is not the same in all processes; all must ask."""
    every = gather_text(hashlib.sha256(text.encode()).hexdigest())
    others = [str(i) for i, digest in enumerate(every) if digest != every[0]]
    if others:
        raise ConfigError(f"{where} is another on process {', '.join(others)} than on 0: {remedy}")


def wait_for_all(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def check_shared(folder: Any) -> None:
    """Raises ConfigError unless every process sees in `folder` what process 0 writes there."""
    if jax.process_count() == 1:
        return
    token = folder / f".shared-{gather_text(os.urandom(8).hex())[0]}.partial"
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        token.write_text("")
    wait_for_all("a token is in the workdir")
    seen = gather_text(str(token.exists()))
    if jax.process_index() == 0:
        token.unlink()
    blind = [str(i) for i, answer in enumerate(seen) if answer != "True"]
    if blind:
        raise ConfigError(
            f"workdir {folder} is not the same folder on process {', '.join(blind)} as on 0: "
            "name one on storage that all share"
        )
