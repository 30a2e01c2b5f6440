"""What CartoonGAN alone promises: the authors' numbers in both phases, counts, names, and data."""

import jax
import numpy as np
import pytest
from reference import arrays_under, close, nhwc, quick_jit

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.networks.cartoongan import FORMS

THEIRS = {"G_float": "generator", "D": "discriminator"}  # names in the file
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
        name: arrays_under(file, f"{form}/{part}/{theirs}/", dtype)
        for name, theirs in THEIRS.items()
    }
    if form == "official":
        generator = networks["G_float"]
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
    for name, values in quick_jit(run)(*arrays).items():
        close(values, nhwc(file[f"{form}/forward/{name}"]), 1e-9, name)


@pytest.mark.parametrize("form", FORMS)
def test_steps_of_both_phases_equal_the_authors(file, meta, form, x64, monkeypatch):
    method = method_of(file, meta, form)
    variables = interop.from_authors("cartoongan", networks_of(file, form))
    variables["perceptual"] = vgg19_of(file, monkeypatch)
    state = method.create_state(jax.random.key(0), variables)
    first, step = method.pretrain_steps, quick_jit(method.train_step)
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
