"""The interface of a method: the loop, inference, evaluation and export use nothing else."""

import abc
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn.errors import CheckpointError, ConfigError
from ganattn.networks.outputs import GeneratorOutput as Output
from ganattn.parallel import AXIS, Examples, accumulate
from ganattn.state import TRAINED, TrainState, Tree, Variables, differences, split_networks

Panels: TypeAlias = OrderedDict[str, OrderedDict[str, Array]]
DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}
ONE_DEVICE = Examples()
NOTHING: Mapping[str, Any] = OrderedDict()


class Direction(str):
    """From one domain to another, such as "a2b"; `source` and `target` are the domains' names."""

    source: str
    target: str

    def __new__(cls, source: str, target: str) -> Self:
        direction = super().__new__(cls, f"{source}2{target}")
        direction.source, direction.target = source, target
        return direction

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.source, self.target

    @property
    def reverse(self) -> "Direction":
        """The way back."""
        return Direction(self.target, self.source)


class Input(NamedTuple):
    """One input of `Method.generate`.

    kind: "image" (n, h, w, channels) float in [-1, 1], "ids" (n, h, w, 1) int32, or "vector"
    (n, size) float. shape: of one example, as in training. optional: whether `generate` works
    without it. multiple: heights and widths that are multiples of it are accepted; None accepts
    `shape` alone. classes: number of label ids, 0 to classes - 1, of kind "ids"; 0 for any id.
    void: whether the id 255 is accepted and stands for the last class.
    """

    kind: Literal["image", "ids", "vector"]
    shape: tuple[int, ...]
    optional: bool = False
    multiple: int | None = None
    classes: int = 0
    void: bool = False


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """One paper: its networks, objective and update order, as pure functions of a TrainState.

    networks: network name -> Linen module. groups: optimizer group -> names of the networks that it
    updates; "generator" is one of them. optimizers: group -> optax chain over {network: trained
    collections}. examples: how values are combined over the global batch, see `parallel.Examples`.
    ema_decay: of the moving average of the generator group's trained collections, kept in
    `TrainState.ema` (a copy until `ema_start_step`); 0 keeps none. accumulate_steps: number of
    parts of a batch whose gradients are computed one after the other.
    """

    networks: Mapping[str, nn.Module]
    groups: Mapping[str, tuple[str, ...]]
    optimizers: Mapping[str, optax.GradientTransformation]
    _: dataclasses.KW_ONLY
    examples: Examples = ONE_DEVICE
    ema_decay: float = 0.0
    ema_start_step: int = 0
    accumulate_steps: int = 1

    directions: ClassVar[tuple[Direction, ...]] = (Direction("a", "b"), Direction("b", "a"))

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: ConfigDict) -> Self:
        """Builds the method; raises ConfigError for values outside their range."""

    @classmethod
    def values_of(cls, method: ConfigDict) -> dict[str, Any]:
        """The fields that config.method has values for, under the same names."""
        return {f.name: method[f.name] for f in dataclasses.fields(cls) if f.name in method}

    @abc.abstractmethod
    def network_input(self, name: str) -> jax.ShapeDtypeStruct:
        """Shape of an input (batch 1) from which network `name` can be initialized."""

    @abc.abstractmethod
    def batch_spec(self, count: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The arrays of a batch of `count` examples that `train_step` reads."""

    @abc.abstractmethod
    def step(
        self, state: TrainState, batch: Mapping[str, Array], draws: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """The updates of `train_step`, with the metrics of this device's examples."""

    @abc.abstractmethod
    def inputs(self, direction: str | None = None) -> Mapping[str, Input]:
        """The inputs that `generate` accepts, by name."""

    @abc.abstractmethod
    def networks_for(self, direction: str | None = None) -> tuple[str, ...]:
        """Names of the networks that `generate` uses; inference loads those that it has."""

    @abc.abstractmethod
    def generate(
        self,
        variables: Mapping[str, Variables],
        inputs: Mapping[str, Array],
        direction: str | None = None,
        rng: Array | None = None,
    ) -> Output:
        """Generates images from `inputs`, as `inputs(direction)` describes them.

        rng: draws styles, latents and other noise, for each example its own. Without it noise of
        `draws_noise` is fixed and the same for all examples. Raises ConfigError for an unknown
        direction.
        """

    @abc.abstractmethod
    def panels(
        self, variables: Mapping[str, Variables], batch: Mapping[str, Array], rng: Array
    ) -> Panels:
        """What the loop draws of a batch: figure name -> column name -> (n, h, w, c), in order."""

    @property
    def draws_noise(self) -> bool:
        """Whether `generate` draws noise that none of its inputs replaces, such as dropout."""
        return False

    @property
    def axis_name(self) -> str | None:
        """The mapped axis inside `parallel.map_step`, None on one device."""
        return self.examples.axis_name

    def mapped(self) -> Self:
        """The same method for `parallel.map_step`: it averages over the mapped axis.

        Networks with an `axis_name`, such as those with batch normalization, use statistics of all
        devices' examples.
        """
        networks = {
            name: module.clone(axis_name=AXIS) if hasattr(module, "axis_name") else module
            for name, module in self.networks.items()
        }
        return dataclasses.replace(self, networks=networks, examples=Examples(AXIS))

    def create_state(
        self, rng: Array, variables: Mapping[str, Variables] | None = None
    ) -> TrainState:
        """A fresh state, or one around given variables; networks not given are initialized.

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
        complete = {
            name: jax.tree.map(lambda x: jnp.array(x, copy=True), dict(given[name]))
            if name in given
            else jax.tree.map(
                lambda x: x.astype(dtype),
                self.initialize(name, jax.random.fold_in(init_rng, index)),
            )
            for index, name in enumerate(sorted(self.networks))
        }
        opt_state = {
            group: self.optimizers[group].init(split_networks(complete, names)[0])
            for group, names in self.groups.items()
        }
        step, memory = jnp.zeros((), jnp.int32), self.create_memory(dtype_of(complete))
        ema = jax.tree.map(jnp.copy, self._averaged(complete)) if self.ema_decay else {}
        return TrainState(step, rng, complete, opt_state, memory, ema)

    def check_variables(self, variables: Mapping[str, Variables]) -> None:
        """Raises CheckpointError naming the first arrays that do not fit these networks."""
        unknown = sorted(set(variables) - set(self.networks))
        wrong = [f"there is no network {name!r}" for name in unknown]
        for name in sorted(set(variables) & set(self.networks)):
            expected = self.shapes(name)
            wrong += [f"{name}/{line}" for line in differences(variables[name], expected)]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise CheckpointError(
                f"the variables are of another architecture: {'; '.join(wrong[:3])}{more}: "
                "set config.method as it was when they were saved"
            )

    def initial_variables(self, source: Mapping[str, Variables] | None) -> Mapping[str, Variables]:
        """The networks that a new run starts with: those of another run; others are fresh.

        source: all variables of that run, None for a run that starts with no other's. Methods that
        need a trained network take it from there, under the name that it has here. Raises
        ConfigError when such a network is needed and there is no source, CheckpointError when the
        source lacks it.
        """
        return source or {}

    def check_data(self, sizes: Mapping[str, int]) -> None:
        """Raises ConfigError when the method cannot take so many training examples a domain."""
        return

    def create_memory(self, dtype: Any) -> Tree:
        """What the method remembers between steps, empty at the start, in the given precision."""
        return {}

    def initialize(self, name: str, rng: Array) -> Variables:
        """Fresh variables of one network."""
        spec = self.network_input(name)
        return self.networks[name].init(rng, jnp.zeros(spec.shape, spec.dtype))

    def shapes(self, name: str) -> Variables:
        """Shapes and types of one network's variables."""
        return jax.eval_shape(lambda key: self.initialize(name, key), jax.random.key(0))

    def train_step(
        self,
        state: TrainState,
        batch: Mapping[str, Array],
        draws: Mapping[str, Array] | None = None,
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update of every group, a pure function.

        batch: arrays as `batch_spec` names them, this device's share. draws: random numbers of the
        step by name, (n, ...) each, used instead of drawn ones. Metrics are scalars named
        "group/term", unweighted but for each group's "total".
        """
        data = {"batch": dict(batch), "draws": dict(draws or {})}

        def step(examples: Examples, data: Mapping[str, Any]) -> tuple[TrainState, dict]:
            method = dataclasses.replace(self, examples=examples)
            new, metrics = method.step(state, data["batch"], data["draws"])
            return new, examples.mean(metrics)

        new, metrics = accumulate(step, self.accumulate_steps, self.examples, data)
        return self._with_average(new.replace(step=state.step + 1)), metrics

    def minimize(
        self,
        state: TrainState,
        group: str,
        loss: Callable[..., Any],
        *arguments: Any,
        carried: Tree = NOTHING,
    ) -> tuple[TrainState, Any]:
        """Updates one group by the gradient of a loss; returns the state and the loss's output.

        loss: of the group's trained collections, its carried ones and `arguments`; returns the
        scalar and (new carried collections of any networks, output). carried: collections of other
        networks, which are stored too.
        """
        trained, statistics = split_networks(state.variables, self.groups[group])
        differentiate = jax.grad(loss, has_aux=True)
        gradients, (new, output) = differentiate(
            self.examples.vary(trained), statistics, *arguments
        )
        return self.update(state, group, gradients, {**carried, **new}), output

    def update(self, state: TrainState, group: str, gradients: Tree, carried: Tree) -> TrainState:
        """Applies one optimizer group and stores carried collections, both averaged.

        gradients: {network: trained collections} of the group. carried: {network: collections} of
        any networks.
        """
        trained, _ = split_networks(state.variables, self.groups[group])
        gradients, carried = self.examples.mean((gradients, carried))
        updates, opt_state = self.optimizers[group].update(
            gradients, state.opt_state[group], trained
        )
        variables = dict(state.variables)
        for new in (optax.apply_updates(trained, updates), carried):
            for name, collections in new.items():
                variables[name] = {**variables[name], **collections}
        return state.replace(variables=variables, opt_state={**state.opt_state, group: opt_state})

    def direction(self, name: str | None) -> Direction:
        """The direction of that name, the first one for None; ConfigError for an unknown one."""
        for direction in self.directions:
            if name is None or direction == name:
                return direction
        raise ConfigError(f"direction is {name!r}: use one of {', '.join(self.directions)}")

    def _averaged(self, variables: Mapping[str, Variables]) -> Tree:
        """The collections that have moving averages."""
        return {
            name: {kind: tree for kind, tree in variables[name].items() if kind in TRAINED}
            for name in self.groups["generator"]
        }

    def _with_average(self, state: TrainState) -> TrainState:
        if not self.ema_decay:
            return state
        decay = jnp.where(state.step <= self.ema_start_step, 0.0, self.ema_decay)

        def move(average, value):
            share = decay.astype(value.dtype)
            return share * average + (1 - share) * value

        return state.replace(ema=jax.tree.map(move, state.ema, self._averaged(state.variables)))


def share_examples(examples: Tree, updates: int) -> list[Tree]:
    """Equal parts of a device's examples (n, ...), one for each of a step's `updates`.

    Part i has every example whose index is i modulo `updates`, so the parts of the global batch are
    the same however devices share it. Raises ConfigError unless `updates` divides n.
    """
    count = len(jax.tree.leaves(examples)[0])
    if count % updates:
        raise ConfigError(
            f"a device has {count} examples for {updates} updates that share them: make "
            "config.data.batch_size a multiple of that number times the devices"
        )
    return [jax.tree.map(lambda x, i=i: x[i::updates], examples) for i in range(updates)]


def dtype_of(variables: Mapping[str, Variables]) -> Any:
    """The precision of the parameters."""
    return jax.tree.leaves(next(iter(variables.values()))["params"])[0].dtype


def images_spec(count: int, *size: int) -> jax.ShapeDtypeStruct:
    """The spec of `count` float arrays of a size, such as (height, width, channels)."""
    return jax.ShapeDtypeStruct((count, *size), jnp.float32)


def weights_of(kind: type[Any], method: ConfigDict) -> Any:
    """A dataclass of weights; config.method has each as its name followed by "_weight"."""
    return kind(**{f.name: method[f"{f.name}_weight"] for f in dataclasses.fields(kind)})


def as_metrics(group: str, terms: Mapping[str, Array], total: Array) -> dict[str, Array]:
    """Scalars under "group/term"."""
    scalars = {**terms, "total": total}
    return {f"{group}/{term}": jnp.asarray(value, total.dtype) for term, value in scalars.items()}


def apply_passes(
    network: nn.Module,
    trained: Variables,
    statistics: Variables,
    passes: Sequence[tuple[Any, ...]],
    joint: bool,
) -> tuple[list[Any], Variables]:
    """Training-mode outputs for several argument tuples in turn, and the new statistics.

    joint: the passes have one length and no layer mixes examples, so they go as one batch.
    """
    count = len(passes)
    if joint:
        passes = [jax.tree.map(lambda *parts: jnp.concatenate(parts), *passes)]
    outputs = []
    for arguments in passes:
        output, statistics = network.apply(
            {**trained, **statistics}, *arguments, statistics="batch", mutable=["batch_stats"]
        )
        outputs.append(output)
    return split_passes(outputs[0], count) if joint else outputs, statistics


def split_passes(output: Tree, count: int) -> list[Any]:
    """The outputs of `count` passes that went as one batch."""
    parts = jax.tree.map(lambda x: jnp.split(x, count), output)
    return jax.tree.transpose(jax.tree.structure(output), None, parts)


def columns(pairs: Iterable[tuple[str, Array | None]]) -> "OrderedDict[str, Array]":
    """The columns of a figure; those without images are left out."""
    return OrderedDict((name, images) for name, images in pairs if images is not None)
