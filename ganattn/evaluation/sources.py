"""Pictures to be scored, from folders, arrays or iterators, in batches of one size."""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganattn.data.images import find_pictures, read_rgb
from ganattn.errors import DataError

READ_AHEAD = 32  # pictures that threads decode together
Named = tuple[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """A set of pictures that can be read from its beginning as often as one wants.

    name: what messages and progress bars call it. read: gives what a message calls a picture, and
    the picture, (h, w, 3) uint8. count: None where only reading tells. digest: of the content, or
    None where that would cost as much as the features. item: one picture with the stem of its file
    or "" of an array, or None where they can only be read in turn.
    """

    name: str
    read: Callable[[], Iterator[Named]]
    count: int | None = None
    digest: Callable[[], str] | None = None
    item: Callable[[int], Named] | None = None

    def at(self, index: int) -> Named:
        """What picture `index` is called, and the picture.

        Raises DataError where there is none, or pictures can only be read in turn.
        """
        if self.item is None:
            raise DataError(f"{self.name} can only be read in turn: give a folder or an array")
        if self.count is not None and index >= self.count:
            raise DataError(f"{self.name} has {self.count} pictures, there is no {index}: add it")
        return self.item(index)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """(n, h, w, 3) uint8, n at most `size`.

        Raises DataError when there is no picture, or when one is not of the first one's size.
        """
        pictures = self._alike()
        empty = True
        while batch := [picture for _, picture in itertools.islice(pictures, size)]:
            empty = False
            yield np.stack(batch)
        if empty:
            raise DataError(f"there are no pictures in {self.name}: give at least two")

    def _alike(self) -> Iterator[Named]:
        first: Named | None = None
        for name, picture in self.read():
            first = first or (name, picture)
            if picture.shape != first[1].shape:
                raise DataError(
                    f"{name} has {_pixels(picture)} pixels and {first[0]} has {_pixels(first[1])}: "
                    "resize them all to one size (--size)"
                )
            yield name, picture


def source(pictures: Any, name: str = "pictures", size: int | None = None) -> Source:
    """A `Source` of what is given.

    pictures: a folder; an array (n, h, w, 3) of uint8, or of floats in [-1, 1]; an iterable of
    such arrays or of pictures (h, w, 3), read once if it is an iterator; or a Source. size: side of
    a square that pictures are resized to first (bicubic, smoothed). Raises DataError for a folder
    without pictures; what is read raises it for a broken file, a wrong shape, or NaN.
    """
    if isinstance(pictures, Source):
        found = pictures
    elif isinstance(pictures, str | os.PathLike):
        found = _folder(Path(pictures))
    elif hasattr(pictures, "shape"):
        found = _array(np.asarray(pictures), name)
    else:
        found = Source(name, lambda: _pictures(pictures, name))
    return found if size is None else _resized(found, size)


def _folder(folder: Path) -> Source:
    names = find_pictures(folder)

    def read() -> Iterator[Named]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(names), READ_AHEAD):
                paths = [folder / name for name in names[start : start + READ_AHEAD]]
                yield from zip(map(str, paths), pool.map(read_rgb, paths), strict=True)

    def digest() -> str:
        return digest_of((folder / name).read_bytes() for name in names)

    def item(index: int) -> Named:
        return names[index].stem, read_rgb(folder / names[index])

    return Source(str(folder), read, len(names), digest, item)


def _array(pictures: np.ndarray, name: str) -> Source:
    def digest() -> str:
        head = f"{pictures.shape} {pictures.dtype}".encode()
        return digest_of([head, np.ascontiguousarray(pictures).data])

    def item(index: int) -> Named:
        return "", to_uint8(pictures[index], f"picture {index} of {name}")

    return Source(name, lambda: _pictures([pictures], name), len(pictures), digest, item)


def _pictures(parts: Iterable[Any], name: str) -> Iterator[Named]:
    """Single pictures out of pictures and batches."""
    number = 0
    for part in parts:
        array = np.asarray(part)
        for picture in array if array.ndim == 4 else [array]:
            called = f"picture {number} of {name}"
            yield called, to_uint8(picture, called)
            number += 1


def to_uint8(picture: np.ndarray, name: str) -> np.ndarray:
    """uint8 of (h, w, 3) uint8, or floats in [-1, 1]; raises DataError for NaN and the rest."""
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise DataError(f"{name} has shape {picture.shape}: give (height, width, 3)")
    if picture.dtype == np.uint8:
        return picture
    if not np.issubdtype(picture.dtype, np.floating):
        raise DataError(f"{name} is {picture.dtype}: give uint8, or floats in [-1, 1]")
    if not np.isfinite(picture).all():
        raise DataError(f"{name} holds NaN or infinity: look at what made it")
    if np.abs(picture).max() > 1:
        raise DataError(
            f"{name} has values from {picture.min():.4g} to {picture.max():.4g}: give floats in "
            "[-1, 1], or uint8"
        )
    return np.round(127.5 * (picture.astype(np.float32) + 1)).astype(np.uint8)


def _resized(given: Source, size: int) -> Source:
    def resize(named: Named) -> Named:
        whole = Image.fromarray(named[1])
        return named[0], np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC))

    digest = given.digest
    return Source(
        given.name,
        lambda: map(resize, given.read()),
        given.count,
        None if digest is None else lambda: f"{digest()}-{size}",
        None if given.item is None else lambda index: resize(given.at(index)),
    )


def digest_of(parts: Iterable[Any]) -> str:
    """SHA-256 of the SHA-256 of every part, so that it matters where one ends."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _pixels(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
