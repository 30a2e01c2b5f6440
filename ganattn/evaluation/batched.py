"""A function of variables and examples, compiled once and spread over the devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ganattn.parallel import create_mesh, replicated, split_by_examples

Tree = Any


class Batched:
    """Calls `function(variables, inputs)` on groups of one size, so that it is compiled once.

    inputs and results are trees of arrays with one example a row. batch_size: of a group, rounded
    up to a multiple of the number of devices; the last group is padded with its last example.
    devices: all devices of this process, unless they are given.
    """

    def __init__(
        self,
        function: Callable[[Any, Tree], Tree],
        batch_size: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        mesh = create_mesh(list(devices or jax.local_devices()))
        self.batch_size = -(-batch_size // mesh.size) * mesh.size
        self._replicated, self._split = replicated(mesh), split_by_examples(mesh)
        self._function = jax.jit(function)

    def place(self, variables: Any) -> Any:
        """The variables on every device, as calls take them."""
        return jax.device_put(variables, self._replicated)

    def __call__(self, variables: Any, inputs: Tree) -> Tree:
        """Results for (n, ...) inputs as numpy arrays, for any n."""
        count = len(jax.tree.leaves(inputs)[0])
        groups = []
        for start in range(0, count, self.batch_size):
            rows = np.minimum(np.arange(start, start + self.batch_size), count - 1)
            group = jax.tree.map(lambda x, rows=rows: x[rows], inputs)
            result = self._function(variables, jax.device_put(group, self._split))
            rest = min(self.batch_size, count - start)
            groups.append(jax.tree.map(lambda x, n=rest: np.asarray(x)[:n], result))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *groups)
