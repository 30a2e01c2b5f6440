"""The examples of a data set: encoded files or arrays, read one at a time or inspected together."""

import abc
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from ml_collections import ConfigDict

from ganattn.data import edges, images
from ganattn.errors import DataError
from ganattn.processes import agree, gather_text, own_share

Content = str | bytes  # the path of a file, or the bytes of one


class LabelIds(NamedTuple):
    """The ids that label or instance maps hold.

    classes: ids are 0 to classes - 1; 0 allows every id. void: 255 stands for the last class.
    """

    classes: int = 0
    void: bool = False

    def check(self, ids: np.ndarray, name: str) -> np.ndarray:
        """The ids as a batch holds them; raises DataError, with `name`, for an id out of range."""
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
    """The examples of one array of a batch: images, or the ids of label or instance maps.

    smoothed: whether images get smoothed edges after they are resized, see `edges.smooth_edges`.
    """

    ids: LabelIds | None
    smoothed: bool

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    def names(self) -> list[str]:
        """What the examples are called: the stems of files, or numbers."""
        return numbered(len(self))

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
            resized = images.resize(array, *size, interpolation)
            return edges.smooth_edges(resized) if self.smoothed else resized
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
    """Encoded files: paths, or the bytes of files; see `scan`.

    plain: (n,) bool, which of them TensorFlow decodes as Pillow does; Pillow decodes the others.
    sizes: (n, 2), heights and widths of ids; 0 for images. deep: the plain files are PNG files of
    16 bits. ids: set for label and instance maps. skipped: one line for each file that was left
    out. half: "left" or "right" where a file holds two images side by side. palette: (ids, 3)
    uint8, the colors of files that hold label ids. smoothed: see `ExampleSource`.
    """

    content: Sequence[Content]
    plain: np.ndarray
    sizes: np.ndarray
    deep: bool = False
    ids: LabelIds | None = None
    skipped: Sequence[str] = ()
    half: str | None = None
    palette: np.ndarray | None = None
    smoothed: bool = False

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
            return self.ids.check(images.read_ids(file), images.name_of(file))
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
            sizes=self.sizes[indices],
        )


@dataclasses.dataclass(frozen=True)
class ArrayExamples(ExampleSource):
    """The examples of an array (n, h, w[, c]); name: of the array, for messages."""

    array: np.ndarray
    ids: LabelIds | None = None
    name: str = "image"
    smoothed: bool = False

    def __len__(self) -> int:
        return len(self.array)

    def read(self, index: int) -> np.ndarray:
        array = self.array[index]
        if self.ids is None:
            return array
        ids = array.astype(np.int64).reshape(array.shape[:2])
        return self.ids.check(ids, f"{self.name} {index}")

    def is_ready(self, size: tuple[int, int]) -> bool:
        """Whether `array` holds what `read_resized` returns at (height, width)."""
        return self.ids is None and not self.smoothed and self.array.shape[1:3] == size

    def select(self, indices: np.ndarray) -> Self:
        """Some of the examples, in the given order."""
        return dataclasses.replace(self, array=self.array[indices])


Domain = Mapping[str, ExampleSource]


class DataSet(NamedTuple):
    """The examples that a layout describes.

    train: domain -> {array of a batch: its examples}; arrays of one domain are drawn, cropped and
    mirrored alike. test: the same; domains, or arrays of a domain, may be missing. paired: example
    i of every domain shows the same scene. truth: "d" (n, h, w, 3) in [-1, 1] for every domain d,
    "d_truth" its true translation, and "d_mask" (n, h, w) bool, where the two differ; None where
    they are unknown.
    """

    train: Mapping[str, Domain]
    test: Mapping[str, Domain]
    paired: bool = False
    truth: Mapping[str, np.ndarray] | None = None


def as_file(content: Content, index: int) -> Path | io.BytesIO:
    """What Pillow can open: a path, or a file of the bytes, whose messages name `index`."""
    if isinstance(content, str):
        return Path(content)
    file = io.BytesIO(content)
    file.name = f"example {index}"
    return file


def scan_images(content: Sequence[Content], data: ConfigDict) -> FileExamples:
    """The examples of image files; see `scan`."""
    return scan({"image": content}, data, {})["image"]


def scan(
    files: Mapping[str, Sequence[Content]], data: ConfigDict, ids: Mapping[str, LabelIds]
) -> dict[str, FileExamples]:
    """The examples of each array; an example with a broken file is left out of all arrays.

    files: array -> its files, one for each example. ids: those of the arrays that hold ids. Each of
    several processes inspects a share of the files, and all get the same answers. Only label maps
    and files other than JPEG and PNG are decoded: see `images.inspect` and `images.inspect_ids`.
    Raises DataError for ids out of range, for a broken file unless `data.on_error` is "skip", and
    when no example is intact.
    """
    answers = {name: _inspect(files[name], ids.get(name), data.workers) for name in files}
    broken = {
        i: answer["broken"]
        for each in answers.values()
        for i, answer in enumerate(each)
        if "broken" in answer
    }
    skipped = [broken[i] for i in sorted(broken)]
    if skipped and data.on_error == "stop":
        more = f" (and {len(skipped) - 1} more broken files)" if len(skipped) > 1 else ""
        raise DataError(f'{skipped[0]}{more}, or set config.data.on_error="skip"')
    first = next(iter(files.values()))
    intact = [i for i in range(len(first)) if i not in broken]
    if not intact:
        where = f" in {Path(first[0]).parent}" if isinstance(first[0], str) else ""
        raise DataError(f"none of the {len(first)} examples{where} is intact: {skipped[0]}")
    result = {}
    for name, content in files.items():
        bits, *sizes = np.array([answers[name][i]["result"] for i in intact]).T
        deep = bool(bits[0] == 16)
        plain = bits == (16 if deep else 8)
        selected = [content[i] for i in intact]
        result[name] = FileExamples(
            selected, plain, np.stack(sizes, 1), deep, ids.get(name), tuple(skipped)
        )
    return result


def _inspect(
    content: Sequence[Content], ids: LabelIds | None, threads: int
) -> list[dict[str, Any]]:
    """For each file {"result": (bits, height, width)} or {"broken": message}."""

    def look(file: Path | io.BytesIO) -> tuple[int, int, int]:
        return images.inspect(file) if ids is None else images.inspect_ids(file, *ids)

    def answer(index: int) -> dict[str, Any]:
        file = as_file(content[index], index)
        try:
            return {"result": look(file)}
        except images.BrokenImageError as error:
            return {"broken": str(error)}
        except DataError as error:
            return {"error": str(error)}

    names = "\n".join(images.name_of(as_file(each, i)) for i, each in enumerate(content))
    agree(names, "the list of files", "every process must read the same files")
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        own = list(pool.map(answer, own_share(range(len(content)))))
    shares = [json.loads(text) for text in gather_text(json.dumps(own))]
    answers = [shares[i % len(shares)][i // len(shares)] for i in range(len(content))]
    for each in answers:
        if "error" in each:
            raise DataError(each["error"])
    return answers
