"""Counts what one training step computes, keeps in memory and puts into collectives.

Nothing is compiled or run: the real training step is traced with shapes alone, lowered for a TPU
(where convolutions keep their plain form) and counted by XLA's cost analysis; memory and
collectives are taken from the traced step of one of several devices.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core
from jax.sharding import AbstractMesh, PartitionSpec
from ml_collections import ConfigDict

from ganattn import methods, parallel
from ganattn.errors import UserError

TRACED_DEVICES = 2


def without_weights(config: ConfigDict) -> methods.Method:
    """The config's method with networks that need no file of weights to be initialized."""
    if not config.method.get("perceptual_weights", "none"):
        config.method.perceptual_weights = "of no file"  # SPADE requires a name
    method = methods.create(config)

    class Unweighted(type(method)):  # type: ignore[misc]
        def initialize(self, name, rng):
            try:
                return super().initialize(name, rng)
            except (UserError, OSError):
                return methods.Method.initialize(self, name, rng)

    fields = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    return Unweighted(**fields)


def tree_bytes(tree: Any) -> float:
    """Bytes of all leaves of a tree of arrays or shapes."""
    return sum(_size(leaf) for leaf in jax.tree.leaves(tree))


def count_flops(step: Callable, *shapes: Any) -> float:
    """XLA's count for the step as lowered for a TPU, before optimization; compiles nothing."""
    lowered = jax.jit(step).trace(*shapes).lower(lowering_platforms=("tpu",))
    return lowered.cost_analysis()["flops"]


def trace(method: methods.Method, state: Any, batch: Any) -> Any:
    """The step's program on one of TRACED_DEVICES devices; `batch` is that of all."""
    mesh = AbstractMesh((TRACED_DEVICES,), (parallel.AXIS,))
    complete, part = PartitionSpec(), PartitionSpec(parallel.AXIS)
    mapped = jax.shard_map(
        method.mapped().train_step,
        mesh=mesh,
        in_specs=(complete, part),
        out_specs=(complete, complete),
    )
    (equation,) = jax.make_jaxpr(mapped)(state, batch).jaxpr.eqns
    return equation.params["jaxpr"]


def collective_bytes(jaxpr: Any) -> dict[str, float]:
    """Bytes that one device puts into collectives: "reduced" and "gathered"."""
    sizes = {"reduced": 0.0, "gathered": 0.0}
    for name, inputs, _ in _operations(jaxpr, {}):
        for kind, start in (("reduced", "psum"), ("gathered", "all_gather")):
            if name.startswith(start):
                sizes[kind] += sum(size for _, size in inputs)
    return sizes


def peak_bytes(jaxpr: Any) -> float:
    """The largest number of bytes alive at once in the program's order, without its arguments.

    Results are not counted, because the state is donated, nor are reshaped and broadcast arrays.
    Other fusion of operations is ignored, so this is an upper bound for this order.
    """
    names: dict[int, object] = {}
    operations = list(_operations(jaxpr, names))
    ends = (*jaxpr.invars, *jaxpr.constvars, *jaxpr.outvars)
    excluded = {names.get(id(variable)) for variable in ends}
    last = {key: at for at, (_, inputs, _) in enumerate(operations) for key, _ in inputs}
    alive: dict[Any, float] = {}
    peak = 0.0
    for at, (_, inputs, outputs) in enumerate(operations):
        alive |= {key: size for key, size in outputs if key not in excluded}
        peak = max(peak, sum(alive.values())) if outputs else peak
        for key, _ in [*inputs, *outputs]:
            if last.get(key, at) <= at:
                alive.pop(key, None)
    return peak


_Sized = list[tuple[Any, float]]
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_OPAQUE = ("scan", "while", "cond")
_VIEWS = ("reshape", "squeeze", "broadcast_in_dim", "expand_dims", "pcast", "pvary")


def _operations(jaxpr: Any, names: dict[int, object]) -> Iterator[tuple[str, _Sized, _Sized]]:
    """(primitive, inputs, outputs) in order, with calls inlined; an array is (key, bytes).

    names: the key of each variable, filled in here. A view has the key of its array.
    """

    def key(variable):
        return names.setdefault(id(variable), object())

    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        inner = next((parameters[p] for p in _CALLS if p in parameters), None)
        inputs = [v for v in equation.invars if not isinstance(v, core.Literal)]
        if inner is not None and name not in _OPAQUE:
            inner = getattr(inner, "jaxpr", inner)
            # The same inner program may be called often, with arrays of its own each time.
            within: dict[int, object] = {}
            for own, outer in zip(inner.invars, equation.invars, strict=True):
                if not isinstance(outer, core.Literal):
                    within[id(own)] = key(outer)
            yield from _operations(inner, within)
            for own, outer in zip(inner.outvars, equation.outvars, strict=True):
                names[id(outer)] = within.get(id(own), object())
        elif name in _VIEWS and inputs:
            names[id(equation.outvars[0])] = key(inputs[0])
        else:
            outputs = [(key(v), _size(v.aval)) for v in equation.outvars]
            yield name, [(key(v), _size(v.aval)) for v in inputs], outputs


def _size(shape: Any) -> float:
    item = getattr(shape.dtype, "itemsize", 8)
    return float(math.prod(shape.shape) * item)
