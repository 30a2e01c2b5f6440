"""Supervisors of processes that pretend to train: which one is named, which ones restart."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from ganattn.cli import _parser
from ganattn.cluster import launcher, supervisor
from ganattn.errors import ConfigError

PREAMBLE = """
import json, os, signal, sys, time
from multiprocessing.connection import Connection
fd, port, key = os.environ["GANATTN_SUPERVISOR"].split(",")
link = Connection(int(fd))
def tell(**message):
    link.send_bytes(json.dumps(message).encode())
def once(path):
    new = not os.path.exists(path)
    open(path, "w").close()
    return new
"""
BEAT = "for _ in range(100): link.send_bytes(bytes()); time.sleep(0.1)\n"
TWO = '["a", "a"]'


def child(code):
    return [sys.executable, "-S", "-c", PREAMBLE + code]


def joined(index, names=TWO, address='["127.0.0.1", 0, ""]'):
    return f"tell(index={index}, names={names}, address={address})\n"


def supervise(commands, restarts=0, timeout=30.0):
    return supervisor.supervise(lambda: commands, restarts, timeout)


def test_all_end_well(capsys):
    assert supervise([child(joined(0)), child(joined(1))]) == 0
    assert capsys.readouterr().err == ""


def test_the_killed_one_is_named_and_all_start_again(tmp_path, capsys):
    flag, ready = tmp_path / "flag", tmp_path / "ready"

    def wait(path):
        return f"while not os.path.exists({str(path)!r}): time.sleep(0.01)\n"

    # The other one fails in answer, and is seen first: its partner takes long to be gone.
    first = f"first = once({str(ready)!r})\n"
    echo = f"if first: sys.exit({supervisor.LOST})\n"
    die = f"if once({str(flag)!r}): time.sleep(0.7); os.kill(os.getpid(), signal.SIGKILL)\n"
    commands = [child(joined(0) + first + echo), child(joined(1) + wait(ready) + die)]
    assert supervise(commands, restarts=1) == 0
    expected = "process 1 was killed by SIGKILL; all were stopped; restart 1 of 1"
    assert capsys.readouterr().err == f"\nganattn: {expected}\n"


def test_without_restarts_left_the_exit_code_says_so(capsys):
    stay = "time.sleep(60)\n"
    then = time.monotonic()
    commands = [child(joined(0) + stay), child(joined(1) + "sys.exit(7)\n")]
    assert supervise(commands) == supervisor.FAILED
    assert time.monotonic() - then < 10
    assert "process 1 ended with exit code 7; all were stopped; the same" in capsys.readouterr().err


def test_a_user_error_is_reported_once_and_not_tried_again(capsys):
    fail = 'tell(error="no folder data: set it")\nsys.exit(2)\n'
    commands = [child(joined(0) + fail), child(joined(1) + fail)]
    assert supervise(commands, restarts=3) == supervisor.USER_ERROR
    assert capsys.readouterr().err.count("no folder data: set it") == 1
    commands = [child(joined(0) + "time.sleep(60)\n"), child(joined(1) + fail)]
    assert supervise(commands, restarts=3) == supervisor.USER_ERROR
    assert capsys.readouterr().err == "ganattn: process 1: no folder data: set it\n"


def test_one_that_hangs_is_named(capsys):
    commands = [child(joined(0) + BEAT), child(joined(1) + "time.sleep(10)\n")]
    assert supervise(commands, timeout=1.0) == supervisor.FAILED
    assert "process 1 has not responded for 1 s" in capsys.readouterr().err


def test_sigterm_is_forwarded_and_ends_the_restarts(tmp_path, capsys):
    ready = tmp_path / "ready"
    stop = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    code = stop + joined(0, '["a"]') + f"once({str(ready)!r})\ntime.sleep(60)\n"

    def interrupt():
        while not ready.exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt).start()
    assert supervise([child(code)], restarts=5) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_before_training_began(tmp_path, capsys):
    ready = tmp_path / "ready"

    def interrupt():
        while not ready.exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    assert supervise([child(f"once({str(ready)!r})\ntime.sleep(60)\n")], restarts=5) == 0
    assert capsys.readouterr().err == "ganattn: stopped before training began\n"


def test_strangers_are_ignored_and_hold_nothing_up(tmp_path):
    flag = tmp_path / "flag"
    code = f"while not os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
    attempt = supervisor.Attempt([child(joined(0) + code)], 30.0)
    verdict = json.dumps({"cause": {"text": "x", "sure": True, "fixable": False}}).encode()
    with contextlib.closing(attempt), contextlib.ExitStack() as stack:
        results = []
        thread = threading.Thread(target=lambda: results.append(attempt.run()))
        thread.start()
        address = attempt._listener.getsockname()
        stack.enter_context(socket.create_connection(address))  # says nothing, and stays
        for line in (b"GET / HTTP/1.1\r\n\r\n", b"5\n", verdict):
            with socket.create_connection(address) as stranger:
                stranger.sendall(line)
        with pytest.raises(AuthenticationError):
            Client(address, authkey=b"guess")
        with Client(address, authkey=attempt._key.encode()) as friend:
            friend.send_bytes(json.dumps({"hello": 1, "finished": True}).encode())
            while not [peer for peer in attempt._supervisors if peer.finished]:
                time.sleep(0.01)
        flag.touch()
        thread.join(10)
        assert results == [None] and len(attempt._supervisors) == 1


def test_workers_end_with_their_supervisor(tmp_path):
    """A real link: its process ends itself when the other end closes."""
    code = "from ganattn.cluster.worker import Link\nLink()\ntime.sleep(60)\n"
    command = [sys.executable, "-c", "import time\n" + code]
    attempt = supervisor.Attempt([command], 30.0)
    process = attempt._children[0].process
    while not attempt._children[0].peer.link.poll():
        time.sleep(0.01)
    attempt._children[0].peer.link.close()
    assert process.wait(20) == supervisor.LOST
    attempt.close()


class Machines:
    """Two supervisors, each with one process, as on two machines."""

    def __init__(self, folder, codes, timeout=30.0):
        names, port = '["host-a", "host-b"]', folder / "port"
        publish = f"open({str(port)!r} + 'x', 'w').write(port + ',' + key)\n"
        publish += f"os.rename({str(port)!r} + 'x', {str(port)!r})\n"
        read = f"while not os.path.exists({str(port)!r}): time.sleep(0.01)\n"
        read += f"where = ['127.0.0.1', *open({str(port)!r}).read().split(',')]\n"
        commands = [
            child(publish + joined(0, names) + codes[0]),
            child(read + joined(1, names, "where") + codes[1]),
        ]
        self.attempts = [supervisor.Attempt([command], timeout) for command in commands]
        self.causes = [None, None]
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in (0, 1)]
        for thread in self.threads:
            thread.start()

    def _run(self, i):
        with contextlib.closing(self.attempts[i]):
            self.causes[i] = self.attempts[i].run()

    def end(self):
        for thread in self.threads:
            thread.join(30)
        return [cause and cause.text for cause in self.causes]


@pytest.mark.parametrize("dying", [0, 1])
def test_both_machines_name_the_same_process(tmp_path, dying):
    # It dies when the other has met it; the other fails in answer.
    codes = [f"time.sleep(0.7); sys.exit({supervisor.LOST})\n"] * 2
    codes[dying] = "time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)\n"
    named = f"process {dying} on host-{'ab'[dying]} was killed by SIGKILL"
    assert Machines(tmp_path, codes).end() == [named, named]


def test_a_machine_that_is_gone_is_named(tmp_path):
    machines = Machines(tmp_path, [BEAT, BEAT])
    while not machines.attempts[0]._supervisors:
        time.sleep(0.01)
    time.sleep(0.3)
    for peer in machines.attempts[1]._supervisors:
        with socket.socket(fileno=os.dup(peer.link.fileno())) as connected:
            connected.shutdown(socket.SHUT_RDWR)  # as when the machine is lost
    assert "process 1 on host-b is gone with its supervisor" in machines.end()


def test_two_machines_end_well(tmp_path):
    assert Machines(tmp_path, ["time.sleep(0.3)\n", "time.sleep(0.8)\n"]).end() == [None, None]


SLURM = {name: "0" for name in launcher._SLURM}
CLUSTERS = {
    "nothing": ({}, False),
    "slurm": ({**SLURM, "SLURM_NTASKS": "4"}, True),
    "one task": ({**SLURM, "SLURM_NTASKS": "1"}, False),
    "salloc": ({"SLURM_JOB_ID": "3", "SLURM_NTASKS": "4"}, False),
    "pod on GKE": ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    "slices on GKE": ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
    "one TPU host": ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    "another platform": ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, False),
}


@pytest.mark.parametrize(("environment", "expected"), CLUSTERS.values(), ids=CLUSTERS)
def test_where_others_are_found(environment, expected):
    assert launcher.in_cluster(environment) is expected


FLAGS = {
    "--num-processes 2": "go together",
    "--coordinator a:1 --num-processes 2": "go together",
    "--coordinator a --num-processes 2 --process-id 0": "use HOST:PORT",
    "--coordinator a:1 --num-processes 2 --process-id 2": "--process-id is 2 of 2",
    "--local-processes 0": "--local-processes is 0",
    "--max-restarts -1": "--max-restarts is -1",
    "--worker-timeout 0": "--worker-timeout is 0",
}


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_that_contradict_each_other(flags):
    options = _parser().parse_args(["train", "--workdir", "x", *flags.split()])
    with pytest.raises(ConfigError, match=FLAGS[flags]):
        launcher.check(options)


def test_commands_of_local_processes():
    arguments = ["train", "--workdir", "x", "--local-processes", "3"]
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    commands = launcher.commands(options)
    assert [command[-1] for command in commands] == ["0", "1", "2"]
    again = _parser().parse_args(commands[1][3:])
    launcher.check(again)
    assert (again.num_processes, again.process_id) == (3, 1)
    assert json.dumps(commands[0][3:8]) == json.dumps(arguments)


def test_the_script_passes_its_arguments_on(tmp_path):
    fake = tmp_path / "ganattn"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    script = Path(__file__).parents[1] / "launch" / "local_processes.sh"

    def call(*arguments):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run(
            ["bash", script, *arguments], env=environment, capture_output=True, text=True
        )

    called = call("4", "--config", "a b", "--max-restarts", "3")
    expected = ["train", "--local-processes", "4", "--config", "a b", "--max-restarts", "3"]
    assert (called.returncode, called.stdout.splitlines()) == (0, expected)
    for arguments in ((), ("none",), ("0",)):
        assert call(*arguments).returncode == 2
