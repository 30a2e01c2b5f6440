"""What CartoonGAN alone promises: the authors' numbers in both phases, counts, names, and data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import arrays_under, close, nhwc

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.inference.authors import read_authors
from ganattn.interop.torch_writer import write_torch
from ganattn.networks.cartoongan import FORMS
from ganattn.optimizers import milestone_decay

TERMS = {
    "discriminator/real": "discriminator/real",
    "discriminator/fake": "discriminator/fake",
    "discriminator/edge": "discriminator/edge",
    "discriminator/total": "discriminator/total",
    "generator/adversarial": "generator/adversarial",
    "generator/perceptual": "generator/content",
    "generator/total": "generator/total",
}


def config_of(variant="", **fields):
    config = load(find("cartoongan"), variant)
    with config.unlocked():
        config.method.update(fields)
    return config


@pytest.fixture(scope="module")
def file():
    return np.load("tests/golden/cartoongan.npz")


@pytest.fixture(scope="module")
def meta(file):
    return dict(zip(file["meta_names"].tolist(), file["meta"].tolist(), strict=True))


def networks_of(file, form, part="init", dtype=np.float64):
    """The networks of one part of the file, as their released files hold them.

    The file's generators take RGB; those with the published keys are released for BGR.
    """
    networks = {
        name: arrays_under(file, f"{form}/{part}/{name}/", dtype)
        for name in ("generator", "discriminator")
    }
    if form == "official":
        generator = networks["G_float"] = networks.pop("generator")
        generator["conv01_1.weight"] = generator["conv01_1.weight"][:, ::-1]
        for key in ("deconv03_1.weight", "deconv03_1.bias"):
            generator[key] = generator[key][::-1]
    return networks


def method_of(file, meta, form):
    fields = interop.method_fields("cartoongan", networks_of(file, form))
    assert fields == {
        "form": form,
        "width": meta["width"],
        "num_residual_blocks": meta["blocks"],
        "discriminator_width": meta["discriminator_width"],
    }
    config = config_of(
        image_size=int(meta["size"]),
        pretrain_steps=int(meta["pretrain_steps"]),
        perceptual_weight=meta["content_weight"],
        perceptual_weights="random",
        perceptual_width=int(meta["vgg_width"]),
        **fields,
    )
    config.optimizer.learning_rate = meta["learning_rate"]
    return methods.create(config)


def vgg19_of(file, monkeypatch):
    """The file's VGG19, through the reader of torchvision's files, which hold more."""
    arrays = arrays_under(file, "vgg/", np.float64)
    arrays |= {"features.28.weight": np.zeros(1), "classifier.0.bias": np.zeros(1)}
    monkeypatch.setattr("ganattn.interop.vgg.read_torch", lambda path: arrays)
    method = methods.create(config_of(perceptual_weights="vgg19.pth"))
    return method.initialize("perceptual", jax.random.key(0))


def batch_of(file, step, pretrain_steps):
    """The batch of a step from 0; the initialization phase must not see its cartoons."""
    number = step - pretrain_steps
    batch = {"a": file["photo"][step]}
    for name, theirs in (("b", "cartoon"), ("b_smooth", "smoothed")):
        batch[name] = file[theirs][number] if number >= 0 else np.full_like(batch["a"], 0.5)
    return {name: nhwc(images).astype(np.float64) for name, images in batch.items()}


def assert_networks(variables, expected):
    ours = interop.to_authors("cartoongan", variables)
    for name, arrays in expected.items():
        assert arrays.keys() in (set(), ours[name].keys())
        for key, array in arrays.items():
            close(ours[name][key], array, 1e-8, f"{name}/{key}")


@pytest.mark.parametrize("form", FORMS)
def test_networks_equal_the_authors(file, meta, form, x64, monkeypatch):
    method = method_of(file, meta, form)
    variables = interop.from_authors("cartoongan", networks_of(file, form))
    vgg19, features = vgg19_of(file, monkeypatch), method.networks["perceptual"]

    def run(photo, cartoon):
        generator, discriminator = variables["generator_a2b"], variables["discriminator_b"]
        fake = method.generate(variables, {"image": photo}).images
        discriminate = method.networks["discriminator_b"].apply
        odd = method.networks["generator_a2b"].apply(generator, photo[:1, :-1, :-3])
        return {
            "generator": fake,
            "generator_odd": odd.images,
            "discriminator_cartoon": jax.nn.sigmoid(discriminate(discriminator, cartoon).logits),
            "discriminator_generated": jax.nn.sigmoid(discriminate(discriminator, fake).logits),
            "vgg_photo": features.apply(vgg19, photo),
        }

    arrays = (nhwc(file[name][0]).astype(np.float64) for name in ("photo", "cartoon"))
    for name, values in jax.jit(run)(*arrays).items():
        close(values, nhwc(file[f"{form}/forward/{name}"]), 1e-9, name)


@pytest.mark.parametrize("form", FORMS)
def test_steps_of_both_phases_equal_the_authors(file, meta, form, x64, monkeypatch):
    method = method_of(file, meta, form)
    variables = interop.from_authors("cartoongan", networks_of(file, form))
    variables["perceptual"] = vgg19_of(file, monkeypatch)
    state = method.create_state(jax.random.key(0), variables)
    first, step = method.pretrain_steps, jax.jit(method.train_step)
    weights = {"generator/perceptual": meta["content_weight"]}
    for i in range(first + int(meta["steps"])):
        state, metrics = step(state, batch_of(file, i, first))
        assert metrics.keys() == TERMS.keys()
        if i < first:
            expected = file[f"{form}/pretrain{i}/content"]
            close(weights["generator/perceptual"] * metrics["generator/perceptual"], expected, 1e-9)
            close(metrics["generator/total"], expected, 1e-9)
            assert not any(metrics[name] for name in metrics if name.startswith("discriminator"))
        else:
            for ours, theirs in TERMS.items():
                expected = file[f"{form}/step{i - first}/{theirs}"]
                close(weights.get(ours, 1) * metrics[ours], expected, 1e-9, ours)
        if i == first - 1:
            assert_networks(state.variables, networks_of(file, form, "pretrained"))
            for array, before in zip(
                jax.tree.leaves(state.variables["discriminator_b"]),
                jax.tree.leaves(variables["discriminator_b"]),
                strict=True,
            ):
                np.testing.assert_array_equal(array, before)
    assert_networks(state.variables, networks_of(file, form, "final"))
    jax.tree.map(
        np.testing.assert_array_equal, state.variables["perceptual"], variables["perceptual"]
    )


@pytest.mark.parametrize("form", FORMS)
def test_names_go_to_the_authors_and_back(file, form):
    networks = networks_of(file, form, dtype=np.float32)
    back = interop.to_authors("cartoongan", interop.from_authors("cartoongan", networks))
    assert back.keys() == networks.keys()
    for network, arrays in networks.items():
        assert back[network].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array, strict=True)


def test_the_published_generators_are_read_by_the_name_of_their_files(file, tmp_path):
    arrays = networks_of(file, "official", dtype=np.float32)["G_float"]
    path = tmp_path / "Hayao_net_G_float.pth"
    write_torch(path, arrays)
    config, variables = read_authors(path, "cartoongan")
    assert config.method.form == "official" and config.method.perceptual_weight == 0
    kernel = variables["generator_a2b"]["params"]["stem"]["kernel"]
    # Their first channel is blue, which is our last one.
    np.testing.assert_array_equal(
        kernel[:, :, 2], arrays["conv01_1.weight"][:, 0].transpose(1, 2, 0)
    )
    output = variables["generator_a2b"]["params"]["output"]
    np.testing.assert_array_equal(output["bias"], arrays["deconv03_1.bias"][::-1])
    del arrays["in13_1.shift"]
    with pytest.raises(ForeignFileError, match=r"1 missing \(in13_1.shift\)"):
        interop.from_authors("cartoongan", {"G_float": arrays})


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameter_counts():
    method = methods.create(config_of())
    counts = {name: count(method.shapes(name)) for name in method.networks}
    assert counts == {
        "generator_a2b": 11_129_667,
        "discriminator_b": 1_128_385,
        "perceptual": 10_585_152,  # torchvision's vgg19, features.0 to features.25
    }
    assert len(jax.tree.leaves(method.shapes("generator_a2b"))) == 94
    assert count(methods.create(config_of("znxlwm")).shapes("generator_a2b")) == 11_120_195


def test_initialization():
    config = config_of(perceptual_weights="random", perceptual_width=8, discriminator_width=16)
    method = methods.create(config)
    names = ("discriminator_b", "perceptual")
    initialize = jax.jit(lambda key: [method.initialize(name, key) for name in names])
    discriminator, vgg = (x["params"] for x in initialize(jax.random.key(0)))
    np.testing.assert_allclose(discriminator["conv6"]["kernel"].std(), 0.02, rtol=0.03)
    np.testing.assert_allclose(vgg["conv25"]["kernel"].std(), (2 / 9 / 64) ** 0.5, rtol=0.03)
    for form, bound in (("official", (9 * 16) ** -0.5), ("znxlwm", 0.1)):
        small = methods.create(config_of("tiny", form=form)).networks["generator_a2b"]
        images = jnp.zeros((1, 16, 16, 3))
        generator = jax.jit(small.init)(jax.random.key(0), images)["params"]
        kernel = generator["block1"]["conv1"]["kernel"]
        assert 0.6 * bound < np.abs(kernel).max() <= bound
        bias = generator["block1"]["conv1"]["bias"]
        assert np.any(bias) == (form == "official")
        assert ("stem_norm" in generator) == (form == "official")
        if form == "official":
            gamma = generator["block1"]["norm2"]["gamma"]
            assert 0 <= gamma.min() < 0.4 and 0.6 < gamma.max() <= 1


def traced(method):
    """Shapes of the state, and the metrics, of a step."""
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    return state, jax.eval_shape(method.train_step, state, method.batch_spec(2))[1]


def test_terms_without_weight_are_not_computed():
    method = methods.create(config_of("tiny,no_edges", perceptual_weight=0.0, perceptual_width=64))
    assert method.pretrain_steps == 0 and set(method.batch_spec(1)) == {"a", "b"}
    state, metrics = traced(method)
    assert "perceptual" not in state.variables
    assert metrics.keys() == TERMS.keys() - {"discriminator/edge", "generator/perceptual"}
    whole = methods.create(config_of("tiny"))
    assert set(whole.batch_spec(1)) == {"a", "b", "b_smooth"}
    assert traced(whole)[1].keys() == TERMS.keys()


def test_a_missing_file_of_vgg19_is_named():
    method = methods.create(config_of())
    with pytest.raises(ConfigError, match=r"vgg19 \.pth file.*perceptual_weight=0") as caught:
        jax.eval_shape(method.create_state, jax.random.key(0))
    assert "\n" not in str(caught.value)


def test_one_direction_and_its_panels():
    method = methods.create(config_of("tiny"))
    assert [*method.directions] == ["a2b"] and method.networks_for() == ("generator_a2b",)
    assert method.inputs()["image"].multiple == 4
    with pytest.raises(ConfigError, match="direction is 'b2a': use one of a2b"):
        method.inputs("b2a")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    figures = jax.eval_shape(
        method.panels, state.variables, method.batch_spec(3), jax.random.key(0)
    )
    assert {name: list(columns) for name, columns in figures.items()} == {
        "a2b": ["source", "translation"]
    }
    assert figures["a2b"]["translation"].shape == (3, 32, 32, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"form": "torch"}, "form is 'torch': use one of official, znxlwm"),
        ({"adversarial": "hinge"}, "adversarial is 'hinge': use one of least_squares"),
        ({"image_size": 30}, "image_size is 30: give a multiple of 4"),
        ({"image_size": 4}, "image_size is 4: give at least 8"),
        ({"width": 0}, "width is 0: give at least 1"),
        ({"pretrain_steps": -1}, "pretrain_steps is -1: give at least 0"),
        ({"edge_weight": -1.0}, "edge_weight is -1.0: give at least 0"),
        ({"perceptual_width": 8}, "perceptual_width is 8: give 64, or set .*=random"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(config_of(**fields))


def test_smoothed_cartoons_are_needed_where_they_have_a_weight():
    config = config_of("tiny")
    config.data.smooth_edges = False
    with pytest.raises(ConfigError, match=r"smooth_edges is False: set it to True, or .*=0"):
        methods.create(config)
    with config.unlocked():
        config.method.edge_weight = 0.0
    methods.create(config)


@pytest.mark.parametrize(
    ("variant", "pretrain", "epoch"),
    [
        ("photo2shinkai", 6_750, 571),
        ("photo2hosoda", 6_750, 526),
        ("photo2hayao", 6_750, 452),
        ("photo2paprika", 6_750, 287),
        ("selfie2anime", 4_250, 425),
        ("photo2hayao,no_pretraining", 0, 452),
    ],
)
def test_the_schedule_of_each_data_set(variant, pretrain, epoch):
    """The rate falls at epochs 50 and 75 of the adversarial phase, which has 100."""
    config = config_of(variant)
    assert (config.method.pretrain_steps, config.optimizer.epoch_steps) == (pretrain, epoch)
    steps = [config.optimizer[f"{name}_step"] for name in ("first_decay", "second_decay")]
    assert steps == [pretrain + 50 * epoch, pretrain + 75 * epoch]
    assert config.optimizer.total_steps == pretrain + 100 * epoch
    rate = milestone_decay(2e-4, 0.1, steps)
    rates = [rate(steps[0] - 1), rate(steps[0]), rate(steps[1] - 1), rate(steps[1])]
    np.testing.assert_allclose(rates, [2e-4, 2e-5, 2e-5, 2e-6], rtol=1e-6)
