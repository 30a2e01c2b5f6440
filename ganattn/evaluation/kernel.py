"""The kernel distance between two sets of features (KID of Inception's), and its mean form."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ganattn.errors import ConfigError, DataError

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
BLOCK = 10  # pictures, in the tool that U-GAT-IT's author published; TF-GAN's own default is 1024
# Shares of the distance to the target and to the source, by the versions of that tool.
WEIGHTS = {"equal": (0.5, 0.5), "2019-08": (0.01, 0.49)}


class Kid(NamedTuple):
    """Estimate of the squared distance and its spread.

    spread: standard deviation over subsets, or standard error over blocks (NaN for a single one).
    """

    mean: float
    spread: float


def mmd2(one: ArrayLike, other: ArrayLike) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, in float64.

    one, other: (n, d) and (m, d), at least two each. It may be slightly negative.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if min(len(x), len(y)) < 2:
        raise DataError(f"KID needs two pictures a side, there are {len(x)} and {len(y)}")
    if x.shape[1:] != y.shape[1:]:
        raise DataError(f"features have shapes {x.shape} and {y.shape}: take them from one network")
    within = sum(_mean_of_pairs(z) for z in (x, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(x: np.ndarray) -> float:
    kernel = _kernel(x, x)
    return (kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1))


def kid(
    fakes: ArrayLike,
    reals: ArrayLike,
    estimator: Literal["subsets", "blocks"] = "subsets",
    *,
    subset_size: int = SUBSET_SIZE,
    subsets: int = SUBSETS,
    seed: int = SEED,
    block_size: int = BLOCK,
) -> Kid:
    """Binkowski et al. 2018 by one of two estimators.

    fakes, reals: (n, d) and (m, d) features. "subsets": mean and standard deviation over random
    subsets without replacement, drawn as torch-fidelity does. "blocks": mean and standard error
    over consecutive blocks of at most `block_size`, as TF-GAN does; the order matters. Raises
    DataError when a side has fewer pictures than a subset.
    """
    x, y = np.asarray(fakes), np.asarray(reals)
    if estimator == "blocks":
        return _over_blocks(x, y, block_size)
    if estimator != "subsets":
        raise ConfigError(f"the KID estimator is {estimator!r}: use subsets or blocks")
    check_subsets(len(x), len(y), subset_size)
    draw = np.random.RandomState(seed)
    estimates = [
        mmd2(
            x[draw.choice(len(x), subset_size, replace=False)],
            y[draw.choice(len(y), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return Kid(float(np.mean(estimates)), float(np.std(estimates)))


def check_subsets(fakes: int, reals: int, size: int) -> None:
    """Raises DataError when there are too few pictures for subsets of this size."""
    least = min(fakes, reals)
    if size < 2 or least < size:
        raise DataError(
            f"KID's subsets have {size} pictures, there are {fakes} fakes and {reals} reals: set "
            f"the subset size below {least}, such as {max(2, least // 2)}, or use blocks"
        )


def _over_blocks(x: np.ndarray, y: np.ndarray, block_size: int) -> Kid:
    count = -(-max(len(x), len(y)) // block_size)
    if min(len(x), len(y)) < 2 * count:
        raise DataError(
            f"{len(x)} fakes and {len(y)} reals do not fill {count} blocks of {block_size} with "
            "two pictures each: give more of the fewer, or set a larger block size"
        )
    estimates = [mmd2(*block) for block in zip(_split(x, count), _split(y, count), strict=True)]
    error = np.std(estimates, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Kid(float(np.mean(estimates)), float(error))


def _split(x: np.ndarray, count: int) -> list[np.ndarray]:
    """Consecutive blocks, the smaller ones first."""
    return [block[::-1] for block in np.array_split(x[::-1], count)[::-1]]


def mean_kid(to_target: Kid, to_source: Kid, weights: str | Sequence[float] = "equal") -> Kid:
    """Weighted sum of two distances of the fakes, as U-GAT-IT's and AttentionGAN's tables have.

    weights: a name of WEIGHTS, or the two shares. spread: as if both were independent. Raises
    ConfigError for another name.
    """
    target, source = shares(weights)
    spread = np.hypot(target * to_target.spread, source * to_source.spread)
    return Kid(target * to_target.mean + source * to_source.mean, float(spread))


def shares(weights: str | Sequence[float]) -> tuple[float, float]:
    """The shares of target and source that `mean_kid` adds up."""
    if not isinstance(weights, str):
        target, source = weights
        return target, source
    if weights not in WEIGHTS:
        raise ConfigError(f"mean KID has weights {', '.join(WEIGHTS)}, not {weights!r}: use one")
    return WEIGHTS[weights]
