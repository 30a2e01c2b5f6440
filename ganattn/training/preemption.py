"""Turns SIGINT and SIGTERM into a stop request that the loop polls."""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interrupt:
    """A stop request by SIGINT or SIGTERM; a second signal raises KeyboardInterrupt at once.

    With `jax.distributed` running, SIGTERM is left to its notifier, which stops all processes at
    the same step, and SIGINT is forwarded to it. Leaving the context restores the previous
    handlers; outside the main thread no signal is caught.
    """

    def __init__(self) -> None:
        self._distributed = jax.distributed.is_initialized()
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT] if self._distributed else [signal.SIGINT, signal.SIGTERM]
            self._previous = {number: signal.signal(number, self._request) for number in numbers}
        return self

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`.

        A collective: every process must call it at the same steps.
        """
        if self._distributed:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    def _request(self, number: int, frame: Any) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        if self._distributed:
            signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
