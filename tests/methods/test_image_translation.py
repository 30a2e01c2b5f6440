"""The options that CycleGAN and pix2pix share: numbers, rates, counts and files of their code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_equal, check_steps, close, networks_of, nhwc

from ganattn import interop, methods, parallel
from ganattn.config import find, load
from ganattn.errors import ConfigError
from ganattn.interop.image_translation import generator_fields
from ganattn.layers.initialization import INITS, WeightInit
from ganattn.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from ganattn.networks.resnet import ResNetGenerator
from ganattn.networks.unet import UNetGenerator
from ganattn.optimizers import SCHEDULES, epoch_schedule

NORMS = ("instance", "batch", "none")


def method_of(name, variant="", **fields):
    config = load(find(name), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config)


class Part(dict):
    """The entries of a file under a prefix, read like a file."""

    @property
    def files(self):
        return list(self)


@pytest.fixture
def file(golden_folder):
    return np.load(golden_folder / "image_translation.npz")


def wgan_gp(weight):
    return {"adversarial": "wasserstein", "gradient_penalty_weight": weight}


def part(file, prefix):
    names = [name for name in file.files if name.startswith(prefix)]
    return Part({name.removeprefix(prefix): file[name] for name in names})


def test_wgan_gp_steps_of_a_resnet_without_norms_equal_the_authors(file, x64):
    steps = part(file, "pix2pix/")
    fields = interop.method_fields("pix2pix", networks_of(steps, "pix2pix"))
    assert fields == {
        "generator": "resnet", "width": 2, "num_residual_blocks": 1, "norm": "none",
        "dropout": False, "discriminator": "patch", "discriminator_width": 2,
        "discriminator_layers": 2,
    }  # fmt: skip
    method = method_of("pix2pix", **fields, **wgan_gp(10.0), image_size=16)
    terms = {
        "generator/adversarial": (("g_adv",), 1),
        "generator/l1": (("g_l1",), 100),
        "generator/total": (("g_total",), 1),
        "discriminator/gradient_penalty": (("d_penalty",), 10),
        "discriminator/total": (("d_total",), 1),
    }
    draws = lambda i: {"discriminator_b/share": steps[f"step{i}/share_B"].astype("f8")}  # noqa: E731
    check_steps(steps, method, "pix2pix", terms, draws)


def test_a_wgan_gp_step_of_unets_with_pixel_discriminators_equals_the_authors(file, x64):
    steps = part(file, "cyclegan/")
    fields = interop.method_fields("cyclegan", networks_of(steps, "cyclegan"))
    assert fields == {
        "generator": "unet", "width": 1, "num_downs": 5, "norm": "instance",
        "discriminator": "pixel", "discriminator_width": 2,
    }  # fmt: skip
    method = method_of("cyclegan", **fields, **wgan_gp(0.01), image_size=32, pool_size=0)
    assert method.multiple == 32
    terms = {
        "generator/adversarial": (("g_adv_A", "g_adv_B"), 1),
        "generator/cycle": (("cycle_A", "cycle_B"), 10),
        "generator/identity": (("idt_A", "idt_B"), 5),
        "generator/total": (("g_total",), 1),
        "discriminator/a": (("D_B_gan",), 1),
        "discriminator/b": (("D_A_gan",), 1),
        "discriminator/gradient_penalty": (("D_A_penalty", "D_B_penalty"), 0.01),
        "discriminator/total": (("d_total",), 1),
    }

    def draws(i):
        shares = {d: steps[f"step{i}/share_{d.upper()}"].astype("f8") for d in "ab"}
        return {f"discriminator_{d}/share": share for d, share in shares.items()}

    check_steps(steps, method, "cyclegan", terms, draws)


@pytest.mark.parametrize(
    ("name", "theirs", "network"),
    [
        ("unet", "G_A", UNetGenerator(1, 5, "none")),
        ("pixel", "D_A", PixelDiscriminator(2, "none")),
    ],
)
def test_forward_without_norms_equals_the_authors(file, x64, name, theirs, network):
    arrays = {k: v.astype("f8") for k, v in part(file, f"forward/{name}/state/").items()}
    (variables,) = interop.from_authors("cyclegan", {theirs: arrays}).values()
    images = nhwc(file["forward/input"]).astype("f8")
    close(network.apply(variables, images)[0], nhwc(file[f"forward/{name}/output"]), 1e-9, name)


@pytest.mark.parametrize("norm", NORMS)
def test_parameters_are_as_many_as_the_authors(file, norm):
    networks = {
        "resnet_9blocks": ResNetGenerator(norm=norm),
        "resnet_6blocks": ResNetGenerator(num_residual_blocks=6, norm=norm),
        "unet_256": UNetGenerator(norm=norm),
        "unet_128": UNetGenerator(num_downs=7, norm=norm),
        "basic": PatchDiscriminator(norm=norm),
        "pixel": PixelDiscriminator(norm=norm),
    }
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    for name, network in networks.items():
        params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert count == file[f"counts/{name}/{norm}"], name


@pytest.mark.parametrize(
    ("name", "variant", "generator"),
    [
        ("cyclegan", "resnet6", ResNetGenerator(num_residual_blocks=6)),
        ("cyclegan", "unet128", UNetGenerator(num_downs=7, norm="instance")),
        ("cyclegan", "unet256", UNetGenerator(norm="instance")),
        ("pix2pix", "", UNetGenerator()),
        ("pix2pix", "resnet9", ResNetGenerator(norm="batch")),
        ("pix2pix", "resnet6,instance_norm", ResNetGenerator(num_residual_blocks=6)),
    ],
)
def test_variants_choose_the_generator(name, variant, generator):
    assert method_of(name, variant).networks["generator_a2b"] == generator


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("system", "generator"), [("cyclegan", "unet"), ("pix2pix", "resnet"), ("cyclegan", "resnet")]
)
def test_names_go_to_the_authors_and_back(system, generator, norm):
    dropout = norm != "batch"  # it shifts the names of a ResNet, not those of a U-Net
    fields = {"generator": generator, "num_downs": 5, "num_residual_blocks": 1, "norm": norm}
    method = method_of(system, "tiny", **fields, dropout=dropout)
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    random = np.random.default_rng(0)
    ours = jax.tree.map(lambda x: random.integers(0, 99, x.shape).astype(x.dtype), state.variables)
    assert interop.option_names(system) == ("dropout",)
    theirs = interop.to_authors(system, ours, dropout=dropout)
    assert_equal(interop.from_authors(system, theirs), ours, 0)
    name = next(iter(theirs))
    found = generator_fields(name, theirs[name])
    assert (found["generator"], found["norm"]) == (generator, norm)
    assert found.get("dropout") == (None if generator == "unet" else dropout)
    assert interop.method_fields(system, theirs)["norm"] == norm


@pytest.mark.parametrize(
    ("system", "fields"),
    [
        ("cyclegan", {"generator": "unet", "num_downs": 6, "image_size": 64, "norm": "batch"}),
        ("pix2pix", {"generator": "resnet", "num_residual_blocks": 1, "image_size": 24}),
    ],
)
def test_translation_has_dropout_and_statistics_of_the_image(system, fields):
    """The authors' test code does so with every netG, and neither with --eval."""
    fields = {"dropout": True, "width": 1, **fields}
    method, evaluated = (method_of(system, v, **fields) for v in ("tiny", "tiny,eval"))
    random, name = np.random.default_rng(0), "generator_a2b"
    draw = lambda x: random.uniform(0.5, 1, x.shape) * random.choice((-1, 1), x.shape)  # noqa: E731
    variables = {name: jax.tree.map(draw, method.shapes(name))}
    variables[name]["batch_stats"] = jax.tree.map(np.abs, variables[name]["batch_stats"])
    images = random.uniform(-1, 1, (2, method.image_size, method.image_size, 3))

    @jax.jit
    def run(variables, images):
        network, inputs = method.networks[name], {"image": images}
        return [
            output.images
            for output in (
                method.generate(variables, inputs),
                network.apply(variables[name], images, jax.random.key(0), "image"),
                method.generate(variables, inputs, rng=jax.random.key(1)),
                evaluated.generate(variables, inputs),
                network.apply(variables[name], images),
            )
        ]

    fixed, expected, drawn, plain, expected_plain = run(variables, images)
    close(fixed, expected, 1e-6)
    close(plain, expected_plain, 1e-6)
    for one, other in ((fixed, drawn), (fixed, plain), (drawn, plain)):
        assert np.abs(one - other).max() > 1e-2
    assert method.draws_noise and not evaluated.draws_noise


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("scheduler_step", ["end", "start"])
def test_rates_of_epochs_equal_the_authors(file, x64, kind, scheduler_step):
    expected = file[f"rates/{kind}"][scheduler_step == "start" :]
    schedule = epoch_schedule(kind, 2e-4, 100 * 7, 200 * 7, 7, scheduler_step)
    first, last = (schedule(jnp.arange(len(expected)) * 7 + i) for i in (0, 6))
    np.testing.assert_allclose(first, expected, rtol=1e-12, atol=1e-19)
    np.testing.assert_array_equal(first, last)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", INITS)
def test_initial_weights_have_the_spread_of_pytorch(kind, transposed):
    """The shape is (h, w, in, out); PyTorch counts a transposed one's outputs as its inputs."""
    init, shape = WeightInit(kind, 0.5), (3, 3, 32, 64)
    initializers = init.transposed() if transposed else init.conv()
    weights = np.asarray(initializers["kernel_init"](jax.random.key(0), shape), np.float64)
    fan_in, rows = (9 * 64, 32) if transposed else (9 * 32, 64)
    variances = {
        "normal": 0.25,
        "xavier": 0.25 * 2 / (9 * 32 + 9 * 64),
        "kaiming": 2 / fan_in,
        "orthogonal": 0.25 * rows / weights.size,
    }
    assert weights.var() == pytest.approx(variances[kind], rel=0.05)
    if kind == "orthogonal":
        matrix = np.moveaxis(weights, 2 if transposed else 3, 0).reshape(rows, -1)
        np.testing.assert_allclose(matrix @ matrix.T, 0.25 * np.eye(rows), atol=1e-5)
    scale = init.scale(jax.random.key(1), (10_000,))
    assert abs(scale.mean() - 1) < 0.02 and abs(scale.std() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("cyclegan", "wgan_gp,batch_norm"), ("pix2pix", "wgan_gp,no_dropout"),
        ("cyclegan", "wgan_gp,dropout"),
    ],
)  # fmt: skip
def test_nothing_local_leaks_into_the_state(name, variant):
    generator = "unet" if name == "cyclegan" else "resnet"
    fields = {"generator": generator, "num_downs": 5, "num_residual_blocks": 1}
    method = method_of(name, f"tiny,{variant}", **fields)
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, metrics = jax.eval_shape(step.function, state, method.batch_spec(8))
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (new, state)]
    assert kinds[0] == kinds[1]
    assert "discriminator/gradient_penalty" in metrics


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("method", "generator", "mlp"), ("method", "init", "uniform"), ("method", "init_gain", -1),
        ("method", "gradient_penalty_weight", -1), ("optimizer", "schedule", "warm"),
        ("optimizer", "epoch_steps", 0), ("optimizer", "decay_epochs", 0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(section, field, value):
    config = load(find("cyclegan"), "tiny")
    with config.unlocked():
        config.optimizer.schedule = "step"
        config[section][field] = value
    with pytest.raises(ConfigError, match=f"config.{section}.{field} is"):
        methods.create(config)


def test_a_unet_has_no_place_for_a_pyramid():
    with pytest.raises(ConfigError, match="pyramid is 'spap_c2f': use 'none'"):
        method_of("spap_cyclegan", "tiny", generator="unet", num_downs=5)


def test_configs_without_the_new_fields_have_the_networks_of_their_time():
    for name in ("cyclegan", "pix2pix"):
        config, now = load(find(name)), method_of(name)
        with config.unlocked():
            for field in ("generator", "init", "init_gain", "gradient_penalty_weight"):
                del config.method[field]
            del config.method["num_downs" if name == "cyclegan" else "num_residual_blocks"]
            del config.optimizer["schedule"], config.optimizer["decay_epochs"]
        assert methods.create(config).networks == now.networks
