"""A trained method, ready to generate images: its weights, its config, and all local devices."""

import copy
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import jax
import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn import methods
from ganattn.errors import ConfigError
from ganattn.inference.authors import Files, read_authors
from ganattn.inference.batched import Batched
from ganattn.methods import Direction, Input, Method, Output
from ganattn.runs.checkpoints import Step, restore_trees
from ganattn.runs.storage import locate
from ganattn.state import Variables, flatten, with_averages

SHARES = (1, 8, 32)  # examples per device that are generated at once
MOST_PIXELS = 8 * 256 * 256  # per device at once


class Model:
    """Generates images with a trained method.

    method, variables: from `methods.create` and a TrainState; networks that a direction does not
    need may be missing. config: the run's. step: of the checkpoint, None for other sources. Raises
    ConfigError for a method that does, or does not, generate from noise where `from_noise` says so.
    """

    from_noise: ClassVar[bool | None] = None

    def __init__(
        self,
        method: Method,
        variables: Mapping[str, Variables],
        config: ConfigDict,
        step: int | None = None,
    ):
        self.method, self.variables, self.config, self.step = method, variables, config, step
        self._placed: dict[tuple[str, int], Variables] = {}
        self._compiled: dict[tuple[Direction, int, int], Batched] = {}
        if self.from_noise not in (None, self.is_sampler):
            verb, command = "does not generate", "translate, or ganattn.Translator"
            if self.is_sampler:
                verb, command = "generates", "sample, or ganattn.Sampler"
            raise ConfigError(f"{self.name} {verb} images from noise: use ganattn {command}")

    @classmethod
    def from_workdir(
        cls,
        workdir: str | os.PathLike,
        step: Step | None = None,
        *,
        average: bool = True,
        config: ConfigDict | None = None,
    ) -> Self:
        """Loads the latest intact checkpoint of a run, or that of `step`, which may be "best".

        average: whether the moving averages replace the weights where the run keeps them. config:
        used in place of the run's own. Raises CheckpointError when there is no such checkpoint,
        ConfigError for a run of another kind.
        """
        trees, meta = restore_trees(locate(workdir) / "checkpoints", step, ("variables", "ema"))
        config = config or configuration.from_dict(meta["config"])
        variables = with_averages(trees["variables"], trees["ema"] if average else {})
        return cls(methods.create(config), variables, config, int(meta["step"]))

    @classmethod
    def from_authors(
        cls, files: Files, system: str = "ugatit", config: ConfigDict | None = None
    ) -> Self:
        """Loads checkpoints that the authors' code wrote; torch is not needed.

        files, config, errors: see `read_authors`. SPADE and DAGAN need a config, such as that of
        the data set, for what their files do not show.
        """
        config, variables = read_authors(files, system, config)
        return cls(methods.create(config), variables, config)

    def with_variables(self, variables: Mapping[str, Variables], step: int | None = None) -> Self:
        """The same model with other variables; both share the compiled programs."""
        model = copy.copy(self)
        model.variables, model.step, model._placed = variables, step, {}
        return model

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
        at_once: int | None = None,
    ) -> Output:
        """`method.generate` for any number of examples, as numpy arrays.

        inputs: (n, ...) arrays as `inputs(direction)` describes them. Each example is generated
        alone, so that the result does not depend on the others. seed: draws what the method draws;
        0 if None, for a method that draws more than its inputs (`Method.draws_noise`).
        indices: (n,) or (n, k) numbers of the examples, which their draws depend on; 0 to n - 1 if
        None. at_once: number of examples to compile for; n if None, so that a caller which splits
        its examples passes the size of its groups. Raises ConfigError for an unknown direction, or
        one whose networks are missing.
        """
        direction = self.method.direction(direction)
        rows: dict[str, Any] = {"inputs": {name: np.asarray(x) for name, x in inputs.items()}}
        count, *size = next(
            (x.shape for x in rows["inputs"].values()), (0 if indices is None else len(indices),)
        )
        if seed is None and self.method.draws_noise:
            seed = 0
        if seed is not None:
            numbers = np.arange(count) if indices is None else indices
            rows["index"] = np.asarray(numbers, np.uint32).reshape(count, -1)
            rows["seed"] = np.tile(jax.random.key_data(jax.random.key(seed)), (count, 1))
        devices, share = _division(at_once or count, size)
        program = direction, len(devices), share
        if program not in self._compiled:
            function = partial(_generate_each, self.method, direction)
            self._compiled[program] = Batched(function, share * len(devices), devices)
        batched, weights = self._compiled[program], {}
        needed = self.method.networks_for(direction)
        for name in set(needed) & set(self.variables):
            place = name, len(devices)
            if place not in self._placed:
                self._placed[place] = batched.place(dict(self.variables[name]))
            weights[name] = self._placed[place]
        try:
            return batched(weights, rows)
        except KeyError as error:
            if error.args[0] not in set(needed) - set(weights):
                raise
            usable = [
                other
                for other in self.method.directions
                if set(self.method.networks_for(other)) <= set(self.variables)
            ]
            raise ConfigError(
                f"direction {direction} needs the network {error.args[0]}, which was not loaded: "
                f"usable directions are {', '.join(usable) or 'none'}"
            ) from None

    @property
    def rho(self) -> dict[str, np.ndarray]:
        """The rho of every AdaLIN and LIN layer: network/layer -> (channels,).

        0 is layer normalization and 1 instance normalization; {} for a method that has none.
        """
        collections = {name: network.get("rho", {}) for name, network in self.variables.items()}
        leaves = flatten(jax.device_get(collections))
        return {path.removesuffix("/rho"): leaf for path, leaf in leaves.items()}


def _division(count: int, size: Sequence[int]) -> tuple[list[jax.Device], int]:
    """The devices for `count` inputs of a size, and how many examples each generates at once.

    As few examples as possible are padded, with few different programs.
    """
    devices = jax.local_devices()[: 1 if count == 1 else None]
    most = SHARES[-1] if len(size) < 2 else SHARES[-2]
    if len(size) > 1:
        most = max(1, min(most, MOST_PIXELS // (size[0] * size[1])))
    allowed = [*(share for share in SHARES if share < most), most]
    return devices, next((s for s in allowed if count <= s * len(devices)), most)


def _generate_each(
    method: Method, direction: Direction, variables: Mapping[str, Variables], rows: Any
) -> Output:
    """`method.generate` of each example alone, with a random key of its own.

    rows: "inputs", and for random draws "seed" (n, key data) and "index" (n, k).
    """

    def generate(inputs, key):
        batch = {name: x[None] for name, x in inputs.items()}
        output = method.generate(variables, batch, direction, key)
        return jax.tree.map(lambda x: x[0], output)

    if "seed" not in rows:
        return jax.vmap(lambda inputs: generate(inputs, None))(rows["inputs"])
    keys = jax.vmap(jax.random.wrap_key_data)(rows["seed"])
    for column in rows["index"].T:
        keys = jax.vmap(jax.random.fold_in)(keys, column)
    return jax.vmap(generate)(rows["inputs"], keys)
