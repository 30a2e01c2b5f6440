"""FID, KID and their means over target and source, with all that tells one number from another."""

from collections.abc import Collection
from typing import Any

from ganattn.errors import DataError
from ganattn.evaluation import kernel
from ganattn.evaluation.extraction import collect
from ganattn.evaluation.features import Features, InceptionFeatures, checked, provenance
from ganattn.evaluation.frechet import frechet_distance
from ganattn.evaluation.names import DISTANCES
from ganattn.evaluation.settings import Settings
from ganattn.evaluation.statistics import KEEP, Moments, Statistics
from ganattn.runs.results import Result


def distances(
    metrics: Collection[str],
    features: Features,
    fakes: Statistics,
    reals: Statistics,
    source: Statistics | None = None,
    settings: Settings | None = None,
) -> list[Result]:
    """Lines of results, in the order of DISTANCES.

    source: of the pictures that the fakes were made from, which the means need. Raises DataError
    when it is missing, and as the metrics themselves do.
    """
    settings = settings or Settings()
    told = _told(features)
    results = []
    for metric in (m for m in DISTANCES if m in metrics):
        line: Result = {"metric": metric, **told, "samples": [fakes.count, reals.count]}
        if metric == "fid":
            line["value"] = frechet_distance(fakes, reals)
        elif metric == "kid":
            line |= _kid_line(_kid(fakes, reals, settings), settings, fakes, reals)
        elif source is None:
            raise DataError(f"{metric} needs the pictures that the fakes were made from: --source")
        else:
            line["samples"] = [fakes.count, reals.count, source.count]
            target, away = kernel.shares(settings.weights)
            line["weights"] = [target, away]
            if metric == "mean_fid":
                both = frechet_distance(fakes, reals), frechet_distance(fakes, source)
                line["value"] = target * both[0] + away * both[1]
            else:
                to_target, to_source = (_kid(fakes, side, settings) for side in (reals, source))
                mean = kernel.mean_kid(to_target, to_source, settings.weights)
                line |= _kid_line(mean, settings, fakes, reals, source)
        results.append(line)
    return results


def check_counts(metrics: Collection[str], fakes: int, reals: int, settings: Settings) -> None:
    """Raises DataError, before any work, for too few pictures; 0 where the number is unknown."""
    if {"kid", "mean_kid"} & set(metrics) and fakes and reals and settings.kid == "subsets":
        kernel.check_subsets(fakes, reals, settings.subset(fakes, reals))
    for name, count in (("fake", fakes), ("real", reals)):
        if count == 1:
            raise DataError(f"there is 1 {name} picture: FID and KID need two, and mean many")


class Distances:
    """The distances of one direction, as the fakes come in.

    metrics: of DISTANCES. real, source: what `collect` takes. made: the same of the fakes, where
    these do not come one by one.
    """

    def __init__(
        self, metrics: Collection[str], real: Any, source: Any, settings: Settings, made: Any = None
    ):
        self._metrics, self._settings = metrics, settings
        self._features = settings.features or InceptionFeatures.random()
        self._sides = {"real": real} if made is None else {"fake": made, "real": real}
        if {"mean_fid", "mean_kid"} & set(metrics):
            if source is None:
                raise DataError("mean_fid and mean_kid need the fakes' sources: give --source")
            self._sides["source"] = source
        self._keep = None if {"kid", "mean_kid"} & set(metrics) else KEEP
        self._fakes = Moments(self._keep)

    def add(self, images: Any) -> None:
        """Takes in (n, h, w, 3) uint8 fakes."""
        self._fakes.add(checked(self._features, images))

    def results(self) -> list[Result]:
        """Reads the real pictures too."""
        sides = {
            name: collect(
                pictures,
                self._features,
                keep=self._keep,
                cache=self._settings.cache,
                progress=self._settings.progress,
            )
            for name, pictures in self._sides.items()
        }
        return distances(
            self._metrics,
            self._features,
            sides.get("fake") or self._fakes.statistics(),
            sides["real"],
            sides.get("source"),
            self._settings,
        )


def _told(features: Features) -> Result:
    origin = provenance(features)
    digest = origin.digest[:8] if len(origin.digest) > 16 else origin.digest
    name = f"{origin.name} {digest}".strip()
    return {
        "convention": origin.convention,
        "features": name,
        "digest": origin.digest,
        "comparable": origin.comparable,
    }


def _kid(fakes: Statistics, reals: Statistics, settings: Settings) -> kernel.Kid:
    if fakes.features is None or reals.features is None:
        raise DataError("KID needs features, not only their mean and covariance: give pictures")
    return kernel.kid(
        fakes.features,
        reals.features,
        settings.kid,  # type: ignore[arg-type]
        subset_size=settings.subset(fakes.count, reals.count),
        subsets=settings.subsets,
        seed=settings.seed,
        block_size=settings.block_size,
    )


def _kid_line(
    found: kernel.Kid, settings: Settings, fakes: Statistics, *real: Statistics
) -> Result:
    line: Result = {"value": found.mean, "std": found.spread}
    if settings.kid == "blocks":
        return {**line, "estimator": f"blocks of {settings.block_size}, standard error"}
    sizes = sorted({settings.subset(fakes.count, side.count) for side in real})
    size = " and ".join(map(str, sizes))
    return {**line, "estimator": f"{settings.subsets} subsets of {size}, standard deviation"}
