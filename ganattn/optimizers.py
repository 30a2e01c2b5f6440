"""Optax chains of the papers: Adam with coupled L2, linear decay, delayed leaves, rho in [0, 1]."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from ganattn.errors import ConfigError

SCHEDULER_STEPS = ("end", "start")
Tree = Any
Delay: TypeAlias = Callable[[optax.GradientTransformation], optax.GradientTransformation]


def linear_decay(
    learning_rate: float, decay_start_step: int, total_steps: int, staircase: int = 1
) -> optax.Schedule:
    """Constant up to step `decay_start_step`, then linear to 0 at `total_steps`.

    Steps count from 1, as in the authors' loop: step s > start uses
    learning_rate * (1 - (s - start) / (total - start)). A negative start never decays.
    staircase: number of steps for which the rate is constant (the TensorFlow U-GAT-IT decays once
    per epoch, with the rate of the epoch's first step). Raises ConfigError without steps.
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


def epoch_decay(
    learning_rate: float,
    decay_start_step: int,
    total_steps: int,
    epoch_steps: int,
    scheduler_step: str = "end",
) -> optax.Schedule:
    """Constant for some epochs, then lower by an equal amount each epoch, as in CycleGAN's code.

    With n epochs before `decay_start_step` and d from there to `total_steps`, epoch e (from 1)
    uses learning_rate * (1 - max(0, e - n) / (d + 1)) if the scheduler steps at the "end" of an
    epoch (the authors' code of 2025, and before July 2020), and e + 1 instead of e if it steps at
    the "start" (between these: the last epoch trains with rate 0). A negative start never decays.
    Raises ConfigError for values outside their range.
    """
    if scheduler_step not in SCHEDULER_STEPS:
        raise ConfigError(
            f"config.optimizer.scheduler_step is {scheduler_step!r}: "
            f"use one of {', '.join(SCHEDULER_STEPS)}"
        )
    if epoch_steps < 1:
        raise ConfigError(f"config.optimizer.epoch_steps is {epoch_steps}: give a positive number")
    if decay_start_step >= 0 and total_steps < 1:
        raise ConfigError(f"config.optimizer.total_steps is {total_steps}: give a positive number")
    if decay_start_step < 0 or decay_start_step >= total_steps:
        return optax.constant_schedule(learning_rate)

    def schedule(count):
        epoch = count // epoch_steps + 1 + (scheduler_step == "start")
        past = jnp.asarray(epoch * epoch_steps - decay_start_step, jnp.result_type(float))
        progress = past / (total_steps - decay_start_step + epoch_steps)
        return learning_rate * (1.0 - jnp.clip(progress, 0.0, 1.0))

    return schedule


def step_decay(learning_rate: float, factor: float, every: int) -> optax.Schedule:
    """Multiplies the rate by `factor` after every `every` steps, as PyTorch's StepLR.

    Step s (from 1) uses learning_rate * factor ** ((s - 1) // every), in the precision of floats,
    where `optax.exponential_decay` always computes in float32.
    """

    def schedule(count):
        power = jnp.asarray(count // every, jnp.result_type(float))
        return learning_rate * factor**power

    return schedule


def adam(
    schedule: optax.Schedule,
    beta1: float,
    beta2: float,
    weight_decay: float,
    *,
    decay_only_kernels: bool = False,
    epsilon_inside_correction: bool = False,
    delay: Delay | None = None,
) -> optax.GradientTransformation:
    """PyTorch's Adam: weight decay is added to the gradient, before the moments.

    decay_only_kernels: decay convolution and dense kernels only, like the L2 term in the loss of
        the TensorFlow U-GAT-IT; PyTorch decays every parameter, including rho and biases.
    epsilon_inside_correction: TensorFlow's "epsilon hat", added to the uncorrected root.
    delay: wraps the moments, see `delayed` and `repeated`; the learning rate follows the common
        schedule.
    The last transformation projects every leaf of a `rho` collection to [0, 1] (U-GAT-IT eq. 1).
    """
    if epsilon_inside_correction:
        moments = _adam_epsilon_hat(beta1, beta2)
    else:
        moments = optax.scale_by_adam(b1=beta1, b2=beta2, eps=1e-8)
    mask = _is_kernel if decay_only_kernels else None
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=mask) if weight_decay else optax.identity(),
        delay(moments) if delay else moments,
        optax.scale_by_learning_rate(schedule),
        project_rho(),
    )


def delayed(
    inner: optax.GradientTransformation, start_step: int, is_late: Callable[[tuple[str, ...]], bool]
) -> optax.GradientTransformation:
    """`inner` with some leaves, and their optimizer state, frozen until step `start_step`.

    is_late: whether a leaf is frozen, by its path, such as ("generator_a2b", "params", "pyramid",
    "gamma"). These leaves have a state of their own in `inner`, which is fresh at `start_step`,
    including Adam's count. Source: SPAP section 4.3.
    """

    def label(path, _):
        return "late" if is_late(tuple(entry.key for entry in path)) else "prompt"

    late = optax.conditionally_mask(inner, lambda step: step >= start_step)
    return optax.partition(
        {"prompt": inner, "late": late},
        lambda params: jax.tree_util.tree_map_with_path(label, params),
    )


def repeated(
    inner: optax.GradientTransformation, times: int, is_repeated: Callable[[tuple[str, ...]], bool]
) -> optax.GradientTransformation:
    """`inner`, applied several times in a row to the gradient of some leaves; updates are added.

    is_repeated: as `is_late` of `delayed`. With Adam this is what PyTorch does to parameters that
    an optimizer holds several times: its count and moments move at each of them.
    """

    def update(updates, state, params=None):
        total = optax.tree.zeros_like(updates)
        for _ in range(times):
            change, state = inner.update(updates, state, params)
            total = optax.tree.add(total, change)
        return total, state

    def label(path, _):
        return "several" if is_repeated(tuple(entry.key for entry in path)) else "once"

    several = optax.GradientTransformation(inner.init, update)
    return optax.partition(
        {"once": inner, "several": several},
        lambda params: jax.tree_util.tree_map_with_path(label, params),
    )


def project_rho() -> optax.GradientTransformation:
    """Shortens updates so that leaves of a `rho` collection stay in [0, 1]."""

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
