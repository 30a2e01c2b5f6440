"""A run at one step, and the examples that it generates for the test set of its data."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Self

import jax
import numpy as np
from ml_collections import ConfigDict

from ganattn import data
from ganattn.data.batches import Batches
from ganattn.data.examples import numbered
from ganattn.errors import DataError
from ganattn.evaluation.examples import Example, ExampleStream, ImageSet, digest_of
from ganattn.figures import to_uint8
from ganattn.inference.model import Model
from ganattn.methods import Direction
from ganattn.runs.checkpoints import Step

IMAGES, VECTORS = 8, 32  # examples per device at once: from images or label maps, from noise
SEED = 0  # draws styles and latent vectors, so that each evaluation has the same


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A model at one step, and its test data.

    batches: as `data.create` returns them. samples: number of images that a method generates from
    noise alone; 0 is the number of test images.
    """

    model: Model
    batches: Batches
    samples: int = 0

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
        model = Model.from_workdir(workdir, step, config=config)
        if pairs and model.config.data.layout == "unpaired":
            with model.config.unlocked():
                model.config.data.layout = "paired"
        return cls(model, data.create(model.config), samples)

    def examples(self, direction: str | None = None) -> ExampleStream:
        """The examples of one direction, one for each test example.

        Styles and latent vectors are drawn, by SEED and the number of the example. The `stream`
        raises DataError for an output that is not finite. Raises ConfigError for an unknown
        direction.
        """
        way = self.model.method.direction(direction)
        inputs, truth = self.model.inputs(way), self.batches.truth or {}
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
        truth = self.batches.truth or {}
        targets, masks = truth.get(f"{way.source}_truth"), truth.get(f"{way.source}_mask")

        def target(index: int) -> np.ndarray:
            return self._image(way.target, index) if targets is None else targets[index]

        size = (VECTORS if from_noise else IMAGES) * jax.local_device_count()
        for start in range(0, len(names), size):
            numbers = range(start, min(start + size, len(names)))
            rows = [{} if from_noise else self._read(way.source, i) for i in numbers]
            inputs = {
                name: np.stack([row[key] for row in rows])
                for name in self.model.inputs(way)
                if (key := way.source if name == "image" else name) in rows[0]
            }
            output = self.model.generate(inputs, way, seed=SEED, indices=numbers, at_once=size)
            heatmaps = [None] * len(rows) if output.heatmap is None else output.heatmap
            for i, row, image, heatmap in zip(numbers, rows, output.images, heatmaps, strict=True):
                if not np.isfinite(image).all():
                    raise DataError(
                        f"step {self.model.step} generates an image of {names[i]} ({way}) that is "
                        "not finite: evaluate an earlier checkpoint (--step)"
                    )
                yield Example(
                    names[i],
                    image,
                    **{kind: row[kind][..., 0] for kind in ("label", "instance") if kind in row},
                    mask=None if masks is None else masks[i],
                    attention=heatmap,
                    read_source=partial(row.__getitem__, way.source)
                    if "source" in fields
                    else None,
                    read_target=partial(target, i) if "target" in fields else None,
                )

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

        def read() -> Iterator[tuple[str, np.ndarray]]:
            for i, stem in enumerate(names):
                yield f"{stem} of {name}", to_uint8(self._image(name, i))

        def digest() -> str:
            return digest_of(np.ascontiguousarray(image).data for _, image in read())

        return ImageSet(f"{part} images of {name}", read, len(names), digest)
