"""A trained method, ready to generate images: its weights, its config, and all local devices."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn import methods
from ganattn.errors import ConfigError
from ganattn.inference.authors import Files, read_authors
from ganattn.inference.batched import Batched
from ganattn.methods import Direction, Input, Method, Output
from ganattn.parallel import create_mesh, replicated
from ganattn.runs.checkpoints import Step, restore_trees
from ganattn.runs.storage import locate
from ganattn.state import Variables, with_averages

SHARES = (1, 8, 32)  # examples per device that are generated at once
MOST_PIXELS = 8 * 256 * 256  # per device at once


class Model:
    """Generates images with a trained method.

    method, variables: from `methods.create` and a TrainState; networks that a direction does not
    need may be missing. config: the run's. step: of the checkpoint, None for other sources.
    """

    def __init__(
        self,
        method: Method,
        variables: Mapping[str, Variables],
        config: ConfigDict,
        step: int | None = None,
    ):
        self.method, self.variables, self.config, self.step = method, variables, config, step
        self._weights: dict[tuple[str, int], Variables] = {}
        self._compiled: dict[tuple[Direction, int, int], Batched] = {}
        self._check_method()

    def _check_method(self) -> None:
        """Raises ConfigError for a method of another kind."""

    @classmethod
    def from_workdir(
        cls, workdir: str | os.PathLike, step: Step | None = None, *, average: bool = True
    ) -> Self:
        """Loads the latest intact checkpoint of a run, or that of `step`, which may be "best".

        average: whether the moving averages replace the weights where the run keeps them. Raises
        CheckpointError when there is no such checkpoint, ConfigError for a run of another kind.
        """
        trees, meta = restore_trees(locate(workdir) / "checkpoints", step, ("variables", "ema"))
        config = configuration.from_dict(meta["config"])
        variables = with_averages(trees["variables"], trees["ema"] if average else {})
        return cls(methods.create(config), variables, config, int(meta["step"]))

    @classmethod
    def from_authors(cls, files: Files, system: str = "ugatit") -> Self:
        """Loads checkpoints that the authors' PyTorch code wrote; torch is not needed.

        files: see `read_authors`. Raises ForeignFileError when one is not such a checkpoint.
        """
        config, variables = read_authors(files, system)
        return cls(methods.create(config), variables, config)

    @property
    def name(self) -> str:
        """The method's name."""
        return self.config.method.name

    @property
    def is_sampler(self) -> bool:
        """Whether the method generates from latent vectors alone."""
        return list(self.inputs()) == ["latent"]

    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """`method.inputs` of a direction, the method's first one for None."""
        return self.method.inputs(self.method.direction(direction))

    def generate(
        self,
        inputs: Mapping[str, np.ndarray],
        direction: str | None = None,
        *,
        seed: int | None = None,
        indices: Sequence[Any] | np.ndarray | None = None,
    ) -> Output:
        """`method.generate` for any number of examples, as numpy arrays.

        inputs: (n, ...) arrays as `inputs(direction)` describes them. Each example is generated
        alone, so that the result does not depend on the others. seed: draws what the method draws.
        indices: (n,) or (n, k) numbers of the examples, which their draws depend on; 0 to n - 1 if
        None. Raises ConfigError for an unknown direction, or one whose networks are missing.
        """
        direction = self.method.direction(direction)
        rows: dict[str, Any] = {"inputs": {name: np.asarray(x) for name, x in inputs.items()}}
        first = next(iter(rows["inputs"].values()))
        if seed is not None:
            indices = np.asarray(range(len(first)) if indices is None else indices, np.uint32)
            key = np.asarray(jax.random.key_data(jax.random.key(seed)))
            rows["seed"] = np.tile(key, (len(first), 1))
            rows["index"] = indices.reshape(len(first), -1)
        return self._function(direction, first.shape)(rows)

    @property
    def rho(self) -> dict[str, np.ndarray]:
        """The rho of every AdaLIN and LIN layer: network/layer -> (channels,).

        0 is layer normalization and 1 instance normalization; {} for a method that has none.
        """
        collections = {name: network.get("rho", {}) for name, network in self.variables.items()}
        leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(collections))
        # The last entry of a path is the word rho itself.
        return {
            jax.tree_util.keystr(path[:-1], simple=True, separator="/"): leaf
            for path, leaf in leaves
        }

    def _function(self, direction: Direction, shape: tuple[int, ...]) -> Batched:
        """The compiled function for inputs of a shape, which pads them as little as it can."""
        count, *size = shape
        devices = jax.local_devices()[: 1 if count == 1 else None]
        most = SHARES[-1] if len(size) < 2 else SHARES[-2]
        if len(size) > 1:
            most = max(1, min(most, MOST_PIXELS // (size[0] * size[1])))
        allowed = [*(share for share in SHARES if share < most), most]
        share = next((s for s in allowed if count <= s * len(devices)), most)
        key = direction, len(devices), share
        if key not in self._compiled:
            weights = {n: self._placed(n, devices) for n in self._networks(direction)}
            batch_size = share * len(devices)
            self._compiled[key] = Batched(self._examples(direction), weights, batch_size, devices)
        return self._compiled[key]

    def _examples(self, direction: Direction) -> Any:
        def generate(variables, inputs, key):
            batch = {name: x[None] for name, x in inputs.items()}
            output = self.method.generate(variables, batch, direction, key)
            return jax.tree.map(lambda x: x[0], output)

        def function(variables, rows):
            keys = None
            if "seed" in rows:
                keys = jax.vmap(jax.random.wrap_key_data)(rows["seed"])
                for column in rows["index"].T:
                    keys = jax.vmap(jax.random.fold_in)(keys, column)
            axes = (None, 0, None if keys is None else 0)
            return jax.vmap(generate, axes)(variables, rows["inputs"], keys)

        return function

    def _networks(self, direction: Direction) -> tuple[str, ...]:
        names = self.method.networks_for(direction)
        missing = [name for name in names if name not in self.variables]
        if missing:
            usable = [
                other
                for other in self.method.directions
                if set(self.method.networks_for(other)) <= set(self.variables)
            ]
            raise ConfigError(
                f"direction {direction} needs the network {missing[0]}, which was not loaded: "
                f"usable directions are {', '.join(usable) or 'none'}"
            )
        return names

    def _placed(self, name: str, devices: Sequence[jax.Device]) -> Variables:
        key = name, len(devices)
        if key not in self._weights:
            sharding = replicated(create_mesh(list(devices)))
            self._weights[key] = jax.device_put(dict(self.variables[name]), sharding)
        return self._weights[key]
