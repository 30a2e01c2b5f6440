"""Pyramids and late starts: definitions written out, the paper's counts, exactness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from reference import OPTIMIZED

from ganattn.layers.convolution import Conv
from ganattn.layers.normalization import Normalization, instance_norm
from ganattn.layers.pyramid import ASPP, SPAP, AtrousMean
from ganattn.networks.patchgan import PatchDiscriminator
from ganattn.networks.resnet import ResNetGenerator
from ganattn.networks.sndcgan import SNDCGANDiscriminator
from ganattn.optimizers import adam, delayed

INSTANCE = Normalization("instance")
ORDERS = {
    "coarse_to_fine": ["c3d5", "c3d2", "c3d1", "c1d1"],
    "fine_to_coarse": ["c1d1", "c3d1", "c3d2", "c3d5"],
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def randomized(variables, seed=1):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.5 * random.standard_normal(x.shape)), variables)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("pyramid", "parameters"),
    [(None, 11_378_179), (SPAP(), 12_059_336), (ASPP(), 11_378_179 + 688_896)],
)
def test_counts_in_cyclegan(pyramid, parameters):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    generator = ResNetGenerator(pyramid=pyramid)
    assert size(jax.eval_shape(generator.init, jax.random.key(0), images)) == parameters


@pytest.mark.parametrize(
    ("pyramid", "parameters", "vectors"),
    [  # what SNDCGAN's generator of 19,926,019 weights becomes, and u and v, which the paper counts
        (SPAP(spectral=True), 20_609_544 - 19_926_019, 7_492),
        (ASPP(spectral=True), 20_616_451 - 19_926_019, 6_144),
    ],
)
def test_counts_in_sndcgan(pyramid, parameters, vectors):
    features = jax.ShapeDtypeStruct((1, 8, 8, 128), jnp.float32)
    variables = jax.eval_shape(
        lambda x: pyramid.init(jax.random.key(0), x, Normalization("batch")), features
    )
    assert size(variables["params"]) == parameters
    assert size(variables["spectral"]) == vectors


@pytest.mark.parametrize(
    ("pyramid", "parameters"), [(AtrousMean(), 1_573_632), (ASPP(), 2_754_048)]
)
def test_counts_in_discriminators(pyramid, parameters):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    plain, atrous = (
        jax.eval_shape(PatchDiscriminator(pyramid=p).init, jax.random.key(0), images)
        for p in (None, pyramid)
    )
    assert size(atrous) - size(plain) == parameters


@pytest.mark.parametrize(("kernel_size", "stride", "rate"), [(3, 1, 6), (4, 2, 3), (3, 2, 5)])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_dilated_convolution_equals_a_kernel_with_holes(x64, kernel_size, stride, rate, platform):
    images = jnp.asarray(normal(2, 13, 16, 3))
    conv = Conv(4, kernel_size, stride, padding=7, pad_mode="zero", dilation=rate)
    variables = randomized(conv.init(jax.random.key(0), images))
    full = rate * (kernel_size - 1) + 1
    kernel = jnp.zeros((full, full, 3, 4)).at[::rate, ::rate].set(variables["params"]["kernel"])
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(
        images, kernel, (stride, stride), [(7, 7)] * 2, dimension_numbers=numbers
    )
    np.testing.assert_allclose(conv.apply(variables, images), expected, rtol=1e-10, atol=1e-12)


def conv(x, tree, rate=1):
    kernel = tree["kernel"]
    pad = rate * (len(kernel) - 1) // 2
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), [(pad, pad)] * 2, rhs_dilation=(rate, rate),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return y + tree["bias"][None, None, None]


def unit(x, tree, rate=1):
    return jnp.maximum(instance_norm(conv(x, tree["conv"], rate)), 0)


def test_aspp_equals_its_definition(x64):
    plain, residual = ASPP((2, 5)), ASPP((2, 5), residual=True)
    x = jnp.asarray(normal(2, 7, 9, 4))
    shapes = jax.eval_shape(lambda x: residual.init(jax.random.key(0), x, INSTANCE), x)
    params = randomized(shapes)["params"]

    @jax.jit
    def run(params, x):
        without = {name: tree for name, tree in params.items() if name != "gamma"}
        levels = [unit(x, params[name], int(name[3:])) for name in ORDERS["coarse_to_fine"]]
        fused = unit(jnp.concatenate(levels, -1), params["fuse"])
        return [
            plain.apply({"params": without}, x, INSTANCE).features,
            fused,
            residual.apply({"params": params}, x, INSTANCE).features,
            params["gamma"] * fused + (1 - params["gamma"]) * x,
        ]

    ours, expected, ours_residual, expected_residual = run(params, x)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours_residual, expected_residual, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("order", "fuse_convolution", "shared", "second_map"),
    [
        ("coarse_to_fine", True, False, False),
        ("fine_to_coarse", True, True, False),
        ("coarse_to_fine", False, False, True),
    ],
)
def test_spap_equals_its_definition(x64, order, fuse_convolution, shared, second_map):
    module = SPAP((2, 5), order=order, reduction=4, fuse_convolution=fuse_convolution,
                  shared_attention=shared, second_map=second_map)  # fmt: skip
    x = jnp.asarray(normal(2, 7, 9, 8))
    params = randomized(module.init(jax.random.key(0), x, INSTANCE))["params"]
    output = jax.jit(lambda v, x: module.apply(v, x, INSTANCE))({"params": params}, x)

    levels = {name: unit(x, params[name], int(name[3:])) for name in ORDERS[order]}
    (_, fused), *others = levels.items()
    for name, level in others:
        net = params["attention" if shared else f"attention_{name}"]
        hidden = unit(jnp.concatenate([fused, level], -1), net["hidden"])
        maps = 1 / (1 + jnp.exp(-conv(hidden, net["logit"])))
        alpha, second = maps[..., :1], maps[..., 1:] if second_map else maps
        assert alpha.shape == second.shape == (2, 7, 9, 1)
        np.testing.assert_allclose(output.attentions[name], alpha, rtol=1e-9)
        if second_map:
            np.testing.assert_allclose(output.attentions[f"{name}_second"], second, rtol=1e-9)
        fused = fused * alpha + level * (1 - second)
        if fuse_convolution:
            fused = unit(fused, params[f"fuse_{name}"])
    gamma = params["gamma"]
    names = [name + end for name in ORDERS[order][1:] for end in ["", "_second"][: 1 + second_map]]
    assert set(output.attentions) == set(names) and gamma.shape == ()
    expected = gamma * fused + (1 - gamma) * x
    np.testing.assert_allclose(output.features, expected, rtol=1e-9, atol=1e-12)


def test_attentions_come_in_the_order_of_the_fuses():
    both = [name for fuse in ORDERS["coarse_to_fine"] for name in (f"{fuse}_second", fuse)]
    expected = [(order, names[1:]) for order, names in ORDERS.items()] + [(None, both[2:])]
    for order, names in expected:
        module = SPAP((2, 5), order=order) if order else SPAP((2, 5), second_map=True)
        x = jnp.zeros((1, 6, 6, 4))
        history = []
        jax.eval_shape(lambda x, m=module, s=history: s.extend(
            m.init_with_output(jax.random.key(0), x, INSTANCE)[0].attentions), x)  # fmt: skip
        assert history == names


def test_with_gamma_zero_nothing_changes_bit_for_bit():
    images = normal(2, 24, 20, 3).astype(np.float32)
    generator = ResNetGenerator(4, 1, pyramid=SPAP((2, 5)))
    variables = jax.jit(generator.init)(jax.random.key(0), images)
    assert variables["params"]["pyramid"]["gamma"] == 0
    plain = {k: v for k, v in variables["params"].items() if k != "pyramid"}

    def loss(params, generator):
        return jnp.square(generator.apply({"params": params}, images).images - 0.3).sum()

    @functools.partial(jax.jit, static_argnums=1, compiler_options=OPTIMIZED)
    def forward(params, generator):
        return generator.apply(params, images).images

    vanilla = ResNetGenerator(4, 1)
    np.testing.assert_array_equal(
        forward(variables, generator), forward({"params": plain}, vanilla)
    )
    # With full optimization XLA may sum a kernel's gradient in another order.
    emitters = {"xla_cpu_use_fusion_emitters": True}
    gradient = jax.jit(jax.grad(loss), static_argnums=1, compiler_options=emitters)
    with_pyramid, without = gradient(variables["params"], generator), gradient(plain, vanilla)
    moving = with_pyramid.pop("pyramid")
    jax.tree.map(np.testing.assert_array_equal, with_pyramid, without)
    assert moving.pop("gamma") != 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(moving))


@pytest.mark.parametrize(
    "create", [lambda p: SNDCGANDiscriminator(2, p), lambda p: PatchDiscriminator(2, pyramid=p)]
)
def test_discriminators_have_aspp_behind_their_strided_layer(create):
    """With the residual connection it is the identity at first."""
    images = jnp.asarray(normal(2, 24, 24, 3), jnp.float32)
    aspp, plain = create(ASPP((3,), residual=True)), create(None)
    variables = jax.jit(aspp.init)(jax.random.key(0), images)
    without = {
        kind: {name: x for name, x in tree.items() if name != "pyramid"}
        for kind, tree in variables.items()
    }
    added = variables["params"]["pyramid"]
    assert added["c1d1"]["conv"]["kernel"].shape[2:] == (8, 8) and "norm" not in added["c1d1"]
    run, vanilla = (jax.jit(lambda v, d=d: d.apply(v, images).logits) for d in (aspp, plain))
    np.testing.assert_array_equal(run(variables), vanilla(without))
    added["gamma"] = added["gamma"] + 0.5
    assert not np.array_equal(run(variables), vanilla(without))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 6)])
def test_atrous_mean_equals_its_definition(x64, height, width):
    x, y = (
        jnp.asarray(normal(2, height, width, 3)),
        jnp.asarray(normal(2, height // 2, width // 2, 5)),
    )
    module = AtrousMean((3, 5))
    params = randomized(module.init(jax.random.key(0), x, y))["params"]
    maps = []
    for rate, pad in ((3, 4), (5, 7)):
        tree = params[f"c4d{rate}"]
        output = lax.conv_general_dilated(
            x, tree["kernel"], (2, 2), [(pad, pad)] * 2, rhs_dilation=(rate, rate),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        maps.append(output + tree["bias"][None, None, None])
    expected = 0.5 * (y + 0.5 * (maps[0] + maps[1]))
    np.testing.assert_allclose(module.apply({"params": params}, x, y), expected, rtol=1e-10)


def test_spectral_pyramids_move_their_vectors_only_while_training():
    module, x = SPAP((2, 3), spectral=True), jnp.asarray(normal(2, 6, 6, 4), jnp.float32)
    variables = jax.jit(lambda x: module.init(jax.random.key(0), x, INSTANCE))(x)

    def apply(variables, update_stats):
        return module.apply(variables, x, INSTANCE, update_stats, mutable=["spectral"])[1]

    same, updated = (jax.jit(lambda v, t=t: apply(v, t))(variables) for t in (False, True))
    for old, unchanged, new in zip(
        *map(jax.tree.leaves, (variables["spectral"], same, updated)), strict=True
    ):
        np.testing.assert_array_equal(unchanged, old)
        assert old.size == 1 or not np.array_equal(new, old)


def test_late_leaves_start_as_fresh_as_new_ones():
    start, steps = 3, 6
    params = {"early": jnp.array([1.0, -2.0]), "pyramid": {"late": jnp.array([0.5, 3.0])}}
    gradients = [jax.tree.map(lambda x, i=i: x + 0.1 * i, params) for i in range(steps)]

    def schedule(count):
        return 0.1 * (count + 1)

    def chain(**options):
        return adam(schedule, 0.5, 0.999, 0.0, **options)

    def run(chain, params, gradients):
        state, history = chain.init(params), []
        for gradient in gradients:
            updates, state = chain.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            history.append(params)
        return history

    delay = chain(delay=lambda m: delayed(m, start, lambda path: "pyramid" in path))
    history = run(delay, params, gradients)
    vanilla = run(chain(), {"early": params["early"]}, [{"early": g["early"]} for g in gradients])
    for i, (one, other) in enumerate(zip(history, vanilla, strict=True)):
        np.testing.assert_array_equal(one["early"], other["early"])
        late = one["pyramid"]["late"]
        assert np.array_equal(late, params["pyramid"]["late"]) == (i < start)
    # From the start on: Adam from nothing, with the rates of the common schedule.
    value, mu, nu = np.asarray(params["pyramid"]["late"], float), 0.0, 0.0
    for count, step in enumerate(range(start, steps), start=1):
        gradient = np.asarray(gradients[step]["pyramid"]["late"], float)
        mu, nu = 0.5 * mu + 0.5 * gradient, 0.999 * nu + 0.001 * gradient**2
        rate = schedule(step) * np.sqrt(1 - 0.999**count) / (1 - 0.5**count)
        value = value - rate * mu / np.sqrt(nu)
        np.testing.assert_allclose(history[step]["pyramid"]["late"], value, atol=1e-5)
