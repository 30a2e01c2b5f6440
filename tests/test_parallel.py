"""The mapped step on any number of devices, by either back end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from toy import Batches, Toy, configure

from ganattn import parallel
from ganattn.errors import ConfigError

BATCH = 8


@pytest.fixture
def method():
    return Toy.from_config(configure())


def in_float64(method):
    variables = method.create_state(jax.random.key(0)).variables
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)


def run(step, state, steps=3):
    batches = Batches(BATCH)
    for i in range(steps):
        state, metrics = step(state, batches(i))
    return jax.tree.map(np.asarray, (state.variables, state.memory, dict(metrics)))


def test_any_number_of_devices_equals_one(method, x64):
    given = in_float64(method)
    expected = run(jax.jit(method.train_step), method.create_state(jax.random.key(1), given))
    for backend in ("pmap", "shard_map"):
        for count in (1, 2, 8):
            mesh = parallel.create_mesh(jax.devices()[:count])
            create = lambda g: method.create_state(jax.random.key(1), g)  # noqa: E731
            state = parallel.replicate(create, mesh)(given)
            found = run(parallel.map_step(method.mapped().train_step, mesh, backend), state)
            jax.tree.map(
                lambda one, other: np.testing.assert_allclose(one, other, 1e-10, 1e-13),
                found,
                expected,
            )


@dataclasses.dataclass(frozen=True)
class Forgetful(Toy):
    """Forgets to average its metrics."""

    def train_step(self, state, batch, draws=None):
        new, metrics = super().train_step(state, batch, draws)
        return new, {**metrics, "generator/local": batch["a"].mean()}


def test_the_checked_back_end_finds_a_forgotten_mean():
    method = Forgetful.from_config(configure())
    mesh = parallel.create_mesh()
    state = parallel.replicate(method.create_state, mesh)(jax.random.key(0))
    step = parallel.map_step(method.mapped().train_step, mesh, "shard_map")
    with pytest.raises(ValueError, match=r"out_specs|varying|replicated"):
        step(state, Batches(BATCH)(0))


def test_the_state_is_taken_and_the_callers_arrays_are_not(method):
    mesh = parallel.create_mesh()
    given = method.create_state(jax.random.key(0)).variables
    create = lambda g: method.create_state(jax.random.key(0), g)  # noqa: E731
    for backend in ("pmap", "shard_map"):
        state = parallel.replicate(create, mesh)(given)
        step = parallel.map_step(method.mapped().train_step, mesh, backend)
        batch = Batches(BATCH)(0)
        new, _ = step(state, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.opt_state))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((given, new)))


@pytest.mark.parametrize("size", [0, 3, 12])
def test_a_batch_that_devices_do_not_divide(size):
    with pytest.raises(ConfigError, match=f"batch_size is {size}, which 8 devices do not divide"):
        parallel.check_batch_size(size, parallel.create_mesh())


def test_an_unknown_back_end_is_named(method):
    with pytest.raises(ConfigError, match="xmap"):
        parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "xmap")


def test_nothing_happens_on_one_device():
    tree, examples = {"x": jnp.arange(3.0)}, parallel.Examples()
    for function in (examples.mean, examples.gather, examples.vary):
        assert function(tree) is tree
    assert examples.first(3) == 0
    np.testing.assert_array_equal(examples.own(tree, 3)["x"], tree["x"])


def test_examples_of_accumulation_are_those_of_the_batch(x64):
    """Keys, gathered examples and means do not depend on the number of parts."""

    def step(examples, data):
        count = len(data["x"])
        keys = jax.random.key_data(examples.keys(jax.random.key(3), count))[:, 0]
        every, all_keys = examples.gather((data["x"], keys))
        own = examples.own(every**2, count)
        return examples.mean({"own": own.sum(), "x": data["x"].sum()}), every, all_keys

    data = {"x": jnp.arange(16.0).reshape(8, 2)}
    expected = step(parallel.Examples(), data)
    for parts in (1, 2, 4):
        means, every, keys = parallel.accumulate(step, parts, parallel.Examples(), data)
        np.testing.assert_array_equal(every, expected[1])
        np.testing.assert_array_equal(keys, expected[2])
        for name, value in means.items():
            np.testing.assert_allclose(value * parts, expected[0][name])


def test_examples_have_the_same_keys_on_any_number_of_devices():
    key = jax.random.key(3)
    expected = jax.random.key_data(parallel.Examples().keys(key, BATCH))
    mesh = parallel.create_mesh()
    mapped = jax.shard_map(
        lambda x: jax.random.key_data(parallel.Examples(parallel.AXIS).keys(key, len(x))),
        mesh=mesh,
        in_specs=PartitionSpec(parallel.AXIS),
        out_specs=PartitionSpec(parallel.AXIS),
    )
    np.testing.assert_array_equal(jax.jit(mapped)(jnp.zeros((BATCH, 1))), expected)
    assert len(np.unique(expected, axis=0)) == BATCH
