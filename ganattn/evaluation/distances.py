"""FID and KID: distances between sets of features, and the metrics that compute them.

FID is Heusel et al. 2017, KID Binkowski et al. 2018.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ganattn.errors import ConfigError, DataError
from ganattn.evaluation.examples import Example, ExampleStream, ImageSet, is_statistics
from ganattn.evaluation.features import BATCH, InceptionFeatures, extract, provenance
from ganattn.evaluation.metrics import Metric
from ganattn.evaluation.settings import BLOCK, MEAN_WEIGHTS, SEED, SUBSET_SIZE, SUBSETS, Settings
from ganattn.evaluation.statistics import KEEP, Moments, Statistics, collect
from ganattn.runs.results import Result


def frechet_distance(fakes: Statistics, reals: Statistics) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), the FID of Inception's features.

    Exact, in float64. With fewer images than channels the last trace is computed from the features
    themselves. It falls with the number of images: compare only distances of equal numbers. Raises
    DataError for different channels.
    """
    if fakes.mean.shape != reals.mean.shape:
        raise DataError(
            f"features have {fakes.mean.size} and {reals.mean.size} channels: "
            "take both from the same network and layer"
        )
    both = (fakes, reals)
    complete = all(each.features is not None for each in both)
    if complete and min(fakes.count, reals.count) <= fakes.mean.size:
        traces, overlap = _from_features(*both)
    else:
        traces, overlap = _from_covariances(fakes.covariance, reals.covariance)
    shift = fakes.mean - reals.mean
    return max(0.0, float(shift @ shift + traces - 2 * overlap))


def _from_features(fakes: Statistics, reals: Statistics) -> tuple[float, float]:
    """With S = A'A the square root's trace is the sum of the singular values of A1 A2'."""
    if 1 in (fakes.count, reals.count):
        raise DataError("a covariance needs two images, there is 1: give more")
    one, other = (each.centered / np.sqrt(each.count - 1) for each in (fakes, reals))
    overlap = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float((one**2).sum() + (other**2).sum()), float(overlap)


def _from_covariances(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The symmetric form S1^(1/2) S2 S1^(1/2) has the same trace, and real eigenvalues."""
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0, None)).sum()
    return float(np.trace(one) + np.trace(other)), float(overlap)


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
        raise DataError(f"KID needs two images on each side, there are {len(x)} and {len(y)}")
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
    """KID by one of two estimators.

    fakes, reals: (n, d) and (m, d) features. "subsets": mean and standard deviation over random
    subsets without replacement, drawn as torch-fidelity does. "blocks": mean and standard error
    over consecutive blocks of at most `block_size`, as TF-GAN does; the order matters. Raises
    DataError when a side has fewer images than a subset.
    """
    x, y = np.asarray(fakes), np.asarray(reals)
    if estimator == "blocks":
        return _over_blocks(x, y, block_size)
    if estimator != "subsets":
        raise ConfigError(f"the KID estimator is {estimator!r}: use subsets or blocks")
    _check_subsets(len(x), len(y), subset_size)
    draw = np.random.RandomState(seed)
    estimates = [
        mmd2(
            x[draw.choice(len(x), subset_size, replace=False)],
            y[draw.choice(len(y), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return Kid(float(np.mean(estimates)), float(np.std(estimates)))


def _check_subsets(fakes: int, reals: int, size: int) -> None:
    least = min(fakes, reals)
    if size < 2 or least < size:
        raise DataError(
            f"KID's subsets have {size} images, there are {fakes} fakes and {reals} reals: set "
            f"the subset size below {least}, such as {max(2, least // 2)}, or use blocks"
        )


def _over_blocks(x: np.ndarray, y: np.ndarray, block_size: int) -> Kid:
    count = -(-max(len(x), len(y)) // block_size)
    if min(len(x), len(y)) < 2 * count:
        raise DataError(
            f"{len(x)} fakes and {len(y)} reals do not fill {count} blocks of {block_size} with "
            "two images each: add images to the smaller set, or set a larger block size"
        )
    estimates = [mmd2(*block) for block in zip(_split(x, count), _split(y, count), strict=True)]
    error = np.std(estimates, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Kid(float(np.mean(estimates)), float(error))


def _split(x: np.ndarray, count: int) -> list[np.ndarray]:
    """Consecutive blocks, the smaller ones first."""
    return [block[::-1] for block in np.array_split(x[::-1], count)[::-1]]


def mean_kid(to_target: Kid, to_source: Kid, weights: str = "equal") -> Kid:
    """Weighted sum of two distances of the fakes, as in U-GAT-IT's and AttentionGAN's tables.

    weights: a name of MEAN_WEIGHTS. spread: as if both were independent. Raises ConfigError for
    another name.
    """
    target, source = mean_weights(weights)
    spread = np.hypot(target * to_target.spread, source * to_source.spread)
    return Kid(target * to_target.mean + source * to_source.mean, float(spread))


def mean_weights(weights: str) -> tuple[float, float]:
    """The weights of target and source in `mean_kid`."""
    if weights not in MEAN_WEIGHTS:
        names = ", ".join(MEAN_WEIGHTS)
        raise ConfigError(f"the weights of mean KID are {weights!r}: use one of {names}")
    return MEAN_WEIGHTS[weights]


class FeatureDistances(Metric):
    """FID, KID and their means over target and source, all of the same features.

    Outputs that are a set of files or an array are read as one, so that their features are cached.
    """

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        self._features = settings.features or InceptionFeatures.random()
        self._of_kid = any(name.endswith("kid") for name in names)
        if examples.real is None:
            raise DataError(f"{' and '.join(names)} needs real images: give --reals")
        real = Statistics.load(examples.real) if is_statistics(examples.real) else examples.real
        self._sides = {"real": real}
        if any(name.startswith("mean") for name in names):
            if examples.source is None:
                raise DataError(
                    "mean_fid and mean_kid need the images that the fakes were generated from: "
                    "give --source"
                )
            self._sides["source"] = examples.source
        if examples.generated is not None and examples.generated.digest is not None:
            self._sides["fake"], self.streams = examples.generated, False
        for side in self._sides.values():
            self._check(examples.count, side)
        self._moments = Moments(None if self._of_kid else KEEP)
        self._waiting: list[np.ndarray] = []

    def add(self, example: Example) -> None:
        """Extracts features batch by batch."""
        self._waiting.append(example.generated)
        if len(self._waiting) == getattr(self._features, "batch_size", BATCH):
            self._flush()

    def results(self) -> list[Result]:
        """Reads the real images, too."""
        self._flush()
        settings, keep = self.settings, None if self._of_kid else KEEP
        sides = {
            name: side
            if isinstance(side, Statistics)
            else collect(
                side, self._features, keep=keep, cache=settings.cache, progress=settings.progress
            )
            for name, side in self._sides.items()
        }
        fakes = sides.pop("fake", None) or self._moments.statistics()
        return [self._result(name, fakes, **sides) for name in self.names]

    def _check(self, fakes: int, side: Any) -> None:
        """Refuses what can be refused before features are extracted."""
        if isinstance(side, Statistics) and self._of_kid and side.features is None:
            raise DataError("KID needs features, not only their mean and covariance: give images")
        count = side.count or 0
        if self._of_kid and fakes and count and self.settings.kid == "subsets":
            _check_subsets(fakes, count, self.settings.subset(fakes, count))
        if isinstance(side, ImageSet) and 1 in (fakes, count):
            raise DataError("FID and KID need at least two images on each side, there is 1")

    def _flush(self) -> None:
        if self._waiting:
            self._moments.add(extract(self._features, np.stack(self._waiting)))
            self._waiting = []

    def _result(
        self, name: str, fakes: Statistics, real: Statistics, source: Statistics | None = None
    ) -> Result:
        origin = provenance(self._features)
        digest = origin.digest[:8] if len(origin.digest) > 16 else origin.digest
        result: Result = {
            "metric": name,
            "convention": origin.convention,
            "features": f"{origin.name} {digest}".strip(),
            "digest": origin.digest,
            "comparable": origin.comparable,
        }
        sides, weights = [real], [1.0]
        if name.startswith("mean"):
            assert source is not None
            sides, weights = [real, source], list(mean_weights(self.settings.weights))
            result["weights"] = weights
        result["samples"] = [fakes.count, *(side.count for side in sides)]
        if name.endswith("fid"):
            distances = [frechet_distance(fakes, side) for side in sides]
            return {**result, "value": float(np.dot(weights, distances))}
        parts = [self._kid(fakes, side) for side in sides]
        value = parts[0] if len(parts) == 1 else mean_kid(parts[0], parts[1], self.settings.weights)
        estimator = self._estimator(fakes, sides)
        return {**result, "value": value.mean, "std": value.spread, "estimator": estimator}

    def _kid(self, fakes: Statistics, reals: Statistics) -> Kid:
        assert fakes.features is not None and reals.features is not None  # see `_check`
        settings = self.settings
        return kid(
            fakes.features,
            reals.features,
            settings.kid,  # type: ignore[arg-type]
            subset_size=settings.subset(fakes.count, reals.count),
            subsets=settings.subsets,
            seed=settings.seed,
            block_size=settings.block_size,
        )

    def _estimator(self, fakes: Statistics, others: Sequence[Statistics]) -> str:
        settings = self.settings
        if settings.kid == "blocks":
            return f"blocks of {settings.block_size}, standard error"
        sizes = sorted({settings.subset(fakes.count, side.count) for side in others})
        size = " and ".join(map(str, sizes))
        return f"{settings.subsets} subsets of {size}, standard deviation"
