"""What U-GAT-IT alone promises: the authors' numbers, counts, ablations, and rho inside [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.interop.ugatit import NETWORKS
from ganattn.methods import Input
from ganattn.state import split_networks

CASES = ("light", "full")
TERMS = {
    "generator/adversarial": ("g_adv",),
    "generator/adversarial_cam": ("g_adv_cam",),
    "generator/cycle": ("g_cycle",),
    "generator/identity": ("g_identity",),
    "generator/cam": ("g_cam",),
    "generator/total": ("g_loss",),
    "discriminator/adversarial": ("d_adv_GA", "d_adv_LA", "d_adv_GB", "d_adv_LB"),
    "discriminator/cam": ("d_cam_GA", "d_cam_LA", "d_cam_GB", "d_cam_LB"),
    "discriminator/total": ("d_loss",),
}


def config_of(variant="", **fields):
    config = load(find("ugatit"), variant)
    with config.unlocked():
        config.method.update(fields)
    return config


def golden(golden_folder, case, dtype):
    """(file, method, the authors' arrays as `dtype`)."""
    file = np.load(golden_folder / f"ugatit_{case}.npz")
    _, light, width, blocks, size, _, _, start, total = (int(x) for x in file["meta"])
    config = config_of(light=bool(light), width=width, num_residual_blocks=blocks, image_size=size)
    config.optimizer.decay_start_step, config.optimizer.total_steps = start, total
    networks = {}
    for name in file.files:
        if name.startswith("init/"):
            _, network, key = name.split("/")
            networks.setdefault(network, {})[key] = file[name].astype(dtype)
    return file, methods.create(config), networks


def images_of(file, step, dtype=np.float32):
    return {
        d: file[f"step{step}/real_{d.upper()}"].transpose(0, 2, 3, 1).astype(dtype) for d in "ab"
    }


def close(actual, expected, tolerance):
    expected = np.asarray(expected)
    if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
    error = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"off by {error:.2e} relative"


@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_authors(golden_folder, case):
    file, method, networks = golden(golden_folder, case, np.float32)
    variables = interop.from_authors("ugatit", networks)
    images = images_of(file, 0)["a"]
    output = jax.jit(method.generate)(variables, {"image": images})
    close(output.images, file["forward/genA2B/image"], 1e-5)
    close(output.attention["cam"], file["forward/genA2B/heatmap"], 1e-5)
    close(output.extras["cam_logits"], file["forward/genA2B/cam_logit"], 1e-5)
    for theirs in ("disGA", "disLB"):
        ours = NETWORKS[theirs]
        output = jax.jit(method.networks[ours].apply)(variables[ours], images)
        close(output.logits, file[f"forward_eval/{theirs}/logit"], 1e-5)
        close(output.extras["cam_logits"], file[f"forward_eval/{theirs}/cam_logit"], 1e-5)
        close(output.heatmap, file[f"forward_eval/{theirs}/heatmap"], 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_steps_equal_the_authors(golden_folder, x64, case):
    file, method, networks = golden(golden_folder, case, np.float64)
    variables = interop.from_authors("ugatit", networks)
    state = method.create_state(jax.random.key(0), variables)
    step = jax.jit(method.train_step)
    for i in range(int(file["meta"][5])):
        state, metrics = step(state, images_of(file, i))
        for ours, theirs in TERMS.items():
            close(metrics[ours], sum(file[f"step{i}/{name}"] for name in theirs), 1e-9)
    trained = interop.to_authors("ugatit", state.variables)
    for name in file.files:
        if name.startswith("final/"):
            _, network, key = name.split("/")
            expected = file[name]
            error = np.abs(trained[network][key] - expected).max() / np.abs(expected).max()
            assert error < 1e-6, name


def test_names_go_to_the_authors_and_back(golden_folder):
    _, _, networks = golden(golden_folder, "full", np.float32)
    back = interop.to_authors("ugatit", interop.from_authors("ugatit", networks))
    for network, arrays in networks.items():
        assert list(back[network]) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array)


def test_method_fields_come_from_shapes(golden_folder):
    file, _, networks = golden(golden_folder, "full", np.float32)
    fields = interop.method_fields("ugatit", networks)
    _, light, width, blocks, size, *_ = (int(x) for x in file["meta"])
    assert fields == {
        "width": width, "num_residual_blocks": blocks, "light": bool(light), "image_size": size,
        "discriminator_layers": (7, 5), "profile": "pytorch",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "generator", "global_", "local"),
    [
        ("", 278_959_808, 53_130_176, 3_290_560),
        ("light", 10_589_888, 53_130_176, 3_290_560),
        ("tf", 278_970_308, 53_128_130, 3_290_050),
        ("tf,light", 10_600_388, 53_128_130, 3_290_050),
    ],
)
def test_parameter_counts(variant, generator, global_, local):
    method = methods.create(config_of(variant))
    state = jax.eval_shape(method.create_state, jax.random.key(0))

    def count(name):
        trained = {k: v for k, v in state.variables[name].items() if k != "spectral"}
        return sum(leaf.size for leaf in jax.tree.leaves(trained))

    assert count("generator_a2b") == count("generator_b2a") == generator
    assert count("discriminator_global_a") == count("discriminator_global_b") == global_
    assert count("discriminator_local_a") == count("discriminator_local_b") == local


def dtypes(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


def random_images(count, dtype=np.float32):
    rng = np.random.default_rng(0)
    return {d: rng.uniform(-1, 1, (count, 32, 32, 3)).astype(dtype) for d in "ab"}


@pytest.mark.parametrize(
    "variant",
    [
        "adain",
        "in",
        "ln",
        "gn",
        "no_cam",
        "no_cam_generator",
        "no_cam_discriminator",
        "tf",
        "bfloat16",
        "remat",
    ],
)
def test_variants_train_and_translate(variant):
    config = config_of(f"tiny,{variant}")
    method = methods.create(config)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = random_images(2)
    new, _ = jax.eval_shape(method.train_step, state, batch)
    assert dtypes(new) == dtypes(state)
    has_rho = "rho" in state.variables["generator_a2b"]
    assert has_rho == (config.method.decoder_norm == "adalin")
    for network, has_cam in (
        ("generator_b2a", config.method.cam_generator),
        ("discriminator_local_a", config.method.cam_discriminator),
    ):
        assert ("attention" in state.variables[network]["params"]) == has_cam
    generator = method.networks["generator_a2b"]
    variables = jax.jit(generator.init)(jax.random.key(0), batch["a"])
    generate = jax.jit(method.generate)
    output = generate({"generator_a2b": variables}, {"image": batch["a"]})
    assert np.isfinite(output.images).all() and np.std(output.images) > 0
    assert set(output.attention) == ({"cam"} if config.method.cam_generator else set())


@pytest.mark.parametrize(
    ("variant", "multiple"), [("", None), ("light", 4), ("adain", None), ("gn", 4)]
)
def test_the_full_model_translates_one_size(variant, multiple):
    method = methods.create(config_of(variant))
    assert method.inputs("b2a") == {
        "image": Input("image", (256, 256, 3), multiple=multiple),
    }
    assert method.networks_for("b2a") == ("generator_b2a",)
    for function in (method.inputs, method.networks_for):
        with pytest.raises(ConfigError, match="direction is 'a2a': use one of a2b, b2a"):
            function("a2a")


@pytest.mark.parametrize("variant", ["tiny", "tiny,no_cam"])
def test_panels_have_their_columns_in_order(variant):
    method = methods.create(config_of(variant))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch, rng = method.batch_spec(2), jax.random.key(0)
    panels = jax.eval_shape(jax.jit(method.panels), state.variables, batch, rng)
    columns = ["source", "attention", "translation", "cycle", "identity"]
    if variant != "tiny":
        columns.remove("attention")
    assert list(panels) == ["a2b", "b2a"]
    assert [list(figure) for figure in panels.values()] == [columns, columns]
    assert all(figure["cycle"].shape == (2, 32, 32, 3) for figure in panels.values())


def test_remat_changes_memory_not_numbers(x64):
    results = []
    image = random_images(1, np.float64)["a"]
    for variant in ("tiny", "tiny,remat"):
        generator = methods.create(config_of(variant)).networks["generator_a2b"]
        variables = jax.jit(generator.init)(jax.random.key(0), image)
        variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
        loss = jax.jit(jax.grad(lambda v, g=generator: jnp.abs(g.apply(v, image).images).mean()))
        results.append(loss(variables))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-14)


def test_a_step_of_one_example_is_finite():
    """Without optimization, as in all tests, features are computed twice with other rounding."""
    fields = {"width": 8, "num_residual_blocks": 1, "discriminator_layers": (5, 4)}
    method = methods.create(config_of("light", image_size=64, **fields))
    state = jax.jit(method.create_state)(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {d: rng.uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32) for d in "ab"}
    new, metrics = jax.device_get(jax.jit(method.train_step)(state, batch))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((new.variables, metrics)))


def test_rho_is_kept_inside_its_bounds():
    config = config_of("tiny")
    config.optimizer.update(learning_rate=0.5, decay_start_step=-1)
    method = methods.create(config)
    state = jax.jit(method.create_state)(jax.random.key(0))
    names = method.groups["generator"]
    trained, carried = split_networks(state.variables, names)
    values = []
    for sign in (1.0, -1.0, -1.0, -1.0):
        gradients = jax.tree.map(lambda x, sign=sign: jnp.full_like(x, sign), trained)
        state = jax.jit(method.update, static_argnums=1)(state, "generator", gradients, carried)
        rho = [state.variables[name]["rho"] for name in names]
        values += [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(rho)]
    values = np.concatenate(values)
    assert values.min() == 0 and values.max() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", 30), ("profile", "keras"), ("decoder_norm", "bn"), ("dtype", "float16")],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"config.method.{field} is"):
        methods.create(config_of(**{field: value}))
