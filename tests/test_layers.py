"""Layers against definitions written out, and the fast forms against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ganattn.layers import normalization
from ganattn.layers.attention import ClassActivationAttention
from ganattn.layers.convolution import Conv, UpConv, convolve, up_convolve
from ganattn.layers.dense import Dense
from ganattn.layers.lowering import lowering_for
from ganattn.layers.spectral import SpectralConv


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize(
    ("shape", "size", "features", "stride"),
    [
        ((2, 9, 7, 3), 7, 16, 1),  # few input channels
        ((2, 9, 8, 16), 7, 3, 1),  # few output channels
        ((2, 6, 5, 256), 4, 8, 1),  # deep small map
        ((1, 8, 6, 256), 4, 8, 2),  # deep small map, strided
        ((2, 7, 6, 32), 3, 40, 1),  # many channels, odd and even sides
        ((2, 8, 9, 4), 3, 5, 2),
    ],
)
def test_cpu_convolutions_equal_the_plain_one(x64, shape, size, features, stride):
    images, kernel = normal(*shape), normal(size, size, shape[-1], features, seed=1)

    def loss(images, kernel, platform):
        with lowering_for(platform):
            return jnp.sum(jnp.sin(convolve(images, kernel, stride)))

    for argument in (0, 1):
        plain, fast = (
            jax.value_and_grad(loss, argument)(images, kernel, platform)
            for platform in ("gpu", "cpu")
        )
        np.testing.assert_allclose(fast[0], plain[0], rtol=1e-12)
        np.testing.assert_allclose(fast[1], plain[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (1, 1, 2, 2)])
def test_up_convolution_equals_upsample_pad_convolve(x64, shape):
    images, kernel = normal(*shape), normal(3, 3, shape[-1], 4, seed=1)
    large = jnp.pad(
        images.repeat(2, 1).repeat(2, 2), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"
    )
    expected = lax.conv_general_dilated(
        large, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(up_convolve(images, kernel), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unbiased", [True, False])
def test_mixture_equals_its_definition(x64, unbiased):
    x, rho = normal(2, 5, 4, 6) * 3 + 7, jnp.linspace(0, 1, 6)
    gamma, beta = normal(2, 6, seed=1), normal(2, 6, seed=2)

    def normalized(axes):
        mean = x.mean(axes, keepdims=True)
        return (x - mean) / jnp.sqrt(x.var(axes, keepdims=True, ddof=int(unbiased)) + 1e-5)

    rho_map = rho[None, None, None]
    mixed = rho_map * normalized((1, 2)) + (1 - rho_map) * normalized((1, 2, 3))
    expected = mixed * gamma[:, None, None] + beta[:, None, None]
    layer = normalization.AdaLIN(unbiased=unbiased)
    actual = layer.apply({"rho": {"rho": rho}}, x, gamma, beta)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_rho_chooses_between_instance_and_layer(x64):
    x, gamma, beta = normal(2, 4, 4, 3), jnp.ones((2, 3)), jnp.zeros((2, 3))
    for rho, other in (
        (1.0, normalization.InstanceNorm(True)),
        (0.0, normalization.LayerNorm(False)),
    ):
        mixed = normalization.AdaLIN(unbiased=False).apply(
            {"rho": {"rho": jnp.full(3, rho)}}, x, gamma, beta
        )
        alone = other.apply({"params": {"gamma": jnp.ones(3), "beta": jnp.zeros(3)}}, x)
        np.testing.assert_allclose(mixed, alone, rtol=1e-10, atol=1e-12)


def test_normalization_keeps_half_precision_and_takes_statistics_in_float32():
    x = jnp.asarray(normal(1, 64, 64, 2) * 0.1 + 50, jnp.bfloat16)
    out = normalization.instance_norm(x)
    assert out.dtype == jnp.bfloat16
    assert abs(float(out.astype(jnp.float32).std()) - 1) < 0.05


def spectral(seed=0):
    layer = SpectralConv(8, 3)
    images = jnp.asarray(normal(2, 6, 6, 4), jnp.float32)
    return layer, layer.init(jax.random.key(seed), images), images


def largest_singular_value(variables):
    return np.linalg.svd(np.asarray(variables["params"]["kernel"]).reshape(-1, 8))[1][0]


def test_power_iteration_finds_the_largest_singular_value():
    layer, variables, images = spectral()
    for _ in range(100):
        out, new = layer.apply(variables, images, update_stats=True, mutable=["spectral"])
        variables = {**variables, **new}
    plain = Conv(8, 3, use_bias=True).apply({"params": variables["params"]}, images)
    bias = variables["params"]["bias"][None, None, None]
    expected = (plain - bias) / largest_singular_value(variables) + bias
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_uses_the_stored_vectors_and_leaves_them():
    layer, variables, images = spectral()
    first, same = layer.apply(variables, images, mutable=["spectral"])
    jax.tree.map(np.testing.assert_array_equal, same["spectral"], variables["spectral"])
    _, carried = layer.apply(variables, images, update_stats=True, mutable=["spectral"])
    second = layer.apply({**variables, **carried}, images)
    assert np.abs(first - second).max() > 1e-3


def test_passes_in_one_batch_equal_passes_in_turn():
    layer, variables, images = spectral()
    state, outputs = dict(variables), []
    for part in jnp.split(images, 2):
        out, new = layer.apply(state, part, update_stats=True, mutable=["spectral"])
        state, outputs = {**state, **new}, [*outputs, out]
    together, new = layer.apply(variables, images, 2, True, mutable=["spectral"])
    np.testing.assert_allclose(together, jnp.concatenate(outputs), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, new["spectral"], state["spectral"])


def test_spectral_gradient_is_that_of_a_weight_divided_by_sigma(x64):
    layer, variables, images = spectral()
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    images = images.astype(jnp.float64)
    vectors = variables["spectral"]

    def plain(params):
        matrix = params["kernel"].reshape(-1, 8)
        sigma = vectors["v"] @ matrix @ vectors["u"]
        divided = {"kernel": params["kernel"] / sigma, "bias": params["bias"]}
        return jnp.sum(jnp.sin(Conv(8, 3, use_bias=True).apply({"params": divided}, images)))

    def ours(params):
        return jnp.sum(jnp.sin(layer.apply({"params": params, "spectral": vectors}, images)))

    expected, actual = jax.grad(plain)(variables["params"]), jax.grad(ours)(variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), actual, expected)


@pytest.mark.parametrize("normalized", [False, True])
def test_class_activation_equals_its_definition(x64, normalized):
    layer = ClassActivationAttention(negative_slope=0.2, spectral=normalized)
    x = normal(2, 4, 5, 6)
    variables = jax.tree.map(lambda v: v.astype(jnp.float64), layer.init(jax.random.key(0), x))
    if normalized:  # one application makes a one-output estimate exact
        variables = {**variables, **layer.apply(variables, x, 1, True, mutable=["spectral"])[1]}
    out = layer.apply(variables, x)
    params = variables["params"]
    rows = [params[name]["kernel"][:, 0] for name in ("average", "maximum")]
    stacked = jnp.concatenate([x * row[None, None, None] for row in rows], -1)
    mixed = jax.nn.leaky_relu(stacked @ params["kernel"] + params["bias"][None, None, None], 0.2)
    scale = [jnp.linalg.norm(row) if normalized else 1.0 for row in rows]
    logits = [x.mean((1, 2)) @ rows[0] / scale[0], x.max((1, 2)) @ rows[1] / scale[1]]
    np.testing.assert_allclose(out.features, mixed, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(out.cam_logits, jnp.stack(logits, -1), rtol=1e-9)
    np.testing.assert_allclose(out.heatmap[..., 0], mixed.sum(-1), rtol=1e-9, atol=1e-12)


def test_dense_weight_gradient_as_outer_products(x64):
    x, kernel = normal(3, 5), normal(5, 4, seed=1)

    def loss(kernel):
        return jnp.sum(jnp.sin(Dense(4).apply({"params": {"kernel": kernel}}, x)))

    expected = jax.grad(lambda k: jnp.sum(jnp.sin(x @ k)))(kernel)
    np.testing.assert_allclose(jax.grad(loss)(kernel), expected, rtol=1e-12)


@pytest.mark.parametrize("layer", [Conv(4, 3, padding=1), UpConv(4), SpectralConv(4, 4, padding=1)])
def test_bfloat16_computes_in_half_precision_with_float32_parameters(layer):
    half = layer.clone(dtype=jnp.bfloat16)
    images = jnp.ones((1, 6, 6, 3), jnp.bfloat16)
    variables = half.init(jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert half.apply(variables, images).dtype == jnp.bfloat16
