"""Networks that several methods share: the authors' counts and numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import arrays_under, close, nhwc

from ganattn import interop
from ganattn.layers.convolution import ConvTranspose
from ganattn.layers.dropout import dropout
from ganattn.layers.lowering import lowering_for
from ganattn.layers.normalization import BatchNorm
from ganattn.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from ganattn.networks.resnet import ResNetGenerator
from ganattn.networks.unet import UNetGenerator

SYSTEMS = {
    "resnet_in": ("cyclegan", "G_A"),
    "patch_in": ("cyclegan", "D_A"),
    "unet_bn": ("pix2pix", "G"),
    "patch_bn6": ("pix2pix", "D"),
}


@pytest.mark.parametrize(
    ("network", "channels", "parameters", "buffers"),
    [
        (ResNetGenerator(), 3, 11_378_179, 0),
        (ResNetGenerator(), 4, 11_381_315, 0),
        (ResNetGenerator(norm="batch"), 3, 11_383_427, 10_519),
        (ResNetGenerator(num_residual_blocks=6), 3, 7_837_699, 0),
        (UNetGenerator(), 3, 54_413_955, 9_869),
        (UNetGenerator(norm="instance"), 3, 54_409_603, 0),
        (UNetGenerator(num_downs=7), 3, 41_828_995, 7_819),
        (UNetGenerator(num_downs=7, norm="instance"), 3, 41_825_667, 0),
        (PatchDiscriminator(), 3, 2_764_737, 0),
        (PatchDiscriminator(norm="batch"), 3, 2_765_633, 1_795),
        (PatchDiscriminator(), 6, 2_767_809, 0),
        (PatchDiscriminator(norm="batch"), 6, 2_768_705, 1_795),
        (PixelDiscriminator(), 3, 8_705, 0),
        (PixelDiscriminator(norm="batch"), 6, 9_024, 257),
    ],
)
def test_counts(network, channels, parameters, buffers):
    images = jax.ShapeDtypeStruct((1, 256, 256, channels), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    assert _size(variables["params"]) == parameters
    assert _size(variables.get("batch_stats", {})) == buffers


def _size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture
def file(golden_folder):
    return np.load(golden_folder / "cyclegan_networks.npz")


@pytest.mark.parametrize(
    ("name", "network", "images", "expected", "statistics"),
    [
        ("resnet_in", ResNetGenerator(2, 1), "input", "output", "running"),
        ("unet_bn", UNetGenerator(2, 6), "input", "output_eval", "running"),
        ("unet_bn", UNetGenerator(2, 6), "input", "output_train", "batch"),
        ("patch_in", PatchDiscriminator(2), "input", "output", "running"),
        ("patch_bn6", PatchDiscriminator(2, norm="batch"), "input6", "output_eval", "running"),
    ],
)
def test_forward_equals_the_authors(file, name, network, images, expected, statistics):
    arrays = arrays_under(file, f"{name}/state/", np.float32)
    system, theirs = SYSTEMS[name]
    (variables,) = interop.from_authors(system, {theirs: arrays}).values()
    apply = jax.jit(network.apply, static_argnames=("statistics", "mutable"))
    output, new_collections = apply(
        variables, nhwc(file[images]), statistics=statistics, mutable=("batch_stats",)
    )
    values = next((getattr(output, n) for n in ("images", "logits") if hasattr(output, n)), output)
    close(values, nhwc(file[f"{name}/{expected}"]), 1e-5)
    if statistics == "running":
        carried = {name: tree for name, tree in variables.items() if name != "params"}
        assert jax.tree.all(jax.tree.map(np.array_equal, new_collections, carried))


def test_running_averages_move_as_in_pytorch(file, x64):
    network = UNetGenerator(2, 6)
    arrays = arrays_under(file, "unet_bn/state/", np.float64)
    variables = interop.from_authors("pix2pix", {"G": arrays})["generator_a2b"]
    apply = jax.jit(network.apply, static_argnames=("statistics", "mutable"))
    images = nhwc(file["input"]).astype(np.float64)
    output, new_collections = apply(variables, images, statistics="batch", mutable=("batch_stats",))
    close(output.images, nhwc(file["unet_bn/output_train"]), 1e-9)
    (after,) = interop.to_authors(
        "pix2pix", {"generator_a2b": {**variables, **new_collections}}
    ).values()
    for key, expected in arrays_under(file, "unet_bn/state_after_train/", np.float64).items():
        if key.endswith("num_batches_tracked"):
            assert after[key] == arrays[key] + 1
        else:
            close(after[key], expected, 1e-6, key)


@pytest.mark.parametrize("size", [3, 4])
def test_transposed_convolution_is_the_same_on_every_platform(size, x64):
    layer = ConvTranspose(5, size, use_bias=True)
    images = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
    variables = jax.jit(layer.init)(jax.random.key(1), images)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradient(platform):
        with lowering_for(platform):
            value, pull_back = jax.vjp(layer.apply, variables, images)
            return value, pull_back(jnp.cos(value))

    cpu, gpu = map(value_and_gradient, ("cpu", "gpu"))
    assert cpu[0].shape == (2, 12, 8, 5)
    for one, other in zip(*map(jax.tree.leaves, (cpu, gpu)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_batch_norm_of_single_images_does_not_depend_on_the_batch():
    images = jax.random.normal(jax.random.key(0), (3, 4, 6, 2))
    norm = BatchNorm()
    variables = jax.jit(norm.init)(jax.random.key(1), images)
    together, new_collections = norm.apply(variables, images, "image", mutable=["batch_stats"])
    alone = norm.apply(variables, images[1:2], "batch", mutable=["batch_stats"])[0]
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-5, atol=1e-6)
    assert float(new_collections["batch_stats"]["batches"]) == 0


def test_dropout_zeroes_half_and_keeps_the_mean():
    keys = jax.random.split(jax.random.key(0), 2)
    ones = jnp.ones((2, 40, 40, 8))
    output = dropout(ones, keys, site=1)
    assert set(np.unique(output)) == {0.0, 2.0}
    assert abs(float(output.mean()) - 1) < 0.02
    assert (output[0] != output[1]).any() and (output != dropout(ones, keys, site=2)).any()
    assert dropout(ones, None, site=1) is ones
