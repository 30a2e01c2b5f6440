"""Every notebook runs from top to bottom on a small run, without TensorFlow, and shows images."""

import base64
import contextlib
import dataclasses
import io
import os
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image, ImageSequence

from ganattn import methods
from ganattn.config import find, load
from ganattn.data import procedural
from ganattn.methods import Direction
from ganattn.methods.ugatit import UGATIT
from ganattn.runs.checkpoints import Checkpoints
from ganattn.state import TrainState
from ganattn.training import hooks
from ganattn.training.loop import train

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "launch" / "notebooks").glob("*.ipynb"))
SHOWN = {
    "explore_training": 7,
    "sample_faces": 7,
    "translate": 6,
}  # images that a notebook shows, at least
FOREIGN = ("tensorflow", "tensorflow_datasets", "tensorboard", "torch")
PROBE = f"import importlib.util, sys; print([n for n in {FOREIGN} if n in sys.modules])"


@dataclasses.dataclass(frozen=True)
class Still(UGATIT):
    """U-GAT-IT's generators, untrained: what the notebooks read comes from the frame."""

    directions = (Direction("a", "b"),)

    @classmethod
    def from_config(cls, config):
        full = super().from_config(config)
        groups = {"generator": full.groups["generator"]}
        networks = {name: full.networks[name] for name in groups["generator"]}
        return dataclasses.replace(full, networks=networks, groups=groups)

    def train_step(self, state, batch, draws=None):
        value = jnp.exp(-state.step / 4)
        metrics = {"generator/total": value, "discriminator/total": 1 - value}
        return state.replace(step=state.step + 1), metrics

    def panels(self, variables, batch, rng=None):
        output = self.generate(variables, {"image": batch["a"]}, "a2b", rng)
        columns = [("source", batch["a"]), ("attention", output.heatmap)]
        return OrderedDict(a2b=OrderedDict([*columns, ("translation", output.images)]))

    pictures = panels  # the earlier name


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """What a run leaves behind: two checkpoints, metrics, scores, rho and grids."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    config = load(find("ugatit"), "tiny")
    with config.unlocked():
        config.evaluation.every = 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procedural, "TRAIN_COUNT", 8)
        patch.setattr(procedural, "TEST_COUNT", 8)
        patch.setattr(hooks, "create_writer", lambda workdir: None)
        train(config, path, method=Still.from_config(config))
    return path


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A checkpoint of a generator from noise, with SPAP; filled, as drawing it compiles longer."""
    path = tmp_path_factory.mktemp("runs") / "samples"
    config = load(find("sndcgan"), "tiny")
    method = methods.create(config)
    shapes = jax.eval_shape(lambda key: method.initialize("generator", key), jax.random.key(0))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: random.normal(0, 0.5, x.shape).astype(x.dtype), shapes)
    variables["batch_stats"] = jax.tree.map(np.ones_like, variables["batch_stats"])
    variables = jax.device_put({"generator": variables})
    state = TrainState(jnp.zeros((), jnp.int32), jax.random.key(0), variables, {})
    with contextlib.closing(Checkpoints(path / "checkpoints")) as store:
        store.save(0, state, config)
    return path


@pytest.fixture
def execute(workdir, tmp_path):
    """Runs a notebook in a kernel that has no TensorFlow; returns it with its outputs."""
    for name in FOREIGN:
        (tmp_path / "blocked" / name).mkdir(parents=True)
        refusal = f"raise ImportError('{name} is not installed')\n"
        (tmp_path / "blocked" / name / "__init__.py").write_text(refusal)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "xla"))

    def run(name, **paths):
        book = nbformat.read(ROOT / "launch" / "notebooks" / f"{name}.ipynb", 4)
        book.cells.append(nbformat.v4.new_code_cell(PROBE))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), str(ROOT)]),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **{f"GANATTN_{key.upper()}": str(value) for key, value in paths.items()},
        }
        client = nbclient.NotebookClient(
            book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
        )
        return client.execute(env=environment)

    return run


def pictures(book):
    """All images in the outputs, PNG or inside HTML."""
    found = []
    for output in outputs(book):
        data = output.get("data", {})
        inside = re.findall(r'src="data:image/png;base64,([^"]+)"', data.get("text/html", ""))
        encoded = inside or [data[kind] for kind in ("image/png",) if kind in data]
        found += [np.asarray(Image.open(io.BytesIO(base64.b64decode(e)))) for e in encoded]
    return found


def outputs(book):
    return [output for cell in book.cells for output in cell.get("outputs", [])]


def check(book, name):
    """Images with content, no warnings, and nothing foreign loaded."""
    found = pictures(book)
    assert len(found) >= SHOWN[name]
    assert all(np.ptp(picture) > 50 for picture in found)
    streams = [output for output in outputs(book) if output.output_type == "stream"]
    assert [output.text for output in streams if output.name == "stderr"] == []
    assert streams[-1].text == "[]\n"
    return "".join(output.text for output in streams)


def test_translate(execute, workdir, tmp_path):
    authors = ROOT / "tests" / "golden" / "torch" / "ugatit_tiny.pt"
    folders = {"pictures": tmp_path / "in", "output": tmp_path / "out"}
    book = execute("translate", model=workdir, others=authors, **folders)
    text = check(book, "translate")
    assert "UGATIT at 32 x 32 pixels" in text and "8 images, such as 0.png" in text
    names = [f"{i}.png" for i in range(8)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


def test_explore_training(execute, workdir, tmp_path):
    other = shutil.copytree(workdir, tmp_path / "other", ignore=lambda *_: ["checkpoints"])
    text = check(execute("explore_training", run=workdir, others=other), "explore_training")
    assert "ugatit, step 4 of 4" in text


def test_sample_faces(execute, sampled):
    book = execute("sample_faces", run=sampled)
    assert "latent vectors of 4 uniform numbers" in check(book, "sample_faces")
    (animation,) = [o.data["image/gif"] for o in outputs(book) if "image/gif" in o.get("data", {})]
    frames = list(ImageSequence.Iterator(Image.open(io.BytesIO(base64.b64decode(animation)))))
    assert len(frames) == 30 and frames[0].size == (192, 192)


def test_every_notebook_is_tested():
    assert [path.stem for path in NOTEBOOKS] == sorted(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    assert outputs(book) == []
    assert {cell.get("execution_count") for cell in book.cells} == {None}
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
