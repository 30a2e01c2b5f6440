"""What pix2pix alone promises: numbers and names as the authors' code has them, and its dropout."""

import jax
import numpy as np
import pytest
from reference import assert_equal, check_steps, networks_of, train_on

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError

TERMS = {
    "generator/adversarial": (("g_adv",), 1),
    "generator/l1": (("g_l1",), 1),
    "generator/total": (("g_total",), 1),
    "discriminator/real": (("d_real",), 1),
    "discriminator/fake": (("d_fake",), 1),
    "discriminator/total": (("d_total",), 1),
}


def method_of(variant="", **fields):
    config = load(find("pix2pix"), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_steps_equal_the_authors(golden_folder, norm, x64):
    file = np.load(golden_folder / f"pix2pix_{norm}.npz")
    size, width, levels, _, _ = (int(x) for x in file["meta"])
    fields = interop.method_fields("pix2pix", networks_of(file, "pix2pix"))
    assert fields == {
        "generator": "unet", "width": width, "num_downs": levels, "norm": norm,
        "discriminator": "patch", "discriminator_width": width, "discriminator_layers": 3,
    }  # fmt: skip
    method = method_of(**fields, image_size=size, dropout=False)
    check_steps(file, method, "pix2pix", TERMS)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_names_go_to_the_authors_and_back(golden_folder, norm):
    theirs = networks_of(np.load(golden_folder / f"pix2pix_{norm}.npz"), "pix2pix", np.float32)
    back = interop.to_authors("pix2pix", interop.from_authors("pix2pix", theirs))
    for network, arrays in theirs.items():
        assert list(back[network]) == list(arrays)
        for key, array in arrays.items():
            assert back[network][key].dtype == array.dtype
            np.testing.assert_array_equal(back[network][key], array)


@pytest.mark.parametrize(("variant", "backend"), [("", "shard_map")])
def test_eight_devices_equal_one(variant, backend, x64):
    """Includes batch statistics, and dropout, which the sixth level brings."""
    sizes = {"image_size": 64, "num_downs": 6, "width": 1, "discriminator_width": 1}
    method = method_of(f"tiny,{variant}", **sizes)
    random = np.random.default_rng(0)
    batches = [{d: random.uniform(-1, 1, (8, 64, 64, 3)) for d in "ab"} for _ in range(2)]
    one, several = (train_on(method, batches, n, b) for n, b in ((1, None), (8, backend)))
    assert_equal(one, several)


@pytest.mark.parametrize("variant", ["tiny", "tiny,running_statistics"])
def test_translation_of_an_image_does_not_depend_on_the_others(variant):
    method = method_of(variant)
    variables = jax.jit(method.create_state)(jax.random.key(0)).variables
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype("f")
    generate = jax.jit(method.generate)
    together, alone = (generate(variables, {"image": x}).images for x in (images, images[:1]))
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-6)
    assert np.abs(together).max() <= 1


def test_test_statistics_choose_the_image_or_the_averages():
    images = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype("f")
    batch, running = (method_of(f"tiny{v}") for v in ("", ",running_statistics"))
    variables = jax.jit(batch.create_state)(jax.random.key(0)).variables
    generator = batch.networks["generator_a2b"]
    expected, _ = generator.apply(
        variables["generator_a2b"], images, statistics="batch", mutable=["batch_stats"]
    )
    inputs = {"image": images}
    output = {m.test_statistics: m.generate(variables, inputs).images for m in (batch, running)}
    np.testing.assert_allclose(output["batch"], expected.images, rtol=1e-5, atol=1e-6)
    assert np.abs(output["running"] - expected.images).max() > 1e-3


@pytest.mark.parametrize("variant", ["", "instance_norm", "no_dropout", "pixel", "bfloat16"])
def test_variants_keep_the_kind_of_every_leaf(variant):
    method = method_of(f"tiny,{variant}")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, metrics = jax.eval_shape(method.train_step, state, method.batch_spec(2))
    assert jax.tree.map(_kind, new) == jax.tree.map(_kind, state)
    assert set(metrics) == set(TERMS)


def _kind(leaf):
    return leaf.shape, leaf.dtype


def test_only_one_direction():
    method = method_of("tiny")
    assert method.directions == ("a2b",)
    with pytest.raises(ConfigError, match="direction is 'b2a': use one of a2b"):
        method.generate({}, {"image": np.zeros((1, 32, 32, 3))}, "b2a")
    assert method.networks_for("a2b") == ("generator_a2b",)
    assert method.inputs("a2b") == {"image": ("image", (32, 32, 3), False, 32, 0, False)}


def test_panels_show_source_translation_and_target():
    method = method_of("tiny")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    panels = jax.eval_shape(method.panels, state.variables, method.batch_spec(2), jax.random.key(0))
    assert list(panels) == ["a2b"]
    assert list(panels["a2b"]) == ["source", "translation", "target"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 128),
        ("num_downs", 1),
        ("norm", "layer"),
        ("adversarial", "hinge"),
        ("test_statistics", "image"),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"config.method.{field} is"):
        method_of(**{field: value})
