"""SPADE, GauGAN and DAGAN: numbers as the authors' code has them, and what they alone promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import arrays_under, close, nhwc

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.layers.label_maps import instance_edges
from ganattn.layers.spade import resize_nearest
from ganattn.networks.vgg import CONVOLUTIONS

TERMS = {
    "generator/adversarial": ("g_adv", 1),
    "generator/feature_matching": ("g_feat", 10),
    "generator/total": ("g_total", 1),
    "discriminator/fake": ("d_fake", 1),
    "discriminator/real": ("d_real", 1),
}


def method_of(name, variant="", **fields):
    config = load(find(name), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config)


@pytest.fixture
def golden(golden_folder):
    file = np.load(golden_folder / "dagan.npz")
    _, width, discriminator_width, classes, size, aspect, _, _ = file["meta"]
    fields = {
        "width": int(width), "discriminator_width": int(discriminator_width),
        "num_classes": int(classes), "use_instances": True, "crop_size": int(size),
        "aspect_ratio": float(aspect), "perceptual_weight": 0.0,
    }  # fmt: skip
    return file, method_of("dagan", **fields)


def networks_of(file, dtype):
    return {name: arrays_under(file, f"init/{name}/", dtype) for name in "GD"}


def test_forward_equals_the_authors(golden):
    file, method = golden
    variables = interop.from_authors("dagan", networks_of(file, np.float32))
    maps = {name: nhwc(file[f"forward/{name}"]) for name in ("label", "instance")}
    output = jax.jit(method.generate)(variables, maps)
    close(output.images, nhwc(file["forward/G_eval"]), 1e-5)
    assert list(output.attention) == ["channel", "spatial"]
    assert output.heatmap.shape == (2, 64, 64, 1)
    assert output.attention["channel"].shape == (2, 1, method.networks["generator"].width, 1)
    pair = np.concatenate([nhwc(file["forward/semantics"]), nhwc(file["forward/image"])], -1)
    result = jax.jit(method.networks["discriminator"].apply)(variables["discriminator"], pair)
    for scale, (logits, features) in enumerate(zip(result.logits, result.features, strict=True)):
        for layer, values in enumerate([*features, logits]):
            close(values, nhwc(file[f"forward/D_eval/{scale}/{layer}"]), 1e-5)


def test_a_step_equals_the_authors(golden, x64):
    file, method = golden
    variables = interop.from_authors("dagan", networks_of(file, np.float64))
    state = method.create_state(jax.random.key(0), variables)
    batch = {name: nhwc(file[f"step0/{name}"]) for name in ("label", "instance", "image")}
    state, metrics = jax.jit(method.train_step)(state, batch)
    for ours, (theirs, weight) in TERMS.items():
        close(weight * metrics[ours], file[f"step0/{theirs}"], 1e-9, ours)
    trained = interop.to_authors("dagan", state.variables)
    final = [name for name in file.files if name.startswith("final/")]
    assert len(final) == sum(map(len, trained.values()))
    for name in final:
        _, network, key = name.split("/")
        np.testing.assert_allclose(
            trained[network][key], file[name], atol=1e-6 * max(np.abs(file[name]).max(), 1e-30),
            rtol=0, err_msg=name,
        )  # fmt: skip


def test_names_go_to_the_authors_and_back(golden):
    file, _ = golden
    theirs = networks_of(file, np.float32)
    back = interop.to_authors("dagan", interop.from_authors("dagan", theirs))
    for network, arrays in theirs.items():
        assert list(back[network]) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array)
    given = {"use_instances": True, "use_dontcare": False, "up_sampling": "normal"}
    fields = interop.method_fields("dagan", theirs, given)
    assert (fields["width"], fields["discriminator_width"], fields["attention"]) == (2, 2, "last")


@pytest.mark.parametrize(
    ("name", "variant", "expected"),
    [
        ("spade", "cityscapes", {"generator": 93_048_003, "discriminator": 5_601_410}),
        ("dagan", "cityscapes", {"generator": 93_134_229}),
        ("dagan", "cityscapes,gaugan", {"generator": 101_222_805, "encoder": 10_463_424}),
        ("dagan", "ade20k", {"generator": 96_578_709, "discriminator": 5_836_930}),
        ("dagan", "coco", {"generator": 97_567_125, "discriminator": 5_904_514}),
        ("dagan", "celebamask", {"generator": 92_625_045}),
        ("dagan", "facades1024,gaugan", {"generator": 361_808_533}),
    ],
)
def test_parameters_are_as_many_as_the_authors(name, variant, expected):
    method = method_of(name, variant, perceptual_weight=0.0)
    for network, count in expected.items():
        shapes = jax.eval_shape(lambda key, n=network: method.initialize(n, key), jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


@pytest.mark.parametrize(
    ("size", "new_size", "picked"),
    [
        (7, 3, [0, 2, 4]),  # half-pixel centers would give 1, 3, 5
        (5, 2, [0, 2]),
        (9, 4, [0, 2, 4, 6]),
        (3, 5, [0, 0, 1, 1, 2]),
        (8, 4, [0, 2, 4, 6]),
        (2, 6, [0, 0, 0, 1, 1, 1]),
    ],
)
def test_nearest_pixels_are_those_of_pytorch(size, new_size, picked):
    ramp = jnp.broadcast_to(jnp.arange(size)[:, None], (size, size))[None, ..., None]
    for image in (ramp, ramp.transpose(0, 2, 1, 3)):
        resized = resize_nearest(image, new_size, new_size)[0, ..., 0]
        column = resized[:, 0] if image is ramp else resized[0]
        np.testing.assert_array_equal(column, picked)


def test_edges_are_on_both_sides_of_a_boundary():
    instance = jnp.array([[7, 7, 7, 7], [7, 9, 9, 7], [7, 9, 9, 7], [7, 7, 7, 7]])
    edges = instance_edges(instance[None, ..., None])[0, ..., 0]
    corners = np.zeros((4, 4), bool)
    corners[[0, 0, 3, 3], [0, 3, 0, 3]] = True
    np.testing.assert_array_equal(edges, ~corners)


@pytest.mark.parametrize(
    ("variant", "fields"),
    [
        ("tiny,all_levels", {}),
        ("tiny", {"aspect_ratio": 2.0, "crop_size": 64}),
        ("tiny", {"up_sampling": "most", "crop_size": 128, "width": 2, "remat": True}),
        ("tiny,gaugan,instance_norm", {}),
        ("tiny", {"condition_channels": 5, "use_instances": False}),
    ],
)
def test_variants_step_and_synthesize(variant, fields):
    """By shapes alone: what they compute is put together from what is compared elsewhere."""
    method = method_of("dagan", variant, **fields)
    shape, batch = (2, method.height, method.width), method.batch_spec(2)
    channels = fields.get("condition_channels", 1)
    kind = jnp.float32 if channels > 1 else jnp.int32
    assert batch["label"] == jax.ShapeDtypeStruct((*shape, channels), kind)
    assert batch["image"] == jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, metrics = jax.eval_shape(method.train_step, state, batch)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert ("generator/divergence" in metrics) == bool(method.latent_size)
    assert set(method.inputs()) - {"style"} == set(batch) - {"image"}
    assert method.networks_for()[1:] == (("encoder",) if method.latent_size else ())
    out = jax.eval_shape(method.generate, state.variables, batch)
    assert out.images.shape == (*shape, 3) and out.heatmap.shape == (*shape, 1)
    panels = jax.eval_shape(method.panels, state.variables, batch, jax.random.key(0))
    assert list(panels["label2image"]) == ["label", "attention", "synthesis", "target"]


@pytest.fixture(scope="module")
def gaugan():
    """A small GauGAN, its state, and a batch."""
    method = method_of("spade", "tiny,gaugan", use_instances=False, latent_size=3)
    state = jax.jit(method.create_state)(jax.random.key(0))
    random = np.random.default_rng(0)
    batch = {
        "label": random.integers(0, 4, (2, 32, 32, 1), np.int32),
        "image": random.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32),
    }
    return method, state, batch


def test_given_draws_equal_drawn_ones(gaugan):
    method, state, batch = gaugan
    rng = jax.random.fold_in(state.rng, state.step)
    draws = {}
    for number, group in enumerate(("generator", "discriminator")):
        keys = method.examples.keys(jax.random.fold_in(rng, number), 2)
        noise = jnp.stack([jax.random.normal(key, (3,)) for key in keys])
        draws[f"{group}/style_noise"] = noise
    step = jax.jit(method.train_step)
    drawn, metrics = step(state, batch)
    given, given_metrics = step(state, batch, draws)
    jax.tree.map(np.testing.assert_array_equal, given.variables, drawn.variables)
    assert given_metrics == metrics
    for name in draws:
        assert step(state, batch, {**draws, name: draws[name] + 1e4})[1] != metrics


def test_a_style_is_an_image_or_a_code_or_drawn_or_the_mean(gaugan):
    method, state, batch = gaugan
    variables, label = state.variables, batch["label"]
    # At this width a style hardly shows: the first layer is enlarged.
    start = jax.tree.map(lambda x: 100 * x, variables["generator"]["params"]["start"])
    params = {**variables["generator"]["params"], "start": start}
    variables = {**variables, "generator": {**variables["generator"], "params": params}}
    apply = jax.jit(method.generate)

    def generate(style=None, rng=None, variables=variables):
        inputs = {"label": label} if style is None else {"label": label, "style": style}
        return np.asarray(apply(variables, inputs, rng=rng).images)

    specs = method.inputs()
    assert specs["style"] == ("image", (32, 32, 3), True, None, 0, False)
    # The generator's dense layer fixes the size.
    assert {spec.multiple for spec in specs.values()} == {None}
    with pytest.raises(ConfigError, match="64 x 64 pixels: with a style encoder give 32 x 32"):
        method.generate(variables, {"label": np.zeros((1, 64, 64, 1), np.int32)})
    code, _ = method.networks["encoder"].apply(variables["encoder"], batch["image"])
    np.testing.assert_array_equal(generate(code[:, None, None]), generate(code))
    np.testing.assert_array_equal(generate(np.zeros((2, 3))), generate())
    drawn = generate(rng=jax.random.key(1))
    keys = method.examples.keys(jax.random.key(1), 2)
    codes = jnp.stack([jax.random.normal(key, (3,)) for key in keys])
    np.testing.assert_allclose(drawn, generate(codes), atol=1e-6)
    np.testing.assert_array_equal(generate(code, jax.random.key(1)), generate(code))
    assert np.abs(drawn - generate()).max() > 1e-4
    generator = {"generator": variables["generator"]}
    np.testing.assert_array_equal(generate(code, variables=generator), generate(code))
    with pytest.raises(ConfigError, match="needs the variables of 'encoder'"):
        generate(batch["image"], variables=generator)
    with pytest.raises(ConfigError, match="no style encoder"):
        method_of("spade", "tiny").generate(
            variables, {"label": label, "instance": label, "style": code}
        )


def test_the_style_of_an_example_is_sampled_as_the_authors_do(golden_folder, monkeypatch, x64):
    file = np.load(golden_folder / "gaugan" / "sampled.npz")
    networks = {name: arrays_under(file, f"init/{name}/", np.float64) for name in "GE"}
    variables = interop.from_authors("spade", networks)
    fields = {
        "use_vae": True, "use_instances": False, "num_classes": 3, "width": 1, "crop_size": 32,
        "aspect_ratio": 1.0, "perceptual_weight": 0.0,
    }  # fmt: skip
    sampled, mean = (method_of("spade", **fields, test_style=s) for s in ("sampled", "mean"))
    image = nhwc(file["image"]).astype(float)
    inputs = {"label": nhwc(file["label"]).astype(np.int32), "style": image}
    two = jax.tree.map(lambda x: np.concatenate([x, x]), inputs)

    def styles(inputs, rng):
        methods_and_rngs = (mean, None), (sampled, None), (sampled, rng)
        return [m._style(variables, inputs, r, image.dtype) for m, r in methods_and_rngs]

    expected, fixed, drawn = jax.jit(styles)(two, jax.random.key(1))
    close(expected, np.repeat(file["mean"], 2, 0), 1e-9)
    np.testing.assert_array_equal(fixed[0], fixed[1])
    assert min(np.abs(drawn[0] - x).max() for x in (drawn[1], fixed[0], expected[0])) > 0.1
    monkeypatch.setattr(jax.random, "normal", lambda *_: jnp.asarray(file["noise"]))
    output = jax.jit(sampled.generate)(variables, inputs)
    close(output.images, nhwc(file["fake"]), 1e-9)


def test_id_255_is_the_last_class_where_there_is_one_for_it():
    method = method_of("spade", "tiny", use_instances=False, use_dontcare=True)
    assert method.inputs()["label"] == ("ids", (32, 32, 1), False, 32, 5, True)
    variables = jax.jit(method.create_state)(jax.random.key(0)).variables
    label = np.random.default_rng(0).integers(0, 5, (1, 32, 32, 1), np.int32)
    generate = jax.jit(method.generate)
    one = generate(variables, {"label": label}).images
    other = generate(variables, {"label": np.where(label == 4, 255, label)}).images
    np.testing.assert_array_equal(one, other)


def test_the_base_keeps_a_moving_average():
    assert not jax.eval_shape(method_of("spade", "tiny").create_state, jax.random.key(0)).ema
    method = method_of("spade", "tiny,gaugan", ema_decay=0.5)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    assert set(state.ema) == {"generator", "encoder"}
    assert set(state.ema["generator"]) == {"params"}
    new, _ = jax.eval_shape(method.train_step, state, method.batch_spec(2))
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)


def test_the_perceptual_loss_takes_torchvision_weights(monkeypatch, tmp_path):
    arrays, channels = {}, 3
    random = np.random.default_rng(0)
    for index, features in CONVOLUTIONS.items():
        arrays[f"features.{index}.weight"] = random.normal(0, 0.02, (features, channels, 3, 3))
        arrays[f"features.{index}.bias"] = np.zeros(features)
        channels = features
    monkeypatch.setattr("ganattn.interop.vgg.read_torch", lambda path: arrays)
    method = method_of("spade", "tiny", perceptual_weight=10.0, perceptual_weights="vgg19.pth")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    assert state.variables["perceptual"]["params"]["conv28"]["kernel"].shape == (3, 3, 512, 512)
    assert "perceptual" not in state.opt_state["generator"]
    # Without the file there is a method, for inference, but no training state.
    without = method_of("spade", "tiny", perceptual_weight=10.0)
    assert without.networks_for() == ("generator",)
    without.check_variables(state.variables)
    with pytest.raises(ConfigError, match=r"perceptual_weight=0"):
        without.create_state(jax.random.key(0))
    given = {"perceptual": jax.tree.map(lambda x: np.zeros(x.shape, x.dtype),
                                        state.variables["perceptual"])}  # fmt: skip
    again = jax.eval_shape(lambda: without.create_state(jax.random.key(0), given))
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 48}, "multiples of 32"),
        ({"attention": "first"}, "use one of none, last, all"),
        ({"num_classes": 0}, "give at least 1"),
        ({"adversarial": "ls"}, "use one of hinge, least_squares, cross_entropy, wasserstein"),
        ({"generator_every": 0}, "give at least 1"),
        ({"discriminator_scales": 0}, "give at least 1"),
    ],
)
def test_values_out_of_range_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        method_of("spade", "tiny", **fields)
