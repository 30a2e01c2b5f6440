"""The arithmetic of launch/scaling.py, on programs small enough to count by hand."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from toy import Toy, configure

from ganattn.layers.convolution import convolve
from ganattn.layers.lowering import lowering_for

LAUNCH = Path(__file__).parents[1] / "launch"


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", LAUNCH / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(LAUNCH)  # as Python does for a script
        patch.setitem(sys.modules, "scaling", module)  # dataclasses look there
        spec.loader.exec_module(module)
        yield module


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_operations_are_those_of_the_plain_convolution(scaling):
    shapes = floats(1, 18, 18, 32), floats(3, 3, 32, 64)
    with lowering_for("tpu"):
        plain = scaling.count_flops(lambda x, k: convolve(x, k), *shapes)
    assert plain == 2 * 16 * 16 * 3 * 3 * 32 * 64
    assert scaling.count_flops(lambda x, k: convolve(x, k), *shapes) != plain  # Winograd's


def test_memory_is_what_is_alive_at_once(scaling):
    def step(x):
        one = jnp.sin(x)  # alive until the last line
        two = jax.jit(jnp.cos)(one)
        three = jax.jit(jnp.cos)(two)  # and two dies here
        return (one * three.reshape(4, 25).reshape(100)).sum()

    program = jax.make_jaxpr(step)(floats(100)).jaxpr
    assert scaling.peak_bytes(program) == 3 * 400


def test_collectives_are_gradients_and_metrics(scaling):
    method = Toy.from_config(configure())
    state = jax.eval_shape(method.create_state, jax.eval_shape(lambda: jax.random.key(0)))
    batch = method.batch_spec(4)
    _, metrics = jax.eval_shape(method.train_step, state, batch)
    program = scaling.trace(method, state, batch)
    found = scaling.collective_bytes(program)
    trained = sum(x.size * 4 for x in jax.tree.leaves(state.variables))
    assert found["reduced"] == trained + 4 * len(metrics) + 4  # and what the memory keeps
    assert found["gathered"] == 0


@pytest.fixture
def costs(scaling):
    """1 TFLOP and 1 GB an image, 1 GB of parameters."""
    return scaling.Costs(
        "toy", "256x256", 1, scaling.Line(0, 1e12), 1e9, 3e9, 1e9, scaling.Line(0, 1e9),
        reduced=1e9, gathered=scaling.Line(0, 0), files=2, file_pixels=256**2,
    )  # fmt: skip


def test_limits_of_a_machine(scaling, costs):
    # 10 ms an image at 40 % of 250 TFLOP/s; 2 GB out of two chips at 50 GB/s take 20 ms.
    machine = scaling.Machine("two", 2, 1, 1, 250, 20, 1e6, 50)
    assert costs.seconds(3, machine) == pytest.approx(0.03)
    assert costs.network_seconds(3, machine) == pytest.approx(0.02)
    assert costs.network_limit(machine) == 2
    assert costs.largest_batch(machine) == 14  # 18 - 3 - 1 GB
    pool = dataclasses.replace(costs, gathered=scaling.Line(0, 1e9))
    many = dataclasses.replace(machine, chips=8)
    assert costs.largest_batch(many) == 14 and pool.largest_batch(many) == 2  # 7 GB an image
    assert pool.network_seconds(1, many) == pytest.approx(0.035 + 0.14)
    # Two files for each of two chips' images in 20 ms, whether there is one or two of them.
    assert costs.images_needed(1, machine) == pytest.approx(200)
    assert costs.images_needed(2, machine) == pytest.approx(400)
    assert costs.images_needed(9, machine) == pytest.approx(400)
    assert costs.input_limit(machine) is None
    slow = dataclasses.replace(costs, file_pixels=2 * 256**2)
    assert slow.cores_needed(1, machine) == pytest.approx(200 / 262.5)
    assert slow.input_limit(machine) == 2
    # With slow memory the step is its traffic: 10 GB for parameters, 2 for each image.
    memory = dataclasses.replace(machine, memory_speed=100)
    assert costs.seconds(1, memory) == pytest.approx(0.12)


def test_tables_are_put_in_their_places(scaling):
    text = "a\n<!-- table x -->\nold\n<!-- end -->\nb\n<!-- table y -->\n<!-- end -->\n"
    filled = scaling.fill(text, {"x": "new"})
    assert "old" not in filled and filled.startswith("a\n") and "new" in filled
    assert scaling.fill(filled, {"x": "new"}) == filled
    with pytest.raises(ValueError, match="no place for the table z"):
        scaling.fill(text, {"z": "new"})


def test_the_document_has_a_row_for_every_method_in_every_table(scaling):
    text = (LAUNCH / "SCALING.md").read_text(encoding="utf-8")
    for table in ("costs", *(machine.name for machine in scaling.MACHINES)):
        rows = text.split(f"<!-- table {table} -->")[1].split("<!-- end -->")[0]
        names = [line.split("`")[1] for line in rows.splitlines() if "`" in line]
        assert names == scaling.configs(), f"run launch/scaling.py --output: {table} is old"
