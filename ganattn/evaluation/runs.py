"""What a run makes of the test examples of its data, as a stream."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn import data, figures, methods
from ganattn.data.batches import Batches
from ganattn.errors import ConfigError, DataError
from ganattn.evaluation.batched import Batched
from ganattn.evaluation.sources import Named, Source, digest_of
from ganattn.evaluation.subjects import Made
from ganattn.inference.sampler import Sampler
from ganattn.runs.checkpoints import Step, restore_trees
from ganattn.runs.storage import locate
from ganattn.state import with_averages

PICTURES, LABEL_MAPS, LATENTS = 8, 1, 32  # examples that a device makes pictures of at once


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained method with its data.

    variables: of a checkpoint, of step `step`. batches: as `data.create` makes them. samples: how
    many pictures a method makes that takes neither pictures nor label maps; 0: as many as there are
    test pictures.
    """

    method: methods.Method
    variables: Mapping[str, Any]
    config: ConfigDict
    step: int
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
        """The newest whole checkpoint of a run, or that of `step`, and the run's data.

        Moving averages stand for the variables where a run keeps them. config: the run's with other
        data, or None. pairs: pictures of unpaired training are pairs by name, as those of maps and
        facades may be. samples: see `Run`. Raises CheckpointError when there is no such checkpoint,
        DataError when the data is not there (any more).
        """
        trees, meta = restore_trees(locate(workdir) / "checkpoints", step, ("variables", "ema"))
        config = config or configuration.from_dict(meta["config"])
        if pairs and config.data.layout == "unpaired":
            with config.unlocked():
                config.data.layout = "paired"
        method = methods.create(config)
        variables = with_averages(trees["variables"], trees["ema"])
        return cls(method, variables, config, int(meta["step"]), data.create(config), samples)

    def subject(self, direction: str) -> "Direction":
        """What the run makes in one direction; raises ConfigError when it has no such direction."""
        if direction not in self.method.directions:
            known = ", ".join(self.method.directions)
            raise ConfigError(f"the run has no direction {direction!r}: use {known}")
        if self.method.takes not in MAKERS:
            raise ConfigError(f"a method that takes {self.method.takes} cannot be evaluated yet")
        return Direction(self, direction)


@dataclasses.dataclass(frozen=True)
class Direction:
    """A `Subject`: the pictures that a run makes of all test examples of one domain."""

    run: Run
    direction: str

    @property
    def count(self) -> int:
        """How many pictures are made: one of each test example, or `Run.samples`."""
        samples = self.run.samples if self.run.method.takes == "latents" else 0
        return samples or len(self._names(self._from))

    @property
    def classes(self) -> int:
        """How many classes the method's label maps have, 0 where it takes pictures."""
        return self.run.config.method.get("num_classes", 0)

    @property
    def made(self) -> None:
        """They are made one by one."""
        return None

    @property
    def real(self) -> Source:
        """The test pictures of the target."""
        return self._pictures(self._to)

    @property
    def source(self) -> Source | None:
        """The test pictures that the fakes are made from; None where these are label maps."""
        return self._pictures(self._from) if self.run.method.takes == "pictures" else None

    def name(self, index: int) -> str:
        """What a test example is called, or the number of a sample."""
        if self.run.method.takes == "latents":
            return f"{index:05d}"
        return self._names(self._from)[index]

    def fakes(self) -> Iterator[Made]:
        """See `Subject`; raises DataError when a picture holds a value that is not finite."""
        for made in MAKERS[self.run.method.takes](self):
            wrong = ~np.isfinite(made.images).all((1, 2, 3))
            if wrong.any():
                name = self.name(made.first + int(np.flatnonzero(wrong)[0]))
                raise DataError(
                    f"step {self.run.step} makes a picture of {name} ({self.direction}) that is "
                    "not finite: evaluate an earlier checkpoint (--step)"
                )
            yield made._replace(images=figures.to_uint8(made.images))

    def target(self, index: int) -> np.ndarray | None:
        """See `Subject`: known of pairs, and of procedural pictures."""
        truth = self.run.batches.truth
        if truth is not None and f"{self._from}_truth" in truth:
            return figures.to_uint8(truth[f"{self._from}_truth"][index])
        return self.read(self._to, index) if self.run.batches.paired else None

    def origin(self, index: int) -> np.ndarray | None:
        """See `Subject`."""
        return self.read(self._from, index) if self.run.method.takes == "pictures" else None

    def mask(self, index: int) -> np.ndarray | None:
        """See `Subject`: known of procedural pictures."""
        truth = self.run.batches.truth
        return None if truth is None else truth.get(f"{self._from}_mask", [None])[index]

    def read(self, domain: str, index: int) -> np.ndarray:
        """(h, w, 3) uint8: one test picture."""
        example = self.run.batches.tests.read(domain, index)
        if domain not in example:
            raise DataError(f"{self._names(domain)[index]} has no true picture: add the pictures")
        return figures.to_uint8(example[domain])

    @property
    def _from(self) -> str:
        return self._domain(self.direction.split("2")[0])

    @property
    def _to(self) -> str:
        return self._domain(self.direction.split("2")[1])

    def _domain(self, name: str) -> str:
        names = self.run.batches.tests.names
        return name if name in names else next(iter(names))  # label maps come with the pictures

    def _names(self, domain: str) -> list[str]:
        return list(self.run.batches.tests.names[domain])

    def _pictures(self, domain: str) -> Source:
        names = self._names(domain)
        kind = "test" if self.run.batches.tests.held_out else "training"

        def read() -> Iterator[Named]:
            for i, name in enumerate(names):
                yield f"{name} of {domain}", self.read(domain, i)

        def digest() -> str:
            return digest_of(np.ascontiguousarray(picture).data for _, picture in read())

        return Source(f"{kind} pictures of {domain}", read, len(names), digest)


def _translate(subject: Direction) -> Iterator[Made]:
    """Translations of pictures, or of label maps: float images in about [-1, 1]."""
    run, direction = subject.run, subject.direction

    def function(variables: Any, examples: Any) -> tuple[Any, Any]:
        inputs = run.method.source(examples, direction)
        made = run.method.translate(variables, inputs, direction=direction)
        return made.images, made.attention

    prefixes = run.method.translates_with
    variables = {name: v for name, v in run.variables.items() if name.startswith(prefixes)}
    size = PICTURES if run.method.takes == "pictures" else LABEL_MAPS
    generate = Batched(function, variables, size * len(jax.local_devices()))
    tests = run.batches.tests
    for start in range(0, subject.count, generate.batch_size):
        stop = min(start + generate.batch_size, subject.count)
        read = [tests.read(subject._from, i) for i in range(start, stop)]
        examples = {key: np.stack([each[key] for each in read]) for key in read[0]}
        images, attention = generate(examples)
        yield Made(start, images, attention, examples)


def _sample(subject: Direction) -> Iterator[Made]:
    """The first samples of seed 0."""
    run = subject.run

    def function(variables: Any, latents: Any) -> Any:
        return run.method.translate(variables, latents, direction=subject.direction).images

    prefixes = run.method.translates_with
    variables = {name: v for name, v in run.variables.items() if name.startswith(prefixes)}
    generate = Batched(function, variables, LATENTS * len(jax.local_devices()))
    latents = Sampler(run.method, variables, run.config).draw(subject.count)
    for start in range(0, subject.count, generate.batch_size):
        yield Made(start, generate(latents[start : start + generate.batch_size]))


# How pictures are made, by what a method takes: functions of a Direction that yield `Made` with
# floats in about [-1, 1].
MAKERS = {"pictures": _translate, "labels": _translate, "latents": _sample}
