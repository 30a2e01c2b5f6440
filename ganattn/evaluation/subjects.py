"""What can be scored: pictures that somebody made, and what is known about them."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ganattn.errors import DataError
from ganattn.evaluation.features import BATCH
from ganattn.evaluation.sources import Source, source


class Made(NamedTuple):
    """Some made pictures.

    first: the index of the first one. images: (n, h, w, 3). attention: (n, h', w', 1) or None.
    examples: the arrays that they were made from, as in a batch, as far as they are known.
    """

    first: int
    images: np.ndarray
    attention: np.ndarray | None = None
    examples: Mapping[str, np.ndarray] = {}


class Subject(Protocol):
    """Pictures to be scored; `runs.Direction` and `Pictures` are such."""

    @property
    def count(self) -> int:
        """How many there are; 0 where nobody knows."""
        ...

    @property
    def classes(self) -> int:
        """How many classes their label maps have; 0 where nobody knows."""
        ...

    @property
    def made(self) -> Source | None:
        """All of them, where they need not be made one by one."""
        ...

    @property
    def real(self) -> Any:
        """What they are compared with, as `collect` takes it."""
        ...

    @property
    def source(self) -> Any:
        """What they were made from, as `collect` takes it, or None."""
        ...

    def name(self, index: int) -> str:
        """What one is called."""
        ...

    def fakes(self) -> Iterator[Made]:
        """All of them, in order, as uint8."""
        ...

    def target(self, index: int) -> np.ndarray | None:
        """(h, w, 3) uint8: what a picture should have become, or None."""
        ...

    def origin(self, index: int) -> np.ndarray | None:
        """(h, w, 3) uint8: what a picture was made from, or None."""
        ...

    def mask(self, index: int) -> np.ndarray | None:
        """(h, w) bool: where the object is that attention should find, or None."""
        ...


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A `Subject`: pictures in folders, arrays or iterators, whoever made them.

    fake_pictures, real_pictures, origins: what `sources.source` takes; the real ones may be an .npz
    file of statistics.
    size: side of a square that all are resized to, or None.
    """

    fake_pictures: Any
    real_pictures: Any
    origins: Any = None
    size: int | None = None

    classes = 0

    @property
    def count(self) -> int:
        """How many made pictures there are; 0 for an iterator."""
        return self.made.count or 0

    @property
    def made(self) -> Source:
        """Of the fakes."""
        return source(self.fake_pictures, "fakes", self.size)

    @property
    def real(self) -> Any:
        """A Source, the path of a file of statistics, or None."""
        given = self.real_pictures
        if given is None:
            return None
        if isinstance(given, str | Path) and Path(given).suffix == ".npz":
            return given
        return source(given, "reals", self.size)

    @property
    def source(self) -> Source | None:
        """Of the origins."""
        return None if self.origins is None else source(self.origins, "sources", self.size)

    def name(self, index: int) -> str:
        """The stem of a file, or a number."""
        return self.made.at(index)[0] or f"{index:05d}"

    def fakes(self) -> Iterator[Made]:
        """See `Subject`."""
        first = 0
        for images in self.made.batches(BATCH):
            yield Made(first, images)
            first += len(images)

    def target(self, index: int) -> np.ndarray | None:
        """The real picture of the same name; of arrays, of the same number."""
        real = self.real
        if not isinstance(real, Source):
            return None
        (name, target), (mine, _) = real.at(index), self.made.at(index)
        if name and mine and name != mine:
            raise DataError(
                f"real picture {index} is {name} and made picture {index} is {mine}: pairs must "
                "have the same names"
            )
        return target

    def origin(self, index: int) -> np.ndarray | None:
        """The source of the same number."""
        return None if self.source is None else self.source.at(index)[1]

    def mask(self, index: int) -> np.ndarray | None:
        """Unknown."""
        return None
