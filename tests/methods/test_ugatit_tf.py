"""The profile tf of U-GAT-IT: the steps of the authors' TensorFlow code, with all of its losses."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganattn import losses, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.networks.ugatit import TENSORFLOW, Discriminator

STEPS = 2
# Their loss, which contains its weight -> the terms of ours, with their weight.
TERMS = {
    "gan": (("adversarial", "adversarial_cam"), 1),
    "cycle": (("cycle",), 10),
    "identity": (("identity",), 10),
    "cam": (("cam",), 1000),
    "loss": (("total",), 1),
}
TOLERANCE = 1e-9


def config_of(variant="tf", **fields):
    config = load(find("ugatit"), variant)
    config.method.update(fields)
    return config


def method_of(adversarial):
    fields = {"width": 2, "image_size": 32, "discriminator_layers": (5, 3)}
    config = config_of(adversarial=adversarial, **fields)
    config.optimizer.update(learning_rate=2e-3, decay_start_step=-1)
    return methods.create(config)


def tree_under(file, prefix):
    """{network: {collection: nested arrays}} in float64."""
    tree = {}
    for name in file.files:
        if name.startswith(prefix):
            *path, leaf = name.removeprefix(prefix).split("/")
            node = functools.reduce(lambda node, key: node.setdefault(key, {}), path, tree)
            node[leaf] = file[name].astype(np.float64)
    return tree


def state_of(file, method):
    """Their weights and vectors u; v is computed from u before it is used."""
    given = tree_under(file, "init/")
    for name in method.groups["discriminator"]:
        shapes = method.shapes(name)["spectral"]
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
        given[name]["spectral"] = merge(zeros, given[name]["spectral"])
    return method.create_state(jax.random.key(0), given)


def merge(tree, new):
    if not isinstance(tree, dict):
        return new
    return {key: merge(value, new[key]) if key in new else value for key, value in tree.items()}


def data_of(file, step):
    """The batch and the draws of a step, in one dict of arrays with an entry an example."""
    images = {d: file[f"step{step}/{d}"].astype(np.float64) / 127.5 - 1 for d in "ab"}
    prefix = f"step{step}/discriminator/"
    names = [name for name in file.files if name.startswith(prefix)]
    draws = {f"discriminator0/{n.removeprefix(prefix)}": file[n] / 256.0 for n in names}
    return images | draws


def apply(method, state, data):
    batch = {name: data[name] for name in "ab"}
    return method.train_step(state, batch, {n: x for n, x in data.items() if n not in batch})


def close(actual, expected, tolerance, name):
    error = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"{name} off by {error:.2e} relative"


def check_metrics(file, name, metrics):
    """Compares with the losses of LOSS/stepN."""
    close(metrics["discriminator/total"], file[f"{name}/discriminator/total"], TOLERANCE, name)
    for theirs, (terms, weight) in TERMS.items():
        ours = weight * sum(metrics[f"generator/{term}"] for term in terms)
        close(ours, file[f"{name}/generator/{theirs}"], TOLERANCE, f"{name}/{theirs}")


@pytest.fixture
def golden(golden_folder, x64, monkeypatch):
    """TensorFlow holds the slope of a leaky ReLU in single precision."""
    leaky_relu = nn.leaky_relu
    monkeypatch.setattr(nn, "leaky_relu", lambda x, slope: leaky_relu(x, float(np.float32(slope))))
    with np.load(golden_folder / "ugatit_tf.npz") as file:
        yield file


def test_steps_on_two_devices_equal_the_authors(golden):
    method = method_of("dragan")
    mesh = parallel.create_mesh(jax.devices()[:2])
    step = parallel.map_step(functools.partial(apply, method.mapped()), mesh, "shard_map")
    state = jax.device_put(state_of(golden, method), parallel.replicated(mesh))
    for i in range(STEPS):
        state, metrics = step(state, data_of(golden, i))
        check_metrics(golden, f"dragan/step{i}", metrics)
    expected, compared = tree_under(golden, "final/"), 0
    for path, leaf in jax.tree.leaves_with_path(expected):
        value = functools.reduce(lambda node, entry: node[entry.key], path, state.variables)
        close(value, leaf, 1e-6, jax.tree_util.keystr(path))
        compared += 1
    assert compared == sum(name.startswith("init/") for name in golden.files)


def test_penalty_between_real_and_fake_equals_the_authors(golden):
    method, name = method_of("wgan_lp"), "discriminator/total"
    total = jax.jit(lambda *given: apply(method, *given)[1][name])
    value = total(state_of(golden, method), data_of(golden, 0))
    close(value, golden[f"wgan_lp/step0/{name}"], TOLERANCE, name)


def cross_entropy(logits, label):
    probability = 1 / (1 + np.exp(-logits))
    return -np.mean(label * np.log(probability) + (1 - label) * np.log(1 - probability))


# On real and on fake images, and of the generators, by the formulas of their code in numpy.
FORMULAS = {
    "least_squares": (
        lambda x: np.mean((x - 1) ** 2), lambda x: np.mean(x**2), lambda x: np.mean((x - 1) ** 2)
    ),
    "hinge": (
        lambda x: np.mean(np.maximum(1 - x, 0)), lambda x: np.mean(np.maximum(1 + x, 0)),
        lambda x: -np.mean(x),
    ),
    "wgan_gp": (lambda x: -np.mean(x), np.mean, lambda x: -np.mean(x)),
    "dragan": (
        lambda x: cross_entropy(x, 1), lambda x: cross_entropy(x, 0), lambda x: cross_entropy(x, 1)
    ),
}  # fmt: skip
FORMULAS |= {"wgan_lp": FORMULAS["wgan_gp"], "cross_entropy": FORMULAS["dragan"]}


@pytest.mark.parametrize("kind", losses.PENALIZABLE)
def test_losses_follow_the_formulas_of_the_authors(kind, x64):
    logits = np.random.default_rng(0).normal(0, 2, (3, 4, 4, 1))
    loss, (real, fake, generator) = losses.PENALIZABLE[kind], FORMULAS[kind]
    np.testing.assert_allclose(loss.discriminator(logits, True), real(logits), rtol=1e-12)
    np.testing.assert_allclose(loss.discriminator(logits, False), fake(logits), rtol=1e-12)
    np.testing.assert_allclose(loss.generator(logits), generator(logits), rtol=1e-12)


def test_gradients_of_norm_one_cost_nothing(x64):
    gradients = np.zeros((2, 2, 2, 3))
    gradients[0, 0, 0], gradients[1, 1, 1] = (0, 0.3, 0.4), (3, 0, 4)  # norms 0.5 and 5
    for one_sided, expected in ((False, (0.25 + 16) / 2), (True, 8.0)):
        penalty = losses.gradient_penalty(jnp.asarray(gradients), one_sided)
        np.testing.assert_allclose(penalty, expected, rtol=1e-12)


def test_updates_count_and_share_the_batch():
    config = config_of("tf", discriminator_steps=5)
    assert config.data.batch_size == 6
    assert config_of("", discriminator_steps=5).data.batch_size == 5
    config.data.batch_size = 8
    with pytest.raises(ConfigError, match="batch_size is 8: make it a multiple of 6, the number"):
        methods.create(config)
    config = config_of("tf,tiny", discriminator_steps=2)
    config.data.batch_size = 3
    method = methods.create(config)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    _, metrics = jax.eval_shape(method.train_step, state, method.batch_spec(3))
    assert metrics["discriminator/total"].shape == ()
    with pytest.raises(ConfigError, match="4 examples for 3 updates that share them: make config"):
        jax.eval_shape(method.train_step, state, method.batch_spec(4))


@pytest.mark.parametrize(("size", "load"), [(256, 286), (128, 143), (512, 527), (252, 267)])
def test_images_are_loaded_as_large_as_theirs(size, load):
    assert config_of("tf", image_size=size).data.load_size == load


def test_smoothing_can_be_switched_off():
    for smoothing, offset in ((True, 0.1), (False, 0.0)):
        method = methods.create(config_of("tf", smoothing=smoothing))
        assert method.networks["generator_a2b"].profile.rho_offset == offset


@pytest.mark.parametrize("layers", [2, 5, 7])
def test_logits_remain_at_the_smallest_size(layers):
    for options in ({}, {"profile": TENSORFLOW}):
        network = Discriminator(2, layers, **options)
        shape = (1, network.smallest_size, network.smallest_size, 3)
        output, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros(shape))
        assert output.logits.size > 0
    network, side = Discriminator(2, layers), Discriminator(2, layers).smallest_size - 1
    output, _ = jax.eval_shape(
        network.init_with_output, jax.random.key(0), jnp.zeros((1, side, side, 3))
    )
    assert output.logits.size == 0


@pytest.mark.parametrize(
    ("size", "layers", "message"),
    [
        (64, (7, 5), "64: the global .* 96 pixels with 7 layers; set .*layers=\\(6, 5\\)"),
        (88, (7, 5), "88: the global .* 96 pixels with 7 layers; set .*layers=\\(6, 5\\)"),
        (32, (7, 5), "32: the global .* 96 pixels with 7 layers; set .*layers=\\(5, 4\\)"),
        (32, (5, 6), "32: the local .* 48 pixels with 6 layers; set .*layers=\\(5, 4\\)"),
        (32, (5,), "discriminator_layers is \\(5,\\): give two numbers"),
    ],
)
@pytest.mark.parametrize("variant", ["", "tf"])
def test_discriminators_without_logits_are_refused(variant, size, layers, message):
    with pytest.raises(ConfigError, match=message) as error:
        methods.create(config_of(variant, image_size=size, discriminator_layers=layers))
    assert "\n" not in str(error.value)
