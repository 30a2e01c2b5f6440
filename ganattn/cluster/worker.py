"""A training process under a supervisor: its link to it, and how it joins the others and ends."""

import argparse
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import jax
from ml_collections import ConfigDict

from ganattn import processes
from ganattn.cluster.supervisor import LINK, LOST, SETTLE, USER_ERROR
from ganattn.errors import explain

BEAT = 1.0  # seconds between signs of life


class Link:
    """Tells the supervisor that this process is alive, and why it ends.

    The supervisor has opened it for this process, so it can be created once. When the supervisor
    is gone, which closes its end, the process ends.
    """

    def __init__(self) -> None:
        descriptor, self._port, self._key = os.environ.pop(LINK).split(",")
        self._connection, self._lock = Connection(int(descriptor)), threading.Lock()
        threading.Thread(target=self._beat, name="signs of life", daemon=True).start()

    def join(self, options: argparse.Namespace) -> None:
        """`processes.join`; then tells the supervisor who this is and where that of process 0 is.

        So supervisors on other machines can connect to that of process 0.
        """
        where = options.coordinator
        processes.join(where, options.num_processes, options.process_id, options.worker_timeout)
        host = where.rsplit(":", 1)[0] if where else _outward_address()
        address = processes.gather_text(json.dumps([host, self._port, self._key]))[0]
        names = processes.gather_text(socket.gethostname())
        self.tell({"index": jax.process_index(), "names": names, "address": json.loads(address)})

    def tell(self, message: Mapping[str, Any]) -> None:
        """Sends one message."""
        self._send(json.dumps(message).encode())

    def _send(self, message: bytes) -> None:
        with self._lock:
            self._connection.send_bytes(message)

    def _beat(self) -> NoReturn:
        while True:
            try:
                self._send(b"")
                if self._connection.poll(BEAT):  # supervisors send nothing: their end is closed
                    self._connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(LOST)


def run(options: argparse.Namespace, config: ConfigDict, several: bool) -> NoReturn:
    """Trains and ends this process, without the runtime's wait for processes that failed.

    options: of `ganattn train`. several: whether this is one of several processes.
    """
    link = Link()
    try:
        if several:
            link.join(options)
        from ganattn.training.loop import train  # what it imports may ask JAX for devices

        if jax.process_index() > 0:
            logging.getLogger("ganattn").setLevel(logging.WARNING)
        origin = {"source": options.source, "source_step": options.step}
        result = train(config, options.workdir, **origin)
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


def _report(error: BaseException, link: Link) -> int:
    """Tells the supervisor a user error, prints the traceback of others; returns the exit code."""
    # This is how the death of another process looks from here.
    if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
        time.sleep(2 * SETTLE)  # the supervisor ends this process first if another is to blame
        traceback.print_exc()
        return LOST
    text = explain(error)
    if text is None:
        traceback.print_exc()
        return 1
    link.tell({"error": text})
    return USER_ERROR


def _outward_address() -> str:
    """The address under which other machines reach this one; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
