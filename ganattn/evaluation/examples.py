"""Generated images one by one, with what is known about each; sets of image files."""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ganattn.data.images import find_images, read_rgb, resize
from ganattn.errors import DataError
from ganattn.figures import to_uint8

READ_AHEAD = 32  # images that threads decode together
Named = tuple[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Example:
    """One generated image, and what is known about it.

    name: such as the stem of its file. output: (h, w, 3), uint8 or float in about [-1, 1]. label,
    instance: (h, w) ids of its input. mask: (h, w) bool, where the object is. attention:
    (h', w', 1). read_source, read_target: give the image that it was generated from and the true
    image, (h, w, 3) uint8 or float in [-1, 1]. None stands for what is not known.
    """

    name: str
    output: np.ndarray
    label: np.ndarray | None = None
    instance: np.ndarray | None = None
    mask: np.ndarray | None = None
    attention: np.ndarray | None = None
    read_source: Callable[[], np.ndarray] | None = None
    read_target: Callable[[], np.ndarray] | None = None

    @cached_property
    def generated(self) -> np.ndarray:
        """The output as uint8."""
        return to_uint8(self.output)

    @cached_property
    def source(self) -> np.ndarray | None:
        """The image that the output was generated from; it is read at the first access."""
        return None if self.read_source is None else self.read_source()

    @cached_property
    def target(self) -> np.ndarray | None:
        """The true image; it is read at the first access."""
        return None if self.read_target is None else self.read_target()


@dataclasses.dataclass(frozen=True)
class ExampleStream:
    """A stream of examples, and the sets of images that they are compared with.

    title: of progress bars. stream: yields every example, from the first one, at each call. count:
    their number, 0 where it is unknown. fields: names of those of "source", "target", "label",
    "instance" and "mask" that the examples have. real, source: `ImageSet`s of real images of the
    target and the source, where there are some; real may be the path of an .npz file of statistics.
    generated: the outputs as an `ImageSet`, where they are one. classes: number of classes of the
    label maps, 0 where it is unknown.
    """

    title: str
    stream: Callable[[], Iterator[Example]]
    count: int
    fields: frozenset[str]
    real: Any = None
    source: "ImageSet | None" = None
    generated: "ImageSet | None" = None
    classes: int = 0


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A set of images that can be read repeatedly.

    title: what messages and progress bars call it. read: yields each image, (h, w, 3) uint8, after
    what a message calls it. count: None where it is unknown before all are read. digest: of the
    content, or None where that costs as much as the features. item: reads one image; None for a
    one-pass set without random access. names: stems of the files, None where there are no files.
    """

    title: str
    read: Callable[[], Iterator[Named]]
    count: int | None = None
    digest: Callable[[], str] | None = None
    item: Callable[[int], np.ndarray] | None = None
    names: Sequence[str] | None = None

    def at(self, index: int) -> np.ndarray:
        """Image `index`, (h, w, 3) uint8.

        Raises DataError where there is none, or no random access.
        """
        if self.item is None:
            raise DataError(f"{self.title} is one-pass, without random access: give a folder")
        if self.count is not None and index >= self.count:
            raise DataError(f"{self.title} has {self.count} images, and no image {index}: add it")
        return self.item(index)

    def name(self, index: int) -> str:
        """The stem of an image's file, or its number."""
        return f"{index:05d}" if self.names is None else self.names[index]

    def images(self) -> Iterator[np.ndarray]:
        """Every image; raises DataError when there is none, or one that has another size."""
        first: Named | None = None
        for name, image in self.read():
            first = first or (name, image)
            if image.shape != first[1].shape:
                raise DataError(
                    f"{name} has {_size(image)} pixels and {first[0]} has {_size(first[1])}: "
                    "resize all images to one size (--size)"
                )
            yield image
        if first is None:
            raise DataError(f"there are no images in {self.title}: give at least two")

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """(n, h, w, 3) uint8, n at most `size`; raises what `images` raises."""
        images = self.images()
        while batch := list(itertools.islice(images, size)):
            yield np.stack(batch)


def image_set(images: Any, title: str = "images", size: int | None = None) -> ImageSet:
    """An `ImageSet` of a folder, an array or an iterable.

    images: a folder; an array (n, h, w, 3) of uint8, or of floats in [-1, 1]; an iterable of
    such arrays or of images (h, w, 3), read once if it is an iterator; or an ImageSet. size: side
    of a square to which images are resized first (bicubic, antialiased). Raises DataError for a
    folder without images; reading raises it for a corrupt file, a wrong shape, or NaN.
    """
    if isinstance(images, ImageSet):
        result = images
    elif isinstance(images, str | os.PathLike):
        result = _folder(Path(images))
    elif hasattr(images, "shape"):
        result = _array(np.asarray(images), title)
    else:
        result = ImageSet(title, lambda: _split(images, title))
    return result if size is None else _resized(result, size)


def of_images(fakes: Any, reals: Any, source: Any = None, size: int | None = None) -> ExampleStream:
    """A stream of images produced by any tool; reals and source are paired with them by number.

    fakes, reals, source: what `image_set` takes; reals may be None, or the path of an .npz file of
    statistics. size: see `image_set`.
    """
    outputs = image_set(fakes, "fakes", size)
    origin = None if source is None else image_set(source, "sources", size)
    real, fields = reals, {"source"} if origin else set()
    if reals is not None and not is_statistics(reals):
        real = image_set(reals, "reals", size)
        fields.add("target")

    def target(index: int) -> np.ndarray:
        image = real.at(index)
        names = real.name(index), outputs.name(index)
        if real.names and outputs.names and names[0] != names[1]:
            raise DataError(
                f"real image {index} is {names[0]} and generated image {index} is {names[1]}: "
                "pairs must have the same names"
            )
        return image

    def stream() -> Iterator[Example]:
        for i, image in enumerate(outputs.images()):
            yield Example(
                outputs.name(i),
                image,
                read_source=None if origin is None else partial(origin.at, i),
                read_target=partial(target, i) if "target" in fields else None,
            )

    count = outputs.count or 0
    return ExampleStream("fakes", stream, count, frozenset(fields), real, origin, outputs)


def is_statistics(images: Any) -> bool:
    """Whether images are given as the path of an .npz file of statistics."""
    return isinstance(images, str | os.PathLike) and Path(images).suffix == ".npz"


def digest_of(parts: Iterable[Any]) -> str:
    """SHA-256 of the SHA-256 of every part, so that it matters where one ends."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _folder(folder: Path) -> ImageSet:
    names = find_images(folder)

    def read() -> Iterator[Named]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(names), READ_AHEAD):
                paths = [folder / name for name in names[start : start + READ_AHEAD]]
                yield from zip(map(str, paths), pool.map(read_rgb, paths), strict=True)

    return ImageSet(
        str(folder),
        read,
        len(names),
        lambda: digest_of((folder / name).read_bytes() for name in names),
        lambda index: read_rgb(folder / names[index]),
        [name.stem for name in names],
    )


def _array(images: np.ndarray, title: str) -> ImageSet:
    def digest() -> str:
        head = f"{images.shape} {images.dtype}".encode()
        return digest_of([head, np.ascontiguousarray(images).data])

    def item(index: int) -> np.ndarray:
        return _checked(images[index], f"image {index} of {title}")

    return ImageSet(title, lambda: _split([images], title), len(images), digest, item)


def _split(parts: Iterable[Any], title: str) -> Iterator[Named]:
    """Single images of images and batches."""
    number = 0
    for part in parts:
        array = np.asarray(part)
        for image in array if array.ndim == 4 else [array]:
            name = f"image {number} of {title}"
            yield name, _checked(image, name)
            number += 1


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    """uint8 of (h, w, 3) uint8, or floats in [-1, 1]; raises DataError for NaN and the rest."""
    if image.ndim != 3 or image.shape[-1] != 3:
        raise DataError(f"{name} has shape {image.shape}: give (height, width, 3)")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise DataError(f"{name} is {image.dtype}: give uint8, or floats in [-1, 1]")
    if not np.isfinite(image).all():
        raise DataError(f"{name} holds NaN or infinity: check the code that produced it")
    if image.dtype != np.uint8 and np.abs(image).max() > 1:
        raise DataError(
            f"{name} has values from {image.min():.4g} to {image.max():.4g}: give floats in "
            "[-1, 1], or uint8"
        )
    return to_uint8(image)


def _resized(images: ImageSet, size: int) -> ImageSet:
    digest, item = images.digest, images.item
    return dataclasses.replace(
        images,
        read=lambda: ((name, resize(x, size, size, "bicubic")) for name, x in images.read()),
        digest=None if digest is None else lambda: f"{digest()}-{size}",
        item=None if item is None else lambda i: resize(item(i), size, size, "bicubic"),
    )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
