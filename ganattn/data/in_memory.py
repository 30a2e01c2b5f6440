"""Training from pictures in memory, without TensorFlow: .npz files, procedural sets, caches."""

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from ganattn.data.batches import Tests, numbered
from ganattn.data.images import resize, to_float
from ganattn.data.sampling import DOMAINS, Draws
from ganattn.errors import DataError


class Memory:
    """A `Pipeline` over arrays "a", "b" and, if there are, "test_a", "test_b": (n, h, w, 3) uint8.

    So are the domains called; there may be others, or one.
    They are resized once; a draw mirrors and crops. paired: see `Pipeline`.
    """

    def __init__(self, pictures: Mapping[str, np.ndarray], data: ConfigDict, paired: bool = False):
        self.paired = paired
        self._crop, self._interpolation = data.crop_size, data.interpolation
        domains = sorted(name for name in pictures if not name.startswith("test_"))
        self._held_out = all(f"test_{domain}" in pictures for domain in domains)
        self._test = {
            domain: pictures.get(f"test_{domain}", pictures[domain]) for domain in domains
        }
        self._train = {
            domain: _resize_all(pictures[domain], data.load_size, data.interpolation)
            for domain in domains
        }
        self.sizes = {domain: len(train) for domain, train in self._train.items()}

    def stream(
        self, draws: Iterator[Mapping[str, Draws]], share: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `Pipeline`."""
        for step in draws:
            yield {domain: self._augment(self._train[domain], step[domain]) for domain in step}

    def test_pictures(self, count: int) -> dict[str, np.ndarray]:
        """See `Pipeline`."""
        shown = {
            domain: np.resize(np.arange(len(test)), count) for domain, test in self._test.items()
        }
        return {
            domain: to_float(_resize_all(test[shown[domain]], self._crop, self._interpolation))
            for domain, test in self._test.items()
        }

    @property
    def tests(self) -> Tests:
        """See `Pipeline`."""
        names = {domain: numbered(len(test)) for domain, test in self._test.items()}
        return Tests(names, self._test_example, self._held_out)

    def _test_example(self, domain: str, index: int) -> dict[str, np.ndarray]:
        picture = self._test[domain][index]
        return {domain: to_float(resize(picture, self._crop, self._crop, self._interpolation))}

    def _augment(self, pictures: np.ndarray, draws: Draws) -> np.ndarray:
        result = np.empty((len(draws.example), self._crop, self._crop, 3), np.uint8)
        corners = draws.corners(pictures.shape[1], self._crop)
        for i, (example, (top, left)) in enumerate(zip(draws.example, corners, strict=True)):
            picture = pictures[example, top : top + self._crop, left : left + self._crop]
            result[i] = picture[:, ::-1] if draws.flip[i] else picture
        return to_float(result)


def check(
    arrays: Mapping[str, np.ndarray], where: str, domains: Sequence[str] = DOMAINS
) -> dict[str, np.ndarray]:
    """The domains' arrays ("a", "b"; and "test_a", "test_b") as uint8 (n, h, w, 3).

    Accepts uint8, or floats in [-1, 1]. Raises DataError for anything else.
    """
    checked = {}
    for name in (*domains, *(f"test_{domain}" for domain in domains)):
        if name not in arrays:
            if name in domains:
                each = " and ".join(domains)
                raise DataError(f"{where} has no array {name!r}: give {each}, (n, h, w, 3) uint8")
            continue
        array = np.asarray(arrays[name])
        if array.ndim != 4 or array.shape[-1] != 3 or not len(array):
            raise DataError(f"{where}: array {name!r} has shape {array.shape}: give (n, h, w, 3)")
        if array.dtype != np.uint8:
            if not np.issubdtype(array.dtype, np.floating) or not np.abs(array).max() <= 1:
                raise DataError(f"{where}: array {name!r} is neither uint8 nor float in [-1, 1]")
            array = np.rint((array + 1) * 127.5).astype(np.uint8)
        checked[name] = array
    return checked


def load_npz(path: str | os.PathLike, domains: Sequence[str] = DOMAINS) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises DataError when it is missing or damaged."""
    return check(_read(path, " and ".join(domains)), os.fspath(path), domains)


def load_scenes(path: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    """{"train"} or {"train", "test"}: "label" (n, h, w[, c]), "instance", "image" (n, h, w, 3).

    The file calls the test arrays test_label and so on. Raises DataError when it is missing or
    damaged, or its arrays do not go together.
    """
    arrays = _read(path, "label and image")
    found = {}
    for part, prefix in (("train", ""), ("test", "test_")):
        names = ("label", "instance", "image")
        scenes = {n: arrays[f"{prefix}{n}"] for n in names if f"{prefix}{n}" in arrays}
        if not {"label", "image"} <= set(scenes):
            if part == "train":
                raise DataError(f"{path} lacks an array label or image: give (n, h, w) and more")
            continue
        if len({array.shape[:3] for array in scenes.values()}) > 1:
            shapes = {name: array.shape for name, array in scenes.items()}
            raise DataError(f"{path}: arrays differ in number or size: {shapes}")
        if scenes["image"].dtype != np.uint8 or scenes["image"].shape[3:] != (3,):
            raise DataError(f"{path}: array {prefix}image must be uint8 (n, h, w, 3)")
        found[part] = scenes
    return found


def _read(path: str | os.PathLike, what: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(f"cannot read {path} ({error}): give an .npz file with {what}") from error


def _resize_all(pictures: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    if pictures.shape[1:3] == (size, size):
        return pictures
    return np.stack([resize(picture, size, size, interpolation) for picture in pictures])
