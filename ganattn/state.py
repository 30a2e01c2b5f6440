"""All that training changes, as one pytree."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import struct

Tree = Any
Variables = Mapping[str, Tree]  # collection -> tree, as Linen's `init` returns it

TRAINED = ("params", "rho")


class TrainState(struct.PyTreeNode):
    """The complete state of a run; nothing changes outside it.

    step: () int32, number of finished steps.
    rng: () typed key, never split in place; a step folds `step` into it.
    variables: network name -> collection -> tree. `params` and `rho` are trained, `spectral`
        (power-iteration vectors) and `batch_stats` are carried.
    opt_state: optimizer group -> optax state.
    memory: what a method remembers between steps (image pool, attention bank).
    ema: exponential moving averages of network variables, {} without any.
    """

    step: jax.Array
    rng: jax.Array
    variables: Mapping[str, Variables]
    opt_state: Mapping[str, Any]
    memory: Tree = struct.field(default_factory=dict)
    ema: Tree = struct.field(default_factory=dict)


def split(variables: Variables) -> tuple[Variables, Variables]:
    """Separates one network's variables into (trained by the optimizer, carried by the step)."""
    trained = {name: tree for name, tree in variables.items() if name in TRAINED}
    carried = {name: tree for name, tree in variables.items() if name not in TRAINED}
    return trained, carried


def split_networks(
    variables: Mapping[str, Variables], names: tuple[str, ...]
) -> tuple[Mapping[str, Variables], Mapping[str, Variables]]:
    """`split` for several networks at once: ({name: trained}, {name: carried})."""
    pairs = {name: split(variables[name]) for name in names}
    return {n: pair[0] for n, pair in pairs.items()}, {n: pair[1] for n, pair in pairs.items()}


def with_averages(variables: Mapping[str, Variables], ema: Tree) -> dict[str, Variables]:
    """The variables with EMA weights substituted where there are some."""
    return {name: {**collections, **ema.get(name, {})} for name, collections in variables.items()}


def flatten(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by path, such as "generator/params/Conv_0/kernel", in tree order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def differences(tree: Tree, expected: Tree) -> list[str]:
    """A phrase for every leaf that is missing, unknown, or of another shape than expected."""
    return compare(_shapes(tree), _shapes(expected), "shape")


def compare(actual: Mapping[str, str], expected: Mapping[str, str], noun: str) -> list[str]:
    """A phrase for every path that is missing, unknown, or whose `noun` differs."""
    phrases = []
    for path in [*expected, *(path for path in actual if path not in expected)]:
        if path not in actual:
            phrases.append(f"{path} is missing")
        elif path not in expected:
            phrases.append(f"{path} is unknown")
        elif actual[path] != expected[path]:
            phrases.append(f"{path} has {noun} {actual[path]} and not {expected[path]}")
    return phrases


def _shapes(tree: Tree) -> dict[str, str]:
    return {path: f"{tuple(leaf.shape)}" for path, leaf in flatten(tree).items()}
