"""PyTorch checkpoints (.pt, .pth) as numpy arrays, without torch and without running their code.

Both formats are read: the zip archive of torch 1.6 and later, and the earlier stream of pickles
followed by the raw storages. A pickle can call anything that it names, so names are
restricted to a closed list, which maps them to values that a pickle cannot alter; tensors are built
after it has been read.
"""

import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from ganattn.errors import ForeignFileError

ZIP_START = b"PK\x03\x04"
STREAM_MAGIC = 0x1950A86A20F9469CFC6C
REMEDY = "save {name: network.state_dict()} with torch.save"
SCALARS = (type(None), bool, int, float, complex, str, bytes)
DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def read_torch(path: str | os.PathLike) -> dict[Any, Any]:
    """Reads a checkpoint as nested plain dicts, with an array for each tensor or parameter.

    Arrays are read-only views of the file's storages; tensors that share a storage share memory.
    Numbers, strings, None, lists and tuples are returned unchanged. Raises ForeignFileError when
    the file is corrupt, is not a checkpoint, or contains anything else; OSError when it cannot be
    opened.
    """
    with open(path, "rb") as stream:
        try:
            return _read(stream)
        except _Refusal as error:
            problem = f"refused {error}, only tensors and plain containers are read: {REMEDY}"
            raise ForeignFileError(f"{os.fspath(path)}: {problem}") from error
        # On malformed bytes zipfile, pickle and numpy raise nearly anything.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            problem = f"corrupt, or not a PyTorch checkpoint ({reason}): copy it again, or {REMEDY}"
            raise ForeignFileError(f"{os.fspath(path)}: {problem}") from error


class _Refusal(Exception):
    """The file contains something outside the closed list; the message names it."""


class _StorageType(NamedTuple):
    """The stand-in for torch.FloatStorage and the other storage types."""

    dtype: np.dtype


class _Storage(NamedTuple):
    """A block of bytes that the file stores outside the pickle."""

    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """A view of a storage, as the pickle describes it; in elements, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Function:
    """A callable that the pickle cannot alter: plain functions and classes accept attributes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it alters a function")


class _OrderedDict(dict):
    """An OrderedDict without the attributes that `state_dict` sets on it (`_metadata`)."""

    def __setstate__(self, state: Any) -> None:
        """Ignores them."""


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    shape: tuple,
    strides: tuple,
    requires_grad: bool = False,
    hooks: dict | None = None,
    metadata: dict | None = None,
) -> _Tensor:
    """Both versions of torch's function: the first ends with the strides."""
    if metadata:
        raise _Refusal("a tensor that is conjugated or negated lazily")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: _Tensor, requires_grad: bool, hooks: dict) -> _Tensor:
    return tensor


ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Function(_OrderedDict),
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    **{(m, n): _StorageType(DTYPES[n]) for m in ("torch", "torch.cuda") for n in DTYPES},
}


class _ClosedUnpickler(pickle.Unpickler):
    """Resolves the names in ADMITTED and no others; collects the storages referred to, by key."""

    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="utf-8")  # of strings written by Python 2
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name of ADMITTED."""
        if (module, name) not in ADMITTED:
            raise _Refusal(repr(f"{module}.{name}"))
        return ADMITTED[module, name]

    def persistent_load(self, identifier: Any) -> _Storage:
        """The storage for ("storage", type, key, device, length), in old files with a view."""
        tag, kind, key, _, _, *view = identifier
        if tag != "storage" or not isinstance(kind, _StorageType):
            raise _Refusal(f"a reference to a {tag!r}")
        if any(view):
            raise _Refusal("a view of a storage")
        return self.storages.setdefault(key, _Storage(key, kind.dtype))


def _unpickle(stream: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """The next pickle of the stream, and the storages that it refers to."""
    start = stream.tell()
    # The unpickler allocates memory for the largest memo index in the file: without this check a
    # file of ten bytes could exhaust it.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name.endswith("PUT") and (argument or 0) > count:
            raise ValueError("a memo index is out of range")
    stream.seek(start)
    unpickler = _ClosedUnpickler(stream)
    return unpickler.load(), unpickler.storages


def _read(stream: BinaryIO) -> dict[Any, Any]:
    is_archive = stream.read(len(ZIP_START)) == ZIP_START
    stream.seek(0)
    root, fetch = _read_archive(stream) if is_archive else _read_stream(stream)
    if not isinstance(root, dict):
        raise _Refusal(f"{_kind(root)} alone")
    return _resolve(root, fetch, {})


def _read_archive(stream: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    """The root of a zip checkpoint, and a function from a storage's key to its bytes."""
    archive = zipfile.ZipFile(stream)
    # Members that are stored and do not overlap; others may expand to any size.
    if sum(member.file_size for member in archive.infolist()) > _size(stream):
        raise ValueError("its members are compressed or overlap")
    names = archive.namelist()
    roots = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("a zip archive without FOLDER/data.pkl")
    folder = roots[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("a big-endian machine wrote it")
    root, _ = _unpickle(io.BytesIO(archive.read(roots[0])))
    return root, cache(lambda key: archive.read(f"{folder}data/{key}"))


def _read_stream(stream: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    """As `_read_archive`, for the older format: five pickles, then each storage with its length."""
    magic, _ = _unpickle(stream)
    if magic != STREAM_MAGIC:
        raise ValueError("its first bytes are those of neither format")
    _unpickle(stream)  # version of the format, always 1001
    machine, _ = _unpickle(stream)
    if not machine["little_endian"]:
        raise ValueError("a big-endian machine wrote it")
    root, storages = _unpickle(stream)
    keys, _ = _unpickle(stream)
    contents = {}
    for key in keys:
        if key not in storages:
            raise ValueError(f"no tensor uses storage {key}")
        (length,) = struct.unpack("<q", stream.read(8))
        size = length * storages[key].dtype.itemsize
        if not 0 <= size <= _size(stream) - stream.tell():
            raise ValueError(f"storage {key} is cut off")
        contents[key] = stream.read(size)
    return root, contents.__getitem__


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _resolve(node: Any, fetch: Callable[[str], bytes], done: dict[int, Any]) -> Any:
    """The tree with arrays for tensors and plain dicts; `done` maps resolved nodes by their id."""
    if isinstance(node, SCALARS):
        return node
    if id(node) in done:
        return done[id(node)]
    if isinstance(node, _Tensor):
        result: Any = _array(node, fetch(node.storage.key))
    elif isinstance(node, dict):
        for key in node:
            if not isinstance(key, SCALARS):
                raise _Refusal(f"{_kind(key)} as a key")
        result = {key: _resolve(value, fetch, done) for key, value in node.items()}
    elif type(node) in (list, tuple):
        result = type(node)(_resolve(value, fetch, done) for value in node)
    else:
        raise _Refusal(_kind(node))
    done[id(node)] = result
    return result


def _kind(node: Any) -> str:
    return f"a {type(node).__name__.lstrip('_')}"


def _array(tensor: _Tensor, content: bytes) -> np.ndarray:
    """A view of `content`; raises ValueError for a view beyond its end."""
    dtype, offset = tensor.storage.dtype, tensor.offset
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or min(offset, *shape, *strides, 0) < 0:
        raise ValueError(f"a tensor has offset {offset}, shape {shape} and strides {strides}")
    steps = ((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    end = offset + sum(steps) + 1 if all(shape) else offset
    if end * dtype.itemsize > len(content):
        raise ValueError(f"a tensor extends beyond storage {tensor.storage.key}")
    byte_strides = [stride * dtype.itemsize for stride in strides]
    return np.ndarray(shape, dtype, content, offset * dtype.itemsize, byte_strides)
