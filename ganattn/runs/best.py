"""How one checkpoint outlives the others: a copy that shares their files where that is possible."""

import os
import shutil
from pathlib import Path

from ganattn.runs.storage import is_remote, remove_tree

COMMITTED = "commit_success.txt"  # what Orbax writes last into a checkpoint in a bucket


def set_apart(checkpoint: Path, folder: Path) -> None:
    """Makes `checkpoint`, a directory named by its step, the only one in `folder`.

    Files are hard links where the file system has them, so that nothing is written twice; the
    original may be deleted afterwards. The copy appears whole or not at all (in a bucket, where
    nothing is renamed, the file that says so is copied last), before what it replaces goes. A
    checkpoint that is there already, or that no longer exists, changes nothing.
    """
    target = folder / checkpoint.name
    if not _whole(target) and checkpoint.exists():
        if is_remote(folder):
            _copy(checkpoint, target)
        else:
            partial = folder / f".{checkpoint.name}.partial"
            remove_tree(partial)
            shutil.copytree(checkpoint, partial, copy_function=_link)
            partial.rename(target)
    if _whole(target):
        for entry in list(folder.iterdir()):
            if entry.name != target.name:
                remove_tree(entry)


def _whole(checkpoint: Path) -> bool:
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
    except OSError:  # not every file system has links
        shutil.copy2(source, target)
