"""Mean and covariance of features in float64, gathered batch by batch."""

import dataclasses
import os
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ganattn.errors import DataError

KEEP = 10_000  # pictures whose features are kept: 80 MB of Inception's


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What FID and KID need of a set of pictures.

    mean: (d,) and spread: (d, d) float64, the sum of outer products around the mean, or None where
    features (count, d) float32 are kept. digest: of where they came from, "" if unknown.
    """

    count: int
    mean: np.ndarray
    spread: np.ndarray | None = None
    features: np.ndarray | None = None

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Those of (n, d) features; raises DataError unless they are finite numbers, n > 0."""
        features = np.asarray(features)
        _check(features)
        return cls(len(features), features.mean(0, np.float64), None, features)

    @cached_property
    def covariance(self) -> np.ndarray:
        """(d, d) float64, the unbiased one; raises DataError for fewer than two pictures."""
        if self.count < 2:
            raise DataError(f"a covariance needs two pictures, there is {self.count}: give more")
        if self.spread is not None:
            return self.spread / (self.count - 1)
        centred = self.centred
        return centred.T @ centred / (self.count - 1)

    @property
    def centred(self) -> np.ndarray:
        """(n, d) float64: the kept features without their mean."""
        if self.features is None:
            raise DataError("the features were not kept, only their mean and covariance")
        return self.features.astype(np.float64) - self.mean

    def save(self, path: str | os.PathLike) -> None:
        """Writes an .npz file with mu and sigma, as pytorch-fid does, count and kept features."""
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
        """Reads a file of `save`, or of pytorch-fid, which does not say its count: 0.

        Raises DataError for a file that is neither.
        """
        arrays = load_arrays(Path(path))
        if "features" in arrays:
            return cls.of(arrays["features"])
        mean, covariance = arrays.get("mu"), arrays.get("sigma")
        if mean is None or covariance is None or covariance.shape != (mean.size, mean.size):
            raise DataError(f"{path} has no mu (d,) and sigma (d, d): give a file of statistics")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise DataError(f"{path} holds values that are not finite: make the statistics anew")
        count = int(arrays.get("count", 0))
        loaded = cls(count, np.asarray(mean, np.float64), None, None)
        loaded.__dict__["covariance"] = np.asarray(covariance, np.float64)
        return loaded


class Moments:
    """Gathers `Statistics` in constant memory, whatever the number of batches.

    keep: features are kept up to so many pictures (None: all of them, which KID needs), and only
    their moments from then on.
    """

    def __init__(self, keep: int | None = KEEP):
        self._keep = keep
        self._kept: list[np.ndarray] | None = []
        self._count = 0
        self._mean = np.zeros(0)
        self._spread = np.zeros((0, 0))

    def add(self, features: ArrayLike) -> None:
        """Takes in (n, d) features; raises DataError for NaN or another d."""
        features = np.asarray(features)
        _check(features)
        if self._kept is not None:
            self._kept.append(features.astype(np.float32, copy=False))
            self._count += len(features)
            if self._keep is None or self._count <= self._keep:
                return
            features, self._kept, self._count = np.concatenate(self._kept), None, 0
        self._merge(features.astype(np.float64))

    def _merge(self, features: np.ndarray) -> None:
        """Chan, Golub and LeVeque 1979: exact whatever the batches are."""
        if not self._mean.size:
            self._mean = np.zeros(features.shape[1])
            self._spread = np.zeros((features.shape[1],) * 2)
        mean = features.mean(0)
        centred, shift = features - mean, mean - self._mean
        total = self._count + len(features)
        self._spread += centred.T @ centred
        self._spread += np.outer(shift, shift) * (self._count * len(features) / total)
        self._mean = self._mean + shift * (len(features) / total)
        self._count = total

    def statistics(self) -> Statistics:
        """Those of everything so far; raises DataError when nothing came."""
        if not self._count:
            raise DataError("no pictures to take statistics of: give at least two")
        if self._kept is not None:
            return Statistics.of(np.concatenate(self._kept))
        return Statistics(self._count, self._mean, self._spread)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz file that appears whole or not at all, in a folder made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises DataError when it is missing or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise DataError(f"no file {path}: check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(f"{path} is no whole .npz file ({error}): make it anew") from None


def _check(features: np.ndarray) -> None:
    if features.ndim != 2 or not len(features):
        raise DataError(f"features have shape {features.shape}: they must be (pictures, channels)")
    if not np.isfinite(features).all():
        wrong = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise DataError(f"the features of picture {wrong} are not finite: look at that picture")
