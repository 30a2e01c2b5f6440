"""A run at one step, and the examples that it generates for the test set of its data."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn import data, methods
from ganattn.data.batches import Batches
from ganattn.data.examples import numbered
from ganattn.errors import DataError
from ganattn.evaluation.examples import Example, ExampleStream, ImageSet, Named, as_uint8, digest_of
from ganattn.inference.batched import Batched
from ganattn.inference.model import generate_each, seeded
from ganattn.methods.base import Direction
from ganattn.runs.checkpoints import Step, restore_trees
from ganattn.runs.storage import locate
from ganattn.state import with_averages

PER_DEVICE = {"image": 8, "ids": 1, "vector": 32}  # examples at once, by the kind of the inputs


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A method with its variables at one step, and its test data.

    variables: those that `method.networks_for` names, with moving averages substituted. batches: as
    `data.create` returns them. samples: number of images that a method generates from noise alone;
    0 is the number of test images.
    """

    method: methods.Method
    variables: Mapping[str, Any]
    step: int
    batches: Batches
    samples: int = 0
    # Compiled once for each direction, also for later steps (`dataclasses.replace`).
    _compiled: dict[str, Batched] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def from_workdir(
        cls,
        workdir: str | os.PathLike,
        step: Step | None = None,
        config: ConfigDict | None = None,
        pairs: bool = False,
        samples: int = 0,
    ) -> Self:
        """The latest intact checkpoint of a run, or that of `step`, and the run's data.

        Moving averages replace the variables where the run keeps them. config: the run's own with
        other data, or None. pairs: the test images of unpaired data are pairs by name, as those of
        maps and facades may be. samples: see `Snapshot`. Raises CheckpointError when there is no
        such checkpoint, DataError when the data is missing.
        """
        trees, meta = restore_trees(locate(workdir) / "checkpoints", step, ("variables", "ema"))
        config = config or configuration.from_dict(meta["config"])
        if pairs and config.data.layout == "unpaired":
            with config.unlocked():
                config.data.layout = "paired"
        method = methods.create(config)
        variables = with_averages(trees["variables"], trees["ema"])
        return cls(method, variables, int(meta["step"]), data.create(config), samples)

    def examples(self, direction: str | None = None) -> ExampleStream:
        """The examples of one direction, one for each test example.

        Their `stream` raises DataError for an output that is not finite. Raises ConfigError for an
        unknown direction.
        """
        way = self.method.direction(direction)
        inputs, truth = self.method.inputs(way), self.batches.truth or {}
        from_noise = all(x.kind == "vector" for x in inputs.values() if not x.optional)
        names = self._names(way.source)
        if from_noise:
            names = numbered(self.samples or len(names))
        first = {} if from_noise else self._read(way.source, 0)
        fields = {name for name in ("label", "instance") if name in first}
        if "image" in inputs and way.source in first:
            fields.add("source")
        pairs = self._domain(way.source) != self._domain(way.target) or way.target in first
        if f"{way.source}_truth" in truth or (self.batches.paired and pairs):
            fields.add("target")
        if f"{way.source}_mask" in truth:
            fields.add("mask")
        known = frozenset(fields)
        return ExampleStream(
            str(way),
            lambda: self._stream(way, names, from_noise, known),
            len(names),
            known,
            self._images(way.target),
            self._images(way.source) if "source" in fields else None,
            classes=max((x.classes - x.void for x in inputs.values()), default=0),
        )

    def _stream(
        self, way: Direction, names: Sequence[str], from_noise: bool, fields: frozenset[str]
    ) -> Iterator[Example]:
        generate, truth = self._generator(way), self.batches.truth or {}
        used = self.method.networks_for(way)
        variables = generate.place({n: self.variables[n] for n in used if n in self.variables})
        has_source, has_target = "source" in fields, "target" in fields
        targets, masks = truth.get(f"{way.source}_truth"), truth.get(f"{way.source}_mask")

        def target(index: int) -> np.ndarray:
            return self._image(way.target, index) if targets is None else targets[index]

        for start in range(0, len(names), generate.batch_size):
            numbers = range(start, min(start + generate.batch_size, len(names)))
            rows = [{} if from_noise else self._read(way.source, i) for i in numbers]
            images, attention = generate(variables, self._inputs(way, rows, numbers))
            for i, row, image, heatmap in zip(
                numbers, rows, images, [None] * len(rows) if attention is None else attention,
                strict=True,
            ):  # fmt: skip
                if not np.isfinite(image).all():
                    raise DataError(
                        f"step {self.step} generates an image of {names[i]} ({way}) that is not "
                        "finite: evaluate an earlier checkpoint (--step)"
                    )
                yield Example(
                    names[i],
                    image,
                    **{k: row[k][..., 0] for k in ("label", "instance") if k in row},
                    mask=None if masks is None else masks[i],
                    attention=heatmap,
                    read_source=partial(row.__getitem__, way.source) if has_source else None,
                    read_target=partial(target, i) if has_target else None,
                )

    def _inputs(self, way, rows, numbers):
        """The method's inputs for test examples, and what its draws depend on."""
        inputs = {}
        for name in self.method.inputs(way):
            key = way.source if name == "image" else name
            if key in rows[0]:
                inputs[name] = np.stack([row[key] for row in rows])
        return seeded({"inputs": inputs}, 0, np.asarray(numbers))

    def _generator(self, way: Direction) -> Batched:
        if way not in self._compiled:

            def function(variables: Any, rows: Any) -> tuple[Any, Any]:
                output = generate_each(self.method, way, variables, rows)
                return output.images, output.heatmap

            inputs = self.method.inputs(way).values()
            kinds = [x.kind for x in inputs if not x.optional] or ["vector"]
            at_once = min(PER_DEVICE[kind] for kind in kinds)
            self._compiled[way] = Batched(function, at_once * len(jax.local_devices()))
        return self._compiled[way]

    def _domain(self, name: str) -> str:
        """The domain of the test set; label maps and noise go with the only one."""
        domains = self.batches.tests.names
        return name if name in domains else next(iter(domains))

    def _names(self, name: str) -> Sequence[str]:
        return self.batches.tests.names[self._domain(name)]

    def _read(self, name: str, index: int) -> Mapping[str, np.ndarray]:
        """The arrays of one test example."""
        return self.batches.tests.read(self._domain(name), index)

    def _image(self, name: str, index: int) -> np.ndarray:
        """The image `name` of one test example, (h, w, 3) in [-1, 1]."""
        example = self._read(name, index)
        if name not in example:
            raise DataError(f"{self._names(name)[index]} has no true image: add it to the data")
        return example[name]

    def _images(self, name: str) -> ImageSet:
        names = self._names(name)
        part = "test" if self.batches.tests.held_out else "training"

        def read() -> Iterator[Named]:
            for i, stem in enumerate(names):
                yield f"{stem} of {name}", as_uint8(self._image(name, i))

        def digest() -> str:
            return digest_of(np.ascontiguousarray(image).data for _, image in read())

        return ImageSet(f"{part} images of {name}", read, len(names), digest)
