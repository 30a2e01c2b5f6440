"""The Frechet distance between two sets of features (FID of Inception's)."""

import numpy as np

from ganattn.errors import DataError
from ganattn.evaluation.statistics import Statistics


def frechet_distance(fakes: Statistics, reals: Statistics) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), as Heusel et al. 2017 compare pictures.

    Exact, in float64. With fewer pictures than channels the last trace comes from the features
    themselves. It falls with the number of pictures: compare only distances of equal numbers.
    Raises DataError for different channels.
    """
    if fakes.mean.shape != reals.mean.shape:
        raise DataError(
            f"features have {fakes.mean.size} and {reals.mean.size} channels: "
            "take both from the same network and layer"
        )
    if _both_kept(fakes, reals) and min(fakes.count, reals.count) <= fakes.mean.size:
        traces, overlap = _from_features(fakes, reals)
    else:
        traces, overlap = _from_covariances(fakes.covariance, reals.covariance)
    shift = fakes.mean - reals.mean
    return max(0.0, float(shift @ shift + traces - 2 * overlap))


def _both_kept(fakes: Statistics, reals: Statistics) -> bool:
    return fakes.features is not None and reals.features is not None


def _from_features(fakes: Statistics, reals: Statistics) -> tuple[float, float]:
    """With S = A'A the square root's trace is the sum of the singular values of A1 A2'."""
    for each in (fakes, reals):
        if each.count < 2:
            raise DataError(f"a covariance needs two pictures, there is {each.count}: give more")
    one, other = (each.centred / np.sqrt(each.count - 1) for each in (fakes, reals))
    overlap = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float((one**2).sum() + (other**2).sum()), float(overlap)


def _from_covariances(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The symmetric form S1^(1/2) S2 S1^(1/2) has the same trace, and real eigenvalues."""
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0, None)).sum()
    return float(np.trace(one) + np.trace(other)), float(overlap)
