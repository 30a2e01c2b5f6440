"""Label maps to images, as notebooks and the command line do it."""

import jax
import numpy as np
import pytest
from PIL import Image

from ganattn import methods
from ganattn.cli import main
from ganattn.config import find, load
from ganattn.data.images import read_rgb
from ganattn.errors import ConfigError, DataError
from ganattn.inference.sampler import Sampler
from ganattn.inference.translator import Translator
from ganattn.runs.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    config = load(find("dagan"), "tiny,gaugan")
    with config.unlocked():
        config.method.width = 2
    method = methods.create(config)
    store = Checkpoints(path / "checkpoints")
    store.save(0, jax.jit(method.create_state)(jax.random.key(0)), config)
    store.close()
    random = np.random.default_rng(0)
    for kind, high in (("labels", 4), ("instances", 3)):
        (path / kind).mkdir()
        for i in range(2):
            ids = random.integers(0, high, (40, 50), np.uint8)
            Image.fromarray(ids).save(path / kind / f"{i}.png")
    image = random.integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(image).save(path / "style.jpg")
    return path


@pytest.fixture(scope="module")
def translator(workdir):
    return Translator.from_workdir(workdir)


def maps(workdir, kind):
    return [workdir / kind / f"{i}.png" for i in range(2)]


def test_images_attention_and_styles(workdir, translator):
    labels, instances = maps(workdir, "labels"), maps(workdir, "instances")
    plain = translator(labels, instances=instances)
    assert plain.images.shape == (2, 32, 32, 3) and plain.images.dtype == np.uint8
    assert plain.sources.shape == (2, 32, 32, 1) and plain.sources.dtype == np.int32
    assert plain.attentions["spatial"].shape == (2, 32, 32, 1)
    assert plain.attentions["channel"].shape == (2, 1, 2, 1)
    np.testing.assert_array_equal(plain.attention, plain.attentions["spatial"])
    assert plain.heatmaps.shape == plain.images.shape
    assert list(plain.columns()) == ["label", "attention", "synthesis"]
    assert plain.figure().size[0] > 3 * 128 and plain._repr_html_().startswith("<img")
    one = translator(
        np.asarray(Image.open(labels[0])), instances=np.asarray(Image.open(instances[0]))
    )
    np.testing.assert_allclose(one.images[0].astype(int), plain.images[0], atol=1)
    styled = {
        "seed": translator(labels, instances=instances, seed=1).images,
        "again": translator(labels, instances=instances, seed=1).images,
        "other": translator(labels, instances=instances, seed=2).images,
        "image": translator(labels, instances=instances, style=workdir / "style.jpg").images,
    }
    np.testing.assert_array_equal(styled["seed"], styled["again"])
    for name in ("other", "image"):
        assert (styled["seed"] != styled[name]).any()


def test_the_style_of_an_image_depends_on_seed_and_index_alone(workdir, translator):
    labels, instances = maps(workdir, "labels"), maps(workdir, "instances")
    label, instance = labels[:1] * 3, instances[:1] * 3
    three = translator(label, instances=instance, seed=4).images
    assert (three[0] != three[1]).any() and (three[1] != three[2]).any()
    several = translator(label[:2], instances=instance[:2], seed=4, styles=2)
    assert several.images.shape == (*several.sources.shape[:-1], 3) == (4, 32, 32, 3)
    assert (several.images[0] != several.images[1]).any()
    np.testing.assert_allclose(several.images[::2].astype(int), three[:2], atol=1)
    last = translator(label[:1], instances=instance[:1], seed=4, indices=[2])
    np.testing.assert_allclose(last.images[0].astype(int), three[2], atol=1)


def test_errors_name_the_argument(workdir, translator):
    labels, instances = maps(workdir, "labels"), maps(workdir, "instances")
    with pytest.raises(DataError, match="trained with instance maps"):
        translator(labels)
    with pytest.raises(DataError, match="as many instance maps"):
        translator(labels, instances=labels[0])
    with pytest.raises(DataError, match=r"label 0 has the label id 9.* ids are 0 to 3"):
        translator(np.full((8, 8), 9), instances=np.zeros((8, 8), int))
    with pytest.raises(DataError, match="there are 2 styles for 3 images"):
        translator([labels[0]] * 3, instances=[labels[0]] * 3, style=[workdir / "style.jpg"] * 2)
    for other in ({"seed": 1}, {"styles": 2}):
        with pytest.raises(ConfigError, match=r"style and .* exclude each other"):
            translator(labels, instances=instances, style=workdir / "style.jpg", **other)
    with pytest.raises(ConfigError, match="styles is 0"):
        translator(labels, instances=instances, styles=0)
    config = load(find("spade"), "tiny,instance_norm")
    with config.unlocked():
        config.method.use_instances = False
    plain = Translator(methods.create(config), {}, config)
    assert plain.target_size((70, 100), size="keep") == (64, 96)
    with pytest.raises(ConfigError, match="takes multiples of 32"):
        plain.target_size((70, 100), size=(30, 32))
    with pytest.raises(ConfigError, match="seed does not apply: spade has no styles"):
        plain(labels, seed=0)
    with pytest.raises(ConfigError, match="instances do not apply: spade"):
        plain(labels, instances=instances)
    with pytest.raises(ConfigError, match="use ganattn translate"):
        Sampler(plain.method, {}, config)


def test_the_command_line(workdir, tmp_path, capsys):
    def translate(*options):
        capsys.readouterr()
        common = ["--workdir", workdir, "--input", workdir / "labels", "--output", tmp_path / "out"]
        code = main([str(each) for each in ["translate", *common, *options]])
        written = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.*"))
        return code, written, capsys.readouterr().err

    instances = ("--instances", workdir / "instances")
    for flags, message in (
        (("--direction", "a2b", *instances), "direction is 'a2b': use one of label2image"),
        ((), "was trained with instance maps"),
        (("--size", "64x64", *instances), "takes images of 32x32 pixels alone"),
        (("--size", "keep", *instances), "takes images of 32x32 pixels alone"),
        (("--style", workdir / "style.jpg", "--seed", 1, *instances), "exclude each other"),
    ):
        code, written, error = translate(*flags)
        assert code == 2 and not written and error.count("\n") == 1 and message in error
    code, written, _ = translate("--heatmaps", "--seed", 3, *instances)
    assert code == 0 and written == ["0.png", "1.png", "heatmaps/0.png", "heatmaps/1.png"]
    assert read_rgb(tmp_path / "out" / "0.png").shape == (32, 32, 3)
    code, written, _ = translate("--seed", 3, "--styles", 2, *instances)
    assert code == 0
    assert {"0_0.png", "0_1.png", "1_0.png", "1_1.png"} < set(written)
    assert read_rgb(tmp_path / "out" / "0_1.png").shape == (32, 32, 3)
    assert main(["export", "--workdir", str(workdir), "--output", str(tmp_path / "export")]) == 2
    assert "direction label2image takes label and instance" in capsys.readouterr().err
