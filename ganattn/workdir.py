"""What a run keeps beside its checkpoints: its config, its versions, and lines of numbers."""

import contextlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from ganattn.config import to_dict
from ganattn.errors import CheckpointError, ConfigError
from ganattn.state import Variables, split

_log = logging.getLogger(__name__)
_PACKAGES = ("ganattn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow")


def local_folder(workdir: str | os.PathLike) -> Path:
    """The folder's absolute path; it need not exist. Raises ConfigError for a bucket or a file."""
    if "://" in str(workdir) or Path(workdir).is_file():
        raise ConfigError(f"workdir {workdir} is no local folder: name one, or mount the bucket")
    return Path(workdir).absolute()


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`; makes the folder."""
    write_whole(workdir / "config.json", json.dumps(to_dict(config), indent=2) + "\n")


def write_versions(workdir: Path) -> None:
    """Writes `versions.json`: of Python and the packages, and on how many devices of which kind."""
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
    write_whole(workdir / "versions.json", json.dumps(versions, indent=2) + "\n")


def write_parameters(variables: Mapping[str, Variables], workdir: Path) -> None:
    """Writes `parameters.txt`, a table of every parameter's shape and size; logs the sums."""
    trained = {name: split(collections)[0] for name, collections in variables.items()}
    overview = parameter_overview.get_parameter_overview(trained, include_stats=False)
    for line in parameter_counts(variables):
        _log.info(line)
    write_whole(workdir / "parameters.txt", overview + "\n")


def parameter_counts(variables: Mapping[str, Variables]) -> list[str]:
    """A line for each network: how many numbers are trained."""
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(split(collections)[0]))
        for name, collections in variables.items()
    }
    return [f"{name}: {count:,} parameters" for name, count in counts.items()]


def refuse_other_method(config: ConfigDict, workdir: Path) -> None:
    """Raises CheckpointError that names the fields in which `config.method` is not the run's."""
    path = workdir / "config.json"
    if not path.exists():
        return
    old = json.loads(path.read_text(encoding="utf-8"))["method"]
    new = json.loads(json.dumps(to_dict(config.method)))
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

    last: the newest object that was kept, {} if there is none.
    """

    def __init__(self, path: Path, step: int):
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):  # a killed run leaves half a line
                kept += [entry for entry in [json.loads(line)] if entry["step"] <= step]
        self.last = kept[-1] if kept else {}
        write_whole(path, "".join(f"{json.dumps(entry)}\n" for entry in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Appends a line that is on disk when this returns."""
        self._file.write(f"{json.dumps(entry, allow_nan=False)}\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def write_whole(path: Path, content: str | bytes) -> None:
    """Replaces a file in one go, in a folder made for it: old content or new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
