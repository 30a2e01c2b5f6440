"""What UNIT alone promises: the authors' numbers, counts, noise, and its panels."""

import dataclasses
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import close, networks_of, nhwc, pictures_of

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop.unit import NETWORKS

TERMS = {
    "discriminator/adversarial": ("dis_a", "dis_b"),
    "discriminator/total": ("dis_total",),
    "generator/adversarial": ("gen_adv_a", "gen_adv_b"),
    "generator/reconstruction": ("gen_recon_x_a", "gen_recon_x_b"),
    "generator/kl": ("gen_recon_kl_a", "gen_recon_kl_b"),
    "generator/cycle": ("gen_cyc_x_a", "gen_cyc_x_b"),
    "generator/cycle_kl": ("gen_recon_kl_cyc_aba", "gen_recon_kl_cyc_bab"),
    "generator/total": ("gen_total",),
}
FIELDS = {
    "dim": "width", "n_downsample": "num_downsamplings", "n_res": "num_residual_blocks",
    "dis_dim": "discriminator_width", "dis_layers": "discriminator_layers",
    "dis_scales": "num_scales",
}  # fmt: skip
WEIGHTS = {
    "gan_w": "adversarial_weight", "recon_x_w": "reconstruction_weight", "recon_kl_w": "kl_weight",
    "recon_x_cyc_w": "cycle_weight", "recon_kl_cyc_w": "cycle_kl_weight",
}  # fmt: skip
NOISE = [f"dis/noise_{d}" for d in "ab"] + [
    f"gen/noise_{name}" for name in ("a", "b", "b_again", "a_again")
]


def config_of(variant="", **fields):
    config = load(find("unit"), variant)
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
    return np.load("tests/golden/unit.npz")


@pytest.fixture(scope="module")
def method(file):
    weights = {WEIGHTS[name]: value for name, value in named(file, "weights").items()}
    config = config_of(image_size=64, **fields_of(file), **weights)
    config.optimizer.learning_rate = float(file["learning_rate"])
    config.optimizer.decay_every = named(file, "meta")["step_size"]
    return methods.create(config)


def variables_of(file):
    return interop.from_authors("unit", networks_of(file, "unit", np.float64))


def noise_of(file, step):
    return {name: nhwc(file[f"step{step}/{name}"]).astype(np.float64) for name in NOISE}


def test_networks_equal_the_authors(file, method, x64):
    """Codes, translations without noise, the fakes of a step, reconstruction, and logits."""
    variables, images = variables_of(file), pictures_of(file, 0)

    def forward(variables, images, noise):
        outputs = {}
        figures = method.panels(variables, images, jax.random.key(0))
        for source, target in ("ab", "ba"):
            direction = f"{source}2{target}"
            out = method.generate(variables, {"image": images[source]}, direction)
            code = out.extras["code"]
            generator, discriminator = f"generator_{target}", f"discriminator_{source}"
            fake = method.networks[generator].apply(
                variables[generator], code + noise[f"gen/noise_{source}"], method="decode"
            )
            scales = method.networks[discriminator].apply(variables[discriminator], images[source])
            outputs[source + target] = out, fake.images, scales.logits
        return outputs, figures

    outputs, figures = jax.jit(forward)(variables, images, noise_of(file, 0))
    for direction, (out, fake, scales) in outputs.items():
        source, target = direction
        close(out.images, nhwc(file[f"forward/{direction}/image"]), 1e-9)
        close(out.extras["code"], nhwc(file[f"forward/gen_{source}/hidden"]), 1e-9)
        close(fake, nhwc(file[f"step0/fake_{target.upper()}"]), 1e-9)
        assert len(scales) == 3
        for i, logits in enumerate(scales):
            close(logits, nhwc(file[f"forward/dis_{source}/{i}"]), 1e-9)
        columns = figures[f"{source}2{target}"]
        assert list(columns) == ["source", "reconstruction", "translation", "cycle"]
        np.testing.assert_array_equal(columns["source"], images[source])
        np.testing.assert_allclose(columns["translation"], out.images, atol=1e-12)
    reconstruction = nhwc(file["forward/gen_a/reconstruction"])
    close(figures["a2b"]["reconstruction"], reconstruction, 1e-9)


def test_steps_equal_the_authors(file, method, x64):
    """With the gradients that the first step hands to its optimizers."""
    gradients = {}

    class Recorder(type(method)):
        def update(self, state, group, new, carried):
            gradients.update(new)
            return super().update(state, group, new, carried)

    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}

    def train(state, batch, draws):
        return *Recorder(**fields).train_step(state, batch, draws), dict(gradients)

    step, state = jax.jit(train), method.create_state(jax.random.key(0), variables_of(file))
    for i in range(named(file, "meta")["steps"]):
        state, metrics, new = step(state, pictures_of(file, i), noise_of(file, i))
        if i == 0:
            first = new
        assert metrics.keys() == TERMS.keys()
        for ours, theirs in TERMS.items():
            close(metrics[ours], sum(file[f"step{i}/{name}"] for name in theirs), 1e-9, ours)
    trained = {
        "grad0": interop.to_authors("unit", first),
        "final": interop.to_authors("unit", state.variables),
    }
    names = [name for name in file.files if name.split("/")[0] in trained]
    assert len(names) == 3 + sum(map(len, trained["final"].values()))
    for name in names:
        kind, network, key = name.split("/")
        close(trained[kind][network][key], file[name], 1e-8, name)


def test_names_go_to_the_authors_and_back(file):
    networks = networks_of(file, "unit", np.float32)
    back = interop.to_authors("unit", interop.from_authors("unit", networks))
    assert list(back) == list(NETWORKS)
    for network, arrays in networks.items():
        assert back[network].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array, strict=True)
    assert interop.method_fields("unit", networks) == fields_of(file)


def test_files_of_old_pytorch_are_read(file):
    """They have averages of instance normalization, which nothing uses."""
    networks = networks_of(file, "unit", np.float32)
    expected = interop.from_authors("unit", networks)
    old = networks["gen_a"]
    for layer in ("enc.model.0", "enc.model.3.model.0.model.1", "dec.model.0.model.0.model.1"):
        old[f"{layer}.norm.running_mean"] = np.ones(4, np.float32)
    jax.tree.map(np.testing.assert_array_equal, interop.from_authors("unit", networks), expected)
    old["enc_content.model.0.conv.weight"] = old.pop("enc.model.0.conv.weight")
    with pytest.raises(ForeignFileError, match="it is MUNIT's, not UNIT's"):
        interop.from_authors("unit", networks)


def test_parameter_counts():
    method = methods.create(config_of())
    variables = jax.eval_shape(method.create_state, jax.random.key(0)).variables

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    for domain in "ab":
        generator = variables[f"generator_{domain}"]["params"]
        assert count(generator) == 11_140_483
        assert count(generator["encoder"]) == 5_385_856
        assert count(generator["decoder"]) == 5_754_627
        assert count(variables[f"discriminator_{domain}"]) == 8_271_171
    assert count(variables) == 38_823_308


@pytest.fixture(scope="module")
def tiny():
    return methods.create(config_of("tiny"))


def test_noise_is_drawn_for_each_code_and_example(tiny):
    state = jax.eval_shape(tiny.create_state, jax.random.key(0))
    state = state.replace(rng=jax.random.key(3), step=jnp.zeros((), jnp.int32))

    def draw(count, step=0, draws=MappingProxyType({})):
        codes = dict.fromkeys("ab", jnp.zeros((count, 8, 8, 16)))
        both = tiny._draws(state.replace(step=jnp.asarray(step)), draws, codes)
        flat = {
            f"{u}/{name}": x
            for u, each in zip(("dis", "gen"), both, strict=True)
            for name, x in each.items()
        }
        return {name: np.asarray(x) for name, x in flat.items()}

    noise, shorter, later = draw(3), draw(2), draw(3, step=1)
    assert set(noise) == set(NOISE)
    values = np.stack([noise[name] for name in NOISE])
    assert len(np.unique(values)) > 0.99 * values.size
    np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=0.03)
    for name in NOISE:
        np.testing.assert_array_equal(noise[name][:2], shorter[name])
        assert not np.any(noise[name] == later[name])
    one = np.ones((3, 8, 8, 16))
    given = draw(3, draws={"gen": {"noise_b_again": one}})
    np.testing.assert_array_equal(given["gen/noise_b_again"], one)
    np.testing.assert_array_equal(given["gen/noise_b"], noise["gen/noise_b"])
    with pytest.raises(ConfigError, match=r"gen/noise_b has shape \(3, 2\): give noise \(3, 8"):
        draw(3, draws={"gen/noise_b": np.ones((3, 2))})


def test_terms_without_weight_are_not_computed(tiny):
    state = jax.eval_shape(tiny.create_state, jax.random.key(0))
    batch = tiny.batch_spec(1)
    for weights, expected in [((0.0, 0.0), False), ((0.0, 0.01), True)]:
        cycle, divergence = weights
        changed = dataclasses.replace(tiny.weights, cycle=cycle, cycle_kl=divergence)
        method = dataclasses.replace(tiny, weights=changed)
        _, metrics = jax.eval_shape(method.train_step, state, batch)
        assert ("generator/cycle_kl" in metrics) == ("generator/cycle" in metrics) == expected
        assert "generator/kl" in metrics


def test_inputs_and_networks_of_a_direction(tiny):
    assert tiny.networks_for("b2a") == ("generator_b", "generator_a")
    ((name, spec),) = tiny.inputs("b2a").items()
    assert (name, spec.shape, spec.multiple) == ("image", (32, 32, 3), 4)


def test_street_scenes_need_vgg():
    method = methods.create(config_of("gta2city"))
    assert method.image_size == 512 and method.weights.perceptual == 1
    assert method.shapes("perceptual")["params"]["conv28"]["kernel"].shape == (3, 3, 512, 512)
    with pytest.raises(ConfigError, match=r"perceptual_weights is empty.*perceptual_weight=0"):
        jax.eval_shape(method.create_state, jax.random.key(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adversarial": "hinge"}, "adversarial is 'hinge': use one of least_squares"),
        ({"image_size": 60}, "image_size is 60: give at least 61"),
        ({"image_size": 70}, "image_size is 70: give a multiple of 4"),
        (
            {"image_size": 16, "num_downsamplings": 4, "discriminator_layers": 1, "num_scales": 1},
            "image_size is 16: give at least 32",
        ),
        ({"width": 0}, "width is 0: give at least 1"),
        ({"cycle_kl_weight": -1.0}, "cycle_kl_weight is -1.0: give at least 0"),
        ({"num_downsamplings": -1}, "num_downsamplings is -1: give at least 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(config_of(**fields))
