"""Updates against hand-made numbers and a plain numpy version."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganattn import optimizers
from ganattn.errors import ConfigError


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, 1.0),
        (9, 1.0),
        (10, 1 - 1 / 10),
        (14, 1 - 5 / 10),
        (18, 1 - 9 / 10),
        (19, 0.0),
        (30, 0.0),
    ],
)
def test_linear_decay_counts_steps_from_one(count, expected):
    schedule = optimizers.linear_decay(1.0, 10, 20)
    assert float(schedule(jnp.asarray(count))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 1.0), (11, 1.0), (12, 0.8), (15, 0.8), (16, 0.4)]
)
def test_staircase_holds_the_rate_of_its_first_step(count, expected):
    schedule = optimizers.linear_decay(1.0, 10, 20, staircase=4)
    assert float(schedule(jnp.asarray(count))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("start", [-1, 20, 25])
def test_no_decay(start):
    schedule = optimizers.linear_decay(0.5, start, 20)
    assert [float(schedule(count)) for count in (0, 19, 100)] == [0.5] * 3


def test_a_length_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"config\.optimizer\.total_steps is 0"):
        optimizers.linear_decay(1.0, 0, 0)


def steps_of_adam(chain, params, gradients):
    state = chain.init(params)
    for gradient in gradients:
        updates, state = chain.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def numpy_adam(value, gradients, *, rate, decay, inside):
    """Coupled L2; epsilon outside the bias correction as in PyTorch, or inside as in TensorFlow."""
    mu = nu = np.zeros_like(value)
    for t, gradient in enumerate(gradients, 1):
        gradient = gradient + decay * value
        mu, nu = 0.5 * mu + 0.5 * gradient, 0.999 * nu + 0.001 * gradient**2
        if inside:
            scale = np.sqrt(1 - 0.999**t) / (1 - 0.5**t)
            change = scale * mu / (np.sqrt(nu) + 1e-8)
        else:
            change = (mu / (1 - 0.5**t)) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)
        value = value - rate * change
    return value


@pytest.mark.parametrize("tensorflow", [False, True])
def test_adam_with_coupled_decay(x64, tensorflow):
    rng = np.random.default_rng(0)
    params = {
        "net": {"params": {"conv": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}}}
    }
    gradients = [jax.tree.map(lambda x: 1e-7 * rng.normal(size=x.shape), params) for _ in range(5)]
    chain = optimizers.adam(
        optax.constant_schedule(0.01), 0.5, 0.999, 1e-4,
        decay_only_kernels=tensorflow, epsilon_inside_correction=tensorflow,
    )  # fmt: skip
    made = steps_of_adam(chain, params, gradients)["net"]["params"]["conv"]
    for name in ("kernel", "bias"):
        decayed = 1e-4 if name == "kernel" or not tensorflow else 0.0
        expected = numpy_adam(
            params["net"]["params"]["conv"][name],
            [gradient["net"]["params"]["conv"][name] for gradient in gradients],
            rate=0.01, decay=decayed, inside=tensorflow,
        )  # fmt: skip
        np.testing.assert_allclose(made[name], expected, rtol=1e-12)


def test_rho_and_nothing_else_ends_inside_its_bounds():
    params = {
        "generator": {
            "rho": {"norm": {"rho": jnp.array([0.1, 0.9, 0.5])}},
            "params": {"rho": jnp.ones(2)},
        },
        "critic": {"params": {"kernel": jnp.ones(3)}},
    }
    link = optimizers.project_rho()
    updates = jax.tree.map(lambda x: jnp.array([-9.0, 9.0, 0.25])[: x.size], params)
    new = optax.apply_updates(params, link.update(updates, link.init(params), params)[0])
    np.testing.assert_allclose(new["generator"]["rho"]["norm"]["rho"], [0, 1, 0.75], atol=1e-7)
    np.testing.assert_array_equal(new["generator"]["params"]["rho"], [-8, 10])
    np.testing.assert_array_equal(new["critic"]["params"]["kernel"], [-8, 10, 1.25])
