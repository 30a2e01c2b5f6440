"""Files of a run beside its checkpoints: config, versions, parameter table, lines of numbers."""

import contextlib
import errno
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from ganattn.config import from_dict, to_dict
from ganattn.errors import CheckpointError
from ganattn.runs.results import read_lines
from ganattn.runs.storage import is_remote, write_atomic
from ganattn.state import Variables, split

_log = logging.getLogger(__name__)
_PACKAGES = ("ganattn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow")
_START = "start.json"
_REWRITTEN_AFTER = 60.0  # seconds between versions of a file in a bucket


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`; creates the folder."""
    write_atomic(workdir / "config.json", json.dumps(to_dict(config), indent=2) + "\n")


def write_versions(workdir: Path) -> None:
    """Writes `versions.json`: Python, packages, and the kind and number of devices."""
    packages = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    versions = {
        "python": platform.python_version(),
        "packages": packages,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }
    write_atomic(workdir / "versions.json", json.dumps(versions, indent=2) + "\n")


def write_start(source: Mapping[str, Any] | None, workdir: Path) -> None:
    """Writes `start.json`, which names the run whose networks this one started with.

    None removes what an earlier run in this folder, of which no checkpoint is left, had written.
    """
    path = workdir / _START
    if source is not None:
        write_atomic(path, json.dumps(source, indent=2) + "\n")
    elif path.exists():
        path.unlink()


def read_start(workdir: Path) -> dict[str, Any]:
    """The content of `start.json`, {} for a run that started with no other run's networks."""
    path = workdir / _START
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_parameters(variables: Mapping[str, Variables], workdir: Path) -> None:
    """Writes `parameters.txt`, a table of all parameters' shapes and sizes; logs the totals."""
    trained = {name: split(collections)[0] for name, collections in variables.items()}
    overview = parameter_overview.get_parameter_overview(trained, include_stats=False)
    for line in parameter_counts(variables):
        _log.info(line)
    write_atomic(workdir / "parameters.txt", overview + "\n")


def parameter_counts(variables: Mapping[str, Variables]) -> list[str]:
    """A line for each network with its number of trained parameters."""
    trained = {name: jax.tree.leaves(split(each)[0]) for name, each in variables.items()}
    return [f"{name}: {sum(x.size for x in trained[name]):,} parameters" for name in trained]


def refuse_other_method(config: ConfigDict, workdir: Path) -> None:
    """Raises CheckpointError naming the fields of `config.method` that differ from the run's."""
    path = workdir / "config.json"
    if not path.exists():
        return
    old = to_dict(from_dict(json.loads(path.read_text(encoding="utf-8"))).method)
    new = to_dict(from_dict(to_dict(config)).method)
    differing = [
        f"config.method.{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"{path} was written with another method: {'; '.join(differing)}. "
            "Use that config, or another workdir"
        )


class JsonLines:
    """A file of JSON objects, one a line; on resume those after the restored step are dropped.

    A local file has every line at once; one in a bucket is rewritten at `flush`, and at most once a
    minute otherwise. last: the newest object that was retained, {} without one.
    """

    def __init__(self, path: Path, step: int):
        entries = [entry for entry in read_lines(path)[0] if entry["step"] <= step]
        self.last = entries[-1] if entries else {}
        self._path, self._text = path, "".join(f"{json.dumps(entry)}\n" for entry in entries)
        self._rewrite()
        self._file = None if is_remote(path) else path.open("ab", buffering=0)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Appends a line; a local file has it when this returns. Raises OSError."""
        line = f"{json.dumps(entry, allow_nan=False)}\n"
        if self._file is not None:
            try:
                if self._file.write(line.encode()) < len(line.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error
            return
        self._text += line
        self._stale = True
        if time.monotonic() - self._written > _REWRITTEN_AFTER:
            self._rewrite()

    def flush(self) -> None:
        """Returns when every line is in the file."""
        if self._stale:
            self._rewrite()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def _rewrite(self) -> None:
        write_atomic(self._path, self._text)
        self._written, self._stale = time.monotonic(), False
