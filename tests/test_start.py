"""Runs that start with another run's networks: what they take, record, need and refuse."""

import json
import shutil

import jax
import numpy as np
import pytest
from toy import Toy, configure, run

from ganattn import parallel
from ganattn.errors import CheckpointError
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.state import flatten
from ganattn.training import hooks


@pytest.fixture(scope="module", autouse=True)
def _without_events():
    """Saves the import of TensorFlow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks, "create_writer", lambda workdir: None)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of 4 steps with moving averages and checkpoints of steps 2 and 4."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    run(workdir, total=4, ema_decay=0.9)
    return workdir


def arrays(workdir, step=None):
    """All arrays of the newest checkpoint by path, or the networks of that step."""
    if step is not None:
        return flatten({"variables": restore_variables(workdir / "checkpoints", step)[0]})
    toy = Toy.from_config(configure(ema_decay=0.9))
    like = jax.eval_shape(toy.create_state, jax.random.key(0))
    state, _ = Checkpoints(workdir / "checkpoints").restore(like, parallel.create_mesh())
    return flatten(jax.device_get(state.replace(rng=jax.random.key_data(state.rng))))


def files(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def start_of(workdir):
    return json.loads((workdir / "start.json").read_text())


def test_a_new_run_takes_the_networks_alone(tmp_path, source):
    before = files(source)
    run(tmp_path / "fresh", total=0, ema_decay=0.9)
    result = run(tmp_path / "new", total=0, ema_decay=0.9, source=source)
    assert (result.reason, result.step) == ("finished", 0)
    fresh, first, last = (arrays(path) for path in (tmp_path / "fresh", tmp_path / "new", source))
    assert first.keys() == last.keys() and first["step"] == 0
    for path, leaf in first.items():
        if path.startswith("variables/"):
            np.testing.assert_array_equal(leaf, last[path], err_msg=path)
        elif path.startswith("ema/"):  # a copy of what was trained, not of the average
            trained = path.replace("ema/", "variables/", 1)
            np.testing.assert_array_equal(leaf, last[trained], err_msg=path)
            assert not np.array_equal(leaf, last[path]), path
        else:
            np.testing.assert_array_equal(leaf, fresh[path], err_msg=path)
    record = start_of(tmp_path / "new")
    assert (record["workdir"], record["step"]) == (str(source), 4)
    assert (record["method"], record["networks"]) == ("toy", ["discriminator", "generator"])
    assert files(source) == before


def test_it_resumes_without_its_source(tmp_path, source):
    copy = shutil.copytree(source, tmp_path / "source")
    run(tmp_path / "parts", total=1, ema_decay=0.9, source=copy)
    run(tmp_path / "whole", total=3, ema_decay=0.9, source=copy)
    shutil.rmtree(copy)
    run(tmp_path / "parts", total=2, ema_decay=0.9)
    run(tmp_path / "parts", total=3, ema_decay=0.9, source=copy)  # the same command again
    parts, whole = arrays(tmp_path / "parts"), arrays(tmp_path / "whole")
    assert whole["step"] == 3
    for path, leaf in whole.items():
        np.testing.assert_array_equal(parts[path], leaf, err_msg=path)


def test_any_step_of_the_source(tmp_path, source):
    run(tmp_path, total=0, ema_decay=0.9, source=source, source_step=2)
    assert start_of(tmp_path)["step"] == 2
    name = "variables/generator/params/Conv_0/kernel"
    first, second = arrays(tmp_path, 0), arrays(source, 2)
    np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first[name], arrays(source, 4)[name])
    with pytest.raises(CheckpointError, match=f"did not start from step 4 of {source}"):
        run(tmp_path, total=1, ema_decay=0.9, source=source, source_step=4)


def test_a_damaged_checkpoint_is_skipped(tmp_path, source):
    copy = shutil.copytree(source, tmp_path / "source")
    for path in (copy / "checkpoints" / "4" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    run(tmp_path / "new", total=0, ema_decay=0.9, source=copy)
    assert start_of(tmp_path / "new")["step"] == 2


def test_networks_that_do_not_fit_are_one_line(tmp_path, source):
    with pytest.raises(CheckpointError) as error:
        run(tmp_path / "new", source=source, width=5)
    assert str(error.value).startswith(f"step 4 of {source}: the variables are of another archit")
    assert "generator/params/Conv_0/bias has shape (3,) and not (5,)" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*/none/checkpoints"):
        run(tmp_path / "new", source=tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_origin_is_left_alone(tmp_path, source):
    run(tmp_path / "run", total=2)
    before = files(tmp_path)
    with pytest.raises(CheckpointError, match=f"did not start from {source}: leave out --from"):
        run(tmp_path / "run", total=4, source=source)
    assert files(tmp_path) == before


def test_a_fresh_run_has_no_origin(tmp_path):
    """Of a run that was killed before its first checkpoint, only the record may be left."""
    (tmp_path / "start.json").write_text("{}")
    run(tmp_path, total=1)
    assert not (tmp_path / "start.json").exists()
