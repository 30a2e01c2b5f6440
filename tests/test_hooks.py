"""What happens now and then during training, each hook with real files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from toy import Batches, Toy, configure, run

from ganattn import figures
from ganattn.errors import DivergenceError
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.training import hooks


@pytest.fixture
def no_events(monkeypatch):
    """Saves the import of TensorFlow."""
    monkeypatch.setattr(hooks, "create_writer", lambda workdir: None)


def test_readers_get_numbers_one_step_late():
    seen = []

    class Reader:
        def __call__(self, step, state, metrics):
            seen.append((step, state, metrics))

        def close(self):
            seen.append("closed")

    class Saver(Reader):
        def __call__(self, step, state, metrics):
            seen.append(step)

        def save(self, step, state, metrics):
            seen.append(("saved", step))

    chain = hooks.Hooks([Reader()], [], Saver())
    for step in (1, 2):
        chain(step, "state", {"loss": jnp.asarray(step + 0.5)})
    assert chain.finish(2, "state") == {"loss": 2.5}
    chain.close()
    assert seen == [
        1,
        (1, None, {"loss": 1.5}),
        2,
        (2, None, {"loss": 2.5}),
        ("saved", 2),
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
        hooks.SaveCheckpoints(store, config, 2)(2, state, {"loss": jnp.ones(())})
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


def test_pictures_are_drawn_in_the_order_of_the_method(tmp_path, no_events):
    run(tmp_path, total=4, pictures_every=2)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["a2b_0000002.png", "a2b_0000004.png"]
    variables, _ = restore_variables(tmp_path / "checkpoints")
    grids = Toy.from_config(configure()).pictures(variables, Batches(8).test_batch(8))
    columns = {name: np.asarray(images) for name, images in grids["a2b"].items()}
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
    assert b"critic/loss" in content
    assert b"generator/rho" in content
    assert b"a2b" in content
