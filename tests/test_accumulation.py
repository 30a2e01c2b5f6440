"""Gradient accumulation gives what the undivided batch gives."""

import jax
import numpy as np
import pytest
from reference import assert_equal, train_on

from ganattn import methods, parallel
from ganattn.config import find, load
from ganattn.state import flatten

BATCH = 4
STEPS = 2
SLOW = pytest.mark.slow
SIDE = {"spade": 32}  # pixels of an image; of the others, the least that all of them take
# Config and variant -> why the result differs from that of the undivided batch; "" where it is the
# same. A new method adds its lines here.
CASES = {
    ("ugatit", "tiny"): "",
    ("cyclegan", "tiny,dropout"): "",
    ("cyclegan", "tiny,batch_norm"): "batch normalization mixes the examples of a part",
    ("guidance", "tiny,buffer"): "",
    ("guidance", "tiny,trainable"): "batch normalization mixes the examples of a part",
    ("spade", "tiny,instance_norm"): "",
}
# It combines in every way: means, the pool of fakes and the buffer of attention maps.
ON_TWO_DEVICES = ("guidance", "tiny,buffer")
EXACT = [
    pytest.param(case, 1 + (case == ON_TWO_DEVICES), marks=SLOW if case[0] == "spade" else ())
    for case, reason in CASES.items()
    if not reason
]


def method_of(name, variant, parts):
    config = load(find(name), variant)
    with config.unlocked():
        side = SIDE.get(name, 24)
        config.method.update({k: side for k in ("image_size", "crop_size") if k in config.method})
        config.optimizer.accumulate_steps = parts
    return methods.create(config)


def batches(method):
    """Images that come again with the same indices, twice in one batch as well."""
    random = np.random.default_rng(0)
    spec = method.batch_spec(BATCH)

    def array(shape):
        if np.issubdtype(shape.dtype, np.integer):
            return random.integers(0, 3, shape.shape).astype(shape.dtype)
        return random.uniform(-1, 1, shape.shape).astype(shape.dtype)

    return [{name: array(shape) for name, shape in spec.items()} for _ in range(STEPS)]


def result(case, parts, devices=1):
    method = method_of(*case, parts)
    return train_on(method, batches(method), devices, "pmap" if devices > 1 else None)


def comparable(state, name):
    """The leaves by path, without those of SPADE that drift by rounding alone.

    Instance normalization removes what a bias before it adds. At this size it also removes all that
    the first layer and the first block give, whose maps have one pixel. So these parameters have
    no gradients but rounding errors, which Adam enlarges to full steps.
    """
    leaves = flatten(state)
    if name != "spade":
        return leaves
    drifting = {path for path in leaves if "/start/" in path or "/head_0/" in path}
    drifting |= {path for path in leaves if path.endswith("/bias")}
    return {path: leaf for path, leaf in leaves.items() if path not in drifting}


@pytest.mark.parametrize(("case", "devices"), EXACT)
def test_parts_give_what_the_batch_gives(x64, case, devices):
    expected, metrics = result(case, 1)
    state, same_metrics = result(case, 2, devices)
    assert int(state.step) == STEPS
    assert_equal(same_metrics, metrics, 1e-9)
    assert_equal(comparable(state, case[0]), comparable(expected, case[0]), 1e-9)


@pytest.mark.parametrize(
    "case", [ON_TWO_DEVICES, ("cyclegan", "tiny,batch_norm"), ("cartoongan", "tiny")]
)
def test_nothing_local_leaks_into_the_state_which_keeps_its_kind(case):
    method = method_of(*case, 2)
    mesh = parallel.create_mesh(jax.devices()[:2])
    step = parallel.map_step(method.mapped().train_step, mesh, "shard_map")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, _ = jax.eval_shape(step.function, state, method.batch_spec(BATCH))
    kind = lambda leaf: (leaf.shape, leaf.dtype)  # noqa: E731
    assert jax.tree.map(kind, new) == jax.tree.map(kind, state)
