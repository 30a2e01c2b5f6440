"""Label maps to pictures, as notebooks and the command line do it."""

import jax
import numpy as np
import pytest
from PIL import Image
from reference import quick_jit

from ganattn import methods
from ganattn.cli import main
from ganattn.config import find, load
from ganattn.errors import ConfigError, DataError
from ganattn.inference.synthesizer import Synthesizer
from ganattn.runs.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    config = load(find("dagan"), "tiny,gaugan")
    with config.unlocked():
        config.method.width = 2
    method = methods.create(config)
    store = Checkpoints(path / "checkpoints")
    store.save(0, quick_jit(method.create_state)(jax.random.key(0)), config)
    store.close()
    random = np.random.default_rng(0)
    for kind, high in (("labels", 4), ("instances", 3)):
        (path / kind).mkdir()
        for i in range(2):
            ids = random.integers(0, high, (40, 50), np.uint8)
            Image.fromarray(ids).save(path / kind / f"{i}.png")
    picture = random.integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(picture).save(path / "style.jpg")
    return path


@pytest.fixture(scope="module")
def synthesizer(workdir):
    return Synthesizer.from_workdir(workdir)


def maps(workdir, kind):
    return [workdir / kind / f"{i}.png" for i in range(2)]


def test_pictures_attention_and_styles(workdir, synthesizer):
    labels, instances = maps(workdir, "labels"), maps(workdir, "instances")
    plain = synthesizer(labels, instances)
    assert plain.images.shape == (2, 32, 32, 3) and plain.images.dtype == np.uint8
    assert plain.spatial.shape == (2, 32, 32, 1) and plain.channel.shape == (2, 1, 2, 1)
    assert plain.heatmaps.shape == plain.images.shape
    assert plain.figure().size[0] > 3 * 128 and plain._repr_html_().startswith("<img")
    one = synthesizer(np.asarray(Image.open(labels[0])), np.asarray(Image.open(instances[0])))
    np.testing.assert_array_equal(one.images[0], plain.images[0])
    styled = {
        "seed": synthesizer(labels, instances, seed=1).images,
        "again": synthesizer(labels, instances, seed=1).images,
        "other": synthesizer(labels, instances, seed=2).images,
        "picture": synthesizer(labels, instances, styles=workdir / "style.jpg").images,
    }
    np.testing.assert_array_equal(styled["seed"], styled["again"])
    for name in ("other", "picture"):
        assert (styled["seed"] != styled[name]).any()


def test_what_does_not_fit_is_named(workdir, synthesizer):
    labels = maps(workdir, "labels")
    with pytest.raises(DataError, match="trained with instance maps"):
        synthesizer(labels)
    with pytest.raises(DataError, match="as many instance maps"):
        synthesizer(labels, labels[0])
    with pytest.raises(DataError, match="label map 0 has the label id 9"):
        synthesizer(np.full((8, 8), 9), np.zeros((8, 8)))
    config = load(find("dagan"), "tiny")
    plain = Synthesizer(methods.create(config), {}, config)
    with pytest.raises(ConfigError, match="no style encoder"):
        plain(labels, labels, seed=0)


def test_the_command_line(workdir, tmp_path, capsys):
    arguments = ["translate", "--workdir", workdir, "--input", workdir / "labels", "--heatmaps"]
    arguments += ["--instances", workdir / "instances", "--seed", "3", "--output", tmp_path / "out"]
    assert main([str(each) for each in arguments]) == 0
    written = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.png"))
    assert written == ["0.png", "1.png", "heatmaps/0.png", "heatmaps/1.png"]
    assert main(["export", "--workdir", str(workdir), "--output", str(tmp_path / "export")]) == 2
    assert "takes label maps" in capsys.readouterr().err
