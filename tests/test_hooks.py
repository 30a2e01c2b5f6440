"""Training hooks, each with real files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from toy import Batches, Toy, configure, run

from ganattn import figures
from ganattn.errors import DivergenceError
from ganattn.runs.checkpoints import Checkpoints, restore_trees, restore_variables
from ganattn.state import with_averages
from ganattn.training import hooks
from ganattn.training.saving import SaveCheckpoints


@pytest.fixture
def no_events(monkeypatch):
    """Saves the import of TensorFlow."""
    monkeypatch.setattr(hooks, "create_writer", lambda workdir: None)


def test_readers_get_numbers_one_step_late_but_before_a_save():
    events = []

    class Reader:
        def __call__(self, step, state, metrics):
            events.append((step, state, metrics))

        def flush(self):
            events.append("flushed")

        def close(self):
            events.append("closed")

    class Watcher:  # that buffers nothing
        def __call__(self, step, state, metrics):
            events.append(step)

        def close(self):
            events.append("closed")

    class Saver(Watcher):
        def due(self, step):
            return step == 3

        def save(self, step, state):
            events.append(("saved", step))

    chain = hooks.Hooks([Reader()], [Watcher()], Saver())
    for step in (1, 2, 3, 4):
        chain(step, "state", {"loss": jnp.asarray(step + 0.5)})
    assert chain.finish(4, "state") == {"loss": 4.5}
    chain.close()
    assert events == [
        1,
        (1, None, {"loss": 1.5}),
        2,
        (2, None, {"loss": 2.5}),
        (3, None, {"loss": 3.5}),
        3,
        "flushed",
        ("saved", 3),
        4,
        (4, None, {"loss": 4.5}),
        "flushed",
        ("saved", 4),
        "closed",
        "closed",
        "closed",
    ]


def test_state_with_a_bad_leaf_is_not_saved(tmp_path):
    config = configure()
    store = Checkpoints(tmp_path)
    state = Toy.from_config(config).create_state(jax.random.key(0))
    state.variables["generator"]["params"]["Conv_0"]["bias"] = jnp.array([0.0, jnp.inf, 0.0])
    name = "variables/generator/params/Conv_0/bias is not finite at step 2"
    with pytest.raises(DivergenceError, match=name):
        SaveCheckpoints(store, config, 2).save(2, state)
    assert store.steps() == []


def test_rho_lines(tmp_path, no_events):
    run(tmp_path, total=4, histograms_every=2)
    entries = [json.loads(line) for line in (tmp_path / "rho.jsonl").read_text().splitlines()]
    rho = restore_variables(tmp_path / "checkpoints")[0]["generator"]["rho"]["rho"]
    assert [entry["step"] for entry in entries] == [2, 4]
    assert entries[1]["generator/rho"] == {
        "mean": float(rho.mean()),
        "min": float(rho.min()),
        "max": float(rho.max()),
    }


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_figures_are_drawn_in_the_order_of_the_method(tmp_path, no_events, ema_decay):
    run(tmp_path, total=4, pictures_every=2, ema_decay=ema_decay)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["a2b_0000002.png", "a2b_0000004.png"]
    trees, _ = restore_trees(tmp_path / "checkpoints", None, ("variables", "ema"))
    assert bool(trees["ema"]) == bool(ema_decay)
    variables = with_averages(trees["variables"], trees["ema"])
    batch = Batches(8).test_batch(8)
    panels = Toy.from_config(configure()).panels(variables, batch, jax.random.key(0))
    columns = {name: np.asarray(images) for name, images in panels["a2b"].items()}
    assert list(columns) == ["source", "attention", "translation"]
    figures.save_grid(tmp_path / "expected.png", columns)
    drawn, expected = (
        np.asarray(PIL.Image.open(path), np.float32)
        for path in (tmp_path / "pictures" / names[1], tmp_path / "expected.png")
    )
    assert drawn.shape == expected.shape
    np.testing.assert_allclose(drawn, expected, atol=2)  # jitted or not, a level may tip


def test_profile_is_written(tmp_path, no_events):
    run(tmp_path, total=4, profile_at=2)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorflow")
    run(tmp_path, total=2, histograms_every=1, pictures_every=2)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    content = events.read_bytes()
    assert b"discriminator/loss" in content
    assert b"generator/rho" in content
    assert b"a2b" in content
