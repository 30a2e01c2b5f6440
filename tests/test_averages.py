"""Moving averages of the generators, which every method has through its base class."""

import dataclasses

import jax
import numpy as np
import pytest
from reference import assert_equal

from ganattn import methods
from ganattn.config import find, load
from ganattn.state import TRAINED

STEPS = 3
# A new method adds its line here.
CASES = [("ugatit", "tiny"), ("cyclegan", "tiny,no_identity"), ("guidance", "tiny,trainable")]


def averaged(method, variables):
    return {
        name: {kind: tree for kind, tree in variables[name].items() if kind in TRAINED}
        for name in method.groups["generator"]
    }


def batches(method):
    random = np.random.default_rng(0)
    return [
        {name: random.uniform(-1, 1, x.shape).astype(x.dtype) for name, x in spec.items()}
        for spec in [method.batch_spec(1)] * STEPS
    ]


@pytest.mark.parametrize("case", CASES)
def test_averages_equal_those_computed_by_hand(case):
    name, variant = case
    plain = methods.create(load(find(name), variant))
    method = dataclasses.replace(plain, ema_decay=0.75, ema_start_step=1)
    state = jax.jit(method.create_state)(jax.random.key(0))
    expected = averaged(method, state.variables)
    assert_equal(state.ema, expected, 0)
    step = jax.jit(method.train_step)
    for number, batch in enumerate(batches(method), start=1):
        state, _ = step(state, batch)
        decay = 0.75 if number > 1 else 0.0
        expected = jax.tree.map(
            lambda average, value, decay=decay: decay * average + (1 - decay) * value,
            expected,
            averaged(method, state.variables),
        )
        assert_equal(state.ema, expected, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_there_is_no_average_by_default(case):
    method = methods.create(load(find(case[0]), case[1]))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, _ = jax.eval_shape(method.train_step, state, method.batch_spec(2))
    assert state.ema == new.ema == {}
