"""What feedback adversarial learning alone promises: the authors' numbers, rounds, and sizes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import check_steps, networks_of

from ganattn import interop, methods, optimizers
from ganattn.config import find, load
from ganattn.errors import CheckpointError, ConfigError

TERMS = {
    "generator/adversarial": (("G_GAN",), 1),
    "generator/l1": (("G_L1",), 100),
    "generator/total": (("G",), 1),
    "discriminator/real": (("D_real",), 1),
    "discriminator/fake": (("D_fake",), 1),
    "discriminator/total": (("D",), 1),
}


def method_of(variant="", **fields):
    config = load(find("fal"), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config)


def golden(norm):
    return np.load(Path(__file__).parents[1] / "golden" / f"fal_{norm}.npz")


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_steps_equal_the_authors(norm, x64):
    """Two rounds with batch normalization, three with instance normalization."""
    file = golden(norm)
    size, width, blocks, rounds, _ = (int(x) for x in file["meta"])
    fields = interop.method_fields("fal", networks_of(file, "fal"))
    assert fields == {
        "width": width, "num_residual_blocks": blocks, "norm": norm, "dropout": False,
        "modulation": "global", "image_size": size,
        "discriminator": "patch", "discriminator_width": width, "discriminator_layers": 3,
    }  # fmt: skip
    check_steps(file, method_of(**fields, num_rounds=rounds), "fal", TERMS)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_names_go_to_the_authors_and_back(norm):
    theirs = networks_of(golden(norm), "fal", np.float32)
    back = interop.to_authors("fal", interop.from_authors("fal", theirs))
    for network, arrays in theirs.items():
        assert back[network].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array, strict=True)


@pytest.mark.parametrize("variant", ["", "instance_norm,spatial"])
def test_dropout_and_modulation_show_in_the_names(variant):
    method = method_of(f"tiny,{variant}")
    shapes = {name: method.shapes(name) for name in method.networks}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    theirs = interop.to_authors("fal", zeros, dropout=True)
    assert "model.0.conv_block.6.weight" in theirs["GD"]
    fields = interop.method_fields("fal", theirs)
    assert fields["dropout"] and fields["modulation"] == method.modulation
    assert fields.get("image_size", 64) == 64
    ours = interop.from_authors("fal", theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(zeros)


def test_parameter_counts():
    expected = {
        "instance": (5_099_136, 6_279_043 + 66_880 + 5_243_904, 2_767_809),
        "batch": (5_101_632, 16_695_363 - 5_101_632, 2_768_705),
    }
    for norm, counts in expected.items():
        method = method_of(norm=norm)
        assert counts == tuple(
            sum(leaf.size for leaf in jax.tree.leaves(method.shapes(name)["params"]))
            for name in ("encoder_a2b", "generator_a2b", "discriminator_b")
        )


@pytest.fixture(scope="module")
def tiny():
    method, random = method_of("tiny", test_dropout=False), np.random.default_rng(3)

    def draw(leaf):
        values = random.normal(size=leaf.shape)
        values *= (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim == 4 else 0.3
        return jnp.asarray(values + (leaf.ndim == 1), leaf.dtype)

    return method, {name: jax.tree.map(draw, method.shapes(name)) for name in method.networks}


def test_later_rounds_see_the_response_and_the_first_sees_zeros(tiny):
    method, variables = tiny
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    generate = jax.jit(lambda v: method.generate(v, {"image": images}))
    output = generate(variables)
    rounds, responses = output.extras["rounds"], output.extras["responses"]
    assert rounds.shape == (2, 2, 64, 64, 3) and responses.shape == (2, 2, 64, 64, 1)
    np.testing.assert_array_equal(output.images, rounds[:, -1])
    assert np.abs(rounds[:, 0] - rounds[:, 1]).max() > 1e-3

    other = jax.tree.map(lambda x: -x, variables["discriminator_b"])
    changed = generate({**variables, "discriminator_b": other}).extras["rounds"]
    np.testing.assert_array_equal(changed[:, 0], rounds[:, 0])
    assert np.abs(changed[:, 1] - rounds[:, 1]).max() > 1e-4

    @jax.jit
    def first(variables):
        options = {"statistics": "image"}
        networks = method.networks
        code = networks["encoder_a2b"].apply(variables["encoder_a2b"], images, **options)
        zeros = jnp.zeros((2, 64, 64, 3)), jnp.zeros((2, 64, 64, 1))
        decoder = networks["generator_a2b"]
        return decoder.apply(variables["generator_a2b"], code, *zeros, **options).images

    np.testing.assert_allclose(rounds[:, 0], first(variables), atol=1e-5)


def test_translation_needs_the_discriminator(tiny):
    method, variables = tiny
    assert set(method.networks_for("a2b")) == set(variables)
    generators = {n: v for n, v in variables.items() if n != "discriminator_b"}
    with pytest.raises(CheckpointError, match="no weights of discriminator_b"):
        method.generate(generators, {"image": np.zeros((1, 64, 64, 3))})


@pytest.mark.parametrize(("size", "kernel"), [(64, 1), (128, 2), (256, 4), (512, 8)])
def test_a_global_modulation_follows_the_size(size, kernel):
    method = method_of("tiny", image_size=size)
    assert method.inputs()["image"].multiple is None
    shapes = method.shapes("generator_a2b")["params"]
    assert shapes["modulation2"]["kernel"].shape == (kernel, kernel, 8, 8)


def test_a_spatial_modulation_takes_other_sizes():
    method = method_of("tiny,spatial", image_size=52)
    assert method.inputs()["image"].multiple == 4
    variables = jax.eval_shape(method.create_state, jax.random.key(0)).variables
    image = jax.ShapeDtypeStruct((1, 36, 60, 3), np.float32)
    output = jax.eval_shape(method.generate, variables, {"image": image})
    assert output.images.shape == (1, 36, 60, 3)


@pytest.mark.parametrize("variant", ["stop_feedback", "instance_norm,spatial"])
def test_variants_keep_the_kind_of_every_leaf(variant):
    method = method_of(f"tiny,{variant}")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, metrics = jax.eval_shape(method.train_step, state, method.batch_spec(2))

    def kinds(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    assert kinds(new) == kinds(state)
    assert set(metrics) == set(TERMS)


def test_panels_show_the_rounds(tiny):
    method, variables = tiny
    panels = jax.eval_shape(method.panels, variables, method.batch_spec(2), jax.random.key(0))
    assert list(panels["a2b"]) == ["source", "round 1", "translation", "target"]


def test_repeated_leaves_take_several_steps_of_adam():
    adam = optax.scale_by_adam(b1=0.5, b2=0.999)
    chain = optimizers.repeated(adam, 2, lambda path: path[0] == "decoder")
    weight = jnp.ones(2)
    both = {"decoder": weight, "other": weight}
    state, several_state, once_state = chain.init(both), adam.init(weight), adam.init(weight)
    for numbers in ([1.0, -2.0], [0.5, 0.1]):
        gradient = jnp.asarray(numbers)
        update, state = chain.update(dict.fromkeys(both, gradient), state, both)
        once, once_state = adam.update(gradient, once_state)
        first, several_state = adam.update(gradient, several_state)
        second, several_state = adam.update(gradient, several_state)
        np.testing.assert_allclose(update["decoder"], first + second, rtol=1e-6)
        np.testing.assert_allclose(update["other"], once, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("image_size", 96, "give a multiple of 64"),
        ("num_rounds", 0, "give at least 1"),
        ("num_residual_blocks", 3, "give at least 4"),
        ("modulation", "pixel", "use one of global, spatial"),
        ("norm", "layer", "use one of instance, batch"),
        ("test_statistics", "none", "use one of batch, running"),
    ],
)
def test_values_out_of_range_are_refused(field, value, remedy):
    with pytest.raises(ConfigError, match=f"config.method.{field} is .*{remedy}"):
        method_of(**{field: value})


def test_the_number_of_updates_is_checked():
    config = load(find("fal"), "single_update")
    assert config.optimizer.decoder_updates == 1
    config.optimizer.decoder_updates = 0
    with pytest.raises(ConfigError, match=r"optimizer\.decoder_updates is 0: give at least 1"):
        methods.create(config)
