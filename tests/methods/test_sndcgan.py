"""SNDCGAN with SPAP: late start, spectral norms, the discriminator's steps, the average, noise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quick_jit
from test_contract import run as run_contract

from ganattn import data, latents, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.state import TrainState

START, STEPS = 2, 6
MANY = 100
MOVED = ["batch_stats", "spectral"]
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


@pytest.fixture(scope="module")
def trained():
    """Method, the states of a run with a late start, and one whose power iterations went on."""
    config = configure(pyramid_start_step=START, ema_start_step=1)
    method, batches = methods.create(config), data.create(config)
    state = quick_jit(method.create_state)(jax.random.key(0))
    step, states = quick_jit(method.train_step), [jax.device_get(state.replace(rng=()))]
    for i in range(STEPS):
        state, _ = step(state, batches(i))
        states.append(jax.device_get(state.replace(rng=())))
    batches.close()
    settled = states[-1]
    batch = {"image": np.zeros((8, 16, 16, 3), np.float32)}
    for _ in range(MANY):
        state, _ = step(state, batch)
        # Back to the same weights: at this size Adam turns them as fast as the iterations follow.
        variables = {
            name: {**tree, "params": settled.variables[name]["params"]}
            for name, tree in state.variables.items()
        }
        state = state.replace(variables=variables)
    return method, [*states, jax.device_get(state.replace(rng=()))]


def test_pyramids_wait(trained):
    _, states = trained
    first = leaves(states[0].variables, "params", "pyramid")
    assert len(first) > 20
    for name, value in first.items():
        later = [leaves(state.variables, "params", "pyramid")[name] for state in states]
        for waiting in later[: START + 1]:
            np.testing.assert_array_equal(waiting, value, err_msg=name)
        assert value.size == 1 or not np.array_equal(later[-1], value), name
    atrous = leaves(states[START].variables, "discriminator", "params", "pyramid", "kernel")
    assert atrous and states[START].variables["generator"]["params"]["pyramid"]["gamma"] == 0


def test_until_the_start_spap_is_the_plain_generator_bit_for_bit(trained):
    method, states = trained
    variables = states[START].variables["generator"]
    plain = {
        kind: {name: x for name, x in tree.items() if name != "pyramid"}
        for kind, tree in variables.items()
    }
    spap, vanilla = method.networks["generator"], methods.create(configure("vanilla"))
    vectors = RNG.uniform(-1, 1, (4, 4)).astype(np.float32)

    def make(network, variables):
        both = [
            network.apply(variables, vectors, kind, kind == "batch", mutable=MOVED)[0]
            for kind in ("running", "batch")
        ]
        return [each.images for each in both]

    ours = quick_jit(functools.partial(make, spap))(variables)
    theirs = quick_jit(functools.partial(make, vanilla.networks["generator"]))(plain)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_of_norm_one(trained):
    _, states = trained
    variables, checked = states[-1].variables, 0
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


def test_the_average_follows_and_nothing_else_changes(trained):
    _, states = trained
    average = {"params": states[0].variables["generator"]["params"]}
    for step, state in enumerate(states[1:-1], start=1):
        share = 0.5 if step > 1 else 0.0
        live = {k: state.variables["generator"][k] for k in average}
        average = jax.tree.map(lambda a, x, s=share: s * a + (1 - s) * x, average, live)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, 1e-5, 1e-6),
            state.ema["generator"],
            average,
        )

    def step_without_average(decay):
        method = methods.create(configure(ema_decay=decay))
        state = jax.eval_shape(method.create_state, jax.random.key(0))

        def step(variables, opt_state, rng, batch):
            ema = {"generator": {k: variables["generator"][k] for k in average}} if decay else {}
            given = state.replace(
                step=jnp.zeros((), jnp.int32), rng=rng, variables=variables, opt_state=opt_state,
                ema=ema,
            )  # fmt: skip
            new, metrics = method.train_step(given, batch)
            return new.variables, new.opt_state, metrics

        batch = {"image": jax.ShapeDtypeStruct((8, 16, 16, 3), np.float32)}
        return quick_jit(step).lower(state.variables, state.opt_state, state.rng, batch).as_text()

    assert step_without_average(0.5) == step_without_average(0.0)


def test_the_discriminators_steps_are_its_own():
    config = configure("compare_gan", discriminator_steps=2, ema_decay=0.0)
    method = methods.create(config)
    state = quick_jit(method.create_state)(jax.random.key(0))
    images = RNG.uniform(-1, 1, (16, 16, 16, 3)).astype(np.float32)
    new, _ = quick_jit(method.train_step)(state, {"image": images})
    counts = {
        group: {int(x) for x in leaves(new.opt_state[group], "count").values()}
        for group in method.groups
    }
    assert counts == {"generator": {1}, "discriminator": {2}}
    # Adam's first update moves a weight by the rate at most, and almost so; the second does again.
    for group, least, most in (("generator", 1.8e-4, 2.002e-4), ("discriminator", 3e-4, 5e-4)):
        old, now = (leaves(s.variables[group]["params"]) for s in (state, new))
        assert least < max(np.abs(now[name] - old[name]).max() for name in old) < most
    with pytest.raises(ConfigError, match="discriminator_steps, 3, which"):
        methods.create(configure(discriminator_steps=3))


def test_parts_and_noise_do_not_depend_on_the_devices():
    base = methods.create(configure("vanilla", discriminator_steps=2))

    class Pairing(type(base)):
        def _pair(self, state, images, key):
            keys = parallel.example_keys(key, len(images), self.axis_name)
            noise = self.draw(keys)[:, 0]
            return state, {"discriminator/pairs": (noise * images.mean((1, 2, 3))).mean()}

        _update_discriminator = _pair

        def _update_generator(self, state, latent):
            return state, {"generator/noise": (latent[:, 0] * latent[:, 1]).mean()}

    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    method = Pairing(**{**fields, "ema_decay": 0.0})
    variables = {"generator": {"params": jnp.zeros(1)}}
    state = TrainState(jnp.zeros((), jnp.int32), jax.random.key(0), variables, {})
    images = RNG.uniform(-1, 1, (32, 2, 2, 3)).astype(np.float32)
    _, one = jax.jit(method.train_step)(state, {"image": images})
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    _, eight = step(state, {"image": images})
    for name, value in one.items():
        np.testing.assert_allclose(eight[name], value, 1e-4, err_msg=name)


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
    one = train(quick_jit(found.method.train_step), create(found.given))
    eight = train(found.step, parallel.replicate(create, parallel.create_mesh())(found.given))
    for name, value in one[1].items():
        np.testing.assert_allclose(eight[1][name], value, 1e-5, err_msg=name)
    # Biases before a batch normalisation have no gradient but rounding, which Adam makes steps of.
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
    one, other = (methods.create(configure(latent=law)) for law in latents.LAWS)
    same = {f.name for f in dataclasses.fields(one)} - {"latent", "optimizers"}
    assert all(getattr(one, name) == getattr(other, name) for name in same)
    key = jax.random.split(jax.random.key(1), 2)
    assert not np.array_equal(one.draw(key), other.draw(key))


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
    for variant in ("vanilla", "aspp", "spap_c2f", "spap_f2c", "selfmod", "sagan", "compare_gan"):
        method = methods.create(load(find("sndcgan"), variant))
        assert method.image_size == 128
    hinge = methods.create(load(find("sndcgan"), "sagan"))
    assert hinge.adversarial == "hinge" and hinge.networks["discriminator"].self_attention
