"""Two real processes over loopback: killed, restarted, stopped, and continued by one process."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import jax
import numpy as np
from toy import At, Batches, Toy, configure

from ganattn.cluster import supervisor
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.training.loop import train

SCRIPT = """
import os, signal, socket, sys
sys.path.insert(0, {tests!r})
sys.modules["tensorflow"] = None
import jax
from argparse import Namespace
from pathlib import Path
from ganattn.cluster import worker
from test_processes import two
options = Namespace(coordinator="127.0.0.1:{port}", num_processes=2, process_id={index})
options.worker_timeout = 30
worker.Link().join(options)
two(Path({workdir!r}), {index})
jax.distributed.shutdown()
"""


class Double(Toy):
    """In float64, where layouts agree to rounding."""

    def create_state(self, rng, variables=None):
        single = super().create_state(rng, variables).variables
        double = jax.tree.map(lambda x: x.astype(np.float64), single)
        return super().create_state(rng, double)


class Share(Batches):
    """The examples of one process."""

    def __call__(self, step):
        count, index = jax.process_count(), jax.process_index()
        part = slice(index * 8 // count, (index + 1) * 8 // count)
        return {name: x[part] for name, x in super().__call__(step).items()}


def double(workdir, total, hooks=()):
    config = configure(total, pictures_every=4, histograms_every=4)
    method = Double.from_config(config)
    return train(config, workdir, method=method, batches=Share(8), hooks=hooks)


def two(workdir, index):
    """What each of two processes does: the second is killed once, and asked to stop once."""

    def kill():
        if not (workdir / "killed").exists():
            (workdir / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    hooks = [At(3, kill), At(5, lambda: os.kill(os.getpid(), signal.SIGTERM))] if index else []
    result = double(workdir, 40, hooks)
    (workdir / f"result-{index}").write_text(f"{result.reason} {result.step}")


def commands(workdir):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    here = str(Path(__file__).parent)
    fields = {"tests": here, "port": port, "workdir": str(workdir)}
    return [[sys.executable, "-c", SCRIPT.format(index=index, **fields)] for index in (0, 1)]


def test_two_processes_are_killed_restarted_stopped_and_continued_by_one(
    tmp_path, monkeypatch, capsys, x64
):
    workdir = tmp_path / "two"
    for name, value in {
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }.items():
        monkeypatch.setenv(name, value)
    assert supervisor.supervise(lambda: commands(workdir), restarts=1, timeout=30) == 0
    said = capsys.readouterr().err
    assert "process 1 was killed by SIGKILL; all were stopped; restart 1 of 1" in said
    first, second = ((workdir / f"result-{i}").read_text() for i in (0, 1))
    assert first == second and first.startswith("preempted ")
    step = int(first.split()[1])
    assert 5 < step < 40
    store = Checkpoints(workdir / "checkpoints")
    assert store.latest() == step
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, step + 1))

    assert (workdir / "pictures" / "a2b_0000004.png").is_file()
    assert "generator/rho" in (workdir / "rho.jsonl").read_text()
    assert not list(workdir.glob(".shared-*"))

    double(workdir, step + 2)
    double(tmp_path / "one", step + 2)
    there, here = (restore_variables(tmp_path / name / "checkpoints")[0] for name in ("two", "one"))
    for x, y in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        assert x.dtype == np.float64
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14)
