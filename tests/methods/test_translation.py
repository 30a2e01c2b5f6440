"""`generate` follows the authors' test code: tests/golden/translation has what that gives."""

import jax
import jax.export
import numpy as np
import pytest
from reference import arrays_under, close, nhwc

from ganattn import Translator, interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError

BUFFER = {"guidance": "buffer", "buffer_size_a": 2, "buffer_size_b": 2}
CASES = {
    "guidance_buffer_rmult": ("guidance", BUFFER),
    "guidance_buffer_mult": ("guidance", BUFFER | {"blend": "mult"}),
    "guidance_buffer_alpha": ("guidance", BUFFER),
    "guidance_trainable": ("guidance", {"guidance": "in_iteration"}),
    "guidance_posthoc": ("guidance", {"guidance": "in_iteration"}),
    "guidance_supervised": ("guidance_supervised", {}),
    "pix2pix": ("pix2pix", {}),
    "cyclegan": ("cyclegan", {"dropout": True}),
}
EVALUATED = ("guidance_trainable", "pix2pix", "cyclegan")


def method_of(system, variant="", **fields):
    config = load(find(system), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config), config


@pytest.mark.parametrize(
    ("case", "variant"), [(c, "") for c in CASES] + [(c, "eval") for c in EVALUATED]
)
def test_translations_equal_the_authors(case, variant, golden_folder, monkeypatch, x64):
    """For a batch, because their test code translates one image at a time."""
    file, (system, fields) = np.load(golden_folder / "translation" / f"{case}.npz"), CASES[case]
    names = {name.split("/")[1] for name in file.files if name.startswith("init/")}
    networks = {name: arrays_under(file, f"init/{name}/", np.float64) for name in names}
    variables = interop.from_authors(system, networks)
    fields = interop.method_fields(system, networks) | fields
    image_size = file["real_A"].shape[-1]
    method, _ = method_of(system, variant, image_size=image_size, **fields)
    for direction in method.directions:
        target, source = direction.target.upper(), direction.source.upper()
        masks = [nhwc(file[n])[0] for n in file.files if n.startswith(f"dropout_{target}/")]
        drawn = {mask.shape: mask for mask in masks}
        monkeypatch.setattr(jax.random, "bernoulli", lambda _, p, shape, d=drawn: d.pop(shape))
        image = nhwc(file[f"real_{source}"]).astype(float)
        inputs = {"image": np.concatenate([image, image[:, ::-1]])}
        used = {name: variables[name] for name in method.networks_for(direction)}
        generate = jax.jit(lambda v, x, d=direction: method.generate(v, x, d))
        expected = nhwc(file[f"{variant}{'/' * bool(variant)}fake_{target}"])
        stride = image_size // expected.shape[1]
        close(generate(used, inputs).images[:1, ::stride, ::stride], expected, 1e-12)
        assert bool(drawn) == bool(variant and masks)


@pytest.fixture(scope="module")
def translator():
    """pix2pix with dropout in one level, and weights that show it."""
    sizes = {"image_size": 64, "num_downs": 6, "width": 1}
    method, config = method_of("pix2pix", "tiny", **sizes)
    state = jax.jit(method.create_state)(jax.random.key(0))
    variables = jax.tree.map(lambda x: 10 * x, state.variables)
    return Translator(method, variables, config)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8).repeat(3, 0)


def test_dropout_depends_on_the_seed_and_the_image_alone(translator, images):
    three = translator(images).images
    shifted = translator(images, seed=0, indices=[1, 2, 7]).images
    np.testing.assert_array_equal(shifted[:2], three[1:])
    other = translator(images, seed=1).images
    drawn = np.concatenate([three, shifted[2:], other]).reshape(7, -1)
    assert len(np.unique(drawn, axis=0)) == 7


def test_dropout_of_a_batch_is_one_mask_without_rng_and_one_each_with_it(translator):
    method, inputs = translator.method, {"image": np.ones((2, 64, 64, 3), np.float32)}
    generate = jax.jit(method.generate)
    fixed = generate(translator.variables, inputs).images
    np.testing.assert_array_equal(fixed[0], fixed[1])
    drawn = generate(translator.variables, inputs, rng=jax.random.key(0)).images
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3 and np.abs(fixed[0] - drawn[0]).max() > 1e-3
    assert method.draws_noise


def test_without_dropout_there_is_nothing_to_seed(translator, images):
    for fields in ({"dropout": False}, {"test_dropout": False}):
        method, config = method_of("pix2pix", "tiny", **fields)
        assert not method.draws_noise
    with pytest.raises(ConfigError, match="seed does not apply: pix2pix has no styles"):
        Translator(method, translator.variables, config)(images, seed=1)
    with pytest.raises(ConfigError, match="styles does not apply"):
        translator(images, seed=1, styles=2)


@pytest.mark.parametrize(
    ("system", "variant"),
    [
        ("pix2pix", ""),
        ("cyclegan", "dropout"),
        ("guidance", "in_iteration,trainable"),
        ("guidance", "decomposed"),
        ("guidance", "f1"),
        ("guidance", "buffer"),
        ("guidance_supervised", "discriminator_guided"),
    ],
)
def test_exports_take_any_batch(system, variant):
    method, _ = method_of(system, f"tiny,{variant}")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    (count,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, 32, 32, 3), np.float32)
    output = jax.eval_shape(method.generate, state.variables, {"image": images})
    assert output.images.shape == images.shape
