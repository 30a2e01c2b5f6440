"""SNDCGAN with SPAP: late start, spectral norms, the discriminator's steps, the average, noise."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import OPTIMIZED, assert_equal
from test_contract import run as run_contract

from ganattn import data, latents, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.layers.normalization import BatchNorm
from ganattn.methods.sndcgan import SNDCGAN
from ganattn.networks.outputs import DiscriminatorOutput, GeneratorOutput

VARIANTS = "spap_c2f", "vanilla"
MANY = 60
CARRIED = ["batch_stats", "spectral"]
RNG = np.random.default_rng(0)


def configure(variant="spap_c2f", **fields):
    config = load(find("sndcgan"), f"{variant},tiny").unlock()
    config.method.update(fields)
    return config


def leaves(tree, *words):
    """The leaves under paths that contain all words."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in found}
    return {name: x for name, x in named.items() if all(word in name for word in words)}


def nested(flat, prefix):
    """{"a/b/c": x} below a prefix as {"b": {"c": x}}."""
    tree = {}
    for path, leaf in leaves(flat).items():
        if path.startswith(f"{prefix}/"):
            *parents, name = path.removeprefix(f"{prefix}/").split("/")
            functools.reduce(lambda node, key: node.setdefault(key, {}), parents, tree)[name] = leaf
    return tree


@pytest.fixture(scope="module")
def states():
    """After each of the contract's steps, by path; the pyramids start after the first one."""
    return run_contract("sndcgan").states


def test_pyramids_wait(states):
    first, waited, *_, last = (leaves(each, "variables", "params", "pyramid") for each in states)
    assert len(leaves(first, "discriminator", "kernel")) == 1 and len(first) > 20
    for name, value in first.items():
        np.testing.assert_array_equal(waited[name], value, err_msg=name)
        assert value.size == 1 or not np.array_equal(last[name], value), name
    assert waited["variables/generator/params/pyramid/gamma"] == 0


@pytest.mark.parametrize("variant", ["aspp", "aspp,aspp_residual", "second_map"])
def test_nothing_local_leaks_into_the_state(variant):
    method = methods.create(configure(variant))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = {"image": jax.ShapeDtypeStruct((16, 16, 16, 3), jnp.float32)}
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    new, _ = jax.eval_shape(step.function, state, batch)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)


def test_until_the_start_spap_is_the_plain_generator_bit_for_bit(states):
    variables = nested(states[1], "variables/generator")
    variables = jax.tree.map(lambda x: x.astype(np.float32), variables)
    plain = {
        kind: {name: x for name, x in tree.items() if name != "pyramid"}
        for kind, tree in variables.items()
    }
    spap, vanilla = (methods.create(configure(v)).networks["generator"] for v in VARIANTS)
    vectors = RNG.uniform(-1, 1, (4, 4)).astype(np.float32)

    def make(network, variables):
        both = [
            network.apply(variables, vectors, kind, kind == "batch", mutable=CARRIED)[0]
            for kind in ("running", "batch")
        ]
        return [each.images for each in both]

    compiled = functools.partial(jax.jit, compiler_options=OPTIMIZED)
    ours = compiled(functools.partial(make, spap))(variables)
    theirs = compiled(functools.partial(make, vanilla))(plain)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_of_norm_one(x64):
    found = run_contract("sndcgan")
    create = lambda g: found.method.create_state(jax.random.key(0), g)  # noqa: E731
    replicate = functools.partial(parallel.replicate, mesh=parallel.create_mesh())
    state, given = replicate(create)(found.given), found.given
    rest = replicate(
        lambda variables, given: {
            name: {**tree, "params": jax.tree.map(jnp.copy, given[name]["params"])}
            for name, tree in variables.items()
        }
    )
    for _ in range(MANY):
        state, _ = found.step(state, found.batches[0])
        # Back to the same weights: at this size Adam turns them as fast as the iterations follow.
        state = state.replace(variables=rest(state.variables, given))
    variables, checked = jax.device_get(state.variables), 0
    for network in ("generator", "discriminator"):
        kernels = leaves(variables[network]["params"], "kernel")
        vectors = leaves(variables[network]["spectral"])
        for name, kernel in kernels.items():
            path = name.removesuffix("kernel")
            u, v = vectors[f"{path}u"], vectors[f"{path}v"]
            if network == "generator" and ("up" in path or path.startswith("output")):
                kernel = kernel.swapaxes(2, 3)  # as PyTorch's: u belongs to the input
            matrix = kernel.reshape(-1, kernel.shape[-1])
            assert np.linalg.norm(u) == pytest.approx(1, abs=1e-5)
            largest = np.linalg.svd(matrix / (v @ matrix @ u), compute_uv=False)[0]
            assert largest == pytest.approx(1, abs=1e-2), (network, name)
            checked += 1
    assert checked == 5 + 9 + 9


def test_the_average_follows(states):
    average = nested(states[0], "ema/generator")
    assert set(average) == {"params"}
    for step, state in enumerate(states[1:], start=1):
        share = 0.5 if step > 1 else 0.0  # a copy until the start
        live = {kind: nested(state, f"variables/generator/{kind}") for kind in average}
        average = jax.tree.map(lambda a, x, s=share: s * a + (1 - s) * x, average, live)
        found = nested(state, "ema/generator")
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-12), found, average)


class Generator(nn.Module):
    """As small as a generator can be."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents, statistics="running", update_stats=False):
        x = nn.tanh(nn.Dense(12)(latents)).reshape(-1, 2, 2, 3)
        return GeneratorOutput(BatchNorm(self.axis_name)(x, statistics))


class Discriminator(nn.Module):
    """As small as a discriminator can be."""

    @nn.compact
    def __call__(self, images, update_stats=False):
        x = nn.tanh(nn.Dense(3)(images.reshape(len(images), -1)))
        return DiscriminatorOutput(nn.Dense(1)(x))


class Small(SNDCGAN):
    """The method with networks that compile in no time."""

    def network_input(self, name):
        shape = (1, self.latent_size) if name == "generator" else (1, 2, 2, 3)
        return jax.ShapeDtypeStruct(shape, jnp.float32)


def small(**fields):
    method = methods.create(configure("vanilla", ema_decay=0.0))
    known = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    networks = {"generator": Generator(), "discriminator": Discriminator()}
    return Small(**{**known, "networks": networks, **fields})


def test_given_draws_equal_drawn_ones():
    """As the docstring of `step` names them, and for each part of an accumulated batch."""
    method, images = small(discriminator_steps=2), RNG.uniform(-1, 1, (16, 2, 2, 3))
    state = method.create_state(jax.random.key(0))
    rng = jax.random.fold_in(state.rng, state.step)
    names = ["discriminator0/latent", "discriminator1/latent", "generator/latent"]
    draws = {
        name: method.latents(method.examples.keys(jax.random.fold_in(rng, i), 8))
        for i, name in enumerate(names)
    }
    step = jax.jit(method.train_step)
    drawn, metrics = step(state, {"image": images})
    given, given_metrics = step(state, {"image": images}, draws)
    assert_equal(given.variables, drawn.variables, 1e-6)
    assert_equal(given_metrics, metrics, 1e-6)
    for name in names:
        others = {**draws, name: draws[name] + 0.1}
        assert step(state, {"image": images}, others)[1] != metrics


def test_rng_draws_what_is_not_given():
    method = methods.create(configure())
    variables = jax.jit(method.create_state)(jax.random.key(0)).variables
    keys = jax.random.split(jax.random.key(1), 3)
    output = method.generate(variables, {}, rng=keys)
    assert list(output.attention) == ["c3d1", "c1d1"] and output.heatmap is not None
    again = method.generate(variables, {"latent": method.latents(keys)})
    np.testing.assert_array_equal(output.images, again.images)
    one = method.generate(variables, {}, "latent2image", keys[1])
    np.testing.assert_allclose(one.images, output.images[1:2], atol=1e-5)
    assert np.abs(method.latents(keys, bound=0.1)).max() <= 0.1
    batch = {"image": jnp.zeros((3, 16, 16, 3))}
    panels = jax.jit(method.panels)(variables, batch, keys[0])
    assert list(panels["samples"]) == ["sample", "c3d1", "c1d1", "real"]
    with pytest.raises(ConfigError, match="nothing to generate from"):
        method.generate(variables, {})


def one_step(method, devices=None):
    """(state before, after) a step on 32 images."""
    mesh = parallel.create_mesh(jax.devices()[: devices or 1])
    state = jax.jit(method.create_state)(jax.random.key(0))
    state = jax.device_put(state, parallel.replicated(mesh))
    images = np.random.default_rng(1).uniform(-1, 1, (32, 2, 2, 3)).astype(np.float32)
    before = jax.device_get((state.variables, state.opt_state))
    step, batch = jax.jit(method.train_step), {"image": images}
    if devices:
        step = parallel.map_step(method.mapped().train_step, mesh, "shard_map")
    new, _ = step(state, batch)
    return before, jax.device_get((new.variables, new.opt_state)), new.ema


def test_the_discriminators_steps_are_its_own():
    """Two updates of one network, one of the other, on parts that do not depend on the devices."""
    method = small(discriminator_steps=2)
    (old, _), (new, optimizers), _ = one_step(method)
    counts = {group: {int(x) for x in leaves(optimizers[group], "count").values()}
              for group in method.groups}  # fmt: skip
    assert counts == {"generator": {1}, "discriminator": {2}}
    # Adam's first update moves a weight by the rate at most, and almost so; the second does again.
    for group, least, most in (("generator", 0.9e-4, 1.01e-4), ("discriminator", 3e-4, 5e-4)):
        before, after = (leaves(v[group]["params"]) for v in (old, new))
        assert least < max(np.abs(after[name] - before[name]).max() for name in before) < most
    _, mapped, _ = one_step(method, devices=8)
    for name, value in leaves(optimizers, "mu").items():
        np.testing.assert_allclose(leaves(mapped[1])[name], value, 1e-3, 1e-7, err_msg=name)
    with pytest.raises(ConfigError, match="discriminator_steps, 3, which"):
        methods.create(configure(discriminator_steps=3))


def test_the_average_changes_nothing_else():
    _, without, none = one_step(small())
    _, with_average, average = one_step(small(ema_decay=0.9))
    jax.tree.map(np.testing.assert_array_equal, with_average, without)
    assert none == {} and set(average) == {"generator"}


def test_ten_steps_on_eight_devices_equal_one(x64):
    """On the steps that the contract has compiled."""
    found = run_contract("sndcgan")
    source = data.create(load(find("sndcgan"), "tiny"))
    batches = [source(i) for i in range(10)]
    source.close()

    def train(step, state):
        for batch in batches:
            state, metrics = step(state, batch)
        return jax.device_get((state.variables, metrics))

    create = lambda g: found.method.create_state(jax.random.key(0), g)  # noqa: E731
    one = train(jax.jit(found.method.train_step), create(found.given))
    eight = train(found.step, parallel.replicate(create, parallel.create_mesh())(found.given))
    for name, value in one[1].items():
        np.testing.assert_allclose(eight[1][name], value, 1e-5, err_msg=name)
    # Biases before a batch normalization have no gradient but rounding, which Adam makes steps of.
    for words in (("discriminator", "params"), ("generator", "params", "kernel")):
        others = leaves(eight[0], *words)
        for name, value in leaves(one[0], *words).items():
            np.testing.assert_allclose(others[name], value, 1e-5, 1e-8, err_msg=name)


def test_laws_of_the_noise():
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = {
        (law, bound): np.asarray(latents.draw(keys, 16, law, bound, np.float32))
        for law, bound in (("uniform", 0), ("uniform", 0.5), ("normal", 0), ("normal", 0.5))
    }
    for (law, bound), vectors in drawn.items():
        largest = np.abs(vectors).max()
        limit = bound or {"uniform": 1, "normal": np.inf}[law]
        assert largest <= limit
        if np.isfinite(limit):
            assert largest > 0.98 * limit
        assert abs(vectors.mean()) < 0.05
        np.testing.assert_array_equal(
            vectors[:3], latents.draw(keys[:3], 16, law, bound, np.float32)
        )
    assert drawn["normal", 0].std() == pytest.approx(1, abs=0.05)
    assert drawn["uniform", 0].std() == pytest.approx(3**-0.5, abs=0.02)


def test_the_law_changes_the_noise_alone():
    one, other = (methods.create(configure(latent=law)) for law in latents.DISTRIBUTIONS)
    same = {f.name for f in dataclasses.fields(one)} - {"latent", "optimizers"}
    assert all(getattr(one, name) == getattr(other, name) for name in same)
    key = jax.random.split(jax.random.key(1), 2)
    assert not np.array_equal(one.latents(key), other.latents(key))


def test_paths_between_noise():
    start, end = RNG.standard_normal((2, 3, 8))
    straight = latents.interpolate(start, end, 5, "uniform")
    np.testing.assert_allclose(straight[:, 2], (start + end) / 2, rtol=1e-5)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (start, end)]
    arc = latents.interpolate(*unit, 5, "normal")
    np.testing.assert_allclose(np.linalg.norm(arc, axis=-1), 1, rtol=1e-5)
    for path in (straight, latents.interpolate(start, end, 5, "normal")):
        np.testing.assert_allclose(path[:, 0], start, rtol=1e-5)
        np.testing.assert_allclose(path[:, -1], end, rtol=1e-5)
    same = latents.interpolate(start, start, 3, "normal")
    np.testing.assert_allclose(same, np.repeat(start[:, None], 3, 1), rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pyramid": "spap"}, "pyramid is 'spap': use one of none, aspp"),
        ({"latent": "gamma"}, "latent is 'gamma': use one of uniform, normal"),
        ({"adversarial": "wasserstein"}, "use one of non_saturating, hinge"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"image_size": 20}, "image_size is 20: give a multiple of 8"),
        ({"pyramid_rates": (3, 3)}, "pyramid_rates is"),
        ({"discriminator_steps": 0}, "discriminator_steps is 0: give at least 1"),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(configure(**fields))


def test_every_variant_builds():
    names = "vanilla aspp frozen_aspp spap_c2f spap_f2c selfmod sagan compare_gan"
    for variant in names.split():
        method = methods.create(load(find("sndcgan"), variant))
        assert method.image_size == 128
    hinge = methods.create(load(find("sndcgan"), "sagan"))
    assert hinge.adversarial == "hinge" and hinge.networks["discriminator"].self_attention
