"""Optax chains of the papers: Adam with coupled L2, linear decay, and rho held inside [0, 1]."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ganattn.errors import ConfigError

Tree = Any


def linear_decay(
    learning_rate: float, decay_start_step: int, total_steps: int, staircase: int = 1
) -> optax.Schedule:
    """Constant up to step `decay_start_step`, then linear to 0 at `total_steps`.

    Steps count from 1, as in the authors' loop: step s > start uses
    learning_rate * (1 - (s - start) / (total - start)). A negative start never decays.
    `staircase` holds the rate for that many steps (the TensorFlow U-GAT-IT decays once an epoch,
    with the rate of the epoch's first step).
    """
    if decay_start_step >= 0 and total_steps < 1:
        raise ConfigError(f"config.optimizer.total_steps is {total_steps}: give a positive number")
    if decay_start_step < 0 or decay_start_step >= total_steps:
        return optax.constant_schedule(learning_rate)

    def schedule(count):
        dtype = jnp.result_type(float)
        step = jnp.asarray((count // staircase) * staircase + (staircase == 1), dtype)
        progress = (step - decay_start_step) / (total_steps - decay_start_step)
        return learning_rate * (1.0 - jnp.clip(progress, 0.0, 1.0))

    return schedule


def adam(
    schedule: optax.Schedule,
    beta1: float,
    beta2: float,
    weight_decay: float,
    *,
    decay_only_kernels: bool = False,
    epsilon_inside_correction: bool = False,
) -> optax.GradientTransformation:
    """Adam as PyTorch has it: weight decay is added to the gradient, before the moments.

    decay_only_kernels: decay convolution and dense kernels alone, as an L2 term in the loss does in
        the TensorFlow U-GAT-IT; PyTorch decays every parameter, rho and biases included.
    epsilon_inside_correction: TensorFlow's "epsilon hat", added to the uncorrected root.
    The last link projects every leaf of a `rho` collection to [0, 1] (U-GAT-IT eq. 1).
    """
    moments = _adam_epsilon_hat(beta1, beta2) if epsilon_inside_correction else None
    mask = _is_kernel if decay_only_kernels else None
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=mask) if weight_decay else optax.identity(),
        moments or optax.scale_by_adam(b1=beta1, b2=beta2, eps=1e-8),
        optax.scale_by_learning_rate(schedule),
        project_rho(),
    )


def project_rho() -> optax.GradientTransformation:
    """Shortens updates so that leaves under a `rho` collection end inside [0, 1]."""

    def update(updates, state, params=None):
        def project(path, change, value):
            if not any(getattr(entry, "key", None) == "rho" for entry in path[:-1]):
                return change
            return jnp.clip(value + change, 0.0, 1.0) - value

        return jax.tree_util.tree_map_with_path(project, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class _MomentsState(NamedTuple):
    steps: jax.Array
    mu: Tree
    nu: Tree


def _adam_epsilon_hat(beta1: float, beta2: float, epsilon: float = 1e-8):
    def init(params):
        zeros = optax.tree.zeros_like(params)
        return _MomentsState(jnp.zeros((), jnp.int32), zeros, optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        steps = state.steps + 1
        mu = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.nu, updates)
        power = steps.astype(jnp.result_type(float))
        scale = jnp.sqrt(1 - beta2**power) / (1 - beta1**power)
        new = jax.tree.map(lambda m, v: scale.astype(m.dtype) * m / (jnp.sqrt(v) + epsilon), mu, nu)
        return new, _MomentsState(steps, mu, nu)

    return optax.GradientTransformation(init, update)


def _is_kernel(params: Tree) -> Tree:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) == "kernel", params
    )
