"""`batches(step)`: a pure function of seed, step and process, with the next one ready."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from ganattn.data.sampling import Draws, Sampler

Batch = dict[str, np.ndarray]


class Pipeline(Protocol):
    """Decoded, augmented pictures of a source."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of training pictures by domain."""
        ...

    @property
    def paired(self) -> bool:
        """Whether picture i of every domain shows the same thing."""
        ...

    def stream(self, draws: Iterator[Mapping[str, Draws]], share: int) -> Iterator[Batch]:
        """For each step's draws: domain -> (share, crop, crop, 3) float32 in [-1, 1]."""
        ...

    def test_pictures(self, count: int) -> Batch:
        """The first test pictures of each domain (of training where there are none), whole."""
        ...

    @property
    def tests(self) -> "Tests":
        """Every test example, one at a time."""
        ...


class Tests(NamedTuple):
    """The test examples of a source, whole and one at a time.

    names: domain -> what its examples are called, such as the stems of their files. read: (domain,
    index) -> the arrays of one example as in a batch, without the batch's axis. held_out: False
    where there are none, so that these are the examples of training.
    """

    names: Mapping[str, Sequence[str]]
    read: Callable[[str, int], Batch]
    held_out: bool = True


def numbered(count: int) -> list[str]:
    """Names for examples without names."""
    return [f"{i:05d}" for i in range(count)]


class Batches:
    """The share of one process in the batch of every step.

    Asking for the step after the last one is cheap, the next batch is made while the step runs; any
    other step is reached at once, without replay. skipped: files that were left out, one line each.
    truth: true translations, as `scores.Scores` takes them, or None where nobody knows them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: ConfigDict,
        process_index: int = 0,
        process_count: int = 1,
        skipped: Sequence[str] = (),
        truth: Mapping[str, np.ndarray] | None = None,
    ):
        data = config.data
        self.sizes = dict(pipeline.sizes)
        self.skipped, self.truth = list(skipped), truth
        self._pipeline = pipeline
        self._share = data.batch_size // process_count
        self._sampler = Sampler(
            self.sizes,
            data.batch_size,
            config.seed,
            data.flip,
            process_index,
            process_count,
            pipeline.paired,
        )
        self._thread = ThreadPoolExecutor(1, "batches")
        self._stream: Iterator[Batch] = iter(())
        self._step, self._next = -1, Future[Batch]()

    def __call__(self, step: int) -> Batch:
        """{"a", "b"}: (batch / processes, crop, crop, 3) float32 in [-1, 1]; steps count from 0.

        "index_a", "index_b": (batch / processes,) int32, which pictures of the source they are.
        """
        if step != self._step:
            self._next.cancel()
            self._stream = self._pipeline.stream(self._draws(step), self._share)
            self._next = self._thread.submit(next, self._stream)
        batch = dict(self._next.result())
        for domain, draws in self._sampler(step).items():
            batch[f"index_{domain}"] = draws.example.astype(np.int32)
        self._step, self._next = step + 1, self._thread.submit(next, self._stream)
        return batch

    def test_pictures(self, count: int) -> Batch:
        """{"a", "b"}: (count, crop, crop, 3) in [-1, 1], the same in every process and call.

        Pictures start over when a domain has fewer than `count`.
        """
        return self._pipeline.test_pictures(count)

    @property
    def paired(self) -> bool:
        """Whether example i of every domain shows the same thing."""
        return self._pipeline.paired

    @property
    def tests(self) -> Tests:
        """Every test example, one at a time."""
        return self._pipeline.tests

    def close(self) -> None:
        """Stops the background work."""
        self._thread.shutdown(cancel_futures=True)
        self._stream = iter(())

    def _draws(self, step: int) -> Iterator[Mapping[str, Draws]]:
        while True:
            yield self._sampler(step)
            step += 1
