"""Reading PyTorch checkpoints: every type and layout, and nothing that a crafted file could do."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ganattn.errors import ForeignFileError
from ganattn.interop import torch_files
from ganattn.interop.torch_files import STREAM_MAGIC, read_torch
from ganattn.interop.torch_writer import write_torch

FORMATS = ("zip", "legacy")
STORAGE = np.arange(12, dtype="<f4")
INTEL = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


@pytest.fixture
def folder(golden_folder) -> Path:
    return golden_folder / "torch"


def part(value) -> bytes:
    """The opcodes that push a value, without the pickle's frame."""
    return pickle.dumps(value, protocol=2)[2:-1]


def dump(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def storage(key="0", kind=b"ctorch\nFloatStorage\n", tag="storage", view=b"") -> bytes:
    return b"(" + part(tag) + kind + part(key) + part("cpu") + part(12) + view + b"tQ"


def tensor(offset=0, shape=(12,), strides=(1,), metadata=b"", **of_storage) -> bytes:
    view = part(offset) + part(shape) + part(strides)
    rest = part(False) + b"}" + metadata
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(**of_storage) + view + rest + b"tR"


def entry(opcodes: bytes) -> bytes:
    """The pickle of {"x": value}."""
    return dump(b"}" + part("x") + opcodes + b"s")


def write(path: Path, form: str, root: bytes, machine=INTEL, keys=None, magic=STREAM_MAGIC):
    """A checkpoint whose root pickle is given, with one storage of twelve float32."""
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", root)
            archive.writestr("archive/byteorder", "little" if machine is INTEL else "big")
            archive.writestr("archive/data/0", STORAGE.tobytes())
        return
    if keys is None:
        keys = ["0"] if b"Storage" in root else []
    frame = [pickle.dumps(value, 2) for value in (magic, 1001, machine)]
    content = struct.pack("<q", len(STORAGE)) + STORAGE.tobytes()
    path.write_bytes(b"".join([*frame, root, pickle.dumps(keys, 2), content]))


def refusal(path: Path) -> str:
    with pytest.raises(ForeignFileError) as caught:
        read_torch(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.count("\n") == 0
    assert "torch.save" in message
    return message


@pytest.mark.parametrize("form", FORMATS)
def test_reads_what_torch_saved(folder, form):
    found = read_torch(folder / f"{form}.pt")
    expected = np.load(folder / "expected.npz")
    names = set()
    for outer in ("network", "tensors"):
        assert type(found[outer]) is dict
        for name, array in found[outer].items():
            wide = array.dtype == ml_dtypes.bfloat16
            key = f"{outer}/{name}{'@bfloat16' if wide else ''}"
            names.add(key)
            same_type = array.astype(np.float32) if wide else array
            np.testing.assert_array_equal(same_type, expected[key], strict=True)
            assert not array.flags.writeable
    assert names == set(expected.files)
    assert (found["step"], found["loss"], found["name"]) == (12345, 0.25, "ugatit")
    assert (found["best"], found["betas"]) == (None, (0.5, 0.999))
    assert found["history"] == [1, "two", [3.0, {"lr": np.float32(0.5)}]]


@pytest.mark.parametrize("form", FORMATS)
def test_tensors_of_one_storage_share_its_memory(folder, form):
    tensors = read_torch(folder / f"{form}.pt")["tensors"]
    assert np.shares_memory(tensors["transposed"], tensors["row"])
    assert not np.shares_memory(tensors["transposed"], tensors["half"])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, STORAGE),
        ({"offset": 5, "shape": (2, 3), "strides": (3, 1)}, STORAGE[5:11].reshape(2, 3)),
        ({"offset": 11, "shape": (), "strides": ()}, STORAGE[11]),
        ({"offset": 12, "shape": (0, 7), "strides": (7, 1)}, np.zeros((0, 7), "<f4")),
        ({"kind": b"ctorch.cuda\nFloatStorage\n"}, STORAGE),
    ],
    ids=["whole", "window", "last element", "empty", "saved from a GPU by old versions"],
)
def test_tensors_within_their_storage(tmp_path, form, arguments, expected):
    write(tmp_path / "x.pt", form, entry(tensor(**arguments)))
    np.testing.assert_array_equal(read_torch(tmp_path / "x.pt")["x"], expected, strict=True)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"offset": 1}, "extends beyond storage 0"),
        ({"offset": 2**62}, "extends beyond storage 0"),
        ({"offset": 13, "shape": (0,)}, "extends beyond storage 0"),
        ({"shape": (13,)}, "extends beyond storage 0"),
        ({"strides": (2,)}, "extends beyond storage 0"),
        ({"shape": (3, 4), "strides": (5, 1)}, "extends beyond storage 0"),
        ({"kind": b"ctorch\nDoubleStorage\n"}, ""),
        ({"offset": -1}, "has offset -1"),
        ({"shape": (-2,)}, "shape (-2,)"),
        ({"strides": (-1,)}, "strides (-1,)"),
        ({"shape": (3, 4), "strides": (4,)}, "strides (4,)"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, ""),
        ({"offset": "0"}, ""),
        ({"key": "../0"}, ""),
    ],
    ids=str,
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, form, arguments, phrase):
    write(tmp_path / "x.pt", form, entry(tensor(**arguments)))
    message = refusal(tmp_path / "x.pt")
    assert "corrupt" in message
    assert phrase in message


class Bomb:
    """Runs a command when an open unpickler reads it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_the_bomb_works_in_an_open_unpickler(tmp_path):
    pickle.loads(pickle.dumps({"x": Bomb(tmp_path / "hit")}, 2))
    assert (tmp_path / "hit").exists()


@pytest.mark.parametrize(
    ("form", "place"),
    [("zip", "root"), *(("legacy", place) for place in ("root", "magic", "machine", "keys"))],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_not_run(tmp_path, form, place, protocol):
    path, bomb = tmp_path / "x.pt", Bomb(tmp_path / "hit")
    root = pickle.dumps({"x": bomb}, protocol) if place == "root" else entry(tensor())
    if place == "keys":
        write(path, form, root, keys=[bomb])
    else:
        write(path, form, root, **({} if place == "root" else {place: bomb}))
    assert f"refused '{os.system.__module__}.system'" in refusal(path)
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("opcodes", "phrase"),
    [
        (b"cbuiltins\neval\n", "'builtins.eval'"),
        (b"ctorch.nn.modules.conv\nConv2d\n", "'torch.nn.modules.conv.Conv2d'"),
        (b"ctorch\nload\n", "'torch.load'"),
        (b"ccollections\nOrderedDict.fromkeys\n", "'collections.OrderedDict.fromkeys'"),
        (part("num\npy") + part("x") + b"\x93", r"'num\npy.x'"),
        (storage(), "a Storage"),
        (b"ccollections\nOrderedDict\n", "a Function"),
        (tensor(tag="module"), "a reference to a 'module'"),
        (tensor(metadata=part({"neg": True})), "negated"),
        (tensor(view=part(("1", 0, 4))), "a view of a storage"),
        (b"}" + tensor() + b"Ns", "a Tensor as a key"),
        (b"\x8f", "a set"),
    ],
)
def test_what_is_not_on_the_list_is_refused(tmp_path, form, opcodes, phrase):
    write(tmp_path / "x.pt", form, entry(opcodes))
    message = refusal(tmp_path / "x.pt")
    assert phrase in message
    assert "refused" in message


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nIntStorage\n"])
@pytest.mark.parametrize("state", [part({"a": 1}), part((None, {"_call": 1, "dtype": 1}))])
def test_a_pickle_cannot_alter_the_reader(tmp_path, form, name, state):
    before = dict(torch_files.ADMITTED)
    write(tmp_path / "x.pt", form, entry(name + state + b"b"))
    refusal(tmp_path / "x.pt")
    assert before == torch_files.ADMITTED
    write(tmp_path / "x.pt", form, entry(tensor()))
    np.testing.assert_array_equal(read_torch(tmp_path / "x.pt")["x"], STORAGE)


def nested(depth: int) -> bytes:
    return dump(b"}" + part("x") + b"]" * depth + b"a" * (depth - 1) + b"s")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("root", "phrase"),
    [
        (dump(tensor()), "refused a Tensor alone"),
        (dump(part([1])), "refused a list alone"),
        (nested(100_000), "recursion"),
        (dump(b"}" + part("x") + b"]r\xff\xff\xff\x7fs"), "memo"),
        (b"}", "corrupt"),
        (b"", "corrupt"),
    ],
    ids=["tensor", "list", "nested deeply", "memo index", "no end", "nothing"],
)
def test_a_root_that_is_no_dict_of_tensors(tmp_path, form, root, phrase):
    write(tmp_path / "x.pt", form, root)
    assert phrase in refusal(tmp_path / "x.pt")


def compressed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", entry(tensor()))
        archive.writestr("archive/data/0", bytes(10_000_000))
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=STORAGE)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"P", b"PK\x03\x04", b"a text\n", bytes(1000), pickle.dumps({}), compressed(), arrays()],
    ids=["empty", "byte", "zip start", "text", "zeros", "pickle", "zip bomb", "npz"],
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    assert "corrupt, or not a PyTorch checkpoint" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("form", FORMATS)
def test_big_endian_files_are_refused(tmp_path, form):
    write(tmp_path / "x.pt", form, entry(tensor()), machine={**INTEL, "little_endian": False})
    assert "big-endian" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("keys", [["1"], [], ["0", "0"], None, [["0"]]], ids=str)
def test_a_wrong_list_of_storages_is_refused(tmp_path, keys):
    listed = pickle.dumps(keys, 2)
    write(tmp_path / "x.pt", "legacy", entry(tensor()), keys=["0"])
    content = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(content.replace(pickle.dumps(["0"], 2), listed))
    assert "corrupt" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("length", [13, -1, 2**62])
def test_a_storage_longer_than_the_file_is_refused(tmp_path, length):
    write(tmp_path / "x.pt", "legacy", entry(tensor()))
    content = (tmp_path / "x.pt").read_bytes()
    start = len(content) - STORAGE.nbytes - 8
    (tmp_path / "x.pt").write_bytes(content[:start] + struct.pack("<q", length) + content[-48:])
    assert "storage 0 is cut off" in refusal(tmp_path / "x.pt")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch(tmp_path / "x.pt")


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_cut_off_is_refused(folder, tmp_path, form):
    content = (folder / f"{form}.pt").read_bytes()
    for length in range(0, len(content), 61):
        (tmp_path / "x.pt").write_bytes(content[:length])
        refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("form", FORMATS)
def test_a_flipped_bit_reads_or_is_refused(folder, tmp_path, form):
    content = (folder / f"{form}.pt").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(content), 300, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        (tmp_path / "x.pt").write_bytes(flipped)
        try:
            read_torch(tmp_path / "x.pt")
        except ForeignFileError:
            refused += 1
    assert refused > 30


def test_writes_what_it_reads(tmp_path):
    """Every type and shape; torch requires the version of the format and uncompressed members."""
    numbers = np.arange(6).reshape(2, 3)
    kinds = {str(i): numbers.astype(kind) for i, kind in enumerate(torch_files.DTYPES.values())}
    shapes = {"turned": numbers.T, "scalar": np.int64(7), "empty": np.zeros((2, 0), ">f4")}
    shapes["flipped"] = numbers.reshape(2, 3, 1)[..., ::-1]  # a negative stride, of length 1
    write_torch(tmp_path / "x.pt", {"kinds": kinds, "deep": {"shapes": shapes}})
    found = read_torch(tmp_path / "x.pt")
    for name, array in {**kinds, **shapes}.items():
        read = {**found["kinds"], **found["deep"]["shapes"]}[name]
        np.testing.assert_array_equal(read, array)
        assert read.dtype == np.asarray(array).dtype.newbyteorder("=") and read.shape == array.shape
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert archive.read("archive/version") == b"3\n"
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    with pytest.raises(TypeError, match="torch has no storage for complex64"):
        write_torch(tmp_path / "y.pt", {"x": np.zeros(1, np.complex64)})
