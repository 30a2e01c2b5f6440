"""Where a run is stored: a local folder, or a bucket that etils can reach (gs://...)."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from etils import epath

from ganattn.errors import ConfigError


def locate(workdir: str | os.PathLike) -> Path:
    """The path of a run: absolute for a local folder, etils' path for a bucket (gs://...).

    It need not exist. Raises ConfigError for a file, or a bucket that cannot be reached.
    """
    if not is_remote(workdir):
        if Path(workdir).is_file():
            raise ConfigError(f"workdir {workdir} is a file, not a folder: choose another name")
        return Path(workdir).absolute()
    try:
        path = epath.Path(workdir)
        path.exists()
    except Exception as error:  # every store's client raises exceptions of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:150]
        raise ConfigError(
            f"workdir {workdir} cannot be reached ({reason}): check the name, the permissions, and "
            "that its client is installed (pip install 'ganattn[tf]' for gs://)"
        ) from None
    return cast(Path, path)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is in an object store, which can neither append nor rename folders."""
    return "://" in os.fspath(path)


def remove_tree(folder: Path) -> None:
    """Removes a folder and everything in it, as far as that is possible."""
    with contextlib.suppress(OSError):
        epath.Path(folder).rmtree()


def remove_partial(folder: Path) -> None:
    """Removes the hidden files that a killed process leaves in a folder while it writes others."""
    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        if entry.name.startswith(".") and entry.suffix in (".partial", ".png"):
            entry.unlink(missing_ok=True)


def write_atomic(
    path: Path, content: str | bytes, check: Callable[[Path], None] | None = None
) -> None:
    """Replaces a file at once: a reader sees the old content or the new, never a part of it.

    Creates the folder. check: called with the temporary file before it replaces `path`; what it
    raises leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        if check is not None:
            check(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
