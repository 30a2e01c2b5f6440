"""The examples of a data set: encoded files or arrays, read one at a time or inspected together."""

import abc
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ganattn.data import images
from ganattn.errors import DataError
from ganattn.processes import agree, gather_text, own_share

Content = str | bytes  # the path of a file, or the bytes of one
_BITS: dict[tuple[str | None, str], int] = {  # of ids, by format and Pillow's mode
    ("PNG", "L"): 8,
    ("JPEG", "L"): 8,
    ("PNG", "I;16"): 16,
}


class LabelIds(NamedTuple):
    """The ids that label or instance maps hold.

    classes: ids are 0 to classes - 1; 0 allows every id. void: 255 stands for the last class.
    """

    classes: int = 0
    void: bool = False

    def check(self, ids: np.ndarray, name: str) -> np.ndarray:
        """The ids as a batch holds them; raises DataError, with `name`, for one out of range."""
        return images.check_ids(ids, self.classes, self.void, name) if self.classes else ids


class Preprocessing(NamedTuple):
    """Sizes are (height, width): images are resized to `load`, then cropped to `crop`."""

    load: tuple[int, int]
    crop: tuple[int, int]
    interpolation: str

    @classmethod
    def from_config(cls, data: ConfigDict) -> Self:
        """That of `config.data`, whose sizes are widths."""
        load, crop = (
            (round(width / data.aspect_ratio), width) for width in (data.load_size, data.crop_size)
        )
        return cls(load, crop, data.interpolation)


def numbered(count: int) -> list[str]:
    """Names for examples without names."""
    return [f"{i:05d}" for i in range(count)]


class ExampleSource(abc.ABC):
    """The examples of one array of a batch: images, or the ids of label or instance maps."""

    ids: LabelIds | None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abc.abstractmethod
    def names(self) -> list[str]:
        """What the examples are called: the stems of files, or numbers."""

    @abc.abstractmethod
    def read(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8, (h, w) integers for ids, or (h, w, c) of channels with any meaning.

        Raises DataError for a file that cannot be decoded and for ids out of range.
        """

    def read_resized(self, index: int, size: tuple[int, int], interpolation: str) -> np.ndarray:
        """One example as `read` returns it, at (height, width); ids are int32."""
        array = self.read(index)
        if self.ids is not None:
            return images.resize_ids(array, *size)
        if array.dtype == np.uint8 and array.shape[2:] == (3,):
            return images.resize(array, *size, interpolation)
        if array.shape[:2] != size:
            raise DataError(
                f"an array has {array.shape[:2]} pixels and cannot be resized: give arrays with "
                f"{size} pixels, or images (uint8, 3 channels)"
            )
        return array

    def finish(self, array: np.ndarray) -> np.ndarray:
        """(..., h, w[, c]) as `read_resized` returns it, as it is in a batch.

        Ids become (..., h, w, 1) int32, images float32 in [-1, 1], other channels float32.
        """
        if self.ids is not None:
            return array[..., None]
        is_image = array.dtype == np.uint8 and array.shape[-1] == 3
        return images.to_float(array) if is_image else array.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FileExamples(ExampleSource):
    """Encoded files: paths, or the bytes of files.

    plain: (n,) bool, which of them TensorFlow decodes as Pillow does; Pillow decodes the others.
    half: "left" or "right" where a file holds two images side by side. palette: (ids, 3) uint8,
    the colours of files that hold label ids. ids: set for label and instance maps. sizes: (n, 2),
    heights and widths, known for ids alone. deep: the plain ones are PNG files of 16 bits.
    """

    content: Sequence[Content]
    plain: np.ndarray
    half: str | None = None
    palette: np.ndarray | None = None
    ids: LabelIds | None = None
    sizes: np.ndarray | None = None
    deep: bool = False

    def __len__(self) -> int:
        return len(self.content)

    def names(self) -> list[str]:
        return [
            number if isinstance(each, bytes) else Path(each).stem
            for number, each in zip(numbered(len(self)), self.content, strict=True)
        ]

    def read(self, index: int) -> np.ndarray:
        file = as_file(self.content[index], index)
        if self.ids is not None:
            return self.ids.check(images.read_ids(file), str(file))
        if self.palette is not None:
            return self.cut(images.read_labels(file, self.palette))
        return self.cut(images.read_rgb(file))

    def cut(self, image: Any) -> Any:
        """The half of (h, w, 3) that `half` names."""
        middle = image.shape[1] // 2
        return {None: image, "left": image[:, :middle], "right": image[:, middle:]}[self.half]

    def select(self, indices: np.ndarray) -> Self:
        """Some of the examples, in the given order."""
        return dataclasses.replace(
            self,
            content=[self.content[i] for i in indices],
            plain=self.plain[indices],
            sizes=None if self.sizes is None else self.sizes[indices],
        )


@dataclasses.dataclass(frozen=True)
class ArrayExamples(ExampleSource):
    """The examples of an array (n, h, w[, c]); name: of the array, for messages."""

    array: np.ndarray
    ids: LabelIds | None = None
    name: str = "image"

    def __len__(self) -> int:
        return len(self.array)

    def names(self) -> list[str]:
        return numbered(len(self))

    def read(self, index: int) -> np.ndarray:
        array = self.array[index]
        if self.ids is None:
            return array
        ids = array.astype(np.int64).reshape(array.shape[:2])
        return self.ids.check(ids, f"{self.name} {index}")

    def is_ready(self, size: tuple[int, int]) -> bool:
        """Whether `array` holds what `read_resized` returns at (height, width)."""
        return self.ids is None and self.array.shape[1:3] == size

    def select(self, indices: np.ndarray) -> Self:
        """Some of the examples, in the given order."""
        return dataclasses.replace(self, array=self.array[indices])


Domain = Mapping[str, ExampleSource]


class DataSet(NamedTuple):
    """What a layout finds.

    train: domain -> {array of a batch: its examples}; arrays of one domain are drawn, cropped and
    mirrored alike. test: the same; domains, or arrays of a domain, may be missing. paired: example
    i of every domain shows the same scene. skipped: one line for each file that was left out.
    truth: "d" (n, h, w, 3) in [-1, 1] for every domain d, "d_truth" its true translation, and
    "d_mask" (n, h, w) bool, where the two differ; None where they are unknown.
    """

    train: Mapping[str, Domain]
    test: Mapping[str, Domain]
    paired: bool = False
    skipped: Sequence[str] = ()
    truth: Mapping[str, np.ndarray] | None = None


class _NamedBytes(io.BytesIO):
    """Bytes with a name for messages."""

    name = "image"

    def __str__(self) -> str:
        return self.name


def as_file(content: Content, index: int) -> Path | io.BytesIO:
    """What Pillow can open: a path, or a file of the bytes, whose messages name `index`."""
    if isinstance(content, str):
        return Path(content)
    file = _NamedBytes(content)
    file.name = f"example {index}"
    return file


class Inspection(NamedTuple):
    """What `inspect` found out about files, in their order.

    results: JSON values, None for a file that cannot be decoded. broken: index -> message.
    """

    results: list[Any]
    broken: dict[int, str]

    @property
    def intact(self) -> np.ndarray:
        """Indices of the files that can be decoded."""
        return np.array([i for i in range(len(self.results)) if i not in self.broken], int)


def inspect(
    content: Sequence[Content], look: Callable[[Path | io.BytesIO], Any], threads: int | None
) -> Inspection:
    """`look(file)` for every file: a JSON value, or what Pillow raises for a broken file.

    Each of several processes looks at a share of the files, and all get the same answers. Raises
    the first DataError of `look` in every process.
    """
    names = "\n".join(str(as_file(each, i)) for i, each in enumerate(content))
    agree(names, "the list of files", "every process must read the same files")

    def answer(index: int) -> dict[str, Any]:
        file = as_file(content[index], index)
        try:
            return {"result": look(file)}
        except DataError as error:
            key = "broken" if isinstance(error.__cause__, images.BROKEN) else "error"
            return {key: str(error)}
        except images.BROKEN as error:
            return {"broken": f"{file} cannot be decoded as an image ({error})"}

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        own = list(pool.map(answer, own_share(range(len(content)))))
    shares = [json.loads(text) for text in gather_text(json.dumps(own))]
    answers = [shares[i % len(shares)][i // len(shares)] for i in range(len(content))]
    for each in answers:
        if "error" in each:
            raise DataError(each["error"])
    broken = {i: each["broken"] for i, each in enumerate(answers) if "broken" in each}
    return Inspection([each.get("result") for each in answers], broken)


def scan_images(content: Sequence[Content], data: ConfigDict, skipped: list[str]) -> FileExamples:
    """The examples of image files; broken files are left out and a line is added to `skipped`.

    Every file is decoded once, JPEG at reduced size. Raises DataError for a broken file unless
    `data.on_error` is "skip", and when no file is intact.
    """
    inspection = inspect(content, images.is_plain, data.workers)
    report_broken(inspection.broken.values(), data, skipped)
    intact = inspection.intact
    if not len(intact):
        where = f" in {Path(content[0]).parent}" if isinstance(content[0], str) else ""
        raise DataError(f"no image{where} can be decoded: all {len(content)} files are broken")
    plain = np.array([inspection.results[i] for i in intact], bool)
    return FileExamples([content[i] for i in intact], plain)


def inspect_ids(content: Sequence[Content], ids: LabelIds, threads: int | None) -> Inspection:
    """Of label or instance maps: bits, height and width; bits 0 if only Pillow decodes the file.

    Raises DataError for ids out of range and for a file of several channels.
    """

    def look(file: Path | io.BytesIO) -> tuple[int, int, int]:
        with Image.open(file) as image:  # Pillow reads the header alone
            bits = _BITS.get((image.format, image.mode), 0)
            bits = 0 if "transparency" in image.info else bits
        if isinstance(file, io.BytesIO):
            file.seek(0)
        height, width = ids.check(images.read_ids(file), str(file)).shape
        return bits, height, width

    return inspect(content, look, threads)


def report_broken(broken: Iterable[str], data: ConfigDict, skipped: list[str]) -> None:
    """Adds messages about broken files to `skipped`; raises DataError if they must stop the run."""
    broken = list(broken)
    if broken and data.on_error == "stop":
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise DataError(
            f'{broken[0]}{more}: replace or remove it, or set config.data.on_error="skip"'
        )
    skipped += broken
