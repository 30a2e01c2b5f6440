"""Checkpoints of TensorFlow 1's Saver as numpy arrays; TensorFlow is imported when one is read.

A checkpoint is PREFIX.index with its PREFIX.data-00000-of-00001, and often PREFIX.meta; the file
`checkpoint` beside them names the newest one of a folder.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganattn.errors import ForeignFileError

_SLOTS = ("/Adam", "/Adam_1")  # the optimizer's averages, beside the variable that they belong to


def find_tensorflow(path: str | os.PathLike) -> Path | None:
    """The prefix of a TensorFlow checkpoint, or None for a path that is none.

    path: the prefix, one of its files, or a folder with the file `checkpoint` or one index. The
    newest checkpoint of a folder counts, also after the folder was moved.
    """
    path = Path(path)
    if path.is_dir():
        indices = sorted(path.glob("*.index"))
        newest = _newest(path / "checkpoint")
        prefix = path / newest if newest else indices[0] if len(indices) == 1 else None
        return prefix if prefix and _index(prefix).exists() else None
    prefix = path.with_suffix("") if path.suffix in (".index", ".meta") else path
    prefix = prefix.with_suffix("") if prefix.suffix.startswith(".data-") else prefix
    return prefix if _index(prefix).exists() else None


def read_tensorflow(
    prefix: str | os.PathLike, networks: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """The variables below each network's scope by the rest of their names, {} networks left out.

    The optimizer's variables are not read. Raises ForeignFileError for a corrupt checkpoint, and
    for one without any of the networks, or where TensorFlow is missing.
    """
    tf = _tensorflow()
    found: dict[str, dict[str, np.ndarray]] = {}
    try:
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        names = sorted(reader.get_variable_to_shape_map())
        for network in networks:
            for name in names:
                if name.startswith(f"{network}/") and not name.endswith(_SLOTS):
                    key = name.removeprefix(f"{network}/")
                    found.setdefault(network, {})[key] = np.asarray(reader.get_tensor(name))
    except Exception as error:  # TensorFlow raises nearly anything for corrupt files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ForeignFileError(
            f"{prefix}: corrupt, or not a TensorFlow checkpoint ({reason}): copy its .index and "
            ".data files again"
        ) from error
    if not found:
        raise ForeignFileError(
            f"{prefix} has no variables of {', '.join(networks)}: give a checkpoint of the "
            "authors' code"
        )
    return found


def write_tensorflow(prefix: str | os.PathLike, networks: Mapping[str, Mapping]) -> None:
    """The inverse of `read_tensorflow`, and the file `checkpoint`; creates no folder.

    Without the optimizer's variables: their Saver must restore the others alone.
    """
    tf, prefix = _tensorflow(), Path(prefix)
    arrays = {f"{n}/{key}": x for n, network in networks.items() for key, x in network.items()}
    values = [tf.constant(np.ascontiguousarray(x)) for x in arrays.values()]
    tf.raw_ops.SaveV2(
        prefix=os.fspath(prefix.absolute()),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=values,
    )
    (prefix.parent / "checkpoint").write_text(f'model_checkpoint_path: "{prefix.name}"\n')


def _tensorflow() -> Any:
    """TensorFlow, kept off the accelerators."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ForeignFileError(
            f"TensorFlow checkpoints need TensorFlow ({error}): pip install 'ganattn[tf]'"
        ) from None
    tf.config.set_visible_devices([], "GPU")
    return tf


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _newest(file: Path) -> str | None:
    """The name of the checkpoint that a file `checkpoint` names first, without its folder."""
    if not file.is_file():
        return None
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        field, _, value = line.partition(":")
        if field.strip() == "model_checkpoint_path":
            return value.strip().strip('"').replace("\\", "/").rsplit("/", 1)[-1]
    return None
