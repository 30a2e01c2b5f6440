"""Starts training processes, names the one that dies, stops the others, and starts them again.

A supervisor runs on every machine and trains nothing itself: what kills a training process, even
from inside the runtime, leaves somebody to say so. Those of several machines hang on the one of
process 0 by a connection each; all end, or restart, by its verdict.
"""

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_log = logging.getLogger(__name__)
LINK = "GANATTN_SUPERVISOR"  # environment: file descriptor to write to, supervisor's port and token
LOST = 4  # exit code of a process whose partner went away; its supervisor knows who did
FAILED = 3  # exit code when a process died
MENDABLE = 2  # exit code of a process whose error the caller can mend: never restarted
SETTLE = 2.0  # seconds in which the true cause must come after a symptom of it
_TICK = 0.2


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why an attempt ended. sure: not just the echo of another process's death."""

    text: str
    sure: bool = True
    mendable: bool = False


class Wire:
    """JSON lines over a pipe or socket, without waiting."""

    def __init__(self, file: Any):
        self.file, self.heard, self.closed = file, time.monotonic(), False
        self.process, self.name, self.finished = -1, "", False
        self._rest = b""
        os.set_blocking(file.fileno(), False)

    def fileno(self) -> int:
        """For `select`."""
        return self.file.fileno()

    def receive(self) -> list[dict]:
        """Messages that have come; an empty line is a sign of life alone."""
        chunks = []
        try:
            while chunk := os.read(self.fileno(), 1 << 16):
                chunks.append(chunk)
            self.closed = True
        except BlockingIOError:
            pass
        except OSError:  # the connection is broken
            self.closed = True
        if chunks:
            self.heard = time.monotonic()
        *lines, self._rest = (self._rest + b"".join(chunks)).split(b"\n")
        with contextlib.suppress(ValueError):
            messages = [json.loads(line) for line in lines if line]
            if all(isinstance(message, dict) for message in messages):
                return messages
        self.closed = True  # a stranger
        return []

    def send(self, message: dict | None = None) -> None:
        """Sends a message or a sign of life; who does not take it is found to be silent."""
        text = f"{json.dumps(message)}\n" if message else "\n"
        with contextlib.suppress(OSError):
            os.write(self.fileno(), text.encode())

    def silent(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self.heard


class Child:
    """One training process with its pipe."""

    def __init__(self, command: Sequence[str], contact: str, environment: dict[str, str]):
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=[writing],
            env={**os.environ, **environment, LINK: f"{writing},{contact}"},
        )
        os.close(writing)
        self.wire = Wire(os.fdopen(reading, "rb", buffering=0))
        self.error: str | None = None

    def kill(self) -> None:
        """Ends it at once: the runtime holds back any milder signal."""
        self.process.kill()
        self.process.wait()
        self.wire.file.close()
        if self.process.stdin:
            self.process.stdin.close()

    def cause(self, name: str, timeout: float) -> Cause | None:
        """Why the attempt must end; None while it runs or when all went well."""
        code = self.process.poll()
        if code is None:
            still = self.wire.process >= 0 and self.wire.silent() > timeout
            return Cause(f"{name} stood still for {timeout:g} s") if still else None
        self.note(self.wire.receive())
        if code == MENDABLE and self.error:
            own = "" if self.wire.process <= 0 else f"{name}: "  # 0 speaks for all
            return Cause(own + self.error, mendable=True)
        if code < 0:
            number = signal.Signals(-code)
            return Cause(f"{name} was killed by {number.name}", sure=number != signal.SIGABRT)
        if code == LOST:
            return Cause(f"{name} lost the others, as its messages above say", sure=False)
        if code:
            return Cause(f"{name} ended with exit code {code}", mendable=code == MENDABLE)
        return None

    def note(self, messages: Sequence[dict]) -> None:
        """Keeps what the process says went wrong."""
        for message in messages:
            self.error = message.get("error", self.error)


class Attempt:
    """All training processes of this machine, from their start to the end of all."""

    def __init__(self, commands: Sequence[Sequence[str]], timeout: float):
        self._timeout = timeout
        several = len(commands) > 1
        self._door = socket.create_server(("127.0.0.1" if several else "", 0))
        self._door.setblocking(False)
        self._token = secrets.token_hex(8)  # whoever does not know it is not heard
        contact = f"{self._door.getsockname()[1]},{self._token}"
        self._children = [
            Child(command, contact, {"JAX_LOCAL_DEVICE_IDS": str(i)} if several else {})
            for i, command in enumerate(commands)
        ]
        self.names = [""] * len(commands)
        self._hub: Wire | None = None  # of process 0, where that is on another machine
        self._others: list[Wire] = []  # supervisors that hang on this one
        self._suspects: list[tuple[float, Cause]] = []
        self._reported: set[int] = set()
        self._beat = 0.0

    def run(self) -> Cause | None:
        """Waits for the end: None when every process ended well."""
        while True:
            wires = [child.wire for child in self._children] + self._wires()
            open_ = [wire.fileno() for wire in wires if not wire.closed]
            select.select([self._door.fileno(), *open_], [], [], _TICK)
            self._send_beats()
            cause = self._listen()
            self._look_at_children()
            cause = cause or self._believed()
            if cause is not None:
                self._announce({"verdict": dataclasses.asdict(cause)})
                return cause
            if all(child.process.poll() == 0 for child in self._children):
                self._announce({"finished": True})
                return None

    def signal(self, number: int) -> None:
        """Passes a signal on."""
        for child in self._children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    def close(self) -> None:
        """Ends what still runs."""
        for child in self._children:
            child.kill()
        for wire in self._wires():
            wire.file.close()
        self._door.close()

    def _wires(self) -> list[Wire]:
        return [*self._others] if self._hub is None else [self._hub, *self._others]

    def _name(self, index: int) -> str:
        """Who that is; the machine only where there are several."""
        if len(self.names) == 1:
            return "training"
        return f"process {index}" + (f" on {self.names[index]}" if len(set(self.names)) > 1 else "")

    def _listen(self) -> Cause | None:
        for child in self._children:
            messages = child.wire.receive()
            child.note(messages)
            for message in messages:
                if "index" in message:
                    self._meet(child, **message)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._others.append(Wire(self._door.accept()[0]))
        for wire in self._others:
            for message in wire.receive():
                self._heed(wire, message)
            gone = None if wire.finished or wire.process < 0 else self._absence(wire)
            if gone:
                return gone
        return self._listen_to_hub()

    def _listen_to_hub(self) -> Cause | None:
        if self._hub is None or self._hub.finished:
            return None
        for message in self._hub.receive():
            self._hub.finished = message.get("finished", False)
            if "verdict" in message:
                return Cause(**message["verdict"])
        return None if self._hub.finished else self._absence(self._hub)

    def _absence(self, wire: Wire) -> Cause | None:
        if wire.closed:
            return Cause(f"{self._name(wire.process)} is gone with its supervisor")
        if wire.silent() > self._timeout:
            return Cause(f"{self._name(wire.process)} was not heard of for {self._timeout:g} s")
        return None

    def _meet(self, child: Child, index: int, names: list[str], address: list) -> None:
        """A process has found the others; if they are elsewhere, so do the supervisors."""
        child.wire.process, self.names = index, names
        if len(names) > len(self._children) and index != 0:
            try:
                host, port, token = address
                hub = socket.create_connection((host, port), self._timeout)
            except OSError as error:
                _log.warning("no connection to the supervisor of process 0 (%s)", error)
                return
            self._hub = Wire(hub)
            self._hub.process = 0
            self._hub.send({"hello": index, "token": token})

    def _heed(self, wire: Wire, message: dict) -> None:
        if message.get("token") == self._token:
            wire.process = message["hello"]
        if wire.process < 0:
            return
        wire.finished = message.get("finished", wire.finished)
        if "cause" in message:
            self._suspect(Cause(**message["cause"]))

    def _look_at_children(self) -> None:
        for number, child in enumerate(self._children):
            cause = child.cause(self._name(max(child.wire.process, number)), self._timeout)
            if cause is not None and number not in self._reported:
                self._reported.add(number)
                self._suspect(cause)
                if self._hub is not None:
                    self._hub.send({"cause": dataclasses.asdict(cause)})

    def _suspect(self, cause: Cause) -> None:
        self._suspects.append((time.monotonic(), cause))

    def _believed(self) -> Cause | None:
        """The cause to believe: a sure one, or the first once nothing surer can be on its way.

        On other machines than that of process 0 its verdict is waited for.
        """
        patience = SETTLE * (2 if self._hub is not None and not self._hub.closed else 1)
        for since, cause in sorted(self._suspects, key=lambda s: (not s[1].sure, s[0])):
            waited = time.monotonic() - since
            if waited > patience or (cause.sure and self._hub is None):
                return cause
        return None

    def _send_beats(self) -> None:
        if time.monotonic() - self._beat > min(1.0, self._timeout / 5):
            self._beat = time.monotonic()
            for wire in self._wires():
                wire.send()

    def _announce(self, message: dict) -> None:
        for wire in self._wires():
            wire.send(message)


def supervise(
    commands: Callable[[], Sequence[Sequence[str]]], restarts: int, timeout: float
) -> int:
    """Runs commands, each one training process, and all again when one dies.

    commands: asked for at every start. restarts: how often. timeout: seconds after which a silent
    process or machine counts as dead. SIGTERM and SIGINT are passed on, and end the restarts.
    Returns the exit code: 0 when all ended well, MENDABLE for what the caller must mend first,
    FAILED otherwise.
    """
    signals: list[int] = []
    for count in range(restarts + 1):
        attempt = Attempt(commands(), timeout)
        with contextlib.closing(attempt), _forwarded(attempt, signals):
            cause = attempt.run()
        if cause is None:
            return 0
        if cause.mendable:
            print(f"ganattn: {cause.text}", file=sys.stderr)
            return MENDABLE
        if signals:
            early = "SIGTERM" in cause.text  # a process that trains saves first
            text = "stopped before training began" if early else f"{cause.text} while it stopped"
            print(f"ganattn: {text}", file=sys.stderr)
            return 0 if early else FAILED
        left = count < restarts
        then = f"restart {count + 1} of {restarts}" if left else "the same command resumes the run"
        then = f"all were stopped; {then}" if len(attempt.names) > 1 else then
        print(f"\nganattn: {cause.text}; {then}", file=sys.stderr)  # below the progress bar
    return FAILED


@contextlib.contextmanager
def _forwarded(attempt: Attempt, signals: list[int]) -> Iterator[None]:
    """A terminal's Ctrl-C reaches the children by itself; SIGTERM does not."""

    def forward(number: int, frame: Any) -> None:
        signals.append(number)
        if number == signal.SIGTERM:
            attempt.signal(number)

    before = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
