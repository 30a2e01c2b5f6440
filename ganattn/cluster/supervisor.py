"""Starts training processes, names the one that dies, stops the others, and starts all again.

A supervisor runs on every machine and does not train: it reports a death even if it comes from
inside the runtime. Each machine's supervisor connects to that of process 0, which decides whether
all stop or restart.
"""

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import AuthenticationError, connection

_log = logging.getLogger(__name__)
LINK = "GANATTN_SUPERVISOR"  # environment: file descriptor of the link, supervisor's port and key
LOST = 4  # exit code of a process whose partner is gone; its supervisor knows which one
FAILED = 3  # exit code when a process died
USER_ERROR = 2  # exit code of a process with an error that the user can fix: never restarted
SETTLE = 2.0  # seconds within which the true cause follows a symptom of it
LONGEST = 1 << 16  # bytes of a message
_TICK = 0.2
_HANDSHAKE = 10  # seconds


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why an attempt ended. sure: not just a consequence of another process's death."""

    text: str
    sure: bool = True
    fixable: bool = False


class Peer:
    """JSON messages from and to a training process or another supervisor, without waiting.

    process: index of the training process at the other end, -1 while it is unknown. finished:
    whether it has announced its end.
    """

    def __init__(self, link: connection.Connection, process: int = -1):
        self.link, self.process = link, process
        self.heard, self.closed, self.finished = time.monotonic(), False, False

    def receive(self) -> list[dict]:
        """Messages that have arrived; an empty one is a sign of life alone."""
        messages = []
        try:
            while not self.closed and self.link.poll():
                text = self.link.recv_bytes(LONGEST)
                self.heard = time.monotonic()
                messages += [json.loads(text)] if text else []
        except (EOFError, OSError, ValueError):
            self.closed = True
        return messages

    def send(self, message: dict | None = None) -> None:
        """Sends a message or a sign of life; a peer that is gone is noticed by its silence."""
        with contextlib.suppress(OSError):
            self.link.send_bytes(json.dumps(message).encode() if message else b"")

    def silent(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self.heard


def _link(connected: socket.socket, timeout: float) -> connection.Connection:
    """The connection over a socket; a message that stops halfway is an OSError."""
    connected.settimeout(None)
    limit = struct.pack("ll", max(1, int(timeout)), 0)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connected.setsockopt(socket.SOL_SOCKET, option, limit)
    return connection.Connection(connected.detach())


class Child:
    """One training process and the link to it."""

    def __init__(self, command: Sequence[str], contact: str, environment: dict[str, str]):
        own, other = connection.Pipe()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            env={**os.environ, **environment, LINK: f"{other.fileno()},{contact}"},
        )
        other.close()
        self.peer = Peer(own)
        self.error: str | None = None

    def kill(self) -> None:
        """Ends it at once: the runtime delays any other signal."""
        self.process.kill()
        self.process.wait()
        self.peer.link.close()

    def cause(self, name: str, timeout: float) -> Cause | None:
        """Why the attempt must end; None while it runs or if it ended well."""
        code = self.process.poll()
        if code is None:
            hangs = self.peer.process >= 0 and self.peer.silent() > timeout
            return Cause(f"{name} has not responded for {timeout:g} s") if hangs else None
        self.receive()
        if code == USER_ERROR and self.error:
            prefix = "" if self.peer.process <= 0 else f"{name}: "  # 0 speaks for all
            return Cause(prefix + self.error, fixable=True)
        if code < 0:
            number = signal.Signals(-code)
            return Cause(f"{name} was killed by {number.name}", sure=number != signal.SIGABRT)
        if code == LOST:
            return Cause(f"{name} lost the others, see its messages above", sure=False)
        if code:
            return Cause(f"{name} ended with exit code {code}", fixable=code == USER_ERROR)
        return None

    def receive(self) -> list[dict]:
        """Messages that have arrived; remembers an error among them."""
        messages = self.peer.receive()
        for message in messages:
            self.error = message.get("error", self.error)
        return messages


class Attempt:
    """All training processes of this machine, from their start to the end of all."""

    def __init__(self, commands: Sequence[Sequence[str]], timeout: float):
        self._timeout = timeout
        several = len(commands) > 1
        self._listener = socket.create_server(("127.0.0.1" if several else "", 0))
        self._listener.setblocking(False)
        self._key = secrets.token_hex(16)  # connections without it are ignored
        contact = f"{self._listener.getsockname()[1]},{self._key}"
        self._children = [
            Child(command, contact, {"JAX_LOCAL_DEVICE_IDS": str(i)} if several else {})
            for i, command in enumerate(commands)
        ]
        self.names = [""] * len(commands)
        self._hub: Peer | None = None  # supervisor of process 0, if that is on another machine
        self._supervisors: list[Peer] = []  # all that are connected to this one
        self._suspects: list[tuple[float, Cause]] = []
        self._reported: set[int] = set()
        self._last_beat = 0.0

    def run(self) -> Cause | None:
        """Waits for the end: None when every process ended well."""
        while True:
            peers = [*(child.peer for child in self._children), *self._supervisors]
            links = [peer.link for peer in peers if not peer.closed]
            connection.wait([self._listener, *links], _TICK)
            self._accept()
            self._send_beats()
            cause = self._receive()
            self._check_children()
            cause = cause or self._verdict()
            if cause is not None:
                self._announce({"verdict": dataclasses.asdict(cause)})
                return cause
            if all(child.process.poll() == 0 for child in self._children):
                self._announce({"finished": True})
                return None

    @contextlib.contextmanager
    def forwarding(self, signals: list[int]) -> Iterator[None]:
        """Forwards SIGTERM and records signals; Ctrl-C reaches the children by itself."""

        def forward(number: int, frame: object) -> None:
            signals.append(number)
            if number == signal.SIGTERM:
                for child in self._children:
                    child.process.send_signal(number)

        before = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """Ends what still runs."""
        for child in self._children:
            child.kill()
        for peer in self._supervisors:
            peer.link.close()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # nobody is waiting, or not any longer
            connected = self._listener.accept()[0]
            threading.Thread(target=self._authenticate, args=(connected,), daemon=True).start()

    def _authenticate(self, connected: socket.socket) -> None:
        """Accepts a supervisor that knows the key; in a thread, because a stranger may be slow."""
        link = _link(connected, _HANDSHAKE)
        try:
            connection.deliver_challenge(link, self._key.encode())
            connection.answer_challenge(link, self._key.encode())
        except Exception:  # AuthenticationError, EOFError, OSError, and what strange bytes cause
            link.close()
        else:
            self._supervisors.append(Peer(link))

    def _name(self, index: int) -> str:
        """The name of a process, with its machine where there are several."""
        if len(self.names) == 1:
            return "training"
        return f"process {index}" + (f" on {self.names[index]}" if len(set(self.names)) > 1 else "")

    def _receive(self) -> Cause | None:
        """Handles all messages; returns the verdict of process 0's supervisor, or a lost one."""
        for child in self._children:
            for message in child.receive():
                if "index" in message:
                    self._introduce(child, **message)
        verdict = loss = None
        for peer in tuple(self._supervisors):
            for message in peer.receive():
                peer.process = message.get("hello", peer.process)
                peer.finished = message.get("finished", peer.finished)
                if "cause" in message:
                    self._suspect(Cause(**message["cause"]))
                if "verdict" in message and peer is self._hub:
                    verdict = Cause(**message["verdict"])
            loss = loss or self._loss(peer)
        return verdict or loss

    def _loss(self, peer: Peer) -> Cause | None:
        if peer.finished or peer.process < 0:
            return None
        if peer.closed:
            return Cause(f"{self._name(peer.process)} is gone with its supervisor")
        if peer.silent() > self._timeout:
            return Cause(f"{self._name(peer.process)} has been silent for {self._timeout:g} s")
        return None

    def _introduce(self, child: Child, index: int, names: list[str], address: list) -> None:
        """A process has joined the others; if they are elsewhere, so does its supervisor."""
        child.peer.process, self.names = index, names
        if len(names) > len(self._children) and index != 0:
            host, port, key = address
            try:
                connected = socket.create_connection((host, port), self._timeout)
                hub = Peer(_link(connected, self._timeout), process=0)
                connection.answer_challenge(hub.link, key.encode())
                connection.deliver_challenge(hub.link, key.encode())
            except (OSError, EOFError, AuthenticationError) as error:
                _log.warning("no connection to the supervisor of process 0 (%s)", error)
                return
            self._hub = hub
            self._supervisors.append(hub)
            hub.send({"hello": index})

    def _check_children(self) -> None:
        for number, child in enumerate(self._children):
            cause = child.cause(self._name(max(child.peer.process, number)), self._timeout)
            if cause is not None and number not in self._reported:
                self._reported.add(number)
                self._suspect(cause)
                if self._hub is not None:
                    self._hub.send({"cause": dataclasses.asdict(cause)})

    def _suspect(self, cause: Cause) -> None:
        self._suspects.append((time.monotonic(), cause))

    def _verdict(self) -> Cause | None:
        """The cause to act on: a sure one, or the first once no surer one can be on its way.

        Machines other than that of process 0 wait for its verdict.
        """
        patience = SETTLE * (2 if self._hub is not None and not self._hub.closed else 1)
        for since, cause in sorted(self._suspects, key=lambda s: (not s[1].sure, s[0])):
            waited = time.monotonic() - since
            if waited > patience or (cause.sure and self._hub is None):
                return cause
        return None

    def _send_beats(self) -> None:
        if time.monotonic() - self._last_beat > min(1.0, self._timeout / 5):
            self._last_beat = time.monotonic()
            self._announce()

    def _announce(self, message: dict | None = None) -> None:
        for peer in self._supervisors:
            peer.send(message)


def supervise(
    commands: Callable[[], Sequence[Sequence[str]]], restarts: int, timeout: float
) -> int:
    """Runs commands, each one training process, and all of them again when one dies.

    commands: called at every start. restarts: how many are allowed. timeout: seconds after which a
    silent process or machine counts as dead. SIGTERM and SIGINT are forwarded, and end the
    restarts. Returns the exit code: 0 when all ended well, USER_ERROR for an error that the user
    must fix first, FAILED otherwise.
    """
    signals: list[int] = []
    for count in range(restarts + 1):
        attempt = Attempt(commands(), timeout)
        with contextlib.closing(attempt), attempt.forwarding(signals):
            cause = attempt.run()
        if cause is None:
            return 0
        if cause.fixable:
            print(f"ganattn: {cause.text}", file=sys.stderr)
            return USER_ERROR
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
