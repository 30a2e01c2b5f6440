"""Saves checkpoints during training; refuses numbers that are not finite."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganattn import processes
from ganattn.errors import DivergenceError, join_first
from ganattn.runs.checkpoints import Checkpoints
from ganattn.state import TrainState, flatten


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens at this one."""
    return every > 0 and step % every == 0


class StopWhenNotFinite:
    """A reader that raises DivergenceError as soon as a metric is NaN or infinite."""

    def __init__(self, store: Checkpoints):
        self._store = store

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Checks every metric."""
        bad = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
        _refuse(step, bad, self._store)


class SaveCheckpoints:
    """Saves the state every so many steps, never one with a number that is not finite."""

    def __init__(self, store: Checkpoints, config: Any, every: int):
        self._store, self._config, self._every = store, config, every

    def due(self, step: int) -> bool:
        """Whether the state after `step` is to be saved."""
        return is_due(step, self._every)

    def save(self, step: int, state: TrainState) -> None:
        """Starts to save unless that step is saved; raises DivergenceError for a broken state.

        A collective: every process must call it. None starts before all have, so that process 0
        may take its time to report the step.
        """
        self._store.wait()
        if self._store.latest() == step:
            return
        _refuse(step, _not_finite_leaves(state), self._store)
        processes.wait_for_all(f"step {step} is reported")
        self._store.save(step, state, self._config)

    def close(self) -> None:
        """Waits for the last save."""
        self._store.wait()


def _refuse(step: int, bad: Sequence[str], store: Checkpoints) -> None:
    if not bad:
        return
    store.wait()
    newest = store.latest()
    where = (
        "there is no checkpoint before it"
        if newest is None
        else f"the newest good checkpoint is step {newest} in {store.directory}"
    )
    raise DivergenceError(
        f"{join_first(bad)} at step {step}; {where}: "
        "lower config.optimizer.learning_rate and start again"
    )


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])


def _not_finite_leaves(state: TrainState) -> list[str]:
    trained = {"variables": state.variables, "opt_state": state.opt_state, "ema": state.ema}
    leaves = {k: v for k, v in flatten(trained).items() if jnp.issubdtype(v.dtype, jnp.inexact)}
    if not leaves:
        return []
    finite = np.asarray(_all_finite(list(leaves.values())))
    return [f"{name} is not finite" for name, good in zip(leaves, finite, strict=True) if not good]
