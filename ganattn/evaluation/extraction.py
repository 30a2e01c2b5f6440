"""Features of whole sets of pictures, as a stream, and kept between runs by content."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ganattn.errors import DataError
from ganattn.evaluation.features import BATCH, Features, checked, provenance
from ganattn.evaluation.sources import Source, source
from ganattn.evaluation.statistics import KEEP, Moments, Statistics, load_arrays, save_arrays


def collect(
    pictures: Any,
    features: Features,
    *,
    name: str = "pictures",
    size: int | None = None,
    keep: int | None = KEEP,
    cache: Path | None = None,
    progress: bool = False,
) -> Statistics:
    """Statistics of the features of pictures.

    pictures, name, size: see `sources.source`; or an .npz file of statistics, as pytorch-fid's.
    keep: see `statistics.Moments`. cache: folder where features are kept under the digests of the
    pictures and of the network, if both have one. progress: draws a bar on a terminal. Raises
    DataError for what is wrong with a picture.
    """
    if isinstance(pictures, str | os.PathLike) and Path(pictures).suffix == ".npz":
        return Statistics.load(pictures)
    given = source(pictures, name, size)
    kept = _file(given, features, cache)
    found = None if kept is None else _restored(kept)
    if found is not None:
        return found
    moments = Moments(keep)
    with tqdm(
        total=given.count, desc=given.name, unit="picture", disable=None if progress else True
    ) as bar:
        for batch in given.batches(getattr(features, "batch_size", BATCH)):
            moments.add(checked(features, batch))
            bar.update(len(batch))
    statistics = moments.statistics()
    if kept is not None and statistics.features is not None:
        save_arrays(kept, {"features": statistics.features})
    return statistics


def _file(given: Source, features: Features, cache: Path | None) -> Path | None:
    origin = provenance(features)
    if cache is None or given.digest is None or not origin.digest:
        return None
    key = "\n".join([given.digest(), origin.name, origin.convention, origin.digest])
    return cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def _restored(path: Path) -> Statistics | None:
    try:
        return Statistics.of(np.asarray(load_arrays(path)["features"]))
    except (DataError, KeyError):  # not there, or damaged: it is made anew
        return None
