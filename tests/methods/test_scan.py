"""What SCAN alone promises: its counts, the fusion, a first stage that stays, and the penalty."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from reference import assert_equal

from ganattn import cli, data, methods, parallel
from ganattn.config import find, from_dict, load, to_dict
from ganattn.errors import CheckpointError, ConfigError
from ganattn.methods.scan import gradient_penalty
from ganattn.networks.scan import SubPixelConv, enlarge, shrink
from ganattn.runs.checkpoints import Checkpoints, restore_variables
from ganattn.runs.workdir import write_config
from ganattn.state import flatten

STEPS = 2
SMALLEST = {
    "width": 2, "fusion_width": 2, "discriminator_width": 2, "discriminator_layers": 1,
    "num_residual_blocks": 1,
}  # fmt: skip


def config_of(variant="tiny,stage2", **fields):
    config = load(find("scan"), variant)
    with config.unlocked():
        config.method.update(fields)
        if fields:
            config.data.load_size = config.method.image_size
    return config


def method_of(variant="tiny,stage2", **fields):
    return methods.create(config_of(variant, **fields))


SMALL = method_of(image_size=16, **SMALLEST)


def drawn(method, names=None):
    """Random float32 variables, drawn without compiling anything."""
    random = np.random.default_rng(0)
    shapes = {name: method.shapes(name) for name in names or sorted(method.networks)}
    return jax.tree.map(lambda x: 0.3 * random.normal(size=x.shape).astype("f"), shapes)


def images(count=2, side=16, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)).astype("f")


def total(method, name):
    return sum(leaf.size for leaf in jax.tree.leaves(method.shapes(name)))


@pytest.mark.parametrize(
    ("variant", "counts"),
    [
        ("", {"generator_a2b": 8_944_195, "discriminator_b": 2_764_737}),
        ("transposed", {"generator_b2a": 7_837_699}),
        (
            "stage2",
            {"generator_a2b": 8_953_603, "stage1_a2b": 8_944_195, "fusion_b2a": 42_753},
        ),
        ("stage2,no_skip", {"generator_a2b": 8_944_195}),
    ],
)
def test_numbers_of_parameters(variant, counts):
    method = method_of(variant)
    assert {name: total(method, name) for name in counts} == counts
    assert method.image_size == (256 if "stage2" in variant else 128)
    assert set(method.groups["generator"]) == {
        name for name in method.networks if name.startswith(("generator", "fusion"))
    }


def test_transposed_generators_are_those_of_cyclegan():
    config = load(find("cyclegan"))
    with config.unlocked():
        config.method.update(num_residual_blocks=6, image_size=128)
    source = {
        name: methods.create(config).shapes(name) for name in ("generator_a2b", "generator_b2a")
    }
    method = method_of("stage2,transposed")
    given = method.initial_variables(source)
    assert set(given) == {"stage1_a2b", "stage1_b2a"}
    method.check_variables(given)


def test_pixels_are_shrunk_and_enlarged():
    x = images(1, 4)
    np.testing.assert_allclose(shrink(x)[0, 1, 0], x[0, 2:, :2].mean((0, 1)), 1e-6)
    np.testing.assert_array_equal(enlarge(shrink(x))[0, 2:, :2], [[shrink(x)[0, 1, 0]] * 2] * 2)


def test_channels_become_pixels():
    """A channel of the convolution is one of the four pixels of one channel of the result."""
    kernel = np.zeros((3, 3, 1, 8), "f")
    bias = np.arange(8, dtype="f")  # row, column, feature
    variables = {"params": {"conv": {"kernel": kernel, "bias": bias}}}
    y = SubPixelConv(2).apply(variables, np.zeros((1, 2, 3, 1), "f"))
    assert y.shape == (1, 4, 6, 2)
    np.testing.assert_array_equal(y[0, 2:, 4:], bias.reshape(2, 2, 2))


def test_the_map_chooses_between_the_stages():
    """0 gives the first stage and 1 the second, to the last bit; in between it is their mix."""
    x, variables = images(), drawn(SMALL)
    generate = jax.jit(SMALL.generate)
    mixed = generate(variables, {"image": x})
    y1, y2 = mixed.extras["stage1"], mixed.extras["stage2"]
    share = mixed.attention["fusion"]
    assert share.min() > 0 and share.max() < 1 and share.std() > 0.01
    np.testing.assert_allclose(mixed.images, y1 + share * (y2 - y1), atol=1e-6)

    first = SMALL.networks["stage1_a2b"].apply(variables["stage1_a2b"], shrink(x)).images
    np.testing.assert_allclose(y1, enlarge(first), atol=1e-5)
    seen = np.concatenate([x, y1], -1)
    second = SMALL.networks["generator_a2b"].apply(variables["generator_a2b"], seen).images
    np.testing.assert_allclose(y2, second, atol=1e-5)

    last = variables["fusion_a2b"]["params"]["output"]
    last["kernel"] = np.zeros_like(last["kernel"])
    for bias, expected in ((-1e4, y1), (1e4, y2)):
        last["bias"] = np.full_like(last["bias"], bias)
        output = generate(variables, {"image": x})
        assert (output.heatmap == (bias > 0)).all() and output.heatmap.shape == (2, 16, 16, 1)
        np.testing.assert_array_equal(output.images, expected)


@pytest.mark.parametrize(("variant", "sees"), [("no_skip", "stage1"), ("no_fusion", "both")])
def test_ablations(variant, sees):
    method, x = method_of(f"tiny,stage2,{variant}", image_size=16, **SMALLEST), images()
    variables = drawn(method)
    output = method.generate(variables, {"image": x}, "b2a")
    seen = output.extras["stage1"]
    if sees == "both":
        seen = jnp.concatenate([x, seen], -1)
        assert output.heatmap is None and not any("fusion" in name for name in method.networks)
        np.testing.assert_array_equal(output.images, output.extras["stage2"])
    y2 = method.networks["generator_b2a"].apply(variables["generator_b2a"], seen).images
    np.testing.assert_array_equal(output.extras["stage2"], y2)


def test_the_penalty_is_that_of_each_image():
    """Of logits that are linear in the pixels, whose gradient is the mean of their weights."""
    slopes = np.array([0.5, 3.0], "f")

    def discriminate(x):
        return jnp.stack([x[..., 0].sum((1, 2)), 2 * x[..., 1].sum((1, 2))], -1)[:, None, None]

    x = images(2, 2)
    norm = np.sqrt(4 * (1 + 4)) / 2  # of the mean of two logits
    np.testing.assert_allclose(gradient_penalty(discriminate, x), (norm - 1) ** 2, 1e-6)

    def scaled(x):
        return discriminate(x) * slopes[:, None, None, None]

    expected = np.mean((norm * slopes - 1) ** 2)
    np.testing.assert_allclose(gradient_penalty(scaled, x), expected, 1e-6)
    flat = jax.grad(lambda c: gradient_penalty(lambda x: c * discriminate(x), x))(0.0)
    assert np.isfinite(flat)


def test_the_penalty_is_at_mixes_of_real_and_fake():
    method = SMALL
    variables = drawn(method)
    discriminators = {n: variables[n] for n in method.groups["discriminator"]}
    real, fake = ({d: images(seed=i + j) for j, d in enumerate("ab")} for i in (1, 5))
    shares = {d: np.array([0.25, 1.0], "f")[:, None, None, None] for d in "ab"}
    loss, (_, metrics) = method._discriminator_loss(discriminators, {}, real, fake, shares)
    expected = adversarial = 0.0
    for d in "ab":
        name = f"discriminator_{d}"

        def logits(x, name=name):
            return method.networks[name].apply(variables[name], x).logits

        mixed = np.stack([0.25 * real[d][0] + 0.75 * fake[d][0], real[d][1]])
        expected += gradient_penalty(logits, mixed)
        adversarial += ((logits(real[d]) - 1) ** 2).mean() + (logits(fake[d]) ** 2).mean()
    np.testing.assert_allclose(metrics["discriminator/penalty"], expected, 1e-5)
    np.testing.assert_allclose(loss, 0.5 * adversarial + 10 * expected, 1e-5)


@pytest.mark.parametrize("variant", ["", "no_fusion,no_penalty"])
def test_nothing_local_leaks_into_the_state(variant):
    method = method_of(f"tiny,stage2,{variant}", image_size=16, **SMALLEST)
    step = parallel.map_step(method.mapped().train_step, parallel.create_mesh(), "shard_map")
    state = jax.eval_shape(method.create_state, jax.random.key(0))
    batch = dict.fromkeys("ab", jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.float32))
    new, metrics = jax.eval_shape(step.function, state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert method.gradient_penalty or metrics


FIELDS = [f"--config.method.{name}={value}" for name, value in SMALLEST.items()]


def first_stage(workdir, **fields):
    """A run of stage 1 that translates images of 16 pixels."""
    config = config_of("tiny", image_size=16, **{**SMALLEST, **fields})
    method, store = methods.create(config), Checkpoints(workdir / "checkpoints")
    variables = jax.tree.map(jnp.asarray, drawn(method))
    state = jax.eval_shape(method.create_state, jax.random.key(0)).replace(rng={})
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    store.save(7, state.replace(variables=variables, rng=jax.random.key(0)), to_dict(config))
    store.close()
    write_config(config, workdir)
    return variables


def train(workdir, *arguments, steps=STEPS):
    schedule = ["--config.optimizer.decay_start_step=-1", f"--config.optimizer.total_steps={steps}"]
    quiet = ["--config.train.pictures_every=0", "--config.train.histograms_every=0"]
    return cli.main(["train", "--workdir", str(workdir), *schedule, *quiet, *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two runs of stage 2, of one command: "whole", and "parts", resumed in between.

    Eight devices. The run of stage 1 is gone before the second part; returns its variables, too.
    """
    folder = tmp_path_factory.mktemp("runs")
    variables = first_stage(folder / "one")
    new = ["--config", "scan:tiny,stage2", "--from", str(folder / "one"), *FIELDS]
    new += ["--config.method.image_size=16", "--config.data.load_size=16"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganattn.training.hooks.create_writer", lambda workdir: None)
        assert train(folder / "whole", *new) == 0
        assert train(folder / "parts", *new, steps=1) == 0
        shutil.rmtree(folder / "one")
        assert train(folder / "parts") == 0
    return folder, variables


def checkpoint(workdir, step=None):
    return restore_variables(workdir / "checkpoints", step)


def test_stage_2_resumes_without_the_run_of_stage_1(trained):
    folder, _ = trained
    record = json.loads((folder / "parts" / "start.json").read_text())
    assert (record["step"], record["networks"]) == (7, ["stage1_a2b", "stage1_b2a"])
    meta, whole = (checkpoint(folder / name)[1] for name in ("parts", "whole"))
    assert meta["step"] == STEPS and meta["leaves"] == whole["leaves"]


def test_the_first_stage_does_not_move(trained):
    folder, variables = trained
    (first, _), (last, meta) = checkpoint(folder / "whole", 0), checkpoint(folder / "whole")
    for direction in ("a2b", "b2a"):
        expected = jax.device_get(variables[f"generator_{direction}"])
        assert_equal(last[f"stage1_{direction}"], expected, 0)
    for path, leaf in flatten(last).items():
        still = np.array_equal(flatten(first)[path], leaf)
        assert still == path.startswith("stage1"), path
    assert not any("stage1" in "/".join(x["path"][1:]) for x in meta["leaves"]
                   if x["path"][0] == "opt_state")  # fmt: skip


def test_one_device_equals_eight(trained):
    """Within float32's rounding, which is far below what another draw or mean would change."""
    workdir = trained[0] / "whole"
    config = from_dict(json.loads((workdir / "config.json").read_text()))
    method, batches = methods.create(config), data.create(config)
    state = method.create_state(jax.random.key(config.seed), checkpoint(workdir, 0)[0])
    step = jax.jit(method.train_step)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        state, values = step(state, batches(number))
        assert set(values) == {
            *(f"generator/{term}" for term in ("adversarial", "cycle", "total")),
            *(f"discriminator/{term}" for term in ("a", "b", "penalty", "total")),
        }
        for name, value in values.items():
            np.testing.assert_allclose(line[name], value, 1e-3, err_msg=name)
    assert len(lines) == STEPS
    batches.close()


def test_stage_2_translates_by_itself(trained, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "in.png")
    arguments = ["--input", str(tmp_path / "in.png"), "--output", str(tmp_path / "out")]
    workdir = ["--workdir", str(trained[0] / "parts")]
    assert cli.main(["translate", *workdir, *arguments, "--heatmaps"]) == 0
    with Image.open(tmp_path / "out" / "heatmaps" / "in.png") as heatmap:
        assert heatmap.size == (16, 16)


def test_a_first_stage_that_does_not_fit_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first_stage(Path("one"), width=3)
    before = sorted(tmp_path.rglob("*"))
    command = ["train", "--config", "scan:tiny,stage2", "--workdir", "new", *FIELDS]
    for arguments, message in (
        ([], "config.method.stage is 2, which trains over a trained first stage: name the workdir"),
        (["--from", "none"], "none/checkpoints: train first"),
        (["--from", "one"], "stage1_a2b/params/block1/conv1/bias has shape (12,) and not (8,)"),
    ):
        assert cli.main([*command, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert sorted(tmp_path.rglob("*")) == before


def test_what_a_run_takes_of_another():
    source = {"generator_a2b": 1, "generator_b2a": 2, "discriminator_a": 3}
    assert method_of("tiny").initial_variables(source) == source
    assert method_of("tiny").initial_variables(None) == {}
    assert SMALL.initial_variables(source) == {"stage1_a2b": 1, "stage1_b2a": 2}
    stack = {**source, "stage1_a2b": 4, "stage1_b2a": 5}
    assert SMALL.initial_variables(stack) == stack
    with pytest.raises(CheckpointError, match="no network 'generator_b2a': name a run of SCAN"):
        SMALL.initial_variables({"generator_a2b": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage": 3}, "stage is 3: use one of 1, 2"),
        ({"upsampling": "bilinear"}, "upsampling is 'bilinear': use one of sub_pixel, transposed"),
        ({"fusion": "residual"}, "fusion is 'residual': use one of adaptive, none"),
        ({"adversarial": "hinge"}, "adversarial is 'hinge'"),
        ({"image_size": 20}, "image_size is 20: give a multiple of 8, at least 24"),
        ({"fusion_width": 0}, "fusion_width is 0: give at least 1"),
        ({"gradient_penalty": -1.0}, "gradient_penalty is -1.0: give at least 0"),
        ({"num_residual_blocks": -1}, "num_residual_blocks is -1"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        method_of(**fields)


def test_sizes_follow_the_stage_in_any_order():
    for variant in ("tiny,stage2", "stage2,tiny"):
        config = config_of(variant)
        assert (config.method.image_size, config.data.load_size, config.data.crop_size) == (64,) * 3
    config = config_of("facades,stage2")
    assert (config.method.image_size, config.data.load_size) == (256, 286)
    assert dataclasses.replace(SMALL, stage=2).multiple == 8
