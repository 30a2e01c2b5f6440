"""The contract of every method, checked on the tiny variant of every config.

A new config file is discovered. One compiled step per config, with a moving average, serves most
properties.
"""

import dataclasses
import functools
import itertools
import json
import tempfile

import float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import OPTIMIZED, filled

from ganattn import data, methods, parallel
from ganattn.config import folder, from_dict, load, to_dict
from ganattn.errors import ConfigError
from ganattn.runs.checkpoints import Checkpoints
from ganattn.state import TRAINED, flatten

CONFIGS = {path.stem: path for path in sorted(folder().glob("*.py"))}
STEPS = 3
DEVICES = 8
EMA_DECAY, EMA_START = 0.5, 1


def tiny(name):
    return load(CONFIGS[name], "tiny")


def seed():
    return np.asarray(jax.random.key_data(jax.random.key(0)))


def collection(name):
    """ "variables/generator_a2b/params/encode1/kernel" -> "params"."""
    return name.split("/")[2]


@dataclasses.dataclass
class Run:
    """A few steps on all devices in float64: states and metrics along the way, on the host."""

    method: object
    batches: list
    given: dict
    step: parallel.MappedStep
    traces: int
    layout: list
    states: list
    metrics: list
    donated: bool
    restored_at: int
    resumed: dict  # the last state again, by way of a checkpoint of the one before


@functools.cache
def run(name):
    config = tiny(name)
    method = dataclasses.replace(
        methods.create(config), ema_decay=EMA_DECAY, ema_start_step=EMA_START
    )
    mesh = parallel.create_mesh(jax.devices()[:DEVICES])
    source = data.create(config)
    batches = [source(step) for step in range(STEPS)]
    source.close()
    given = filled(method)
    traces = []
    store = Checkpoints(tempfile.mkdtemp())

    def counted(state, batch):
        traces.append(1)
        return method.mapped().train_step(state, batch)

    with jax.enable_x64(True):
        create = parallel.replicate(lambda g: method.create_state(jax.random.key(0), g), mesh)
        state = create(given)
        mapped = parallel.map_step(counted, mesh, "pmap")
        lowered = mapped.function.lower(state, mapped.place(batches[0]))
        step = dataclasses.replace(mapped, function=lowered.compile())
        layouts, states, metrics = [layout(state)], [fetch(state)], []
        for batch in batches:
            before = state
            state, values = step(state, batch)
            layouts.append(layout(state))
            states.append(fetch(state))
            metrics.append(jax.device_get(values))
            if len(states) == STEPS:
                store.save(STEPS - 1, state, to_dict(config))
                store.wait()
        donated = all(leaf.is_deleted() for leaf in flatten(before.opt_state).values())
        like = jax.eval_shape(lambda g: method.create_state(jax.random.key(0), g), given)
        restored, meta = store.restore(like, mesh)
        resumed = fetch(step(restored, batches[-1])[0])
    store.close()
    return Run(
        method,
        batches,
        given,
        step,
        len(traces),
        layouts,
        states,
        metrics,
        donated,
        meta["step"],
        resumed,
    )


def fetch(state):
    raw = state.replace(rng=jax.random.key_data(state.rng))
    # Of a copy: numpy's view of a buffer would keep the step from taking it.
    return {name: np.asarray(jnp.copy(leaf)) for name, leaf in flatten(raw).items()}


def layout(state):
    return {
        name: (leaf.shape, leaf.dtype, leaf.is_fully_replicated)
        for name, leaf in flatten(state).items()
    }


def draw(spec, count):
    """Examples of one input of `Method.generate`."""
    rng, shape = np.random.default_rng(0), (count, *spec.shape)
    if spec.kind == "ids":
        return jnp.asarray(rng.integers(0, spec.classes or 5, shape), jnp.int32)
    values = rng.normal(size=shape) if spec.kind == "vector" else rng.uniform(-1, 1, shape)
    return jnp.asarray(values, jnp.float32)


class Contract:
    """What every method promises. A class per config, so that two workers share them."""

    def test_state_keeps_its_layout(self, name):
        first, *later = run(name).layout
        assert all(replicated for _, _, replicated in first.values())
        for each in later:
            assert each == first

    def test_step_compiles_once_and_takes_its_state(self, name):
        assert run(name).traces == 1
        assert run(name).donated

    def test_a_step_moves_what_it_trains_and_counts(self, name):
        states = run(name).states
        first, last = states[0], states[-1]
        trained = [
            n for n in first if n.startswith("variables/") and collection(n) in ("params", "rho")
        ]
        still = {n for n in first if np.array_equal(first[n], last[n])}
        # A single number may stay: a unit vector of one, a bias that moves all logits alike.
        wide = {n for n in first if n.startswith("variables/") and first[n].size > 1}
        # A network without a group, such as that of a perceptual loss, is fixed.
        networks = set(itertools.chain(*run(name).method.groups.values()))
        fixed = {n for n in wide if n.split("/")[1] not in networks}
        assert trained and not still & (wide - fixed) and fixed <= still
        assert int(last["step"]) == STEPS
        np.testing.assert_array_equal(first["rng"], last["rng"])

    def test_moving_average_follows_what_the_generator_group_trains(self, name):
        method, states = run(name).method, run(name).states
        first = {path: leaf for path, leaf in states[0].items() if path.startswith("ema/")}
        assert {path.split("/")[1] for path in first} == set(method.groups["generator"])
        assert {path.split("/")[2] for path in first} <= set(TRAINED)
        for number, (before, after) in enumerate(itertools.pairwise(states), 1):
            decay = 0.0 if number <= EMA_START else EMA_DECAY
            for path in first:
                value = after[path.replace("ema/", "variables/", 1)]
                expected = decay * before[path] + (1 - decay) * value
                np.testing.assert_allclose(after[path], expected, 1e-12, 1e-15, err_msg=path)

    def test_metrics_are_finite_scalars_named_by_group(self, name):
        for metrics in run(name).metrics:
            assert all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())
            groups = {metric.split("/")[0] for metric in metrics}
            assert groups == set(run(name).method.groups)
            assert all(f"{group}/total" in metrics for group in groups)

    def test_state_around_given_variables_leaves_them_to_the_caller(self, name):
        method, last = run(name).method, run(name).states[-1]
        given = jax.eval_shape(method.create_state, seed()).variables
        given = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), given)
        state = method.create_state(jax.random.key(0), given)
        jax.tree.map(lambda leaf: leaf.delete(), state.variables)
        assert not any(leaf.is_deleted() for leaf in flatten(given).values())
        assert last.keys() == fetch(method.create_state(jax.random.key(0), given)).keys()

    def test_one_device_equals_many(self, name, x64):
        """Metrics, not weights: a bias before a normalization drifts by rounding alone.

        The one device keeps no moving average, so this also shows that one does not change
        training. Its step is optimized, so no result depends on how operations are fused.
        """
        method = dataclasses.replace(run(name).method, ema_decay=0.0)
        state = method.create_state(jax.random.key(0), run(name).given)
        with float64.by_library():
            lowered = jax.jit(method.train_step).lower(state, run(name).batches[0])
        step = lowered.compile(compiler_options=OPTIMIZED)
        for batch, mapped in zip(run(name).batches, run(name).metrics, strict=True):
            state, metrics = step(state, batch)
            assert state.ema == {}
            for path, value in metrics.items():
                assert value.dtype == mapped[path].dtype == np.float64, path
                np.testing.assert_allclose(mapped[path], value, 1e-9, err_msg=path)

    def test_what_is_returned_as_replicated_is(self, name):
        """The checked back end proves it while it traces."""
        method, mesh = run(name).method, parallel.create_mesh(jax.devices()[:DEVICES])
        step = parallel.map_step(method.mapped().train_step, mesh, "shard_map")
        state = jax.eval_shape(method.create_state, seed())
        step.function.lower(state, step.place(run(name).batches[0]))

    def test_resume_equals_no_stop(self, name):
        """Through a checkpoint; tests/test_train.py has the loop stop in every way."""
        assert run(name).restored_at == STEPS - 1
        uninterrupted, resumed = run(name).states[-1], run(name).resumed
        assert uninterrupted.keys() == resumed.keys()
        for path, leaf in uninterrupted.items():
            np.testing.assert_array_equal(resumed[path], leaf, err_msg=path)

    def test_batches_are_what_the_method_reads(self, name):
        batch = run(name).batches[0]
        for path, spec in run(name).method.batch_spec(tiny(name).data.batch_size).items():
            assert (batch[path].shape, batch[path].dtype) == (spec.shape, spec.dtype), path

    def test_generated_images_have_their_shape_and_range_at_any_batch(self, name):
        method = run(name).method
        variables = filled(method, np.float32)
        generate = jax.jit(method.generate, static_argnames="direction")
        for direction in method.directions:
            specs = method.inputs(direction)
            needed = [n for n, spec in specs.items() if not spec.optional] or [*specs]  # else drawn
            required = {n: draw(specs[n], 3) for n in needed}
            output = generate(variables, required, direction=direction)
            sizes = {spec.shape[:2] for spec in specs.values() if len(spec.shape) == 3}
            assert sizes <= {output.images.shape[1:3]}
            assert (len(output.images), output.images.shape[-1]) == (3, 3)
            assert np.abs(output.images).max() <= 1
            examples = [{n: x[i : i + 1] for n, x in required.items()} for i in range(3)]
            single = [generate(variables, example, direction=direction) for example in examples]
            joined = np.concatenate([example.images for example in single])
            np.testing.assert_allclose(output.images, joined, atol=1e-4)
            for maps in output.attention.values():
                assert maps.shape[0] == 3 and maps.shape[-1] == 1
            used = {n: variables[n] for n in method.networks_for(direction)}
            jax.eval_shape(lambda v, x, d=direction: method.generate(v, x, d), used, required)
        with pytest.raises(ConfigError, match="direction is 'c2d'"):
            method.generate(variables, required, "c2d")

    def test_bfloat16_keeps_parameters_and_statistics_in_float32(self, name):
        config = tiny(name)
        config.method.dtype = "bfloat16"
        method = methods.create(config)
        state = jax.eval_shape(method.create_state, seed())
        traced = jax.jit(method.train_step).trace(state, run(name).batches[0])
        new, _ = traced.out_info
        for tree in (new.variables, new.opt_state):
            assert {str(leaf.dtype) for leaf in flatten(tree).values()} <= {"float32", "int32"}
        assert "bf16" in str(traced.jaxpr)

    def test_config_goes_through_json_and_refuses_misspelling(self, name):
        config = tiny(name)
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
        with pytest.raises(AttributeError, match="batch_sise"):
            config.data.batch_sise = 2
        with pytest.raises(ConfigError, match="unknown config variant 'tinny'"):
            load(CONFIGS[name], "tinny")


def contract_of(name):
    """The tests for one config."""
    fields = {"pytestmark": [pytest.mark.parametrize("name", [name])]}
    return type(f"Test{name.title().replace('_', '')}", (Contract,), fields)


globals().update({test.__name__: test for test in map(contract_of, CONFIGS)})
