"""The benchmark script finds the batch of every kind of method."""

import importlib.util
import sys
from pathlib import Path

import jax
import pytest

from ganattn import methods
from ganattn.config import find, load

SCRIPT = Path(__file__).parent.parent / "launch" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


@pytest.mark.parametrize("name", ["cyclegan", "dagan", "munit", "sndcgan", "spade"])
def test_a_step_accepts_the_random_batch(benchmark, name):
    method = methods.create(load(find(name), "tiny"))
    batch = benchmark.random_batch(method, 2)
    assert all(len(array) == 2 for array in batch.values())
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    _, metrics = jax.eval_shape(method.train_step, state, batch)
    assert metrics
