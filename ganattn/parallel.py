"""Devices: the only file that knows that there is more than one.

A step is written for one device with an `axis_name`; `map_step` runs it on all of them. The state
keeps its true shapes on every device (it is never stacked); the batch is split by examples.
"""

import dataclasses
from collections.abc import Callable, Mapping
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
    """One axis, named "batch", over all devices (or over those given).

    Those of a process lie side by side, so that its share of the batch is one piece of it.
    """
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices or found), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_examples(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: each device has its part of the first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicate(create: Callable[..., Tree], mesh: Mesh) -> Callable[..., Tree]:
    """Jits `create` so that what it makes lies whole on every device, in buffers of its own.

    Fresh buffers matter: the training step donates its state, and a buffer shared with the caller's
    arrays would be deleted under them.
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
        """The new state, in the old one's buffers, and the metrics."""
        return self.function(state, self.place(batch))

    def compile(self, state: Tree, batch: Mapping[str, np.ndarray]) -> jax.stages.Compiled:
        """The executable for these shapes, to be called with the state and a placed batch."""
        return self.function.lower(state, self.place(batch)).compile()  # type: ignore[attr-defined]


def map_step(
    step: Callable[[Tree, Tree], tuple[Tree, Tree]], mesh: Mesh, backend: str = "auto"
) -> MappedStep:
    """Maps a per-device `step(state, batch)` over the mesh; the state is donated.

    "pmap" maps with unstacked state; "shard_map" checks at trace time that what the step returns
    as replicated is so (a forgotten mean becomes an error). "auto" is pmap in one process and
    shard_map in several, where pmap pays for rewrapping every leaf at each call.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"config.parallel is {backend!r}: use one of {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = "pmap" if jax.process_count() == 1 else "shard_map"
    return _pmap(step, mesh) if backend == "pmap" else _shard_map(step, mesh)


def map_method(method: Any, mesh: Mesh, backend: str = "auto") -> MappedStep:
    """`map_step` of a method's training step.

    With "auto" on a single device the step is jitted as it is: averaging over one device changes
    nothing, but keeps XLA from fusing gradients into the optimiser, which costs memory and time.
    """
    if backend == "auto" and mesh.size == 1:
        return MappedStep(jax.jit(method.train_step, donate_argnums=0), dict)
    return map_step(method.mapped().train_step, mesh, backend)


def _pmap(step, mesh):
    devices = list(mesh.devices.flat)
    local = sum(device.process_index == jax.process_index() for device in devices)
    function = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )

    def place(batch):
        return {name: x.reshape(local, -1, *x.shape[1:]) for name, x in batch.items()}

    return MappedStep(function, place)


def _shard_map(step, mesh):
    whole, split = PartitionSpec(), PartitionSpec(AXIS)
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(whole, split), out_specs=(whole, whole), check_vma=True
    )
    sharding = NamedSharding(mesh, split)

    def place(batch):
        put = jax.make_array_from_process_local_data
        return {name: put(sharding, x) for name, x in batch.items()}

    return MappedStep(jax.jit(mapped, donate_argnums=0), place)


def vary(tree: Tree, axis_name: str | None) -> Tree:
    """Marks replicated parameters as per-device before a loss is differentiated.

    Without it a checked shard_map sums the gradients by itself and the mean that follows comes out
    as many times too large as there are devices.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.pcast(x, axis_name, to="varying"), tree)


def mean_over(tree: Tree, axis_name: str | None) -> Tree:
    """Mean over devices, leaf by leaf; the identity when `axis_name` is None."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def gather(tree: Tree, axis_name: str | None) -> Tree:
    """Concatenates the devices' parts along the first axis: the global batch, on every device."""
    if axis_name is None:
        return tree
    return jax.lax.all_gather(tree, axis_name, tiled=True, to="invarying")


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples that one application of a step sees, among those of the global batch.

    axis_name: the mapped axis over devices, None on one device.
    """

    axis_name: str | None = None

    def vary(self, tree: Tree) -> Tree:
        """See `vary`."""
        return vary(tree, self.axis_name)

    def mean(self, tree: Tree) -> Tree:
        """The mean over all parts of the global batch, leaf by leaf."""
        return mean_over(tree, self.axis_name)

    def gather(self, tree: Tree) -> Tree:
        """The global batch: all parts concatenated along the first axis."""
        return gather(tree, self.axis_name)

    def first(self, count: int) -> Array | int:
        """Index in the global batch of the first of these `count` examples."""
        return 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name) * count

    def own(self, tree: Tree, count: int) -> Tree:
        """The part of a gathered tree that belongs to these `count` examples."""
        first = self.first(count)
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), tree)

    def keys(self, key: Array, count: int) -> Array:
        """One key an example, by its index in the global batch.

        So any number of devices and processes draws the same numbers for the same example.
        """
        indices = self.first(count) + jnp.arange(count)
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)


@dataclasses.dataclass(frozen=True)
class _Part(Examples):
    """One of `count` parts of a device's examples, while a step is replayed; see `accumulate`.

    known: results of the step's first combinations, in the order of the calls. calls: the operands
    of all combinations in this replay, with the names of their kinds.
    """

    index: Array | int = 0
    parts: int = 1
    known: tuple[Tree, ...] = ()
    calls: list[tuple[str, Tree]] = dataclasses.field(default_factory=list)

    def mean(self, tree: Tree) -> Tree:
        return self._combine("mean", tree, tree)

    def gather(self, tree: Tree) -> Tree:
        repeats = self.parts * (1 if self.axis_name is None else jax.lax.axis_size(self.axis_name))
        return self._combine(
            "gather", tree, jax.tree.map(lambda x: jnp.concatenate([x] * repeats), tree)
        )

    def first(self, count: int) -> Array | int:
        device = 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name)
        return (device * self.parts + self.index) * count

    def _combine(self, kind: str, operand: Tree, placeholder: Tree) -> Tree:
        number = len(self.calls)
        self.calls.append((kind, operand))
        return self.known[number] if number < len(self.known) else placeholder


def accumulate(
    step: Callable[[Examples, Tree], Tree], parts: int, examples: Examples, data: Tree
) -> Tree:
    """`step(examples, data)`, with the arithmetic of `parts` pieces of the data in turn.

    A step combines its examples through `Examples.mean` and `Examples.gather` alone. For each of
    these calls the step is replayed up to the call on one piece after the other, with the results
    of the earlier calls in place, and the operands are combined. What follows the call depends on
    no result of the replay and is removed by the compiler. So memory is that of one piece, and the
    result is that of the whole batch where no layer mixes examples.
    """
    if parts == 1:
        return step(examples, data)
    pieces = jax.tree.map(lambda x: jnp.reshape(x, (parts, -1, *x.shape[1:])), data)
    first = jax.tree.map(lambda x: x[0], pieces)
    known: list[Tree] = []

    def replay(index, piece):
        part = _Part(examples.axis_name, index, parts, tuple(known))
        return part, step(part, piece)

    def operand(index, piece):
        return replay(index, piece)[0].calls[len(known)][1]

    kinds: list[str] = []
    jax.eval_shape(lambda piece: kinds.extend(k for k, _ in replay(0, piece)[0].calls), first)
    numbered = (jnp.arange(parts), pieces)
    for kind in kinds:
        if kind == "mean":
            # A new function each time: JAX caches what it has traced.
            shapes = jax.eval_shape(lambda piece: operand(0, piece), first)
            zeros = examples.vary(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
            total, _ = jax.lax.scan(
                lambda sums, x: (jax.tree.map(jnp.add, sums, operand(*x)), None), zeros, numbered
            )
            known.append(examples.mean(jax.tree.map(lambda x: x / parts, total)))
        else:
            _, stacked = jax.lax.scan(lambda _, x: (None, operand(*x)), None, numbered)
            joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked)
            known.append(examples.gather(joined))
    return replay(0, first)[1]


def example_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """One key for each of this device's `count` examples, by its index in the global batch.

    So any number of devices and processes draws the same numbers for the same example.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count))
