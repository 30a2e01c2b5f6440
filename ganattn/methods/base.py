"""What the loop, the command line and the notebook may ask of a method."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn.errors import CheckpointError
from ganattn.parallel import AXIS, mean_over
from ganattn.state import (
    TrainState,
    Tree,
    Variables,
    differences,
    merge_networks,
    split_networks,
)


class Translation(NamedTuple):
    """Pictures made from pictures.

    images: (n, h, w, c) in about [-1, 1]. attention: (n, h', w', 1), unscaled, larger where the
    network looks. cam_logits: (n, 2) source-domain logits of average and maximum pooling, or None.
    attentions: all maps by name, where a network has several; `attention` is then the last one.
    """

    images: Array
    attention: Array | None = None
    cam_logits: Array | None = None
    attentions: Mapping[str, Array] | None = None


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """One paper: its networks, objective and update order, as pure functions of a TrainState.

    networks: network name -> Linen module. groups: optimiser group -> names of the networks it
    updates, optimizers: group -> optax chain over {network: trained collections}.
    axis_name: None on one device; the mapped axis inside `parallel.map_step`, over which gradients,
    carried collections and metrics are averaged.
    """

    networks: Mapping[str, nn.Module]
    groups: Mapping[str, tuple[str, ...]]
    optimizers: Mapping[str, optax.GradientTransformation]
    axis_name: str | None = None

    takes: ClassVar[Literal["pictures", "labels", "latents"]] = "pictures"
    directions: ClassVar[tuple[str, ...]] = ("a2b", "b2a")
    translates_with: ClassVar[tuple[str, ...]] = ("generator",)  # how names of such networks begin

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: ConfigDict) -> Self:
        """Builds the method; raises ConfigError for values outside their range."""

    @abc.abstractmethod
    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """Shape of an input (batch 1) from which network `name` can be initialised."""

    @abc.abstractmethod
    def train_step(
        self, state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of every group: pure; metrics are scalars named "group/term"."""

    @abc.abstractmethod
    def translate(
        self, variables: Mapping[str, Variables], images: Any, direction: str = "a2b"
    ) -> Translation:
        """Translates what `source` takes out of a batch; changes no state.

        images: (n, h, w, 3) pictures in [-1, 1]; where `takes` is labels {"label", "instance"},
        where it is latents (n, size) vectors.
        """

    @abc.abstractmethod
    def pictures(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array]
    ) -> dict[str, dict[str, Array]]:
        """What the loop should draw: grid name -> column name -> (n, h, w, 3) or heat maps."""

    def source(self, batch: Mapping[str, Array], direction: str) -> Any:
        """What `translate` takes, out of a batch."""
        return batch[direction.split("2")[0]]

    def mapped(self) -> Self:
        """The same method for `parallel.map_step`: it averages over the mapped axis."""
        return dataclasses.replace(self, axis_name=AXIS)

    def create_state(
        self, rng: Array, variables: Mapping[str, Variables] | None = None
    ) -> TrainState:
        """Fresh state, or one around given variables; networks not given are initialised.

        rng: typed key or the raw uint32 of one. Leaves are copied, never shared with the caller;
        fresh networks take the precision of those given, float32 if there are none. Raises
        CheckpointError for variables that do not fit.
        """
        if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
            rng = jax.random.wrap_key_data(rng)
        # Philox bits compile and run many times faster than threefry's: it is 0.7 G draws for the
        # full U-GAT-IT, and seconds of compilation for each new shape.
        init_rng = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(rng), 2), impl="rbg")
        given = variables or {}
        dtypes = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(given)]
        dtype = max(dtypes, key=lambda d: d.itemsize) if dtypes else jnp.float32
        self.check_variables(given)
        whole = {
            name: jax.tree.map(lambda x: jnp.array(x, copy=True), dict(given[name]))
            if name in given
            else jax.tree.map(
                lambda x: x.astype(dtype),
                self.initialize(name, jax.random.fold_in(init_rng, index)),
            )
            for index, name in enumerate(sorted(self.networks))
        }
        opt_state = {
            group: self.optimizers[group].init(split_networks(whole, names)[0])
            for group, names in self.groups.items()
        }
        return TrainState(jnp.zeros((), jnp.int32), rng, whole, opt_state, self.create_memory())

    def check_variables(self, variables: Mapping[str, Variables]) -> None:
        """Raises CheckpointError naming the first arrays that do not fit these networks."""
        unknown = sorted(set(variables) - set(self.networks))
        wrong = [f"there is no network {name!r}" for name in unknown]
        for name in sorted(set(variables) & set(self.networks)):
            expected = jax.eval_shape(
                lambda key, n=name: self.initialize(n, key), jax.random.key(0)
            )
            wrong += [f"{name}/{line}" for line in differences(variables[name], expected)]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise CheckpointError(
                f"the variables are of another architecture: {'; '.join(wrong[:3])}{more}: "
                "set config.method as it was when they were made"
            )

    def check_data(self, sizes: Mapping[str, int]) -> None:
        """Raises ConfigError when the method cannot take so many training pictures a domain."""
        return

    def create_memory(self) -> Tree:
        """What the method remembers between steps, empty at the start."""
        return {}

    def initialize(self, name: str, rng: Array) -> Variables:
        """Fresh variables of one network."""
        spec = self.network_input(name)
        return self.networks[name].init(rng, jnp.zeros(spec.shape, spec.dtype))

    def update(self, state: TrainState, group: str, gradients: Tree, carried: Tree) -> TrainState:
        """Averages over devices, applies one optimiser group, stores the carried collections."""
        trained, _ = split_networks(state.variables, self.groups[group])
        gradients, carried = mean_over((gradients, carried), self.axis_name)
        updates, opt_state = self.optimizers[group].update(
            gradients, state.opt_state[group], trained
        )
        new = merge_networks(optax.apply_updates(trained, updates), carried)
        return state.replace(
            variables={**state.variables, **new},
            opt_state={**state.opt_state, group: opt_state},
        )
