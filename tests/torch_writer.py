"""Writes files as torch.save does, without torch: dictionaries of arrays in the zip format."""

import pickle
import zipfile

import numpy as np

STORAGES = {"float32": "Float", "float64": "Double", "int64": "Long"}


def write_torch(path, tree):
    """tree: nested dictionaries with arrays as leaves."""
    arrays = []
    root = b"\x80\x02" + _value(tree, arrays) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", root)
        archive.writestr("archive/byteorder", "little")
        for i, array in enumerate(arrays):
            archive.writestr(f"archive/data/{i}", array.tobytes())


def _value(value, arrays):
    if isinstance(value, dict):
        entries = b"".join(_part(k) + _value(v, arrays) for k, v in value.items())
        return b"}(" + entries + b"u"
    if not isinstance(value, np.ndarray):
        return _part(value)
    kind = f"ctorch\n{STORAGES[str(value.dtype)]}Storage\n".encode()
    key = _part(str(len(arrays)))
    storage = b"(" + _part("storage") + kind + key + _part("cpu") + _part(value.size) + b"tQ"
    strides = tuple(int(np.prod(value.shape[i + 1 :])) for i in range(value.ndim))
    view = _part(0) + _part(value.shape) + _part(strides)
    arrays.append(np.ascontiguousarray(value))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + _part(False) + b"}tR"


def _part(value):
    """The opcodes that push a value, without the pickle's frame."""
    return pickle.dumps(value, protocol=2)[2:-1]
