"""Storage of runs: buckets through etils, full disks, folders without permissions."""

import contextlib
import gc
import json
import os
import posixpath
import resource
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from etils.epath import backend, gpath
from PIL import Image

from ganattn import errors, figures, parallel, processes
from ganattn.errors import CheckpointError, ConfigError, DataError
from ganattn.report import write_report
from ganattn.runs import storage
from ganattn.runs.checkpoints import Checkpoints
from ganattn.runs.results import append_results, read_results
from ganattn.runs.workdir import JsonLines
from ganattn.state import TrainState


class Bucket(backend._OsPathBackend):
    """gs://NAME/... in a local folder; like a bucket it knows no appending."""

    def __init__(self, root):
        self._root = os.fspath(root)

    def open(self, path, mode):
        assert "a" not in mode
        if "w" in mode:  # folders are only names
            os.makedirs(os.path.dirname(self._local(path)), exist_ok=True)
        return super().open(self._local(path), mode)

    def _local(self, path):
        return posixpath.join(self._root, os.fspath(path).removeprefix("gs://"))


for _name in ("exists", "isdir", "listdir", "mkdir", "makedirs", "rmtree", "remove", "stat"):

    def _on_local(self, path, *args, _name=_name, **kwargs):
        return getattr(backend._OsPathBackend, _name)(self, self._local(path), *args, **kwargs)

    setattr(Bucket, _name, _on_local)
for _name in ("rename", "replace"):

    def _move(self, path, target, _name=_name):
        return getattr(backend._OsPathBackend, _name)(self, self._local(path), self._local(target))

    setattr(Bucket, _name, _move)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A workdir gs://bucket/run whose files lie in tmp_path/bucket/run."""
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", Bucket(tmp_path))
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    return storage.locate("gs://bucket/run")


def test_lines_in_a_bucket(bucket, tmp_path, monkeypatch):
    here = tmp_path / "bucket" / "run" / "metrics.jsonl"
    lines = JsonLines(bucket / "metrics.jsonl", 0)
    lines.write({"step": 1})
    assert here.read_text() == ""  # not rewritten for each line
    lines.flush()
    assert here.read_text() == '{"step": 1}\n'
    lines.close()
    assert here.read_text() == '{"step": 1}\n'
    monkeypatch.setattr("ganattn.runs.workdir._REWRITTEN_AFTER", 0.0)
    lines = JsonLines(bucket / "metrics.jsonl", 1)
    lines.write({"step": 2})
    assert [json.loads(line)["step"] for line in here.read_text().splitlines()] == [1, 2]
    lines.close()
    lines = JsonLines(bucket / "metrics.jsonl", 1)
    lines.close()
    assert (lines.last, here.read_text()) == ({"step": 1}, '{"step": 1}\n')


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    for name in (".config.json.7.partial", ".a2b_0000002.7.png", ".hidden", "a2b_0000002.png"):
        (tmp_path / name).touch()
    storage.remove_partial(tmp_path)
    storage.remove_partial(tmp_path / "absent")
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "a2b_0000002.png"}


def test_a_check_that_fails_leaves_the_file_as_it_was(tmp_path):
    def refuse(file):
        assert file.read_text() == "new"
        raise DataError("no")

    (tmp_path / "file").write_text("old")
    with pytest.raises(DataError, match="no"):
        storage.write_atomic(tmp_path / "file", "new", refuse)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "old")]


def test_files_and_pictures_in_a_bucket(bucket, tmp_path):
    storage.write_atomic(bucket / "config.json", "{}")
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    figures.save_image(bucket / "pictures" / "a.png", picture)
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"bucket/run/config.json", "bucket/run/pictures/a.png"}
    with Image.open(tmp_path / "bucket/run/pictures/a.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), picture)
    storage.remove_tree(bucket / "pictures")
    assert not (tmp_path / "bucket/run/pictures").exists()


def test_only_committed_checkpoints_of_a_bucket_count(bucket, tmp_path):
    for step in (1, 2):
        (tmp_path / "bucket/run/checkpoints" / str(step)).mkdir(parents=True)
    (tmp_path / "bucket/run/checkpoints/1/commit_success.txt").touch()
    assert Checkpoints(bucket / "checkpoints").steps() == [1]


def test_the_best_checkpoint_of_a_bucket(bucket, tmp_path):
    here = tmp_path / "bucket/run/checkpoints"
    for step in (1, 2):
        (here / str(step) / "state").mkdir(parents=True)
        (here / str(step) / "state" / "numbers").write_text(str(step))
        (here / str(step) / "commit_success.txt").touch()
    store = Checkpoints(bucket / "checkpoints")
    (here / "best" / "1").mkdir(parents=True)  # of a process that was killed while it copied
    assert store.best() is None
    for step in (1, 2):
        store.keep_best(step)
        store.wait()
        assert (store.best(), os.listdir(here / "best")) == (step, [str(step)])
        assert (here / "best" / str(step) / "state" / "numbers").read_text() == str(step)
    shutil.rmtree(here / "2")
    store.keep_best(2)
    store.wait()
    assert store.best() == 2


def test_results_and_a_report_in_a_bucket(bucket, tmp_path):
    pytest.importorskip("matplotlib")
    for step in (1, 2):
        append_results(bucket, [{"step": step, "metric": "fid", "value": 1.0 / step}])
    assert [result["value"] for result in read_results(bucket)] == [1.0, 0.5]
    picture = np.zeros((8, 8, 3), np.uint8)
    figures.save_image(bucket / "pictures" / "a2b_0000002.png", picture)
    write_report(bucket)
    page = (tmp_path / "bucket/run/report/index.html").read_text()
    assert page.count("<img") == 2 and (tmp_path / "bucket/run/report/metrics.png").exists()


def test_a_bucket_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    for name in ("gs://bucket/run", "moon://bucket/run"):
        with pytest.raises(ConfigError, match=f"workdir {name} cannot be reached") as error:
            storage.locate(name)
        assert "\n" not in str(error.value)


def test_local_paths_stay_what_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.locate("run") == tmp_path / "run"
    assert storage.locate(epath.Path(tmp_path / "run")) == tmp_path / "run"


def test_a_full_disk_names_the_file_and_leaves_whole_lines(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl", 0)
    lines.write({"step": 1})
    with open("/dev/full", "ab", buffering=0) as full:
        kept, lines._file = lines._file, full
        with pytest.raises(OSError, match="No space left on device") as error:
            lines.write({"step": 2})
        lines._file = kept
    lines.close()
    assert errors.explain(error.value) == f"{tmp_path / 'metrics.jsonl'}: No space left on device"
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


@contextlib.contextmanager
def files_no_larger_than(size):
    """A real refusal to write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_checkpoint_that_finds_no_room_is_one_line_and_the_older_one_stays(tmp_path):
    mesh = parallel.create_mesh(jax.devices()[:1])
    variables = {"generator": {"params": {"kernel": np.random.default_rng(0).random((200, 200))}}}
    create = parallel.replicate(
        lambda: TrainState(
            jnp.zeros((), jnp.int32),
            jax.random.key(0),
            jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables),
            {},
        ),
        mesh,
    )
    store = Checkpoints(tmp_path / "checkpoints")
    store.save(1, create(), {})
    store.wait()
    with files_no_larger_than(50_000), pytest.raises(CheckpointError) as error:
        store.save(2, create(), {})
        store.wait()
    message = str(error.value)
    assert "(File too large); the newest intact one is 1" in message and "\n" not in message
    store.close()
    again = Checkpoints(tmp_path / "checkpoints")
    assert again.steps() == [1]
    state, _ = again.restore(jax.eval_shape(create), mesh)
    again.save(2, state, {})
    again.close()
    assert again.steps() == [1, 2]
    del store, error
    gc.collect()  # what the failed writer leaves behind complains here, not in a later test


def test_what_is_explained_and_what_is_a_defect():
    full = ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device [28]")
    try:
        try:
            raise full
        except ValueError as error:
            raise RuntimeError("occurred asynchronously") from error
    except RuntimeError as error:
        assert "No space left on device: free some space" in errors.explain(error)
    assert errors.explain(ValueError("RESOURCE_EXHAUSTED: Out of memory")) is None
    try:
        try:
            Path("/nowhere/at/all").read_text()
        finally:
            raise KeyError("a defect")
    except KeyError as error:
        assert errors.explain(error) is None
    denied = PermissionError(13, "Permission denied", "x")
    assert (errors.storage_problem(denied), errors.explain(denied)) == (
        "Permission denied",
        "x: Permission denied",
    )
    try:
        try:
            raise DataError("no folder x: set it")
        finally:
            raise OSError(28, "No space left on device")
    except OSError as error:
        assert errors.explain(error) == "no folder x: set it"


def test_one_process_agrees_with_itself(tmp_path):
    processes.agree("text", "the config", "")
    processes.check_shared(tmp_path / "new")
    assert processes.gather_text("text") == ["text"]
    assert not (tmp_path / "new").exists()
