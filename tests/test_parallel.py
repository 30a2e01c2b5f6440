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
from ganattn.methods import base

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

    def train_step(self, state, batch):
        new, metrics = super().train_step(state, batch)
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
    tree = {"x": jnp.arange(3.0)}
    for function in (parallel.mean_over, parallel.gather, parallel.vary):
        assert function(tree, None) is tree


def test_examples_have_the_same_keys_on_any_number_of_devices():
    key = jax.random.key(3)
    whole = jax.random.key_data(parallel.example_keys(key, BATCH, None))
    mesh = parallel.create_mesh()
    mapped = jax.shard_map(
        lambda x: jax.random.key_data(parallel.example_keys(key, len(x), base.AXIS)),
        mesh=mesh,
        in_specs=PartitionSpec(base.AXIS),
        out_specs=PartitionSpec(base.AXIS),
    )
    np.testing.assert_array_equal(jax.jit(mapped)(jnp.zeros((BATCH, 1))), whole)
    assert len(np.unique(whole, axis=0)) == BATCH
