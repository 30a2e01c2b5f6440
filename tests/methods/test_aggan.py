"""What AGGAN alone promises: the authors' numbers, counts, names, and two phases.

`golden/aggan.npz`: the authors' graph and training loop in float64 under TensorFlow; pictures are
NHWC, names and layouts those of their checkpoints. `final/*` is rounded to float32.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import close

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop import aggan as names
from ganattn.networks.aggan import AGGANAttention
from ganattn.state import flatten

STEPS = 8
TERMS = {
    "generator/a2b": "G_A/loss",
    "generator/adversarial_b": "G_A/adversarial",
    "generator/cycle_a": "G_A/cycle_a",
    "generator/cycle_b": "G_A/cycle_b",
    "discriminator/b": "D_B/loss",
    "generator/b2a": "G_B/loss",
    "generator/adversarial_a": "G_B/adversarial",
    "discriminator/a": "D_A/loss",
}


def config_of(variant="", **fields):
    config = load(find("aggan"), variant)
    with config.unlocked():
        config.method.update(fields)
    return config


@pytest.fixture(scope="module")
def file():
    return np.load("tests/golden/aggan.npz")


def networks_of(file, moment, dtype=np.float64):
    """{network: {key: array}} of "init" or "final"."""
    start = f"{moment}/"
    arrays = {n.removeprefix(start): file[n] for n in file.files if n.startswith(start)}
    networks = names.split_variables(arrays)
    return {n: {k: x.astype(dtype) for k, x in each.items()} for n, each in networks.items()}


def is_used(network, key):
    """Whether an array has an effect: the normalization of the last layer has none."""
    return not key.startswith(f"{'c5' if network.startswith('d') else 'c6'}/instance_norm")


@pytest.fixture(scope="module")
def method(file):
    meta = dict(zip(file["meta_names"].tolist(), file["meta"].tolist(), strict=True))
    epoch = int(meta["images_per_epoch"])
    config = config_of(
        image_size=int(meta["size"]),
        switch_step=int(meta["switch_epoch"]) * epoch,
        **{name: meta[name] for name in ("threshold", "lambda_a", "lambda_b")},
        pool_size=int(meta["pool_size"]),
        **interop.method_fields("aggan", networks_of(file, "init")),
    )
    config.optimizer.update(
        learning_rate=meta["learning_rate"], epoch_steps=epoch,
        decay_start_step=int(meta["epochs"]) // 2 * epoch,
        total_steps=int(meta["epochs"]) * epoch,
    )  # fmt: skip
    return methods.create(config)


def pictures_of(file, step):
    return {d: file[f"real_{d.upper()}"][step : step + 1].astype(np.float64) for d in "ab"}


def test_networks_equal_the_authors(file, method, x64):
    variables = interop.from_authors("aggan", networks_of(file, "init"))

    @jax.jit
    def forward(variables, images):
        outputs, shown = {}, {}
        for direction in method.directions:
            source, target = direction.source, direction.target
            out = method.generate(variables, {"image": images[source]}, direction)
            back = method.generate(variables, {"image": out.images}, direction.reverse)
            attention = out.attention["attention"]
            shown |= {f"{source}_real": (images[source], attention)}
            shown |= {f"{target}_fake": (out.images, attention)}
            outputs[f"mask_{source.upper()}"] = attention
            outputs[f"generated_{target.upper()}"] = out.extras["generated"]
            outputs[f"fake_{target.upper()}"] = out.images
            outputs[f"cycle_{source.upper()}"] = back.images
        for is_masked in (False, True):
            for name, arrays in shown.items():
                logits = method._logits(variables, name[0], *arrays, jnp.asarray(is_masked))
                outputs[f"phase{1 + is_masked}/D_{name[0].upper()}{name[1:]}"] = logits
        return outputs

    outputs = forward(variables, pictures_of(file, 0))
    assert len(outputs) == 16
    for name, values in outputs.items():
        close(values, file[f"forward/{name}"], 1e-9, name)
    assert outputs["fake_B"].shape == (1, 32, 32, 3)
    blocks = np.asarray(outputs["mask_A"]).reshape(8, 4, 8, 4)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


@pytest.fixture(scope="module")
def training(file, method):
    """States and metrics of all steps of the file, in float64."""
    with jax.enable_x64(True):
        variables = interop.from_authors("aggan", networks_of(file, "init"))
        state = method.create_state(jax.random.key(0), variables)
        step = jax.jit(method.train_step)
        states, metrics = [state], []
        for i in range(STEPS):
            state, values = step(state, pictures_of(file, i))
            states.append(state)
            metrics.append(jax.device_get(values))
        return jax.device_get([state.replace(rng=()) for state in states]), metrics


def test_steps_equal_the_authors(file, training):
    states, metrics = training
    for i, values in enumerate(metrics):
        for ours, theirs in TERMS.items():
            close(values[ours], file[f"step{i}/{theirs}"], 1e-9, f"{ours} of step {i}")
        totals = (("generator", "a2b", "b2a"), ("discriminator", "a", "b"))
        for group, *parts in totals:
            summed = sum(values[f"{group}/{part}"] for part in parts)
            close(values[f"{group}/total"], summed, 1e-12)
    trained = interop.to_authors("aggan", states[-1].variables)
    for network, arrays in networks_of(file, "final").items():
        assert trained[network].keys() == arrays.keys()
        for key, array in arrays.items():
            if is_used(network, key):
                close(trained[network][key], array, 1e-6, f"{network}/{key}")
    powers = [float(file[f"final/optimizer/beta{i}_power"]) for i in (1, 2)]
    np.testing.assert_allclose(powers, [0.5 ** (4 * STEPS + 1), 0.999 ** (4 * STEPS + 1)], 1e-6)


def moments(state, network):
    """The first moments of a network's Adam."""
    group = next(states for states in state.opt_state.values() if network in states)
    chain = getattr(group[network], "inner_state", group[network])
    return chain[1].mu


def test_gradients_and_pools_equal_the_authors(file, training):
    """The first moments after the first step hold half of its gradients."""
    state = training[0][1]
    mu = {name: moments(state, name) for name in state.variables}
    half = names.join_variables(interop.to_authors("aggan", mu))
    gradients = {n.split("/grad/")[1]: file[n] for n in file.files if n.startswith("step0/")
                 and "/grad/" in n}  # fmt: skip
    assert len(gradients) == 8
    for variable, gradient in gradients.items():
        close(2 * half[variable], gradient, 1e-9, variable)
    for domain, update in (("a", "G_B"), ("b", "G_A")):
        pool = state.memory[domain]
        assert pool.filled == 1 and pool.images.shape == (50, 32, 32, 4)
        close(pool.images[:1, ..., :3], file[f"step0/{update}/fake"], 1e-9)
        close(pool.images[:1, ..., 3:], file[f"step0/{update}/mask"], 1e-9)


def test_attention_is_fixed_from_the_switch_on(training, method):
    """The discriminators lose their normalization then, so its moments only fade."""
    states = [flatten(state.variables) for state in training[0]]
    attention = [path for path in states[0] if path.startswith("attention") and "kernel" in path]
    assert method.switch_step == 4 and len(attention) == 14
    for step, (before, after) in enumerate(itertools.pairwise(states)):
        for path in attention:
            is_equal = np.array_equal(before[path], after[path])
            assert is_equal == (step >= method.switch_step), f"{path} in step {step}"
        assert not np.array_equal(
            before["generator_a2b/params/stem/kernel"], after["generator_a2b/params/stem/kernel"]
        )
    for step in range(STEPS):
        old, new = (moments(training[0][i], "discriminator_b")["params"] for i in (step, step + 1))
        for leaf in ("gamma", "beta"):
            fades = np.allclose(new["conv1_norm"][leaf], old["conv1_norm"][leaf] / 2, 1e-12)
            assert fades == (step >= method.switch_step)


def test_names_go_to_the_authors_and_back(file):
    variables = {f"Model/{n}/{k}": x for n, arrays in networks_of(file, "init").items()
                 for k, x in arrays.items()}  # fmt: skip
    slots = {f"{name}/{slot}": x for name, x in variables.items() for slot in ("Adam", "Adam_1")}
    others = dict.fromkeys(("beta1_power", "Model/beta2_power", "global_step"), np.zeros(()))
    networks = names.split_variables(variables | slots | others)
    assert names.join_variables(networks).keys() == variables.keys()
    back = interop.to_authors("aggan", interop.from_authors("aggan", networks))
    assert list(back) == list(names.NETWORKS)
    for network, arrays in networks.items():
        assert back[network].keys() == arrays.keys()
        for key, array in arrays.items():
            if not is_used(network, key):
                array = np.full_like(array, key.endswith("scale"))
            np.testing.assert_array_equal(back[network][key], array, strict=True)
    assert interop.method_fields("aggan", networks) == {
        "width": 4, "attention_width": 4, "discriminator_width": 4, "num_residual_blocks": 9,
        "decoder_kernels": (1, 1, 1),
    }  # fmt: skip
    del networks["g_A_ae"]["c4/Conv/biases"]
    with pytest.raises(ForeignFileError, match=r"'g_A_ae' has 1 missing \(c4/Conv/biases\)"):
        interop.from_authors("aggan", networks)
    gray = {"d_A": {"c1/Conv/weights": np.zeros((4, 4, 1, 8))}}
    with pytest.raises(ForeignFileError, match="'d_A' takes 1 channels instead of 3"):
        interop.method_fields("aggan", gray)


@pytest.mark.parametrize(("variant", "attention"), [("", 104_001), ("paper", 154_689)])
def test_parameter_counts(variant, attention):
    method = methods.create(config_of(variant))
    expected = {"attention_b": attention, "generator_a2b": 2_855_811, "discriminator_a": 2_766_657}
    shapes = {name: method.shapes(name) for name in expected}
    counts = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert counts == expected
    unused = jax.tree.map(lambda x: np.zeros(x.shape, np.int8), shapes)
    theirs = interop.to_authors("aggan", unused)
    counts = {name: sum(x.size for x in arrays.values()) for name, arrays in theirs.items()}
    assert counts == {"g_A": 2_855_817, "g_B_ae": attention + 2, "d_A": 2_766_659}


def test_initialization_is_the_authors():
    """A normal distribution cut off at two standard deviations is narrower by 12 %."""
    method = methods.create(config_of(attention_width=16, decoder_kernels=(3, 3, 7)))
    params = jax.jit(lambda key: method.initialize("attention_a", key))(jax.random.key(0))
    params = params["params"]
    for kernel in (params["stem"]["kernel"], params["block1"]["conv1"]["kernel"]):
        np.testing.assert_allclose(kernel.std(), 0.0176, rtol=0.05)
        assert 0.038 < np.abs(kernel).max() <= 0.04
    gamma = jnp.concatenate([x["gamma"] for name, x in params.items() if "norm" in name])
    assert abs(gamma.mean() - 1) < 0.01 and 0 < gamma.std() < 0.04
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    zeros = [leaf for path, leaf in flat if path[-1].key in ("bias", "beta")]
    assert len(zeros) == 7 + 6 and not any(np.any(leaf) for leaf in zeros)


def test_the_papers_decoder_up_samples_first(x64):
    """Where only the middle of its kernels is not zero, it is the authors' decoder."""
    code, paper = AGGANAttention(2), AGGANAttention(2, (3, 3, 7))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3))
    variables = jax.tree.map(
        lambda x: np.random.default_rng(x.size).normal(size=x.shape),
        jax.eval_shape(code.init, jax.random.key(0), images),
    )
    wide = {**variables["params"]}
    for name, margin in (("up1", 1), ("up2", 1), ("output", 3)):
        pads = ((margin, margin),) * 2 + ((0, 0),) * 2
        wide[name] = {**wide[name], "kernel": np.pad(wide[name]["kernel"], pads)}

    @jax.jit
    def maps(variables, wide, images):
        other = jax.tree.map(jnp.ones_like, wide["up1"])
        changed = {"params": {**wide, "up1": other}}
        return (
            code.apply(variables, images),
            paper.apply({"params": wide}, images),
            paper.apply(changed, images),
        )

    expected, same, other = maps(variables, wide, images)
    assert expected.shape == (2, 16, 24, 1) and expected.std() > 0.01
    np.testing.assert_allclose(same, expected, atol=1e-12)
    # Kernels over several pixels see the borders of the blocks.
    blocks = np.asarray(other).reshape(2, 4, 4, 6, 4)
    assert np.ptp(blocks, axis=(2, 4)).max() > 1e-3


def test_pools_and_panels():
    method = methods.create(config_of("tiny"))
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    assert state.memory["b"].images.shape == (3, 32, 32, 4)
    other = methods.create(config_of("tiny,no_pool"))
    state = jax.eval_shape(other.create_state, jax.random.key(0))
    assert state.memory == {}
    new, _ = jax.eval_shape(other.train_step, state, other.batch_spec(2))
    assert new.memory == {}
    figures = jax.eval_shape(method.panels, state.variables, method.batch_spec(2), state.rng)
    assert list(figures) == ["a2b", "b2a"]
    for columns in figures.values():
        shapes = {name: x.shape[-1] for name, x in columns.items()}
        assert ", ".join(shapes) == "source, attention, map, generated, translation, cycle"
        assert [name for name, channels in shapes.items() if channels == 1] == ["attention"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoder_kernels": (2, 2, 2)}, r"kernels is \(2, 2, 2\): use one of \(1, 1, 1\), \(3, 3"),
        ({"image_size": 30}, "image_size is 30: give a multiple of 4"),
        ({"image_size": 4}, "image_size is 4: give at least 8"),
        ({"threshold": 1.0}, "threshold is 1.0: give at least 0 and below 1"),
        ({"switch_step": -1}, "switch_step is -1: give at least 0"),
        ({"attention_width": 0}, "attention_width is 0: give at least 1"),
        ({"lambda_b": -1.0}, "lambda_b is -1.0: give at least 0"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(config_of(**fields))


def test_schedules_of_the_data_sets():
    """In 2n epochs the rate falls from epoch n + 1 on, and the last one has 1/n of it."""
    lengths = {"horse2zebra": 1_334, "zebra2horse": 1_334, "apple2orange": 1_019, "lion2tiger": 916}
    for variant, epoch in lengths.items():
        config = config_of(variant)
        assert config.data.swap == (variant == "zebra2horse")
        assert (config.method.switch_step, config.optimizer.total_steps) == (
            30 * epoch,
            100 * epoch,
        )
    optimizer = config_of("summer2winter_yosemite").optimizer
    assert (optimizer.epoch_steps, optimizer.total_steps) == (1_231, 246_200)
    config = config_of(num_residual_blocks=1, width=1)
    config.optimizer.update(
        learning_rate=1.0, epoch_steps=1, decay_start_step=2, total_steps=4, beta1=0.0, beta2=0.0
    )
    params = {"discriminator_a": {"x": jnp.zeros(1)}, "discriminator_b": {"x": jnp.zeros(1)}}
    for start, expected in ((2, [1, 1, 1, 0.5]), (-1, [1, 1, 1, 1])):
        config.optimizer.decay_start_step = start
        chain = methods.create(config).optimizers["discriminator"]
        state, rates = chain.init(params), []
        for _ in range(4):
            gradients = {"discriminator_b": {"x": jnp.ones(1)}}
            updates, state = chain.update(gradients, state, params)
            rates.append(float(-updates["discriminator_b"]["x"][0]))
            assert not updates["discriminator_a"]["x"][0]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
