"""Which examples a step sees and how they are augmented: a pure function of (seed, step).

Everything is drawn for the global batch and then cut into the processes' shares, so one
process sees exactly what eight see together, and a restart at any step needs no replay.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

DOMAINS = ("a", "b")


class Draws(NamedTuple):
    """For each example of a batch: its index, whether it is mirrored, where it is cropped.

    example (n,) int64; flip (n,) bool; offset (n, 2) in [0, 1), rows then columns.
    """

    example: np.ndarray
    flip: np.ndarray
    offset: np.ndarray

    def corners(self, load: tuple[int, int], crop: tuple[int, int]) -> np.ndarray:
        """(n, 2) int64: first row and column of each crop; sizes are (height, width)."""
        return (self.offset * (np.array(load) - crop + 1)).astype(np.int64)


class StepDraws:
    """The draws of one process; each domain is shuffled independently, epoch by epoch.

    sizes: number of examples by domain. paired: example i of every domain shows the same scene, so
    all domains share their draws. shuffle: False takes the examples in their order; an epoch is
    then as long as the largest domain, in which the others start over (the authors'
    serial_batches), and the next one starts at the first example of every domain.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        batch_size: int,
        seed: int,
        flip: bool,
        process_index: int = 0,
        process_count: int = 1,
        paired: bool = False,
        shuffle: bool = True,
    ):
        share = batch_size // process_count
        self._sizes, self._batch_size, self._seed, self._flip = sizes, batch_size, seed, flip
        self._paired, self._shuffle = paired, shuffle
        self._part = slice(process_index * share, (process_index + 1) * share)

    def __call__(self, step: int) -> dict[str, Draws]:
        """This process's share of the batch of `step`, by domain; steps count from 0."""
        if self._paired:
            return dict.fromkeys(self._sizes, self._draw(step, next(iter(self._sizes))))
        return {domain: self._draw(step, domain) for domain in self._sizes}

    def _draw(self, step: int, domain: str) -> Draws:
        size, stream = self._sizes[domain], list(self._sizes).index(domain)
        numbers = step * self._batch_size + np.arange(self._batch_size)
        if self._shuffle:
            index = np.array(
                [_order(size, self._seed, stream, int(n) // size)[int(n) % size] for n in numbers]
            )
        else:
            index = numbers % max(self._sizes.values()) % size
        rng = np.random.default_rng([self._seed, stream, step, 1])
        offset = rng.random((self._batch_size, 2))
        flip = rng.random(self._batch_size) < 0.5
        return Draws(index[self._part], (flip & self._flip)[self._part], offset[self._part])


@functools.lru_cache(maxsize=8)
def _order(size: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch, 0]).permutation(size)
