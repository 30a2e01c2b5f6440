"""The options of SPADE's training code: losses, scales, and updates of the generator in turn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_equal
from toy import Batches, Toy, configure

from ganattn import losses, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.methods.families.synthesis import create_optimizers, is_turn, minimize_in_turn


def method_of(name, variant="", **fields):
    config = load(find(name), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config)


@dataclasses.dataclass(frozen=True)
class InTurn(Toy):
    """Updates its generator in some steps; None: always, by `Method.minimize`."""

    every: int | None = 2

    def step(self, state, batch, draws):
        def loss(trained, carried, variables, a, b):
            merged = {**variables, "generator": {**trained["generator"], **carried["generator"]}}
            value = self._loss(merged, a, b, -1.0)
            return value, (carried, value)

        arguments = state.variables, batch["a"], batch["b"]
        if self.every is None:
            state, value = self.minimize(state, "generator", loss, *arguments)
        else:
            turn = is_turn(state.step, self.every, 3)
            state, value = minimize_in_turn(self, state, "generator", turn, loss, *arguments)
        return state, {"generator/loss": value}


@pytest.mark.parametrize("devices", [1, 8])
def test_a_group_waits_for_its_turn(devices):
    """In an epoch of three steps the turns are steps 0 and 2."""
    mesh, batches = parallel.create_mesh(jax.devices()[:devices]), Batches(8)
    toy = InTurn.from_config(configure())
    state = jax.device_put(toy.create_state(jax.random.key(0)), parallel.replicated(mesh))
    always, in_turn = (
        parallel.map_step(dataclasses.replace(toy, every=n).mapped().train_step, mesh, "shard_map")
        for n in (None, 2)
    )
    for number, turn in enumerate([True, False, True, True, False]):
        before, copies = jax.device_get(state.replace(rng=0)), jax.tree.map(jnp.copy, state)
        batch = batches(number)
        updated, value = always(copies, batch)
        state, metrics = in_turn(state, batch)
        expected = updated if turn else before
        for name in ("variables", "opt_state"):
            found = jax.device_get(getattr(state, name))
            assert_equal(found, jax.device_get(getattr(expected, name)), 1e-6 if turn else 0)
        assert metrics["generator/loss"] == pytest.approx(float(value["generator/loss"]), rel=1e-6)


def test_the_generator_follows_the_rate_of_the_steps():
    config = load(find("spade"), "tiny")
    with config.unlocked():
        config.optimizer.update(epoch_steps=3, decay_start_step=3, total_steps=9)
    rates = {}
    for every in (1, 2):
        config.method.generator_every = every
        chain, weights = create_optimizers(config)["generator"], jnp.ones(())
        state, rates[every] = chain.init(weights), []
        for _ in range(9 if every == 1 else 6):
            # Without a first moment, Adam's first steps on equal gradients are the rate.
            update, state = chain.update(jnp.ones(()), state, weights)
            rates[every].append(-float(update))
    assert rates[1] == pytest.approx([1e-4] * 6 + [5e-5] * 3, rel=1e-5)
    steps = [0, 2, 3, 5, 6, 8]  # of the updates, see `is_turn`
    assert rates[2] == pytest.approx([rates[1][i] for i in steps], rel=1e-5)


def test_losses_are_those_of_the_authors_modes():
    x = np.random.default_rng(0).normal(0, 2, (3, 4, 4, 1))
    sigmoid = 1 / (1 + np.exp(-x))
    expected = {
        "hinge": (np.maximum(1 - x, 0), np.maximum(1 + x, 0), -x),
        "cross_entropy": (-np.log(sigmoid), -np.log(1 - sigmoid), -np.log(sigmoid)),
        "least_squares": ((x - 1) ** 2, x**2, (x - 1) ** 2),
        "wasserstein": (-x, x, -x),
    }
    assert set(expected) == set(losses.SYNTHESIS)
    with jax.enable_x64(True):
        for name, values in expected.items():
            discriminator, generator = losses.SYNTHESIS[name]
            found = discriminator(x, True), discriminator(x, False), generator(x)
            np.testing.assert_allclose(found, [v.mean() for v in values], rtol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        {"adversarial": "wasserstein", "discriminator_layers": 3, "discriminator_scales": 3},
        {"generator_every": 3, "feature_matching_weight": 0.0},
    ],
)
def test_nothing_local_leaks_into_the_state(fields, monkeypatch):
    calls = []

    def record(step, every, epoch_steps):
        calls.append((every, epoch_steps))
        return is_turn(step, every, epoch_steps)

    monkeypatch.setattr("ganattn.methods.spade.is_turn", record)
    method = method_of("spade", "tiny", **fields)
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, metrics = jax.eval_shape(step.function, state, method.batch_spec(8))
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    # The tiny variant has epochs of one step.
    assert set(calls) == ({(3, 1)} if "generator_every" in fields else set())
    scales = fields.get("discriminator_scales", 2)
    assert len(state.variables["discriminator"]["params"]) == scales
    assert ("generator/feature_matching" in metrics) == ("feature_matching_weight" not in fields)


def test_variants_of_the_config():
    optimizer = load(find("spade"), "no_ttur").optimizer
    assert (optimizer.ttur, optimizer.beta1, optimizer.beta2) == (False, 0.5, 0.999)
    config = load(find("dagan"), "deepfashion")
    assert (config.data.load_size, config.data.crop_size, config.data.num_classes) == (286, 256, 20)
    assert config.optimizer.total_steps == 2 * config.optimizer.decay_start_step == 93_700
    tiny = load(find("dagan"), "deepfashion,tiny,all_levels")
    assert (tiny.data.crop_size, tiny.method.attention) == (32, "all")
    with pytest.raises(ConfigError, match="unknown config variant 'deepfashion'"):
        load(find("spade"), "deepfashion")
    assert method_of("dagan", "no_feature_matching").weights.feature_matching == 0
