"""User errors, and the one line that explains them.

A message names the thing, the place and the remedy. The command line prints the message alone and
exits with code 2; any other exception is a defect of this library and keeps its traceback.
"""

import errno
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

_STORAGE_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO
)  # fmt: skip
_STORAGE_PHRASES = (  # libraries without an exception class for it put these into their messages
    "No space left on device",
    "Disk quota exceeded",
    "Permission denied",
    "PERMISSION_DENIED",
    "Read-only file system",
    "File too large",
    "Input/output error",
)


class UserError(Exception):
    """Base class of all errors that the user can fix."""


class ConfigError(UserError):
    """A config field is unknown, has a value outside its range, or contradicts another."""


class DataError(UserError):
    """Images or folders are missing, corrupt, or of a shape that the run cannot use."""


class CheckpointError(UserError):
    """A checkpoint is missing, corrupt, or belongs to another architecture."""


class ForeignFileError(UserError):
    """A file from another code base has missing or unknown keys, or is of another format."""


class DivergenceError(UserError):
    """A metric or parameter is no longer finite."""


def join_first(phrases: Sequence[str], separator: str = ", ", count: int = 5) -> str:
    """The first phrases, such as "a, b, and 3 more"."""
    more = f"{separator}and {len(phrases) - count} more" if len(phrases) > count else ""
    return separator.join(phrases[:count]) + more


def storage_problem(error: BaseException | None) -> str:
    """The storage problem, such as a full disk, that caused an error; "" for other causes."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _STORAGE_ERRNOS:
            return cause.strerror or str(cause)
        phrase = next((phrase for phrase in _STORAGE_PHRASES if phrase in str(cause)), "")
        if phrase:
            return phrase
    return ""


def explain(error: BaseException) -> str | None:
    """The line to print for an error that the user can fix; None for a defect."""
    for cause in _chain(error):
        if isinstance(cause, UserError):
            return str(cause)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    problem = storage_problem(error)
    return (
        f"{problem}: free some space or fix the permissions, and start again" if problem else None
    )


def silence_storage_tracebacks() -> None:
    """Suppresses the tracebacks of background threads for storage problems.

    The main thread reports these problems in one line.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(
            lambda record: not (record.exc_info and storage_problem(record.exc_info[1]))
        )
    previous = sys.excepthook

    def show(kind: Any, error: BaseException, trace: Any) -> None:
        if "Event loop is closed" not in str(error):  # from a writer that has failed already
            previous(kind, error, trace)

    sys.excepthook = show


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, followed by its causes and contexts."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
