"""Preserves one checkpoint: a copy that shares the files of the original where possible."""

import os
import shutil
from pathlib import Path

from ganattn.runs.storage import is_remote, remove_tree

COMMITTED = "commit_success.txt"  # the last file that Orbax writes into a checkpoint in a bucket


def preserve(checkpoint: Path, folder: Path) -> None:
    """Makes `checkpoint`, a directory named by its step, the only one in `folder`.

    Files are hard links where the file system supports them, so nothing is written twice; the
    original may be deleted afterwards. The copy appears complete or not at all (in a bucket, which
    cannot rename, the commit file is copied last), and before the previous one is removed. Does
    nothing if the checkpoint is already there or no longer exists.
    """
    target = folder / checkpoint.name
    if not is_complete(target) and checkpoint.exists():
        if is_remote(folder):
            _copy(checkpoint, target)
        else:
            partial = folder / f".{checkpoint.name}.partial"
            remove_tree(partial)
            shutil.copytree(checkpoint, partial, copy_function=_link)
            partial.rename(target)
    if is_complete(target):
        for entry in list(folder.iterdir()):
            if entry.name != target.name:
                remove_tree(entry)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint has been written to its end."""
    # Orbax renames a local directory when it is complete, and marks one in a bucket.
    return (checkpoint / COMMITTED if is_remote(checkpoint) else checkpoint).exists()


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name == COMMITTED):
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links
        shutil.copy2(source, target)
