"""What the config of SPADE's code says beside the networks: losses, updates in turn, Adam.

Source: NVlabs/SPADE.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.methods.base import Method
from ganattn.optimizers import adam, linear_decay
from ganattn.state import TrainState, split_networks


@dataclasses.dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of feature matching, the perceptual loss, and the divergence of the styles."""

    feature_matching: float = 10.0
    perceptual: float = 10.0
    divergence: float = 0.05


def check_training(config: ConfigDict) -> None:
    """Raises ConfigError for values outside their range."""
    check(config, "method.adversarial", choices=losses.SYNTHESIS)
    check(config, "method.feature_matching_weight", least=0)
    check(config, "method.generator_every", least=1)
    check(config, "optimizer.epoch_steps", least=1)


def create_optimizers(config: ConfigDict) -> dict[str, optax.GradientTransformation]:
    """Adam, with two time scales (Heusel et al. 2017) of half the rate and twice the rate.

    Rates follow the steps of the training, also where the generator has fewer updates than those.
    """
    optimizer = config.optimizer
    factors = {"generator": 0.5, "discriminator": 2.0} if optimizer.ttur else {}
    every = {"generator": config.method.get("generator_every", 1)}
    return {
        group: adam(
            _of_updates(
                linear_decay(
                    factors.get(group, 1.0) * optimizer.learning_rate,
                    optimizer.decay_start_step,
                    optimizer.total_steps,
                    staircase=optimizer.epoch_steps,
                ),
                every.get(group, 1),
                optimizer.epoch_steps,
            ),
            optimizer.beta1,
            optimizer.beta2,
            weight_decay=0.0,
        )
        for group in ("generator", "discriminator")
    }


def _of_updates(schedule: optax.Schedule, every: int, epoch_steps: int) -> optax.Schedule:
    """The schedule by the count of a group's updates, see `is_turn`, from that by steps."""
    if every == 1:
        return schedule
    updates = -(-epoch_steps // every)
    return lambda count: schedule(count // updates * epoch_steps + count % updates * every)


def is_turn(step: Array, every: int, epoch_steps: int) -> Array:
    """Whether the generator is updated in a step: the first of each epoch, then every `every`."""
    return step % epoch_steps % every == 0


def minimize_in_turn(
    method: Method,
    state: TrainState,
    group: str,
    turn: Array,
    loss: Callable[..., Any],
    *arguments: Any,
) -> tuple[TrainState, Any]:
    """`Method.minimize` if `turn` holds; otherwise the same state, and the loss's output alone."""
    trained, carried = split_networks(state.variables, method.groups[group])
    trained = method.examples.vary(trained)

    def descend():
        gradients, (new, output) = jax.grad(loss, has_aux=True)(trained, carried, *arguments)
        return gradients, new, output

    def observe():
        _, (new, output) = loss(trained, carried, *arguments)
        return jax.tree.map(lambda x: 0 * x, trained), new, output

    gradients, new, output = jax.lax.cond(turn, descend, observe)
    updated = method.update(state, group, gradients, new)
    variables, opt_state = jax.tree.map(
        lambda x, y: jnp.where(turn, x, y),
        (updated.variables, updated.opt_state),
        (state.variables, state.opt_state),
    )
    return state.replace(variables=variables, opt_state=opt_state), output
