"""Calculates what a training step of every method costs, and what that means on large machines.

    python launch/scaling.py --output launch/SCALING.md    # rewrites its tables in two minutes
    python launch/scaling.py --config configs/ugatit.py:light

`step_costs.py` counts the operations and bytes; nothing is compiled or run. SCALING.md explains
every column.
"""

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from step_costs import (
    TRACED_DEVICES,
    collective_bytes,
    count_flops,
    peak_bytes,
    trace,
    tree_bytes,
    without_weights,
)

from ganattn import config as configuration
from ganattn.errors import UserError
from ganattn.layers.lowering import lowering_for
from ganattn.state import TRAINED

# Variants that the papers trained, where they are not a config's default.
PAPER = {
    "cyclegan": ("horse2zebra",),
    "dagan": ("cityscapes",),
    "guidance": ("horse2zebra",),
    "guidance_supervised": ("cityscapes",),
    "pix2pix": ("facades",),
    "spade": ("cityscapes", "ade20k"),
    "spap_cyclegan": ("cityscapes",),
    "ugatit": ("", "light"),
}
# Their steps have branches (jax.lax.cond), whose memory is not counted.
BRANCHING = ("aggan", "cartoongan", "drit")
UTILIZATION = 0.4  # assumed: the part of a chip's peak that convolutions reach
USABLE = 0.9  # assumed: the part of a chip's memory that arrays may fill
COUNTED = (2, 4)  # batches a chip at which operations are counted; DRIT takes even ones
WEIGHED = (16, 32)  # and at which memory is: images, not the optimizer, take most of it
IMAGES_PER_CORE = 525  # measured, see BENCHMARKS.md: 1,050 a second of 256 px on two cores


@dataclasses.dataclass(frozen=True)
class Machine:
    """Published figures. Speeds a chip: peak in TFLOP/s, memory and link in GB/s, memory in GB.

    link: what a chip can send while it receives as much, over all its links in this topology.
    """

    name: str
    chips: int
    hosts: int
    cores: int  # of a host, as its vendor counts them
    peak: float
    memory: float
    memory_speed: float
    link: float

    def reduce_seconds(self, size: float) -> float:
        """A ring's or torus's all-reduce: every byte goes out twice, but for a chip's own share."""
        return 2 * (self.chips - 1) / self.chips * size / (self.link * 1e9)

    @property
    def chips_per_host(self) -> int:
        """Chips that one host feeds."""
        return self.chips // self.hosts


MACHINES = (
    Machine("v4-8", 4, 1, 240, 275, 34.4, 1200, 90),
    Machine("v5e-256", 256, 32, 224, 197, 16, 819, 200),
    Machine("v5p-1024", 512, 128, 208, 459, 102, 2765, 600),
    Machine("H100x8", 8, 1, 208, 494.7, 80, 3350, 450),
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A quantity at b images a chip: fixed + b * slope."""

    fixed: float
    slope: float

    @classmethod
    def through(cls, values: Mapping[int, float]) -> "Line":
        """From its values at two batches."""
        (b, first), (c, second) = values.items()
        slope = (second - first) / (c - b)
        return cls(first - b * slope, slope)

    def __call__(self, b: float) -> float:
        """The value at b."""
        return self.fixed + b * self.slope


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of one step on one chip, by images a chip; in bytes unless stated otherwise.

    parameters, gradients: of trained collections. state: all of `TrainState`, with optimizer
    and memory. working: the peak of what a step needs beside the state. reduced, gathered: into
    collectives. files: images and label maps that are read for one example.
    """

    name: str
    size: str
    batch: int
    flops: Line
    parameters: float
    state: float
    gradients: float
    working: Line
    reduced: float
    gathered: Line
    files: float
    file_pixels: float

    def seconds(self, b: float, machine: Machine) -> float:
        """The step without its network: computation, or the traffic with memory if that is more.

        The traffic is at least the parameters in both passes, gradients and Adam's numbers in and
        out, and what is stored for the backward pass out and in.
        """
        compute = self.flops(b) / (UTILIZATION * machine.peak * 1e12)
        traffic = 10 * self.parameters + 2 * b * self.working.slope
        return max(compute, traffic / (machine.memory_speed * 1e9))

    def network_seconds(self, b: float, machine: Machine) -> float:
        """All collectives of a step; a gathered byte goes to every chip once."""
        sent = (machine.chips - 1) * self.gathered(b) / (machine.link * 1e9)
        return machine.reduce_seconds(self.reduced) + sent

    def largest_batch(self, machine: Machine) -> int:
        """Images a chip for which there is memory; every chip contributes to what is gathered."""
        room = USABLE * machine.memory * 1e9 - self.state - self.gradients - self.working.fixed
        one = self.working.slope + (machine.chips - TRACED_DEVICES) * self.gathered.slope
        return max(0, math.floor(room / one))

    def network_limit(self, machine: Machine) -> int | None:
        """The smallest batch a chip at which the step hides the network; None: it never does."""
        return _first(lambda b: self.seconds(b, machine) >= self.network_seconds(b, machine))

    def images_needed(self, b: float, machine: Machine) -> float:
        """Files a second that one host must deliver."""
        seconds = max(self.seconds(b, machine), self.network_seconds(b, machine))
        return machine.chips_per_host * self.files * b / seconds

    def cores_needed(self, b: float, machine: Machine) -> float:
        """Cores of a host that decode these, from the measured speed in pixels."""
        speed = IMAGES_PER_CORE * 256**2 / self.file_pixels
        return self.images_needed(b, machine) / speed

    def input_limit(self, machine: Machine) -> int | None:
        """The smallest batch a chip for which a host is too slow; None: it never is."""
        return _first(lambda b: self.cores_needed(b, machine) > machine.cores)


def _first(holds: Callable[[int], bool]) -> int | None:
    return next((b for b in range(1, 1025) if holds(b)), None)


def analyze(config: ConfigDict, name: str) -> Costs:
    """Traces the config's step for a few batches."""
    method = without_weights(config)
    seed = np.asarray(jax.random.key_data(jax.random.key(0)))
    state = jax.eval_shape(method.create_state, seed)
    sizes = (*COUNTED, *(TRACED_DEVICES * b for b in WEIGHED))
    batches = {b: method.batch_spec(b) for b in sizes}
    with lowering_for("tpu"):
        flops = {b: count_flops(method.train_step, state, batches[b]) for b in COUNTED}
        steps = {b: trace(method, state, batches[TRACED_DEVICES * b]) for b in WEIGHED}
    collectives = {b: collective_bytes(step) for b, step in steps.items()}
    trained = sum(
        tree_bytes(state.variables[network][collection])
        for names in method.groups.values()
        for network in names
        for collection in state.variables[network]
        if collection in TRAINED
    )
    files = [x.shape[1:3] for x in batches[COUNTED[0]].values() if x.ndim == 4]
    height, width = files[0]
    return Costs(
        name,
        f"{width}x{height}",
        config.data.batch_size,
        Line.through(flops),
        parameters=trained,
        state=tree_bytes(state),
        gradients=trained,
        working=Line.through({b: peak_bytes(step) for b, step in steps.items()}),
        reduced=collectives[WEIGHED[0]]["reduced"],
        gathered=Line.through({b: c["gathered"] for b, c in collectives.items()}),
        files=len(files),
        file_pixels=height * width,
    )


def costs_table(rows: Sequence[Costs]) -> str:
    """The costs, which do not depend on a machine."""
    head = (
        "config", "image", "GFLOP a step", "parameters", "state", "gradients", "activations",
        "all-reduce", "all-gather",
    )  # fmt: skip
    body = [
        (
            f"`{c.name}`",
            c.size,
            f"{c.flops(1) / 1e9:,.0f}",
            _gigabytes(c.parameters),
            _gigabytes(c.state),
            _gigabytes(c.gradients),
            _gigabytes(c.working.slope),
            _gigabytes(c.reduced),
            _gigabytes(c.gathered(1)) if c.gathered(1) else "",
        )
        for c in rows
    ]
    return _markdown(head, body)


def machine_table(rows: Sequence[Costs], machine: Machine) -> str:
    """The consequences of the costs on one machine."""
    head = (
        "config", "fits", "step, batch 1", "collectives", "network hidden from",
        "step, batch that fits", "images a second and host",
        "host cores for them", "input too slow from",
    )  # fmt: skip
    body = []
    for c in rows:
        largest = c.largest_batch(machine)
        cells = [f"`{c.name}`", str(largest) if largest else "none"]
        cells += [_milliseconds(c.seconds(1, machine))]
        cells += [_milliseconds(c.network_seconds(1, machine))]
        cells += [_batch(c.network_limit(machine), largest)]
        b = max(1, largest)
        cells += [
            _milliseconds(max(c.seconds(b, machine), c.network_seconds(b, machine))),
            f"{c.images_needed(b, machine):,.0f}",
            f"{math.ceil(c.cores_needed(b, machine))} of {machine.cores}",
            _batch(c.input_limit(machine), largest),
        ]
        body.append(tuple(cells))
    return _markdown(head, body)


def _batch(limit: int | None, largest: int) -> str:
    if limit is None:
        return "never"
    return f"{limit}" if limit <= largest else f"{limit} (does not fit)"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def fill(text: str, tables: Mapping[str, str]) -> str:
    """Puts tables between the lines `<!-- table NAME -->` and `<!-- end -->` of a text."""
    for name, table in tables.items():
        pattern = rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            pattern, lambda m, t=table: f"{m[1]}\n{t}\n\n{m[2]}", text, flags=re.S
        )
        if not count:
            raise ValueError(f"no place for the table {name}")
    return text


def configs() -> list[str]:
    """NAME[:VARIANT] of every config file at its paper's size, without those of `BRANCHING`."""
    stems = sorted({path.stem for path in configuration.folder().glob("*.py")} - {*BRANCHING})
    return [f"{stem}:{v}".strip(":") for stem in stems for v in PAPER.get(stem, ("",))]


def main() -> None:
    """Prints the tables, or writes them into a file that has places for them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="append", help="FILE[:VARIANT] (default: every method)")
    parser.add_argument("--output", type=Path, help="file in which to replace the tables")
    options = parser.parse_args()
    rows = []
    try:
        for name in options.config or configs():
            path, _, variant = name.partition(":")
            print(f"tracing {name}", file=sys.stderr)
            config = configuration.load(configuration.find(path), variant)
            rows.append(analyze(config, f"{Path(path).stem}:{variant}".strip(":")))
    except UserError as error:
        sys.exit(f"scaling: {error}")
    tables = {"costs": costs_table(rows)} | {m.name: machine_table(rows, m) for m in MACHINES}
    if options.output:
        text = fill(options.output.read_text(encoding="utf-8"), tables)
        options.output.write_text(text, encoding="utf-8")
    else:
        print("\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items()))


if __name__ == "__main__":
    main()
