"""Batches from arrays in memory, without TensorFlow: .npz files, procedural sets, decoded files."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ganattn.data.examples import ArrayExamples, Domain, ExampleSource, Preprocessing
from ganattn.data.sampling import Draws
from ganattn.errors import DataError


class InMemory:
    """Decodes and resizes all training examples at once; a draw crops and mirrors them.

    train: see `DataSet`. threads: that decode; 0 takes one for each core.
    """

    def __init__(self, train: Mapping[str, Domain], preprocessing: Preprocessing, threads: int):
        self._preprocessing = preprocessing
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            self._arrays = {
                domain: {
                    name: (source, self._load(source, pool)) for name, source in sources.items()
                }
                for domain, sources in train.items()
            }

    def stream(self, draws: Iterator[Mapping[str, Draws]]) -> Iterator[dict[str, np.ndarray]]:
        """The batch of each step's draws; see `Batches` for its arrays."""
        for step in draws:
            batch = {}
            for domain, draw in step.items():
                for name, (source, array) in self._arrays[domain].items():
                    batch[name] = source.finish(self._augment(array, draw))
            yield batch

    def _load(self, source: ExampleSource, pool: ThreadPoolExecutor) -> np.ndarray:
        load, _, interpolation = self._preprocessing
        if isinstance(source, ArrayExamples) and source.is_ready(load):
            return source.array

        def read(index: int) -> np.ndarray:
            return source.read_resized(index, load, interpolation)

        return np.stack(list(pool.map(read, range(len(source)))))

    def _augment(self, array: np.ndarray, draws: Draws) -> np.ndarray:
        load, (height, width), _ = self._preprocessing
        result = np.empty((len(draws.example), height, width, *array.shape[3:]), array.dtype)
        corners = draws.corners(load, (height, width))
        for i, (example, (top, left)) in enumerate(zip(draws.example, corners, strict=True)):
            crop = array[example, top : top + height, left : left + width]
            result[i] = crop[:, ::-1] if draws.flip[i] else crop
        return result


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises DataError when it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(f"cannot read {path} ({error}): give an .npz file of arrays") from error


def read_images(arrays: Mapping[str, np.ndarray], name: str, where: str) -> ArrayExamples:
    """The examples of array `name`: images (n, h, w, 3), uint8 or floats in [-1, 1].

    where: the file or data set that holds the arrays. Raises DataError for any other array, and for
    one that is missing.
    """
    if name not in arrays:
        raise DataError(f"{where} has no array {name!r}: add one, (n, h, w, 3) uint8")
    array = arrays[name]
    if array.ndim != 4 or array.shape[-1] != 3 or not len(array):
        raise DataError(f"{where}: array {name!r} has shape {array.shape}: give (n, h, w, 3)")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or not np.abs(array).max() <= 1:
            raise DataError(f"{where}: array {name!r} is neither uint8 nor float in [-1, 1]")
        array = np.rint((array + 1) * 127.5).astype(np.uint8)
    return ArrayExamples(array, name=name)
