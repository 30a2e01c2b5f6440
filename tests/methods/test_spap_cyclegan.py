"""What SPAP in CycleGAN alone promises: exactly CycleGAN until its start, then all of it moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_equal, in_float64

from ganattn import methods, parallel
from ganattn.config import find, from_dict, load, to_dict
from ganattn.errors import ConfigError
from ganattn.methods.families.pyramids import EARLIER

START = 2
SMALL = {"width": 2, "discriminator_width": 2, "pyramid_start_step": START}


def config_of(variant="", **fields):
    config = load(find("spap_cyclegan"), variant)
    with config.unlocked():
        config.method.update(fields)
    return config


def method_of(variant="", **fields):
    return methods.create(config_of(variant, **fields))


def batches(count, size=8):
    random = np.random.default_rng(0)
    return [{d: random.uniform(-1, 1, (size, 32, 32, 3)) for d in "ab"} for _ in range(count)]


def is_late(path):
    return any(getattr(entry, "key", None) == "pyramid" for entry in path)


def parts(tree):
    """(leaves that wait, leaves that do not), by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(jax.tree_util.keystr(path), is_late(path), np.asarray(x)) for path, x in leaves]
    return {n: x for n, late, x in named if late}, {n: x for n, late, x in named if not late}


def states(method, count, state, size=2):
    """(state, metrics) after each of `count` steps."""
    step, after = jax.jit(method.train_step), []
    for batch in batches(count, size):
        state, metrics = step(state, batch)
        after.append((state, metrics))
    return after


def test_until_the_start_it_is_cyclegan_bit_for_bit_then_all_moves(x64):
    method = method_of("tiny,plain_discriminator", **SMALL)
    vanilla = method_of("tiny,vanilla", **SMALL | {"pyramid_start_step": 0})
    state = in_float64(method)
    plain = jax.tree.map(lambda x: x, dict(state.variables))
    for name in ("generator_a2b", "generator_b2a"):
        params = {k: v for k, v in plain[name]["params"].items() if k != "pyramid"}
        plain[name] = {"params": params}
    ours = states(method, START + 3, state)
    theirs = states(vanilla, START + 1, vanilla.create_state(jax.random.key(0), plain))

    drawn, _ = parts(state.variables)
    assert drawn
    fresh = jax.tree.leaves(parts(state.opt_state)[0])
    for (one, metrics), (other, expected) in zip(ours[:START], theirs[:START], strict=True):
        late, prompt = parts(one.variables)
        assert_equal(late, drawn, 0)
        assert_equal(prompt, parts(other.variables)[1], 0)
        assert_equal((metrics, one.memory), (expected, other.memory), 0)
        assert all(map(np.array_equal, jax.tree.leaves(parts(one.opt_state)[0]), fresh))
    # At the start only gamma has a gradient; Adam's first step is the learning rate itself.
    late, prompt = parts(ours[START][0].variables)
    assert_equal(prompt, parts(theirs[START][0].variables)[1], 0)
    rate = 2e-4 * (1 - 1 / 3)  # third of four epochs of a step, two of which decay
    for name, value in late.items():
        if name.endswith("['gamma']"):
            assert abs(value) == pytest.approx(rate, rel=1e-6)
        else:
            assert np.array_equal(value, drawn[name])
    late, _ = parts(ours[-1][0].variables)
    still = [name for name, value in late.items() if np.array_equal(value, drawn[name])]
    assert not still


def test_late_discriminators_move_after_the_start(x64):
    method = method_of("tiny,frozen_aspp", **SMALL)
    state = in_float64(method)
    drawn, _ = parts(jax.device_get(state.variables))
    assert {name.split("'")[1] for name in drawn} == set(method.networks)
    after = states(method, START + 2, state)
    assert_equal(parts(after[START - 1][0].variables)[0], drawn, 0)
    late, _ = parts(after[-1][0].variables)
    assert not [name for name, value in late.items() if np.array_equal(value, drawn[name])]


@pytest.mark.parametrize("variant", ["", "aspp", "fine_to_coarse,bfloat16", "at_once,remat"])
def test_nothing_local_leaks_into_the_state(variant):
    method = method_of(f"tiny,{variant}")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = {d: jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32) for d in "ab"}
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    new, _ = jax.eval_shape(step.function, state, batch)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, state)


def updates(method):
    """Names of the groups whose pyramid Adam moves in the first step."""
    for group, names in method.groups.items():
        network = names[0]
        leaf = jnp.ones(2)
        params = {network: {"params": {"pyramid": leaf, "other": leaf}}}
        chain = method.optimizers[group]
        moves, _ = chain.update(params, chain.init(params), params)
        assert moves[network]["params"]["other"].all()
        if moves[network]["params"]["pyramid"].any():
            yield group


@pytest.mark.parametrize("name", ["spap_cyclegan", "sndcgan"])
@pytest.mark.parametrize(
    ("variant", "fields", "groups"),
    [
        ("", {}, []),
        ("", {"pyramid_start_step": 0}, ["generator", "discriminator"]),
        ("aspp", {}, ["generator", "discriminator"]),
        ("aspp", {"delay_aspp": True}, []),
        ("frozen_aspp", {}, []),
        ("frozen_aspp", {"delay_aspp": False}, ["generator"]),
    ],
)
def test_spap_and_atrous_convolutions_wait_and_aspp_does_not(name, variant, fields, groups):
    config = load(find(name), variant).unlock()
    config.method.update(fields)
    method = methods.create(config)
    assert list(updates(method)) == groups


@pytest.mark.parametrize("name", ["spap_cyclegan", "sndcgan"])
@pytest.mark.parametrize("variant", ["frozen_aspp", "spap_f2c"])
def test_earlier_configs_build_what_they_built(name, variant):
    """Runs whose configs lack the fields: ASPP waited, discriminators had no ASPP."""
    config = load(find(name), "frozen_aspp").unlock()
    config.method.pyramid = "aspp" if variant == "frozen_aspp" else variant
    earlier = to_dict(config)
    for field in EARLIER:
        del earlier["method"][field]
    ours, theirs = methods.create(config), methods.create(from_dict(earlier))
    assert theirs.networks == ours.networks and not list(updates(theirs))


def test_translation_gives_every_fuse_and_the_last():
    method = method_of("tiny,fine_to_coarse", width=2)
    variables = jax.jit(method.create_state)(jax.random.key(0)).variables
    images = batches(1, 2)[0]["a"].astype(np.float32)
    output = jax.jit(method.generate)(variables, {"image": images})
    assert list(output.attention) == ["c3d1", "c3d6", "c3d12", "c3d18"]
    for attention in output.attention.values():
        assert attention.shape == (2, 16, 16, 1) and 0 < attention.min() < attention.max() < 1
    np.testing.assert_array_equal(output.heatmap, output.attention["c3d18"])
    narrow = method_of("tiny,narrow", width=2)
    shapes = jax.eval_shape(narrow.create_state, jax.random.key(0)).variables
    output = jax.eval_shape(narrow.generate, shapes, {"image": images})
    assert list(output.attention) == ["c3d5", "c3d3", "c3d1", "c1d1"]


@pytest.mark.parametrize("variant", ["aspp", "vanilla"])
def test_without_fuses_there_is_no_attention(variant):
    method = method_of(f"tiny,{variant}")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    output = jax.eval_shape(method.generate, state.variables, {"image": images})
    assert output.heatmap is None and not output.attention


@pytest.mark.parametrize(
    ("variant", "generator", "discriminator"),
    [
        ("", 12_059_336, 2_764_737 + 1_573_632),
        ("fine_to_coarse", 12_059_336, 2_764_737 + 1_573_632),
        ("aspp", 11_378_179 + 688_896, 2_764_737 + 2_754_048),
        ("frozen_aspp", 11_378_179 + 688_896, 2_764_737 + 1_573_632),
        ("second_map", 12_059_336 + 4 * 9, 2_764_737 + 1_573_632),
        ("plain_discriminator", 12_059_336, 2_764_737),
        ("vanilla", 11_378_179, 2_764_737),
    ],
)
def test_counts(variant, generator, discriminator):
    state = jax.eval_shape(method_of(variant).create_state, jax.random.key(0))
    for name, variables in state.variables.items():
        expected = generator if name.startswith("generator") else discriminator
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


def test_the_start_is_in_the_middle_of_the_papers_schedule():
    for variant, count in (("maps", 1_096), ("cityscapes", 2_975)):
        config = config_of(variant)
        assert config.method.pyramid_start_step == 100 * count
        assert config.optimizer.total_steps == 200 * count
        assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pyramid": "spap"}, "pyramid is 'spap': use one of none, aspp, spap_c2f, spap_f2c"),
        ({"pyramid_rates": (6, 6)}, "pyramid_rates is"),
        ({"atrous_rates": (1, 3)}, "atrous_rates is"),
        ({"pyramid_rates": ()}, "pyramid_rates is"),
        ({"pyramid_start_step": -1}, "pyramid_start_step is -1"),
        ({"discriminator": "pixel"}, "no third strided layer"),
        ({"discriminator_layers": 2}, "no third strided layer"),
        (
            {"discriminator": "pixel", "atrous_discriminator": False, "aspp_discriminator": True},
            "aspp_discriminator is True, but the discriminator has no third strided layer",
        ),
        ({"aspp_discriminator": True}, "atrous_discriminator are both True: set one"),
        ({"pyramid_reduction": 0}, "pyramid_reduction is 0: give at least 1"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        method_of(**fields)
