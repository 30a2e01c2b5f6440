"""The loop: resume, kill, signals, divergence, refusals, and what it leaves in the workdir."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from toy import At, Batches, Toy, configure, run

from ganattn.config import find, load
from ganattn.errors import CheckpointError, ConfigError, DivergenceError
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.training import hooks
from ganattn.training.loop import describe, train


def leaves(workdir, step=None):
    """Path, dtype, shape and SHA-256 of every leaf of a checkpoint: equal means bit-equal."""
    return restore_variables(workdir / "checkpoints", step)[1]["leaves"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def snapshot(directory):
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def start(workdir, code, devices=None):
    """Runs `code` in a process of its own, with these names and as many devices as here."""
    preamble = (
        f"import os, signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "sys.modules['tensorflow'] = None\n"
        f"from test_train import *; workdir = Path({str(workdir)!r})\n"
    )
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(jax.config.jax_enable_x64),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices or jax.device_count()}",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = [sys.executable, "-c", preamble + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


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
    run(workdir)
    return workdir


def test_files_of_a_run(tmp_path):
    result = run(tmp_path / "run", total=5)
    assert (result.reason, result.step, result.workdir) == ("finished", 5, tmp_path / "run")
    assert set(result.metrics) == {"generator/loss", "critic/loss"}
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
    process = start(tmp_path, code, devices)
    assert process.returncode == 0, process.stderr
    assert run(tmp_path / "whole", total=5).step == 5


@pytest.mark.parametrize("step", [4, 5], ids=["while a checkpoint is written", "between"])
def test_kill_then_resume_is_bit_equal(tmp_path, uninterrupted, step):
    code = f"run(workdir, hooks=[At({step}, lambda: os.kill(os.getpid(), signal.SIGKILL))])"
    assert start(tmp_path, code).returncode == -signal.SIGKILL
    kept = Checkpoints(tmp_path / "checkpoints").steps()
    assert kept in ([2], [2, 4])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "critic/lo')
    run(tmp_path)
    assert leaves(tmp_path) == leaves(uninterrupted)
    assert [entry["step"] for entry in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


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
        "variables/generator/params/Conv_0/kernel is float32"
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


def test_workdir_that_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ConfigError, match="is no folder"):
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
