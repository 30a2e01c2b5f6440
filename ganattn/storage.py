"""Where a run lies: a local folder, or a bucket that etils reaches (gs://...)."""

import contextlib
import os
from pathlib import Path
from typing import cast

from etils import epath

from ganattn.errors import ConfigError


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
