"""Devices: the only file that knows that there is more than one.

A step is written for one device with an `axis_name`; `map_step` runs it on all of them. The state
keeps its true shapes on every device (it is never stacked), the batch is split along its first axis.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ganattn.errors import ConfigError

AXIS = "batch"
BACKENDS = ("auto", "pmap", "shard_map")
Tree = Any


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """One axis, named "batch", over all devices (or over those given)."""
    return Mesh(np.array(devices or jax.devices()), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(create: Callable[..., Tree], mesh: Mesh) -> Callable[..., Tree]:
    """Jits `create` so that what it makes lies whole on every device, in buffers of its own.

    Fresh buffers matter: the training step donates its state, and a buffer shared with the caller's
    arrays would be deleted under them.
    """
    return jax.jit(create, out_shardings=replicated(mesh))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ConfigError when the devices do not divide the global batch."""
    if batch_size < 1 or batch_size % mesh.size:
        lower = max(1, batch_size // mesh.size) * mesh.size
        raise ConfigError(
            f"config.data.batch_size is {batch_size}, which {mesh.size} devices do not divide: "
            f"set it to a multiple of {mesh.size}, such as {lower}"
        )


def map_step(
    step: Callable[[Tree, Tree], tuple[Tree, Tree]], mesh: Mesh, backend: str = "auto"
) -> Callable[[Tree, Mapping[str, np.ndarray]], tuple[Tree, Tree]]:
    """Maps a per-device `step(state, batch)` over the mesh; the state is donated.

    The result takes the state and this process's share of the global batch as host arrays.
    "pmap" maps with unstacked state; "shard_map" checks at trace time that what the step returns
    as replicated is so (a forgotten mean becomes an error). "auto" is pmap in one process and
    shard_map in several, where pmap pays for rewrapping every leaf at each call.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"config.parallel is {backend!r}: use one of {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = "pmap" if jax.process_count() == 1 else "shard_map"
    if backend == "pmap":
        return _pmap(step, mesh)
    mapped = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=(PartitionSpec(), PartitionSpec()),
            check_vma=True,
        ),
        donate_argnums=0,
    )
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return lambda state, batch: mapped(
        state,
        {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()},
    )


def _pmap(step, mesh):
    local = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=list(mesh.devices.flat),
    )

    def run(state, batch):
        stacked = {k: v.reshape(len(local), -1, *v.shape[1:]) for k, v in batch.items()}
        return mapped(state, stacked)

    return run


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


def example_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """One key for each of this device's `count` examples, by its index in the global batch.

    So any number of devices and processes draws the same numbers for the same example.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count))
