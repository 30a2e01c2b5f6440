"""What DRIT alone promises: the authors' numbers, counts, schedule, and attributes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import arrays_under, close, networks_of, nhwc, pictures_of

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.inference import authors
from ganattn.interop.drit import NETWORKS
from ganattn.state import flatten

# Our metric: the authors' losses, and the weight that these contain.
TERMS = {
    "discriminator/adversarial": (("disA_loss", "disB_loss"), 1),
    "discriminator/adversarial_random": (("disA2_loss", "disB2_loss"), 1),
    "content_discriminator/total": (("disContent_loss",), 1),
    "attribute_encoder/divergence": (("kl_loss_za_a", "kl_loss_za_b"), 0.01),
    "attribute_encoder/total": (("G_loss",), 1),
    "generator/adversarial": (("gan_loss_a", "gan_loss_b"), 1),
    "generator/content_adversarial": (("gan_loss_acontent", "gan_loss_bcontent"), 1),
    "generator/cross_cycle": (("l1_recon_A_loss", "l1_recon_B_loss"), 10),
    "generator/reconstruction": (("l1_recon_AA_loss", "l1_recon_BB_loss"), 10),
    "generator/content": (("kl_loss_zc_a", "kl_loss_zc_b"), 0.01),
    "generator/latent": (("l1_recon_z_loss_a", "l1_recon_z_loss_b"), 10),
    "generator/adversarial_random": (("gan2_loss_a", "gan2_loss_b"), 1),
    "generator/mode_seeking": (("lz_AB", "lz_BA"), 1),
}
DECAY = 1e-4
COUNTS = {
    "": {
        "content_encoder": 9_018_112, "attribute_encoder": 2_688_160, "generator": 9_564_710,
        "discriminator_a": 8_271_171, "random_discriminator_b": 8_271_171,
        "content_discriminator": 10_683_649, "sum": 65_039_315,
    },
    "transform": {
        "attribute_encoder": 5_529_872, "generator": 17_146_374, "sum": 75_462_691,
    },
    "single_scale": {"random_discriminator_a": 25_149_057},
}  # fmt: skip


def config_of(variant="", **fields):
    config = load(find("drit"), variant)
    with config.unlocked():
        config.method.update(fields)
    return config


def file():
    return np.load("tests/golden/drit.npz")


def method_of(networks, epoch_steps=4):
    config = config_of(**interop.method_fields("drit", networks))
    config.optimizer.epoch_steps = epoch_steps
    return methods.create(config)


def draws_of(file, step):
    """Those of a step; one that updates the content discriminator alone needs two of them."""
    names = {name.split("/")[1] for name in file.files if name.startswith("step2/")}
    names = {name for name in names if name.startswith(("content_noise", "attr_eps", "z_"))}
    draws = {
        n: file[f"step{step}/{n}" if f"step{step}/{n}" in file else f"step2/{n}"] for n in names
    }
    draws = {name: x.astype(np.float64) for name, x in draws.items()}
    return {name: nhwc(x) if x.ndim == 4 else x for name, x in draws.items()}


@functools.cache
def golden_run():
    """The states and metrics of the steps of the file, from the initial state on."""
    numbers = file()
    networks = networks_of(numbers, "drit")
    method = method_of(networks)
    with jax.enable_x64(True):
        state = method.create_state(jax.random.key(0), interop.from_authors("drit", networks))
        states, metrics, step = [state], [], jax.jit(method.train_step)
        for i in range(4):
            state, values = step(state, pictures_of(numbers, i), draws_of(numbers, i))
            states.append(state)
            metrics.append(jax.device_get(values))
    return states, metrics


def test_losses_equal_the_authors():
    numbers, (states, metrics) = file(), golden_run()
    first = {name.split("/")[0] for name, value in metrics[0].items() if value}
    assert first == {"content_discriminator"}
    for i, values in enumerate(metrics):
        for ours, (theirs, weight) in TERMS.items():
            if f"step{i}/{theirs[0]}" in numbers:
                expected = sum(numbers[f"step{i}/{name}"] for name in theirs)
                close(weight * values[ours], expected, 1e-9, ours)
    second = sum(weight * values[name] for name, (_, weight) in list(TERMS.items())[-3:])
    close(values["generator/total"], values["attribute_encoder/total"] + second, 1e-12)
    assert values == {name: float(x) for name, x in states[-1].memory.items()}


def test_parameters_equal_the_authors_after_all_steps():
    numbers, (states, _) = file(), golden_run()
    trained = interop.to_authors("drit", states[-1].variables)
    final = [name for name in numbers.files if name.startswith("final/")]
    assert len(final) == sum(map(len, trained.values()))
    for name in final:
        _, network, key = name.split("/")
        close(trained[network][key], numbers[name], 1e-6, name)


def moments_of(state, group, name):
    """Adam's two moments of one of our arrays."""
    leaves = flatten(state.opt_state[group]).items()
    return [np.asarray(next(x for p, x in leaves if f"{m}/{name}" in p)) for m in ("mu", "nu")]


def test_gradients_equal_the_authors():
    """As Adam's moments have them, after its first two updates of the generator."""
    numbers, (states, _) = file(), golden_run()
    at = int(numbers["grad/step"])
    before, after = (interop.to_authors("drit", states[i].variables) for i in (at, at + 1))
    paths = {"convA.0.model.1": "encoder_a/stem", "conv_share.0.model.1": "shared/conv1"}
    paths |= {"decA4.0": "decoder_a/output", "conv_A.1": "encoder_a/stem"}
    names = [n for n in numbers.files if n.startswith("grad/first/")]
    assert len(names) == 4
    for name in names:
        _, _, network, key = name.split("/")
        group = "attribute_encoder" if network == "enc_a" else "generator"
        ours = f"{NETWORKS[network]}/params/{paths[key.removesuffix('.weight')]}/kernel"
        moments = moments_of(states[at + 1], group, ours)
        order = (2, 3, 0, 1) if network == "gen" else (3, 2, 0, 1)
        mu, nu = (np.transpose(x[::-1, ::-1] if network == "gen" else x, order) for x in moments)
        first, weight = numbers[name] + DECAY * before[network][key], before[network][key]
        if network == "enc_a":
            close(mu, 0.5 * first, 1e-9, name)
            continue
        updated = weight - 1e-4 * first / (np.abs(first) + 1e-8)
        second = numbers[name.replace("first", "second")] + DECAY * updated
        close(mu, 0.25 * first + 0.5 * second, 1e-9, name)
        close(nu, 1e-3 * (0.999 * first**2 + second**2), 1e-9, name)
        assert np.abs(after[network][key] - weight).max() > 1.5e-4


def test_the_content_discriminators_gradient_is_clipped():
    numbers, (states, _) = file(), golden_run()
    norms = []
    for i in range(4):
        squares = 0.0
        for path, weight in flatten(states[i].variables["content_discriminator"]).items():
            name = f"content_discriminator/{path}"
            (old, _), (new, _) = (
                moments_of(states[j], "content_discriminator", name) for j in (i, i + 1)
            )
            squares += np.square(2 * new - old - DECAY * np.asarray(weight)).sum()
        norms.append(squares**0.5)
    expected = [float(numbers[f"step{i}/disContent_grad_norm"]) for i in range(4)]
    assert expected[0] > 5 and max(expected[1:]) < 5
    close(norms, [min(norm, 5 * norm / (norm + 1e-6)) for norm in expected], 1e-8)


def forward(method, variables, images, z, noise):
    """What the file has of networks in eval mode; noise: of the attributes of b and of a."""

    def apply(name, *arguments):
        return method.networks[name].apply(variables[name], *arguments, method="encode")

    values = {}
    for source, target in ("ab", "ba"):
        direction, inputs = f"{source}2{target}", {"image": images[source]}
        mean, variance = apply("attribute_encoder", images[target], target)
        guided = mean if variance is None else mean + noise[target] * jnp.exp(variance / 2)
        values[f"enc_c/{source}"] = apply("content_encoder", images[source], source)
        values[f"enc_a/{target}"] = mean
        values[f"enc_a/mu_{target}"], values[f"enc_a/logvar_{target}"] = mean, variance
        for kind, code in {"random": z, "transfer": guided}.items():
            out = method.generate(variables, {**inputs, "style": code}, direction)
            values[f"{source}{target}/{kind}"] = out.images
        example = method.generate(variables, {**inputs, "style": images[target]}, direction)
        values[f"mean_{target}"] = example.extras["style"]
    name = "discriminator_a"
    for i, logits in enumerate(method.networks[name].apply(variables[name], images["a"]).logits):
        values[f"disA/{i}"] = logits
    return values


@pytest.mark.parametrize("kind", ["", "_transform"])
def test_networks_and_translations_equal_the_authors(kind, x64):
    numbers = file()
    networks = networks_of(numbers, "drit")
    for name in ("enc_a", "gen") if kind else ():
        networks[name] = arrays_under(numbers, f"init_transform/{name}/", np.float64)
    method, variables = method_of(networks), interop.from_authors("drit", networks)
    assert method.concat is not bool(kind)
    images = {d: nhwc(numbers[f"forward/real_{d.upper()}"]).astype(np.float64) for d in "ab"}
    noise = {
        t: numbers[f"forward/{s}{t}/transfer_eps_{t}"].astype(np.float64) for s, t in ("ab", "ba")
    }
    z = numbers["forward/z"].astype(np.float64)
    values = jax.jit(lambda *x: forward(method, *x))(variables, images, z, noise)
    skipped = ("real_", "z", "disContent")
    names = [n for n in numbers.files if n.startswith(f"forward{kind}/") and "eps" not in n]
    names = [n for n in names if not n.split("/", 1)[1].startswith(skipped)]
    assert len(names) == (6 if kind else 13)
    for name in names:
        value = values[name.split("/", 1)[1]]
        expected = numbers[name]
        close(value, nhwc(expected) if expected.ndim == 4 else expected, 1e-6, name)
    for d in "ab":
        np.testing.assert_array_equal(values[f"mean_{d}"], values[f"enc_a/{d}"])
    if not kind:
        name, content = "content_discriminator", nhwc(numbers["forward/disContent/input"])
        logits = method.networks[name].apply(variables[name], content.astype(np.float64)).logits
        close(logits.ravel(), numbers["forward/disContent/output"], 1e-6)


@pytest.mark.parametrize("kind", ["", "_transform"])
def test_names_go_to_the_authors_and_back(kind):
    numbers = file()
    networks = networks_of(numbers, "drit", np.float32)
    for name in ("enc_a", "gen") if kind else ():
        networks[name] = arrays_under(numbers, f"init_transform/{name}/", np.float32)
    back = interop.to_authors("drit", interop.from_authors("drit", networks))
    assert list(back) == list(NETWORKS)
    for network, arrays in networks.items():
        assert back[network].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(back[network][key], array, strict=True)
    fields = interop.method_fields("drit", networks)
    expected = {"width": 2, "attribute_size": 8, "concat": not kind, "num_residual_blocks": 3}
    expected |= {"num_scales": 3, "discriminator_layers": 4, "discriminator_width": 2}
    kernel = {"content_discriminator_layers": 3, "content_discriminator_kernel": 7}
    assert fields == expected | kernel


def test_files_of_the_authors_are_read(monkeypatch):
    """They have optimizers and counters beside the networks; older ones had another norm."""
    networks = networks_of(file(), "drit", np.float32)
    adam = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}
    content = {**networks, **{f"{name}_opt": adam for name in networks}, "ep": 3, "total_it": 9}
    monkeypatch.setattr(authors, "read_torch", lambda path: content)
    config, variables = authors.read_authors("last.pth", "drit")
    assert config.method.width == 2 and set(variables) == set(NETWORKS.values())
    gen = networks["gen"]
    gen["decA2.0.model.1.gamma"] = gen.pop("decA2.0.model.1.weight")
    with pytest.raises(ForeignFileError, match=r"1 missing \(decA2.0.model.1.weight\).*gamma"):
        interop.from_authors("drit", networks)


def test_a_discriminator_of_one_scale_has_the_authors_names():
    method = methods.create(
        config_of("single_scale", discriminator_width=1, discriminator_layers=2)
    )
    variables = {"discriminator_b": jax.eval_shape(lambda: method.shapes("discriminator_b"))}
    variables = jax.tree.map(lambda s: np.ones(s.shape, np.float32), variables)
    theirs = interop.to_authors("drit", variables)
    assert [*theirs["disB"]][::2] == [
        *(f"model.{i}.model.1.weight" for i in range(2)),
        "model.2.weight",
    ]
    assert interop.from_authors("drit", theirs).keys() == variables.keys()
    fields = interop.method_fields("drit", theirs)
    assert fields == {"num_scales": 1, "discriminator_layers": 2, "discriminator_width": 1}


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts(variant):
    method = methods.create(config_of(variant))
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(method.shapes(name)))
        for name in method.networks
    }
    counts["sum"] = sum(counts.values())
    assert {name: counts[name] for name in COUNTS[variant]} == COUNTS[variant]


def test_initialization_is_the_authors():
    method = methods.create(config_of(width=8))
    params = method.initialize("content_discriminator", jax.random.key(0))["params"]
    kernel, bias = params["conv2"]["kernel"], params["conv2"]["bias"]
    np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.02)
    bound = kernel[..., 0].size ** -0.5
    assert 0.8 * bound < np.abs(bias).max() <= bound


@pytest.fixture(scope="module")
def tiny():
    """(method, variables, images) of the smallest form."""
    method = methods.create(config_of("tiny"))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 32, 3)).astype(np.float32)
    rng, shapes = np.random.default_rng(1), {n: method.shapes(n) for n in method.networks}
    variables = jax.tree.map(lambda s: rng.normal(0, 0.2, s.shape).astype(np.float32), shapes)
    return method, variables, dict(zip("ab", images, strict=True))


def test_attributes_are_drawn_by_example(tiny):
    """Those without an example image, and the noise of encoded ones."""
    method, variables, images = tiny

    @functools.partial(jax.jit, static_argnames="count")
    def translate(key, count):
        inputs = {"image": images["b"][:count]}
        styles = {**inputs, "style": images["a"][:count, :20, :24]}
        return [method.generate(variables, x, "b2a", key) for x in (inputs, styles)]

    three, two = translate(jax.random.key(7), 3), translate(jax.random.key(7), 2)
    other = translate(jax.random.key(8), 3)
    for many, few, changed in zip(three, two, other, strict=True):
        codes = many.extras["style"]
        np.testing.assert_allclose(codes[:2], few.extras["style"], rtol=1e-5)
        np.testing.assert_allclose(many.images[:2], few.images, atol=1e-5)
        assert codes.shape == (3, 2) and len(np.unique(codes)) == 6
        assert not np.any(changed.extras["style"] == codes)
    plain = method.generate(variables, {"image": images["b"]}, "b2a")
    assert not np.any(plain.extras["style"]) and plain.images.shape == images["b"].shape
    with pytest.raises(ConfigError, match=r"a style has shape \(3, 4\).*attributes \(3, 2\)"):
        method.generate(variables, {"image": images["a"], "style": np.zeros((3, 4))})


def test_inputs_and_panels(tiny):
    method, variables, images = tiny
    inputs = method.inputs("b2a")
    assert inputs["image"].shape == (32, 32, 3) and inputs["image"].multiple == 4
    assert inputs["style"].optional and not inputs["image"].optional
    for call in (method.inputs, method.networks_for):
        with pytest.raises(ConfigError, match="direction is 'c2d'"):
            call("c2d")
    figures = jax.eval_shape(method.panels, variables, images, jax.random.key(0))
    assert list(figures) == ["a2b", "b2a"]
    expected = "source, reconstruction, style 1, style 2, style 3, example, guided, cycle"
    for columns in figures.values():
        assert ", ".join(columns) == expected
        assert {column.shape for column in columns.values()} == {(3, 32, 32, 3)}


def test_steps_of_other_variants_keep_the_state():
    method = methods.create(config_of("tiny,transform,no_ms"))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    new, metrics = jax.eval_shape(method.train_step, state, method.batch_spec(2))
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert metrics.keys() == state.memory.keys() and "generator/mode_seeking" not in metrics
    with pytest.raises(ConfigError, match="gives a device 3 examples at once: set it to an even"):
        jax.eval_shape(method.train_step, state, method.batch_spec(3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 208}, "image_size is 208: give at least 212"),
        ({"image_size": 214}, "image_size is 214: give a multiple of 4"),
        ({"attribute_size": 0}, "attribute_size is 0: give at least 1"),
        ({"d_iter": 0}, "d_iter is 0"),
        ({"num_scales": 0}, "num_scales is 0"),
        ({"mode_seeking_weight": -1.0}, "mode_seeking_weight is -1.0"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(config_of(**fields))


@pytest.mark.parametrize("field", ["data.batch_size", "optimizer.epoch_steps"])
def test_sizes_outside_their_range_are_refused(field):
    config = config_of()
    section, name = field.split(".")
    config[section][name] = 3 if section == "data" else 0
    with pytest.raises(ConfigError, match=rf"config\.{field} is"):
        methods.create(config)


def test_the_rates_follow_epochs_whatever_a_group_updates():
    """Of 10 steps of an epoch, 3, 6, 9 and 10 are full."""
    config = config_of()
    config.optimizer.update(epoch_steps=10, scheduler_lag=0)
    updates = {"generator": 8, "attribute_encoder": 4, "discriminator": 4}
    for lag in (0, 1):
        config.optimizer.scheduler_lag = lag
        chains = methods.create(config).optimizers
        for group, count in {**updates, "content_discriminator": 10}.items():
            base = 4e-5 if group == "content_discriminator" else 1e-4
            for epoch in (0, 599 + lag, 600 + lag, 601 + lag, 1199):
                expected = base * (1 - max(0, epoch - lag - 600) / 601)
                rates = [rate_at(chains[group], epoch * count + i) for i in (0, count - 1)]
                np.testing.assert_allclose(rates, expected, rtol=1e-4)


def rate_at(chain, count):
    state = jax.tree.map(
        lambda x: jnp.full_like(x, count) if x.dtype == jnp.int32 else x,
        chain.init({"x": jnp.zeros(1)}),
    )
    update, _ = chain.update({"x": jnp.ones(1)}, state, {"x": jnp.zeros(1)})
    moments = (0.5 / (1 - 0.5 ** min(count + 1, 100))) / (
        (1e-3 / (1 - 0.999 ** (count + 1))) ** 0.5
    )
    return -float(update["x"][0]) / moments
