"""Runs a training step on all devices, and in parts.

A step is written for one device; it combines examples through `Examples` only, and `map_step` runs
it on all devices. The state has the same shapes on every device (it is never stacked); the batch is
split by examples.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ganattn.errors import ConfigError

AXIS = "batch"
BACKENDS = ("auto", "pmap", "shard_map")
Tree = Any


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, named "batch", over the given devices, by default all.

    The devices of a process are adjacent, so its share of the batch is contiguous.
    """
    every = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices or every), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_examples(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: each device has a part of the first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicate(create: Callable[..., Tree], mesh: Mesh) -> Callable[..., Tree]:
    """Jits `create` so that its result is replicated on every device, in new buffers.

    The training step donates its state: a buffer shared with the caller's arrays would be deleted.
    """
    return jax.jit(create, out_shardings=replicated(mesh))


def check_batch_size(batch_size: int, mesh: Mesh, accumulate_steps: int = 1) -> None:
    """Raises ConfigError when devices and accumulation steps do not divide the global batch."""
    parts = mesh.size * accumulate_steps
    if batch_size < 1 or batch_size % parts:
        lower = max(1, batch_size // parts) * parts
        steps = f" and {accumulate_steps} accumulation steps" if accumulate_steps > 1 else ""
        raise ConfigError(
            f"config.data.batch_size is {batch_size}, which {mesh.size} devices{steps} do not "
            f"divide: set it to a multiple of {parts}, such as {lower}"
        )


@dataclasses.dataclass(frozen=True)
class MappedStep:
    """A jitted step over a mesh, called with the state and this process's share of the batch."""

    function: Callable[..., tuple[Tree, Tree]]
    place: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]

    def __call__(self, state: Tree, batch: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
        """The new state, in the buffers of the old one, and the metrics."""
        return self.function(state, self.place(batch))

    def compile(self, state: Tree, batch: Mapping[str, np.ndarray]) -> jax.stages.Compiled:
        """The executable for these shapes, to be called with the state and a placed batch."""
        return self.function.lower(state, self.place(batch)).compile()  # type: ignore[attr-defined]


def map_step(
    step: Callable[[Tree, Tree], tuple[Tree, Tree]], mesh: Mesh, backend: str = "auto"
) -> MappedStep:
    """Maps a per-device `step(state, batch)` over the mesh; the state is donated.

    "pmap" maps with unstacked state. "shard_map" checks at trace time that the results of the step
    are replicated (a forgotten mean is an error). "auto" is pmap in one process and shard_map in
    several, where pmap rewraps every leaf at each call. Raises ConfigError for another backend.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"config.parallel is {backend!r}: use one of {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = "pmap" if jax.process_count() == 1 else "shard_map"
    return _pmap(step, mesh) if backend == "pmap" else _shard_map(step, mesh)


def map_method(method: Any, mesh: Mesh, backend: str = "auto") -> MappedStep:
    """`map_step` of a method's training step.

    With "auto" on a single device the step is jitted without mapping: a mean over one device does
    nothing but keep XLA from fusing gradients into the optimizer, which costs memory and time.
    """
    if backend == "auto" and mesh.size == 1:
        return MappedStep(jax.jit(method.train_step, donate_argnums=0), dict)
    return map_step(method.mapped().train_step, mesh, backend)


def _pmap(step, mesh):
    local = len(mesh.local_devices)
    function = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=list(mesh.devices.flat),
    )

    def place(batch):
        return {name: x.reshape(local, -1, *x.shape[1:]) for name, x in batch.items()}

    return MappedStep(function, place)


def _shard_map(step, mesh):
    copy, split = PartitionSpec(), PartitionSpec(AXIS)
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(copy, split), out_specs=(copy, copy), check_vma=True
    )
    put = functools.partial(jax.make_array_from_process_local_data, split_by_examples(mesh))

    def place(batch):
        return {name: put(x) for name, x in batch.items()}

    return MappedStep(jax.jit(mapped, donate_argnums=0), place)


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one application of a step, among those of the global batch.

    axis_name: the mapped axis over devices, None on one device.
    """

    axis_name: str | None = None

    def vary(self, tree: Tree) -> Tree:
        """Marks replicated parameters as varying over devices, before a loss is differentiated.

        Otherwise a checked shard_map sums the gradients, and the mean that follows is too large by
        the number of devices.
        """
        if self.axis_name is None:
            return tree
        return jax.tree.map(lambda x: jax.lax.pcast(x, self.axis_name, to="varying"), tree)

    def mean(self, tree: Tree) -> Tree:
        """The mean over all parts of the global batch, leaf by leaf."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def gather(self, tree: Tree) -> Tree:
        """The global batch, on every device: all parts concatenated along the first axis."""
        if self.axis_name is None:
            return tree
        return jax.lax.all_gather(tree, self.axis_name, tiled=True, to="invarying")

    def first(self, count: int) -> Array | int:
        """Index in the global batch of the first of these `count` examples."""
        return 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name) * count

    def own(self, tree: Tree, count: int) -> Tree:
        """The part of a gathered tree that belongs to these `count` examples."""
        first = self.first(count)
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), tree)

    def keys(self, key: Array, count: int) -> Array:
        """One key for each example, from its index in the global batch.

        Any number of devices and processes draws the same numbers for the same example.
        """
        indices = self.first(count) + jnp.arange(count)
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)


class _Reached(Exception):
    """Ends a replay at the combination whose operand is needed."""


@dataclasses.dataclass(frozen=True)
class _Part(Examples):
    """One of `parts` parts of a device's examples, while a step is replayed; see `accumulate`.

    known: results of the step's first combinations, in the order of the calls; the replay ends at
    the call after them. None replays the complete step, with zeros as results. calls: kinds and
    operands of the calls so far.
    """

    index: Array | int = 0
    parts: int = 1
    known: Sequence[Tree] | None = None
    calls: list[tuple[str, Tree]] = dataclasses.field(default_factory=list)

    def mean(self, tree: Tree) -> Tree:
        return self._combine("mean", tree, 1)

    def gather(self, tree: Tree) -> Tree:
        devices = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
        return self._combine("gather", tree, self.parts * devices)

    def first(self, count: int) -> Array | int:
        return (super().first(1) * self.parts + self.index) * count

    def _combine(self, kind: str, operand: Tree, repeats: int) -> Tree:
        self.calls.append((kind, operand))
        if self.known is None:
            return jax.tree.map(lambda x: _zeros(x.shape, repeats, x.dtype), operand)
        if len(self.calls) > len(self.known):
            raise _Reached
        return self.known[len(self.calls) - 1]


def _zeros(shape: tuple[int, ...], repeats: int, dtype: Any) -> Array:
    """Constants, which are the same on every device, as the results of combinations are."""
    return jnp.zeros((*(repeats * side for side in shape[:1]), *shape[1:]), dtype)


def accumulate(
    step: Callable[[Examples, Tree], Tree], parts: int, examples: Examples, data: Tree
) -> Tree:
    """`step(examples, data)`, computed on `parts` pieces of the data, one after the other.

    A step combines its examples through `Examples.mean` and `Examples.gather` only, outside of
    transformations such as `jax.grad`. For each of these calls the step is replayed up to the call,
    on one piece after the other, with the results of the earlier calls substituted, and the
    operands are combined. So memory is that of one piece, and the result is that of the complete
    batch unless a layer mixes examples.
    """
    if parts == 1:
        return step(examples, data)
    pieces = jax.tree.map(lambda x: jnp.reshape(x, (parts, -1, *x.shape[1:])), data)
    first = jax.tree.map(lambda x: x[0], pieces)
    known: list[Tree] = []
    kinds: list[str] = []

    def operands(piece):
        part = _Part(examples.axis_name, 0, parts)
        step(part, piece)
        kinds.extend(kind for kind, _ in part.calls)
        return [operand for _, operand in part.calls]

    def operand(index, piece):
        part = _Part(examples.axis_name, index, parts, known)
        with contextlib.suppress(_Reached):
            step(part, piece)
        return part.calls[-1][1]

    shapes = jax.eval_shape(operands, first)
    numbered = (jnp.arange(parts), pieces)
    for kind, shape in zip(kinds, shapes, strict=True):
        # A new function in each call: JAX caches what it has traced.
        if kind == "mean":
            zeros = examples.vary(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape))
            total, _ = jax.lax.scan(
                lambda sums, x: (jax.tree.map(jnp.add, sums, operand(*x)), None), zeros, numbered
            )
            known.append(examples.mean(jax.tree.map(lambda x: x / parts, total)))
        else:
            _, stacked = jax.lax.scan(lambda _, x: (None, operand(*x)), None, numbered)
            joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked)
            known.append(examples.gather(joined))
    return step(_Part(examples.axis_name, 0, parts, known), first)
