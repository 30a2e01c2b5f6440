"""Where a run lies: a local folder, or a bucket that etils reaches (gs://...)."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from etils import epath

from ganattn.errors import ConfigError, UserError

_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO
)  # fmt: skip
_TROUBLE = (  # how libraries without a class for it name a disk's trouble in their messages
    "No space left on device",
    "Disk quota exceeded",
    "Permission denied",
    "PERMISSION_DENIED",
    "Read-only file system",
    "File too large",
    "Input/output error",
)


def locate(workdir: str | os.PathLike) -> Path:
    """The folder's path, absolute if it is local; one in a bucket (gs://...) as etils takes it.

    It need not exist. Raises ConfigError for a file, or a bucket that cannot be reached.
    """
    if not is_remote(workdir):
        if Path(workdir).is_file():
            raise ConfigError(f"workdir {workdir} is no folder: name another")
        return Path(workdir).absolute()
    try:
        path = epath.Path(workdir)
        path.exists()
    except Exception as error:  # each store's client has its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:150]
        raise ConfigError(
            f"workdir {workdir} cannot be reached ({reason}): check the name, your rights, and "
            "that what reads it is installed (pip install 'ganattn[tf]' for gs://)"
        ) from None
    return cast(Path, path)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path lies in a store of objects, which knows neither appending nor folders."""
    return "://" in os.fspath(path)


def remove_tree(folder: Path) -> None:
    """Removes a folder with all in it, as far as that is possible."""
    with contextlib.suppress(OSError):
        epath.Path(folder).rmtree()


def write_whole(path: Path, content: str | bytes) -> None:
    """Replaces a file in one go, in a folder made for it: old content or new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    temporary.replace(path)


def trouble(error: BaseException | None) -> str:
    """What is wrong with the disk if that is what an error comes from, else ""."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _ERRORS:
            return one.strerror or str(one)
        found = next((phrase for phrase in _TROUBLE if phrase in str(one)), "")
        if found:
            return found
    return ""


def explained(error: BaseException) -> str | None:
    """The one line to print for an error that a person can mend; None for a defect."""
    for one in _chain(error):
        if isinstance(one, UserError):
            return str(one)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    found = trouble(error)
    return f"{found}: make room or get the right to write, and start again" if found else None


def hush_storage() -> None:
    """Keeps background threads from printing a disk's trouble, which the main one reports."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not (record.exc_info and trouble(record.exc_info[1])))
    shown = sys.excepthook

    def show(kind: Any, error: BaseException, trace: Any) -> None:
        if "Event loop is closed" not in str(error):  # told to a writer that has failed already
            shown(kind, error, trace)

    sys.excepthook = show


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from or came upon."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
