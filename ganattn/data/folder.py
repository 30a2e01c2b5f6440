"""Two domains as folders of pictures: trainA trainB, and testA testB if there are."""

from pathlib import Path

from ml_collections import ConfigDict

from ganattn.data import pictures
from ganattn.data.arrays import Memory
from ganattn.data.batches import Pipeline
from ganattn.data.encoded import Encoded, Pictures
from ganattn.data.sampling import DOMAINS
from ganattn.errors import DataError


def create(path: Path, data: ConfigDict) -> tuple[Pipeline, list[str]]:
    """The pipeline, and a line for every broken picture that was left out.

    Every file is decoded once, at reduced size. Raises DataError for a missing or empty folder, or
    for a broken picture unless `data.on_error` is "skip".
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with trainA and trainB")
    skipped: list[str] = []
    train = {domain: _scan(path / f"train{domain.upper()}", data, skipped) for domain in DOMAINS}
    test = {
        domain: _scan(path / f"test{domain.upper()}", data, skipped)
        for domain in DOMAINS
        if (path / f"test{domain.upper()}").is_dir()
    }
    encoded = Encoded(train, test, data)
    return (Memory(encoded.decoded(), data) if data.cache else encoded), skipped


def _scan(folder: Path, data: ConfigDict, skipped: list[str]) -> Pictures:
    paths = [folder / name for name in pictures.find_pictures(folder)]
    scan = pictures.scan(paths, data.workers or None)
    if scan.broken and data.on_error == "stop":
        more = f" (and {len(scan.broken) - 1} more)" if len(scan.broken) > 1 else ""
        raise DataError(
            f'{scan.broken[0]}{more}: replace or remove it, or set config.data.on_error="skip"'
        )
    if not scan.paths:
        raise DataError(f"no whole picture in {folder}: all {len(paths)} are broken")
    skipped += scan.broken
    return Pictures([str(path) for path in scan.paths], scan.plain)
