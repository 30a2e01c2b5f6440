"""How one checkpoint outlives the others: a copy that shares their files."""

import os
import shutil
from pathlib import Path


def set_apart(checkpoint: Path, folder: Path) -> None:
    """Makes `checkpoint`, a directory named by its step, the only one in `folder`.

    Files are hard links where the file system has them, so that nothing is written twice; the
    original may be deleted afterwards. The copy appears whole or not at all, before what it
    replaces goes. A checkpoint that is there already, or that no longer exists, changes nothing.
    """
    target = folder / checkpoint.name
    if not target.exists() and checkpoint.exists():
        partial = folder / f".{checkpoint.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(checkpoint, partial, copy_function=_link)
        partial.rename(target)
    if target.exists():
        for entry in folder.iterdir():
            if entry != target:
                shutil.rmtree(entry, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copy2(source, target)
