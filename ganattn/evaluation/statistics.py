"""Mean and covariance of features in float64, accumulated over images and cached by content."""

import contextlib
import dataclasses
import hashlib
import io
import os
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from ganattn.errors import DataError
from ganattn.evaluation.examples import ImageSet, image_set, is_statistics
from ganattn.evaluation.features import BATCH, Features, extract, provenance
from ganattn.runs.storage import write_atomic

KEEP = 10_000  # number of images whose features are stored: 80 MB of Inception's


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What FID and KID need of a set of images.

    count: number of images, 0 where it is unknown. mean: (d,) float64. second: (d, d) float64, the
    unbiased covariance, or None where it follows from features (count, d) float32.
    """

    count: int
    mean: np.ndarray
    second: np.ndarray | None = None
    features: np.ndarray | None = None

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Statistics of (n, d) features; raises DataError unless they are finite and n > 0."""
        features = np.asarray(features)
        _check(features)
        return cls(len(features), features.mean(0, np.float64), None, features)

    @cached_property
    def covariance(self) -> np.ndarray:
        """(d, d) float64, unbiased; raises DataError for fewer than two images."""
        if self.count == 1:
            raise DataError("a covariance needs two images, there is 1: give more")
        if self.second is not None:
            return self.second
        centered = self.centered
        return centered.T @ centered / (self.count - 1)

    @property
    def centered(self) -> np.ndarray:
        """(n, d) float64: the features without their mean."""
        if self.features is None:
            raise DataError("the features were not stored, only their mean and covariance")
        return self.features.astype(np.float64) - self.mean

    def save(self, path: str | os.PathLike) -> None:
        """Writes an .npz file with pytorch-fid's mu and sigma, the count and the features."""
        arrays: dict[str, np.ndarray] = {
            "mu": self.mean,
            "sigma": self.covariance,
            "count": np.array(self.count),
        }
        if self.features is not None:
            arrays["features"] = self.features
        save_arrays(Path(path), arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads a file of `save` or of pytorch-fid, whose count is unknown: 0.

        Raises DataError for another file.
        """
        arrays = load_arrays(Path(path))
        if "features" in arrays:
            return cls.of(arrays["features"])
        mean, covariance = arrays.get("mu"), arrays.get("sigma")
        if mean is None or covariance is None or covariance.shape != (mean.size, mean.size):
            raise DataError(f"{path} has no mu (d,) and sigma (d, d): give a file of statistics")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise DataError(f"{path} holds values that are not finite: recreate the statistics")
        moments = (np.asarray(moment, np.float64) for moment in (mean, covariance))
        return cls(int(arrays.get("count", 0)), *moments)


class Moments:
    """Accumulates `Statistics` in constant memory, for any number of batches.

    keep: number of images up to which features are stored (None: all, which KID needs); beyond it
    only their moments are.
    """

    def __init__(self, keep: int | None = KEEP):
        self._keep = keep
        self._features: list[np.ndarray] | None = []
        self._count = 0
        self._mean = np.zeros(0)
        self._spread = np.zeros((0, 0))

    def add(self, features: ArrayLike) -> None:
        """Adds (n, d) features; raises DataError for NaN or another d."""
        features = np.asarray(features)
        _check(features)
        if self._features is not None:
            self._features.append(features.astype(np.float32, copy=False))
            self._count += len(features)
            if self._keep is None or self._count <= self._keep:
                return
            features, self._features, self._count = np.concatenate(self._features), None, 0
        self._merge(features.astype(np.float64))

    def _merge(self, features: np.ndarray) -> None:
        """Chan, Golub and LeVeque 1979: exact for any division into batches."""
        if not self._mean.size:
            self._mean = np.zeros(features.shape[1])
            self._spread = np.zeros((features.shape[1],) * 2)
        mean = features.mean(0)
        centered, shift = features - mean, mean - self._mean
        total = self._count + len(features)
        self._spread += centered.T @ centered
        self._spread += np.outer(shift, shift) * (self._count * len(features) / total)
        self._mean = self._mean + shift * (len(features) / total)
        self._count = total

    def statistics(self) -> Statistics:
        """Statistics of everything added so far; raises DataError when nothing was."""
        if not self._count:
            raise DataError("at least two images are needed for statistics, there are none")
        if self._features is not None:
            return Statistics.of(np.concatenate(self._features))
        return Statistics(self._count, self._mean, self._spread / max(self._count - 1, 1))


def collect(
    images: Any,
    features: Features,
    *,
    title: str = "images",
    size: int | None = None,
    keep: int | None = KEEP,
    cache: Path | None = None,
    progress: bool = False,
) -> Statistics:
    """Statistics of the features of images.

    images, title, size: see `image_set`; or an .npz file of statistics, such as pytorch-fid's.
    keep: see `Moments`. cache: folder in which features are cached by the digests of the images and
    of the network, if both have one. progress: draws a bar on a terminal. Raises DataError for what
    is wrong with an image.
    """
    if is_statistics(images):
        return Statistics.load(images)
    images = image_set(images, title, size)
    path = _cache_path(images, features, cache)
    if path is not None:
        with contextlib.suppress(DataError, KeyError):  # missing or corrupt: computed again
            return Statistics.of(load_arrays(path)["features"])
    moments, quiet = Moments(keep), None if progress else True
    with tqdm(total=images.count, desc=images.title, unit="image", disable=quiet) as bar:
        for batch in images.batches(getattr(features, "batch_size", BATCH)):
            moments.add(extract(features, batch))
            bar.update(len(batch))
    statistics = moments.statistics()
    if path is not None and statistics.features is not None:
        save_arrays(path, {"features": statistics.features})
    return statistics


def _cache_path(images: ImageSet, features: Features, cache: Path | None) -> Path | None:
    origin = provenance(features)
    if cache is None or images.digest is None or not origin.digest:
        return None
    key = "\n".join([images.digest(), origin.name, origin.convention, origin.digest])
    return cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz file atomically; creates its folder."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises DataError when it is missing or corrupt."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise DataError(f"no file {path}: check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(f"{path} is not a readable .npz file ({error}): recreate it") from None


def _check(features: np.ndarray) -> None:
    if features.ndim != 2 or not len(features):
        raise DataError(f"features have shape {features.shape}: they must be (images, channels)")
    if not np.isfinite(features).all():
        wrong = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise DataError(f"the features of image {wrong} are not finite: check that image")
