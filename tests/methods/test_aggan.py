"""What AGGAN alone promises: the authors' numbers, counts, names, and two phases.

`golden/aggan.npz`: the authors' graph and training loop in float64 under TensorFlow; pictures are
NHWC, names and layouts those of their checkpoints. `final/*` is rounded to float32.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import close, quick_jit

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop import aggan as names
from ganattn.methods.aggan import Composition
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
# A level at which both compilation and the steps are quick.
LIGHTLY = {"xla_backend_optimization_level": 1}


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


def is_unused(key):
    """The normalization of the last layer."""
    return key.startswith(("c6/instance_norm", "c5/instance_norm")) and "c5" in key


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

    @quick_jit
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
        step = jax.jit(method.train_step, compiler_options=LIGHTLY)
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
    final = networks_of(file, "final")
    for network, arrays in final.items():
        assert trained[network].keys() == arrays.keys()
        for key, array in arrays.items():
            if not key.startswith(("c5/inst", "c6/inst")) or (key[:2], network[0]) == ("c5", "g"):
                close(trained[network][key], array, 1e-6, f"{network}/{key}")
