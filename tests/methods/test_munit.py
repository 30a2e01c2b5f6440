"""What MUNIT alone promises: the authors' numbers, counts, styles, and the perceptual loss."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import close, networks_of, nhwc, pictures_of

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop.munit import NETWORKS
from ganattn.layers.pooling import halve
from ganattn.networks.vgg import CONVOLUTIONS_16, VGG16Features, invariant_perceptual_distance

TERMS = {
    "discriminator/adversarial": ("dis_a", "dis_b"),
    "discriminator/total": ("dis_total",),
    "generator/adversarial": ("gen_adv_a", "gen_adv_b"),
    "generator/reconstruction": ("gen_recon_x_a", "gen_recon_x_b"),
    "generator/style": ("gen_recon_s_a", "gen_recon_s_b"),
    "generator/content": ("gen_recon_c_a", "gen_recon_c_b"),
    "generator/cycle": ("gen_cycrecon_x_a", "gen_cycrecon_x_b"),
    "generator/total": ("gen_total",),
}
FIELDS = {
    "dim": "width", "n_downsample": "num_downsamplings", "n_res": "num_residual_blocks",
    "dis_dim": "discriminator_width", "dis_layers": "discriminator_layers",
    "dis_scales": "num_scales", "style_dim": "style_size", "mlp_dim": "mlp_width",
}  # fmt: skip
WEIGHTS = {
    "gan_w": "adversarial_weight", "recon_x_w": "reconstruction_weight",
    "recon_s_w": "style_weight", "recon_c_w": "content_weight", "recon_x_cyc_w": "cycle_weight",
}  # fmt: skip


def config_of(variant="", **fields):
    config = load(find("munit"), variant)
    with config.unlocked():
        config.method.update(fields)
    return config


def named(file, key):
    return dict(zip(file[f"{key}_names"].tolist(), file[key].tolist(), strict=True))


def fields_of(file):
    """What the file's networks need in config.method."""
    return {ours: named(file, "meta")[theirs] for theirs, ours in FIELDS.items()}


@pytest.fixture(scope="module")
def file():
    return np.load("tests/golden/munit.npz")


@pytest.fixture(scope="module")
def method(file):
    weights = {WEIGHTS[name]: value for name, value in named(file, "weights").items()}
    config = config_of(image_size=64, **fields_of(file), **weights)
    config.optimizer.learning_rate = float(file["learning_rate"])
    config.optimizer.decay_every = named(file, "meta")["step_size"]
    return methods.create(config)


def variables_of(file, dtype=np.float64):
    return interop.from_authors("munit", networks_of(file, "munit", dtype))


def test_encoders_and_discriminators_equal_the_authors(file, method, x64):
    variables, images = variables_of(file), pictures_of(file, 0)
    encode = jax.jit(partial(method.networks["generator_a"].apply, method="encode"))
    discriminate = jax.jit(method.networks["discriminator_a"].apply)
    for domain, image in images.items():
        content, style = encode(variables[f"generator_{domain}"], image)
        close(content, nhwc(file[f"forward/gen_{domain}/content"]), 1e-9)
        close(style, file[f"forward/gen_{domain}/style"][..., 0, 0], 1e-9)
        scales = discriminate(variables[f"discriminator_{domain}"], image).logits
        assert len(scales) == 3
        for i, logits in enumerate(scales):
            close(logits, nhwc(file[f"forward/dis_{domain}/{i}"]), 1e-9)
        close(halve(image), nhwc(file[f"forward/dis_{domain}/downsample"]), 1e-9)


def test_the_mlp_and_the_reconstruction_equal_the_authors(file, method, x64):
    variables, image = variables_of(file), pictures_of(file, 0)["a"]
    reconstruct = jax.jit(method.networks["generator_a"].apply)
    images = reconstruct(variables["generator_a"], image).images
    close(images, nhwc(file["forward/gen_a/reconstruction"]), 1e-9)
    code = file["forward/style_b"][..., 0, 0].astype(np.float64)
    parameters = method.networks["generator_b"].apply(
        variables["generator_b"], code, method=lambda module, style: module.mlp(style)
    )
    close(parameters.reshape(1, -1), file["forward/gen_b/adain_of_style_b"], 1e-9)


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_translations_equal_the_authors(file, method, x64, direction):
    """With a style code in any of the accepted shapes, and with the style of an example."""
    variables, images = variables_of(file), pictures_of(file, 0)
    source, target = direction.split("2")
    generate = jax.jit(lambda v, x: method.generate(v, x, direction))
    code = file[f"forward/style_{target}"].astype(np.float64)
    expected = nhwc(file[f"forward/{source}{target}/random"])
    for style in (code, nhwc(code), code[..., 0, 0]):
        out = generate(variables, {"image": images[source], "style": style})
        close(out.images, expected, 1e-9)
        np.testing.assert_array_equal(out.extras["style"], code[..., 0, 0])
    out = generate(variables, {"image": images[source], "style": images[target]})
    close(out.images, nhwc(file[f"forward/{source}{target}/guided"]), 1e-9)
    close(out.extras["style"], file[f"forward/gen_{target}/style"][..., 0, 0], 1e-9)
    assert out.heatmap is None


def draws_of(file, step):
    names = (f"{update}/style_{domain}" for update in ("dis", "gen") for domain in "ab")
    return {name: file[f"step{step}/{name}"].astype(np.float64) for name in names}


def test_steps_equal_the_authors(file, method, x64):
    state = method.create_state(jax.random.key(0), variables_of(file))
    step = jax.jit(method.train_step)
    for i in range(3):
        state, metrics = step(state, pictures_of(file, i), draws_of(file, i))
        assert metrics.keys() == TERMS.keys()
        for ours, theirs in TERMS.items():
            close(metrics[ours], sum(file[f"step{i}/{name}"] for name in theirs), 1e-9, ours)
    trained = interop.to_authors("munit", state.variables)
    final = [name for name in file.files if name.startswith("final/")]
    assert len(final) == sum(map(len, trained.values()))
    for name in final:
        _, network, key = name.split("/")
        if "running" in key:
            np.testing.assert_array_equal(trained[network][key], file[name])
        else:
            close(trained[network][key], file[name], 1e-8, name)


def test_gradients_and_fakes_equal_the_authors(file, method, x64):
    """Those that the first step hands to its optimizers; the draws come nested."""
    variables, real, draws = variables_of(file), pictures_of(file, 0), draws_of(file, 0)
    gradients = {}

    class Recorder(type(method)):
        def update(self, state, group, new, carried):
            gradients.update(new)
            return super().update(state, group, new, carried)

    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    nested = {
        update: {f"style_{d}": draws[f"{update}/style_{d}"][..., 0, 0] for d in "ab"}
        for update in ("dis", "gen")
    }

    def record(state, batch, draws):
        Recorder(**fields).step(state, batch, draws)
        return dict(gradients)

    state = method.create_state(jax.random.key(0), variables)
    theirs = interop.to_authors("munit", jax.jit(record)(state, real, nested))
    names = [name for name in file.files if name.startswith("grad0/")]
    assert len(names) == 5
    for name in names:
        _, network, key = name.split("/")
        close(theirs[network][key], file[name], 1e-9, name)
    for source, target in ("ab", "ba"):
        inputs = {"image": real[source], "style": draws[f"gen/style_{target}"]}
        out = method.generate(variables, inputs, f"{source}2{target}")
        close(out.images, nhwc(file[f"step0/fake_{target.upper()}"]), 1e-9)


def test_names_go_to_the_authors_and_back(file):
    networks = networks_of(file, "munit", np.float32)
    back = interop.to_authors("munit", interop.from_authors("munit", networks))
    assert list(back) == list(NETWORKS)
    for network, arrays in networks.items():
        assert back[network].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array, strict=True)
    assert interop.method_fields("munit", networks) == fields_of(file)


def test_files_of_old_pytorch_are_read(file):
    """They have averages of instance normalization, which nothing uses."""
    networks = networks_of(file, "munit", np.float32)
    expected = interop.from_authors("munit", networks)
    old = networks["gen_a"]
    for layer in ("0", "2", "3.model.1.model.0"):
        old[f"enc_content.model.{layer}.norm.running_mean"] = np.ones(4, np.float32)
    found = interop.from_authors("munit", networks)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    del old["mlp.model.0.fc.bias"]
    with pytest.raises(ForeignFileError, match=r"1 missing \(mlp.model.0.fc.bias"):
        interop.from_authors("munit", networks)


def test_parameter_counts():
    method = methods.create(config_of())
    state = jax.eval_shape(method.create_state, jax.random.key(0))

    def count(*path):
        tree = state.variables
        for part in path:
            tree = tree[part]
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    parts = {"style_encoder": 2_764_936, "content_encoder": 5_385_856, "decoder": 5_754_627}
    parts["mlp"] = 1_120_768
    for domain in "ab":
        generator = (f"generator_{domain}", "params")
        assert count(*generator) == 15_026_187
        assert {part: count(*generator, part) for part in parts} == parts
        assert count(f"discriminator_{domain}") == 8_271_171
        assert count(f"discriminator_{domain}", "params", "scale1") == 2_757_057
    assert sum(map(count, state.variables)) == 46_594_716


def test_initialization_is_the_authors():
    method = methods.create(config_of(width=16, discriminator_width=16, mlp_width=64))
    names = ("generator_a", "discriminator_b")
    initialize = jax.jit(lambda key: [method.initialize(name, key) for name in names])
    variables = initialize(jax.random.key(0))
    generator, discriminator = (x["params"] for x in variables)
    for path in ("content_encoder/down2", "style_encoder/down4", "decoder/up1", "mlp/output"):
        part, layer = path.split("/")
        kernel = generator[part][layer]["kernel"]
        np.testing.assert_allclose(kernel.std(), (2 / kernel[..., 0].size) ** 0.5, rtol=0.03)
    gamma = generator["decoder"]["up1_norm"]["gamma"]
    assert 0 <= gamma.min() < 0.25 and 0.75 < gamma.max() <= 1
    np.testing.assert_allclose(discriminator["scale2"]["conv4"]["kernel"].std(), 0.02, rtol=0.03)
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    biases = [leaf for path, leaf in flat if path[-1].key in ("bias", "beta")]
    # Style and content encoder, decoder, MLP, three scales.
    assert len(biases) == 6 + 11 + 13 + 3 + 15 and not any(np.any(bias) for bias in biases)


@pytest.fixture(scope="module")
def tiny():
    """(method, variables, images) of the smallest form."""
    method = methods.create(config_of("tiny"))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(method.create_state)(jax.random.key(0)).variables
    return method, variables, dict(zip("ab", images, strict=True))


def test_a_drawn_style_belongs_to_its_example_whatever_the_batch(tiny):
    method, variables, images = tiny
    draw = jax.jit(lambda v, x, key: method.generate(v, {"image": x}, "b2a", key))
    three = draw(variables, images["b"], jax.random.key(7))
    two = draw(variables, images["b"][:2], jax.random.key(7))
    np.testing.assert_array_equal(three.extras["style"][:2], two.extras["style"])
    np.testing.assert_allclose(three.images[:2], two.images, atol=1e-5)
    assert len(np.unique(three.extras["style"])) == 3 * method.style_size
    other = draw(variables, images["b"], jax.random.key(8))
    assert not np.any(other.extras["style"] == three.extras["style"])
    inputs = {"image": images["b"], "style": three.extras["style"]}
    given = method.generate(variables, inputs, "b2a")
    np.testing.assert_allclose(given.images, three.images, atol=1e-5)


def test_without_a_style_the_mean_is_taken(tiny):
    method, variables, images = tiny
    out = method.generate(variables, {"image": images["a"]})
    assert not np.any(out.extras["style"]) and out.images.shape == images["a"].shape
    # An example may have another size than the image.
    inputs = {"image": images["a"][:1], "style": images["b"][:1, :20, :24]}
    assert method.generate(variables, inputs).images.shape == (1, 32, 32, 3)


def test_inputs_and_networks_of_a_direction(tiny):
    method, variables, images = tiny
    assert set(method.networks_for("b2a")) == {"generator_a", "generator_b"}
    inputs = method.inputs("b2a")
    assert inputs["image"].shape == (32, 32, 3) and inputs["image"].multiple == 4
    assert inputs["style"].optional and not inputs["image"].optional
    shapes = {name: spec.shape for name, spec in method.batch_spec(5).items()}
    assert shapes == dict.fromkeys("ab", (5, 32, 32, 3))
    for call in (method.inputs, method.networks_for):
        with pytest.raises(ConfigError, match="direction is 'c2d'"):
            call("c2d")
    with pytest.raises(ConfigError, match=r"a style has shape \(3, 4\).*\(3, 3\)"):
        method.generate(variables, {"image": images["a"], "style": np.zeros((3, 4))})


def test_panels(tiny):
    method, variables, images = tiny
    figures = jax.jit(method.panels)(variables, images, jax.random.key(0))
    assert list(figures) == ["a2b", "b2a"]
    expected = "source, reconstruction, style 1, style 2, style 3, example, guided, cycle"
    assert ", ".join(figures["a2b"]) == expected
    for columns in figures.values():
        assert {images.shape for images in columns.values()} == {(3, 32, 32, 3)}
    np.testing.assert_array_equal(figures["b2a"]["example"], images["a"])


def test_terms_without_weight_are_not_computed():
    method = methods.create(config_of("tiny,nsgan", cycle_weight=0.0))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    _, metrics = jax.eval_shape(method.train_step, state, method.batch_spec(1))
    assert "generator/style" in metrics and "generator/cycle" not in metrics
    parts = dataclasses.replace(method, accumulate_steps=2)
    _, same = jax.eval_shape(parts.train_step, state, method.batch_spec(2))
    assert same.keys() == metrics.keys()


def filled(index, shape, is_weight):
    """Tensor `index` of VGG16, as the file's numbers were computed."""
    with np.errstate(over="ignore"):
        size = np.prod(shape)
        h = np.arange(size, dtype=np.uint32) * np.uint32(2654435761)
        h += np.uint32((index * 40503 + 12345) % 2**32)
        h ^= h >> np.uint32(15)
        h *= np.uint32(2246822519)
        h ^= h >> np.uint32(13)
    s = (h / 2.0**31 - 1).reshape(shape)
    return s * np.sqrt(3 / np.prod(shape[1:])) if is_weight else 0.1 * s


@pytest.fixture(scope="module")
def vgg16():
    """A file's arrays, in torchvision's layout."""
    arrays, channels = {"classifier.0.bias": np.zeros(3)}, 3
    for i, (number, features) in enumerate(CONVOLUTIONS_16.items()):
        shape = (features, channels, 3, 3)
        arrays[f"features.{number}.weight"] = filled(2 * i, shape, True)
        arrays[f"features.{number}.bias"] = filled(2 * i + 1, (features,), False)
        channels = features
    return arrays


def test_the_perceptual_loss_equals_the_authors(file, vgg16, x64, monkeypatch):
    monkeypatch.setattr("ganattn.interop.vgg.read_torch", lambda path: vgg16)
    method = methods.create(config_of("tiny", perceptual_weight=1.0, perceptual_weights="vgg.pth"))
    variables = method.initialize("perceptual", jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 14_714_688
    arrays = (nhwc(file[f"perceptual/{name}"]) for name in ("image", "target"))
    image, target = (array.astype(np.float64) for array in arrays)
    network = VGG16Features()

    def loss(image, variables):
        value = invariant_perceptual_distance(network, variables, image, target)
        return value, network.apply(variables, image)

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, features), gradient = compute(image, variables)
    close(features, nhwc(file["perceptual/features"]), 1e-6)  # stored as float32
    close(value, file["perceptual/loss"], 1e-9)
    close(gradient, nhwc(file["perceptual/grad_image"]), 1e-9)


def test_the_perceptual_term_enters_the_total(vgg16, monkeypatch):
    monkeypatch.setattr("ganattn.interop.vgg.read_torch", lambda path: vgg16)
    method = methods.create(config_of("tiny", perceptual_weight=2.0, perceptual_weights="vgg.pth"))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    assert "perceptual" not in {n for names in method.groups.values() for n in names}
    new, metrics = jax.eval_shape(method.train_step, state, method.batch_spec(1))
    assert "generator/perceptual" in metrics
    assert state.variables["perceptual"].keys() == method.shapes("perceptual").keys()
    assert jax.tree.structure(new.variables) == jax.tree.structure(state.variables)
    method = methods.create(config_of("synthia2cityscape"))
    assert method.shapes("perceptual")["params"]["conv28"]["kernel"].shape == (3, 3, 512, 512)
    with pytest.raises(ConfigError, match=r"perceptual_weights is empty.*perceptual_weight=0"):
        jax.eval_shape(method.create_state, jax.random.key(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adversarial": "hinge"}, "adversarial is 'hinge': use one of least_squares"),
        ({"image_size": 60}, "image_size is 60: give at least 61"),
        ({"image_size": 70}, "image_size is 70: give a multiple of 4"),
        ({"style_size": 0}, "style_size is 0: give at least 1"),
        ({"num_scales": 0}, "num_scales is 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(config_of(**fields))


def test_the_rate_is_halved():
    config = config_of()
    config.optimizer.decay_every = 0
    with pytest.raises(ConfigError, match=r"decay_every is 0: give at least 1"):
        methods.create(config)
    rates, chain = [], methods.create(config_of()).optimizers["generator"]
    for count in (0, 99_999, 100_000, 999_999):
        state = jax.tree.map(
            lambda x, n=count: jnp.full_like(x, n) if x.dtype == jnp.int32 else x,
            chain.init({"x": jnp.zeros(1)}),
        )
        update, _ = chain.update({"x": jnp.ones(1)}, state, {"x": jnp.zeros(1)})
        rates.append(float(-update["x"][0]))
    np.testing.assert_allclose(rates[1] / rates[2], 2, rtol=1e-4)
    np.testing.assert_allclose(rates[1] / rates[3], 512, rtol=1e-4)
