"""The loop: resume, kill, signals, divergence, refusals, and what it leaves in the workdir."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from toy import At, Batches, Toy, configure, run

from ganattn.config import find, load
from ganattn.errors import CheckpointError, ConfigError, DivergenceError
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.runs.workdir import JsonLines
from ganattn.training import hooks
from ganattn.training.loop import describe, train


def leaves(workdir, step=None):
    """Path, dtype, shape and SHA-256 of every leaf of a checkpoint: equal means bit-equal."""
    return restore_variables(workdir / "checkpoints", step)[1]["leaves"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def snapshot(directory, part=""):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (directory / part).rglob("*")
        if path.is_file()
    }


class Lines:
    """A watcher that writes a line for each step, as evaluation does."""

    def __init__(self, workdir, step=0):
        self._lines = JsonLines(workdir / "extra.jsonl", step)

    def __call__(self, step, state, metrics):
        self._lines.write({"step": step})

    def close(self):
        self._lines.close()


def reporting(workdir, total=6, hooks=(), **options):
    """A run in which everything reports every step."""
    step = Checkpoints(workdir / "checkpoints").latest() or 0
    workdir.mkdir(exist_ok=True)
    fields = {"pictures_every": 1, "histograms_every": 1, **options}
    return run(workdir, total, hooks=[Lines(workdir, step), *hooks], **fields)


def assert_all_reported_once(workdir, total):
    for name in ("metrics", "rho", "extra"):
        steps = [entry["step"] for entry in lines(workdir / f"{name}.jsonl")]
        assert steps == list(range(1, total + 1)), name
    figures = sorted(path.name for path in (workdir / "pictures").iterdir())
    assert figures == [f"a2b_{step:07d}.png" for step in range(1, total + 1)]
    assert not list(workdir.glob(".*"))


def start(workdir, code, devices=None):
    """Starts `code` in a process of its own, with these names and as many devices as here."""
    preamble = (
        f"import os, signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "sys.modules['tensorflow'] = None\n"
        f"from test_train import *; workdir = Path({str(workdir)!r})\n"
    )
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(jax.config.jax_enable_x64),
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count="
        f"{devices or jax.device_count()}",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = [sys.executable, "-c", preamble + code]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Waits for a process; returns its exit code and what it wrote to standard error."""
    _, text = process.communicate(timeout=120)
    return process.returncode, text


@pytest.fixture(scope="module", autouse=True)
def _without_events():
    """Saves the import of TensorFlow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks, "create_writer", lambda workdir: None)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The workdir of a run of 6 steps."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    reporting(workdir)
    return workdir


def test_files_of_a_run(tmp_path):
    result = run(tmp_path / "run", total=5)
    assert (result.reason, result.step, result.workdir) == ("finished", 5, tmp_path / "run")
    assert set(result.metrics) == {"generator/loss", "discriminator/loss"}
    entries = lines(result.workdir / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5]
    assert set(entries[0]) == {"step", "seconds", *result.metrics}
    assert {name: entries[-1][name] for name in result.metrics} == result.metrics
    assert Checkpoints(result.workdir / "checkpoints").steps() == [2, 4, 5]
    config = json.loads((result.workdir / "config.json").read_text())
    assert config["method"] == {"name": "toy", "width": 3}
    versions = json.loads((result.workdir / "versions.json").read_text())
    assert versions["packages"]["jax"] == jax.__version__
    assert "generator/params/Conv_0/kernel" in (result.workdir / "parameters.txt").read_text()


def test_resume_is_bit_equal_to_one_run(tmp_path, uninterrupted):
    run(tmp_path, total=3)
    first = lines(tmp_path / "metrics.jsonl")
    result = run(tmp_path, total=6)
    assert result.step == 6
    assert leaves(tmp_path) == leaves(uninterrupted)
    entries = lines(tmp_path / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[:3] == first
    assert entries[3]["seconds"] >= first[-1]["seconds"]


def test_finished_run_is_left_alone(tmp_path):
    run(tmp_path, total=2)
    before = snapshot(tmp_path / "checkpoints")
    result = run(tmp_path, total=2)
    assert (result.reason, result.step, result.metrics) == ("finished", 2, {})
    assert snapshot(tmp_path / "checkpoints") == before


def test_other_number_of_devices(tmp_path):
    devices = 1 if jax.device_count() > 1 else 8
    code = f"""
assert jax.device_count() == {devices}
run(workdir / "whole", total=4)
run(workdir / "parts", total=2)
run(workdir / "parts", total=4)
assert leaves(workdir / "parts") == leaves(workdir / "whole")
"""
    code, text = finish(start(tmp_path, code, devices))
    assert code == 0, text
    assert run(tmp_path / "whole", total=5).step == 5


KILLED = """
save = Checkpoints.save
def killed(self, step, *arguments):
    if step == 4 and {when!r} == "before": os.kill(os.getpid(), signal.SIGKILL)
    save(self, step, *arguments)
    if step == 4:
        if {when!r} == "after":
            self._manager.wait_until_finished()
            assert self.latest() == 4
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = killed
reporting(workdir)
"""


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_kill_at_a_checkpoint_loses_no_report(tmp_path, uninterrupted, when):
    assert finish(start(tmp_path, KILLED.format(when=when)))[0] == -signal.SIGKILL
    steps = Checkpoints(tmp_path / "checkpoints").steps()
    assert steps in {"before": ([2],), "while": ([2], [2, 4]), "after": ([2, 4],)}[when]
    (tmp_path / "pictures" / ".a2b_0000005.png.7.partial").touch()
    (tmp_path / ".config.json.7.partial").touch()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "discriminator/lo')
    reporting(tmp_path)
    assert_all_reported_once(tmp_path, 6)
    assert leaves(tmp_path) == leaves(uninterrupted)
    assert snapshot(tmp_path, "pictures") == snapshot(uninterrupted, "pictures")
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


SLOW = """
class Slow(At):
    def __call__(self, step, state, metrics):
        time.sleep(0.02)
reporting(workdir, 40, [Slow(0, None)], checkpoint_every=3)
"""


def test_kills_at_random_steps_lose_no_report(tmp_path):
    chance, path = random.Random(0), tmp_path / "metrics.jsonl"
    for target in (chance.randint(first, first + 8) for first in (2, 14, 26)):
        process = start(tmp_path, SLOW)
        while not path.exists() or f'{{"step": {target}, ' not in path.read_text():
            assert process.poll() is None, finish(process)
            time.sleep(0.005)
        time.sleep(chance.random() / 20)
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
    reporting(tmp_path, 40, checkpoint_every=3)
    assert_all_reported_once(tmp_path, 40)
    run(tmp_path / "whole", 40, checkpoint_every=40)
    assert leaves(tmp_path) == leaves(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_says_how_to_resume(tmp_path, uninterrupted, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    result = run(tmp_path, hooks=[At(3, lambda: os.kill(os.getpid(), number))])
    assert (result.reason, result.step) == ("preempted", 3)
    assert f"ganattn train --workdir {tmp_path}" in result.message
    assert Checkpoints(tmp_path / "checkpoints").latest() == 3
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert run(tmp_path).reason == "finished"
    assert leaves(tmp_path) == leaves(uninterrupted)


def test_second_signal_interrupts_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, hooks=[At(3, twice)])
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("broken_from", [4, 5], ids=["seen a step later", "seen before a save"])
def test_divergence_names_the_term_and_keeps_the_good_checkpoint(tmp_path, broken_from):
    with pytest.raises(DivergenceError) as error:
        run(tmp_path, total=9, broken_from=broken_from)
    message = str(error.value)
    assert "generator/loss is nan" in message
    assert f"at step {broken_from + 1}; the newest good checkpoint is step 4" in message
    assert "\n" not in message
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2, 4]
    steps = [entry["step"] for entry in lines(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, broken_from + 1))
    assert run(tmp_path, total=5).reason == "finished"


def test_divergence_in_the_last_step_is_not_saved(tmp_path):
    with pytest.raises(DivergenceError, match="at step 3"):
        run(tmp_path, total=3, broken_from=2)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2]


@pytest.mark.parametrize("remove", [False, True], ids=["by its fields", "by its leaves"])
def test_another_architecture_is_refused(tmp_path, remove):
    run(tmp_path, total=2)
    if remove:
        (tmp_path / "config.json").unlink()
    before = snapshot(tmp_path)
    named = (
        "variables/generator/params/Conv_0/kernel has type float32"
        if remove
        else ("config.method.width is 3 there and 5 here")
    )
    with pytest.raises(CheckpointError) as error:
        run(tmp_path, total=4, width=5)
    assert named in str(error.value)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("field", "value"), [("data.batch_size", 0), ("parallel", "threads")], ids=str
)
def test_bad_config_leaves_no_files(tmp_path, field, value):
    config = configure()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=f"config.{field}"):
        train(config, tmp_path / "new", method=Toy.from_config(config), batches=Batches(8))
    assert not (tmp_path / "new").exists()


def test_workdir_that_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        run("file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_state_of_the_step_before_is_gone(tmp_path):
    class Keep:
        def __init__(self):
            self.states = []

        def __call__(self, step, state, metrics):
            leaves, _ = jax.tree_util.tree_flatten_with_path(self.states)
            assert [jax.tree_util.keystr(path) for path, x in leaves if not x.is_deleted()] == []
            assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
            self.states.append(state)

        def close(self):
            pass

    keep = Keep()
    fields = {"histograms_every": 1, "checkpoint_every": 100}  # writing a checkpoint holds buffers
    run(tmp_path, total=3, hooks=[keep], **fields)
    assert len(keep.states) == 3
    keep.states.clear()
    run(tmp_path, total=6, hooks=[keep], **fields)
    assert len(keep.states) == 3


def test_describe_names_config_networks_and_devices():
    config = load(find("ugatit"), "tiny")
    with config.unlocked():
        config.data.batch_size = 2 * jax.device_count()
    text = describe(config)
    assert '"name": "ugatit"' in text
    assert "generator_a2b: " in text
    assert f"2 of {2 * jax.device_count()} examples each" in text
    with config.unlocked():
        config.data.batch_size = 0
    with pytest.raises(ConfigError, match=r"config\.data\.batch_size is 0"):
        describe(config)
