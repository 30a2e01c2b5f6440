"""What fusion at later stages promises: the numbers of the authors' attn_cycle_gan_v3."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import arrays_under, close, networks_of, nhwc

from ganattn import interop, methods
from ganattn.config import find, load
from ganattn.interop.names import CONV, TRANSPOSED_CONV
from ganattn.layers.attention import enlarge
from ganattn.networks.map_upsampler import MapUpsampler
from ganattn.networks.resnet import ResNetGenerator

TERMS = {
    "generator/adversarial": (("G_A", "G_B"), 1),
    "generator/cycle": (("cycle_A", "cycle_B"), 10),
    "generator/total": (("G",), 1),
    "discriminator/a": (("D_B",), 1),
    "discriminator/b": (("D_A",), 1),
    "discriminator/total": (("D_A", "D_B"), 1),
}
# The authors' networks that enlarge maps, in our generators.
UPSAMPLERS = {"S_CA": "generator_a2b", "S_CB": "generator_b2a"}
LAYERS = {8: ("up1", "up2", "up3"), 2: ("up1", "conv2", "conv3")}
FIELDS = {"image_size": 32, "pool_size": 0, "buffer_size_a": 3, "buffer_size_b": 3}


def method_of(variant, **fields):
    config = load(find("guidance"), variant)
    with config.unlocked():
        config.method.update(fields)
        config.optimizer.update(decay_start_step=-1)
    return methods.create(config)


def layout_of(layer):
    return TRANSPOSED_CONV if layer.startswith("up") else CONV


def upsampler_of(file, prefix, scale):
    """Our parameters of an up-sampler from the authors' arrays."""
    arrays = arrays_under(file, prefix, np.float64)
    return {
        layer: {
            "kernel": layout_of(layer).ours(arrays[f"model.{3 * i}.weight"]),
            "bias": arrays[f"model.{3 * i}.bias"],
        }
        for i, layer in enumerate(LAYERS[scale])
    }


@pytest.fixture
def golden(golden_folder, x64):
    return np.load(golden_folder / "guidance_fusion.npz")


def test_steps_equal_the_authors(golden):
    """Unscaled maps, a buffer that starts at 1/4, and cycles without guidance."""
    networks = networks_of(golden, "guidance")
    variables = interop.from_authors("guidance", networks)
    for theirs, ours in UPSAMPLERS.items():
        variables[ours]["params"]["upsampler"] = upsampler_of(golden, f"init/{theirs}/", 2)
    method = method_of("f2", **interop.method_fields("guidance", networks), **FIELDS)
    state, step = method.create_state(jax.random.key(0), variables), jax.jit(method.train_step)
    for i in range(3):
        batch = {d: nhwc(golden[f"step{i}/real_{d.upper()}"]).astype(float) for d in "ab"}
        index = golden[f"step{i}/index"]
        state, metrics = step(state, batch | {"index_a": index[:1], "index_b": index[1:]})
        for ours, (parts, weight) in TERMS.items():
            expected = sum(golden[f"step{i}/{part}"] for part in parts)
            close(weight * metrics[ours], expected, 1e-9, ours)
        assert metrics["generator/identity"] == 0  # their class fails with this loss
    for domain, maps in state.memory["attention"].items():
        close(maps, nhwc(golden[f"bank/{domain}"]), 1e-9, domain)
    for theirs, ours in UPSAMPLERS.items():
        params = state.variables[ours]["params"].pop("upsampler")
        for i, layer in enumerate(LAYERS[2]):
            kernel = layout_of(layer).theirs(np.asarray(params[layer]["kernel"]))
            for key, array in (("weight", kernel), ("bias", params[layer]["bias"])):
                expected = golden[f"final/{theirs}/model.{3 * i}.{key}"]
                close(array.ravel()[::16], expected, 1e-6, f"{theirs} {layer}")
    for network, arrays in interop.to_authors("guidance", state.variables).items():
        for key, array in arrays.items():
            close(array, golden[f"final/{network}/{key}"], 1e-6, f"{network} {key}")


def test_every_stage_of_fusion_equals_the_authors(golden):
    """The code of the development, in which the stage F3 is after the fifth residual block."""
    networks = {}
    authors = {"G_A": arrays_under(golden, "init/G_A/", np.float64)}
    params = interop.from_authors("guidance", authors)["generator_a2b"]["params"]
    for number, stage in enumerate(("stem", "down2", "block5", "block6"), start=1):
        scale, source = (8, "forward/S_C/") if number == 1 else (2, "init/S_CA/")
        network = ResNetGenerator(2, 6, guided_after=stage, upsampler=MapUpsampler(scale=scale))
        networks[f"F{number}"] = network, upsampler_of(golden, source, scale)

    def images(image, attention):
        return {
            name: network.apply(
                {"params": params | {"upsampler": upsampler}}, image, attention=attention
            ).images
            for name, (network, upsampler) in networks.items()
        }

    output = jax.jit(images)(nhwc(golden["forward/image"]), nhwc(golden["forward/map"]))
    for name, image in output.items():
        close(image, nhwc(golden[f"forward/{name}"]), 1e-9, name)


@pytest.mark.parametrize("scale", [8, 2])
def test_count_of_the_map_upsampler(scale):
    maps = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    upsampler = MapUpsampler(scale=scale)
    output, variables = jax.eval_shape(upsampler.init_with_output, jax.random.key(0), maps)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 75_649
    assert output.shape == (1, 16 * scale, 16 * scale, 1)


@pytest.mark.parametrize("stage", ["f1", "f2", "f3", "f4"])
def test_counts_of_guided_generators(stage):
    method = method_of(stage)
    leaves = jax.tree.leaves(method.shapes("generator_a2b")["params"])
    assert sum(leaf.size for leaf in leaves) == 11_378_179 + 75_649
    assert method.networks["generator_a2b"].upsampler.scale == (8 if stage == "f1" else 2)
    assert method.multiple == 8 and method_of(f"{stage},bilinear").multiple == 4


@pytest.mark.parametrize(
    ("stage", "following"),
    [("F1", "down1"), ("F2", "block1"), ("F3", "block5"), ("F4", "up1")],
)
def test_later_fusion_multiplies_what_the_next_layer_takes(stage, following):
    method = method_of("tiny", width=2, fusion_stage=stage, num_residual_blocks=5)
    generator = method.networks["generator_a2b"]
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (2, 16, 32, 3)).astype(np.float32)
    maps = random.uniform(0, 1, (2, 2, 4, 1)).astype(np.float32)
    variables = jax.jit(generator.init)(jax.random.key(0), images)

    def multiply(function, arguments, keywords, context):
        if context.module.name != following:
            return function(*arguments, **keywords)
        features, *others = arguments
        return function(features * (1 + enlarge(maps, *features.shape[1:3])), *others, **keywords)

    def apply(variables):
        with nn.intercept_methods(multiply):
            expected = generator.apply(variables, images).images
        guided = generator.apply(variables, images, attention=maps).images
        return expected, guided, generator.apply(variables, images).images

    expected, guided, plain = jax.jit(apply)(variables)
    np.testing.assert_allclose(guided, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(guided - plain).max() > 1e-3
