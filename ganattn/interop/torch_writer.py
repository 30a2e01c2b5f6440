"""Dictionaries of arrays as files that `torch.load` reads, written without torch.

The format is the zip archive of torch 1.6 and later: a pickle that refers to each tensor's storage,
and the storages beside it.
"""

import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganattn.interop.torch_files import DTYPES

_STORAGES = {dtype: name for name, dtype in DTYPES.items()}
_FOLDER = "archive"
_VERSION = b"3\n"  # of the format; torch requires it


def write_torch(path: str | os.PathLike, tree: Mapping[str, Any]) -> None:
    """Writes nested dictionaries of arrays, as `torch.save` writes state_dicts.

    Raises TypeError for an array of a type that torch's storages do not have.
    """
    arrays: list[np.ndarray] = []
    root = b"\x80\x02" + _value(tree, arrays) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{_FOLDER}/data.pkl", root)
        archive.writestr(f"{_FOLDER}/byteorder", b"little")
        for i, array in enumerate(arrays):
            archive.writestr(f"{_FOLDER}/data/{i}", array.tobytes())
        archive.writestr(f"{_FOLDER}/version", _VERSION)


def _value(value: Any, arrays: list[np.ndarray]) -> bytes:
    """The opcodes that push a dictionary or an array, whose storage is appended to `arrays`."""
    if isinstance(value, Mapping):
        entries = b"".join(_plain(key) + _value(x, arrays) for key, x in value.items())
        return b"}(" + entries + b"u"
    array = np.asarray(value, order="C")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype not in _STORAGES:
        raise TypeError(f"torch has no storage for {array.dtype}")
    kind = f"ctorch\n{_STORAGES[array.dtype]}\n".encode()
    storage = _plain("storage") + kind + _plain(str(len(arrays))) + _plain("cpu")
    storage = b"(" + storage + _plain(array.size) + b"tQ"
    # Not array.strides, which are arbitrary along axes of length 1.
    strides = tuple(math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
    view = _plain(0) + _plain(array.shape) + _plain(strides)
    hooks = b"ccollections\nOrderedDict\n)R"
    arrays.append(array)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + _plain(False) + hooks + b"tR"


def _plain(value: Any) -> bytes:
    """The opcodes that push a string, a number or a tuple, without the pickle's frame."""
    return pickle.dumps(value, protocol=2)[2:-1]
