"""All that training changes, as one pytree."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import struct

Tree = Any
Variables = Mapping[str, Tree]  # collection -> tree, as Linen's `init` returns it

TRAINED = ("params", "rho")


class TrainState(struct.PyTreeNode):
    """The whole state of a run; nothing changes outside it.

    step: () int32, number of finished steps.
    rng: () typed key, never split in place; a step folds `step` into it.
    variables: network name -> collection -> tree. `params` and `rho` are trained, `spectral`
        (power-iteration vectors) and `batch_stats` are carried.
    opt_state: optimiser group -> optax state.
    memory: what a method remembers between steps (image pool, attention bank).
    ema: moving averages of network variables.
    """

    step: jax.Array
    rng: jax.Array
    variables: Mapping[str, Variables]
    opt_state: Mapping[str, Any]
    memory: Tree = struct.field(default_factory=dict)
    ema: Tree = struct.field(default_factory=dict)


def split(variables: Variables) -> tuple[Variables, Variables]:
    """Separates one network's variables into (trained by the optimiser, carried by the step)."""
    trained = {name: tree for name, tree in variables.items() if name in TRAINED}
    carried = {name: tree for name, tree in variables.items() if name not in TRAINED}
    return trained, carried


def split_networks(
    variables: Mapping[str, Variables], names: tuple[str, ...]
) -> tuple[Mapping[str, Variables], Mapping[str, Variables]]:
    """`split` for several networks at once: ({name: trained}, {name: carried})."""
    pairs = {name: split(variables[name]) for name in names}
    return {n: pair[0] for n, pair in pairs.items()}, {n: pair[1] for n, pair in pairs.items()}


def merge_networks(
    trained: Mapping[str, Variables], carried: Mapping[str, Variables]
) -> dict[str, Variables]:
    """Inverse of `split_networks`."""
    return {name: {**trained[name], **carried[name]} for name in trained}


def with_averages(variables: Mapping[str, Variables], ema: Tree) -> dict[str, Variables]:
    """The variables with moving averages in the place of what they average."""
    return {name: {**found, **ema.get(name, {})} for name, found in variables.items()}


def differences(found: Tree, expected: Tree) -> list[str]:
    """A phrase for every leaf that is missing, unknown, or of another shape than expected."""
    shapes, wanted = _shapes(found), _shapes(expected)
    lines = []
    for path in sorted(shapes.keys() | wanted.keys()):
        if path not in wanted:
            lines.append(f"{path} is unknown")
        elif path not in shapes:
            lines.append(f"{path} is missing")
        elif shapes[path] != wanted[path]:
            lines.append(f"{path} has shape {shapes[path]} and not {wanted[path]}")
    return lines


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }
