"""Gradient accumulation gives what the undivided batch gives."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from reference import assert_equal, train_on

from ganattn import methods, parallel
from ganattn.config import find, load

BATCH = 8
STEPS = 2
# Config and variant -> why the result differs from that of the undivided batch; "" where it is the
# same. A new method adds its lines here.
CASES = {
    ("ugatit", "tiny"): "",
    ("cyclegan", "tiny,dropout"): "",
    ("cyclegan", "tiny,batch_norm"): "batch normalization mixes the examples of a part",
    ("guidance", "tiny,buffer"): "",
    ("guidance", "tiny,trainable"): "batch normalization mixes the examples of a part",
}


def method_of(name, variant, parts):
    return dataclasses.replace(methods.create(load(find(name), variant)), accumulate_steps=parts)


def batches(method):
    """Images that come again with the same indices, twice in one batch as well."""
    random = np.random.default_rng(0)
    spec = method.batch_spec(BATCH)

    def array(shape):
        if np.issubdtype(shape.dtype, np.integer):
            return random.integers(0, 4, shape.shape).astype(shape.dtype)
        return random.uniform(-1, 1, shape.shape).astype(shape.dtype)

    return [{name: array(shape) for name, shape in spec.items()} for _ in range(STEPS)]


@functools.cache
def result(case, parts, devices=1):
    method = method_of(*case, parts)
    return train_on(method, batches(method), devices, "pmap" if devices > 1 else None)


@pytest.mark.parametrize("case", [case for case, reason in CASES.items() if not reason])
@pytest.mark.parametrize("devices", [1, 2])
def test_parts_give_what_the_batch_gives(x64, case, devices):
    expected, metrics = result(case, 1)
    state, same_metrics = result(case, 2, devices)
    assert int(state.step) == STEPS
    assert_equal((state, same_metrics), (expected, metrics), 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_nothing_local_leaks_into_the_state_which_keeps_its_kind(case):
    method = method_of(*case, 2)
    mesh = parallel.create_mesh(jax.devices()[:2])
    step = parallel.map_step(method.mapped().train_step, mesh, "shard_map")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, _ = jax.eval_shape(step.function, state, method.batch_spec(BATCH))
    kind = lambda leaf: (leaf.shape, leaf.dtype)  # noqa: E731
    assert jax.tree.map(kind, new) == jax.tree.map(kind, state)
