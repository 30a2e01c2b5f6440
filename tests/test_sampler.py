"""Images from noise, as notebooks and the command line do it; data of one kind."""

import jax
import numpy as np
import pytest
from PIL import Image

import ganattn
from ganattn import data, methods
from ganattn.cli import main
from ganattn.config import find, load
from ganattn.data.images import read_rgb
from ganattn.data.single import held_out
from ganattn.errors import ConfigError, DataError
from ganattn.inference.sampler import Sampler
from ganattn.inference.translator import Translator
from ganattn.runs.checkpoints import Checkpoints

FUSES = ["c3d1", "c1d1"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run whose moving average is not what it averages."""
    path = tmp_path_factory.mktemp("run")
    config = load(find("sndcgan"), "tiny")
    method = methods.create(config)
    state = jax.jit(method.create_state)(jax.random.key(0))
    average = jax.tree.map(lambda x: 0.5 * x + 0.1, state.ema)
    store = Checkpoints(path / "checkpoints")
    store.save(0, state.replace(ema=average), config)
    store.close()
    return path


@pytest.fixture(scope="module")
def sampler(workdir):
    assert ganattn.Sampler is Sampler
    return Sampler.from_workdir(workdir)


def size(path):
    height, width, _ = read_rgb(path).shape
    return width, height


def test_samples_depend_on_seed_and_index_alone(sampler):
    three, five, other = sampler(3, seed=1), sampler(5, seed=1), sampler(3, seed=2)
    assert three.images.shape == (3, 16, 16, 3) and three.images.dtype == np.uint8
    np.testing.assert_array_equal(three.latents, five.latents[:3])
    np.testing.assert_array_equal(three.images, five.images[:3])
    assert (three.latents != other.latents).all()
    many = sampler.draw(70, seed=1)
    np.testing.assert_array_equal(many[:5], five.latents)
    assert len(np.unique(many, axis=0)) == 70
    assert np.abs(sampler.draw(5, 1, truncation=0.25)).max() <= 0.25
    np.testing.assert_array_equal(sampler.from_latents(three.latents).images, three.images)


def test_each_fuse_has_a_heat_map(sampler):
    made = sampler(2)
    assert list(made.attentions) == FUSES
    assert all(m.shape == (2, 8, 8, 1) and 0 <= m.min() <= m.max() <= 1
               for m in made.attentions.values())  # fmt: skip
    assert list(made.columns()) == ["sample", *FUSES]
    assert made.heatmaps["c3d1"].shape == made.images.shape
    assert made.figure().size[0] > 3 * 128 and made._repr_html_().startswith("<img")


def test_paths_start_and_end_at_samples(sampler):
    rows, ends = sampler.interpolate(2, 3, seed=4), sampler(4, seed=4)
    images = rows.images.reshape(2, 3, 16, 16, 3)
    np.testing.assert_array_equal(images[:, 0], ends.images[::2])
    np.testing.assert_array_equal(images[:, -1], ends.images[1::2])
    assert rows.figure().size == (3 * 64, 2 * 64)


def test_the_average_is_used_unless_told_otherwise(workdir, sampler):
    live = Sampler.from_workdir(workdir, average=False)
    kernel, averaged = (s.variables["generator"]["params"]["dense"]["kernel"]
                        for s in (live, sampler))  # fmt: skip
    np.testing.assert_allclose(averaged, 0.5 * kernel + 0.1, 1e-6)
    assert "spectral" in sampler.variables["generator"]


def test_what_does_not_fit_is_named(sampler):
    with pytest.raises(DataError, match="number of images is 0"):
        sampler(0)
    with pytest.raises(DataError, match=r"shape \(2, 3\): give \(n, 4\)"):
        sampler.from_latents(np.zeros((2, 3)))
    with pytest.raises(DataError, match="number of steps is 1"):
        sampler.interpolate(1, 1)
    with pytest.raises(DataError, match="truncation is -1"):
        sampler(1, truncation=-1.0)
    with pytest.raises(ConfigError, match="use ganattn sample"):
        Translator(sampler.method, sampler.variables, sampler.config)


def test_a_generator_without_attention(tmp_path, capsys):
    config = load(find("sndcgan"), "tiny")
    with config.unlocked():
        config.method.pyramid = "none"
    method = methods.create(config)
    store = Checkpoints(tmp_path / "checkpoints")
    store.save(0, jax.jit(method.create_state)(jax.random.key(0)), config)
    store.close()
    for flags in (["--output", "x", "--heatmaps"], ["--attention-grid", "x.png"]):
        assert main(["sample", "--workdir", str(tmp_path), "--num", "2", *flags]) == 2
        assert f"{flags[-2] if 'grid' in flags[0] else flags[-1]} does not apply" in (
            capsys.readouterr().err
        )


def test_the_command_line(workdir, tmp_path, capsys):
    def sample(*options):
        return main(["sample", "--workdir", str(workdir), *map(str, options)])

    out = tmp_path / "out"
    grids = ["--grid", tmp_path / "grid.png", "--attention-grid", tmp_path / "maps.png"]
    assert sample("--num", 5, "--seed", 3, "--output", out, "--heatmaps", *grids) == 0
    assert len(list(out.glob("*.png"))) == 5
    assert sorted(p.name for p in (out / "heatmaps").iterdir()) == sorted(FUSES)
    assert size(tmp_path / "grid.png") == (3 * 64, 2 * 64)
    np.testing.assert_array_equal(
        read_rgb(out / "0000.png"), Sampler.from_workdir(workdir)(1, seed=3).images[0]
    )
    assert sample("--num", 2, "--interpolate", 3, "--grid", tmp_path / "path.png") == 0
    assert size(tmp_path / "path.png") == (3 * 64, 2 * 64)
    capsys.readouterr()
    for command, line in (
        (["sample"], "nothing to write"),
        (["sample", "--heatmaps", "--grid", "x.png"], "give --output"),
        (["sample", "--num", "0", "--grid", "x.png"], "number of images is 0"),
        (["translate", "--input", str(out), "--output", "y"], "use ganattn sample"),
        (["export", "--output", "z"], "direction latent2image takes latent"),
    ):
        assert main([*command, "--workdir", str(workdir)]) == 2
        assert line in capsys.readouterr().err


def test_a_fixed_share_is_held_out():
    names = [f"{i}.png" for i in range(30)]
    out = held_out(names, 10)
    assert out.sum() == 3
    np.testing.assert_array_equal(held_out(names[::-1], 10), out[::-1])
    assert held_out([str(i) for i in range(30_000)], 10).sum() == 3_000
    assert not held_out(names, 0).any()


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 255, (20, 18, 16, 3), np.uint8)


def configure(source, path):
    config = load(find("sndcgan"), "tiny")
    with config.unlocked():
        config.data.update(source=source, path=str(path), cache=True)
    return config


def test_folders_and_arrays_hold_out_the_same_pictures_always(tmp_path, pictures):
    for i, picture in enumerate(pictures):
        path = tmp_path / "faces" / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    np.savez(tmp_path / "faces.npz", image=pictures)
    for source, path in (("folder", "faces"), ("arrays", "faces.npz")):
        batches = data.create(configure(source, tmp_path / path))
        assert batches.sizes == {"image": 18}
        batch, test = batches(0), batches.test_batch(2)["image"]
        assert batch["image"].shape == (8, 16, 16, 3) and np.abs(batch["image"]).max() <= 1
        seen = np.concatenate([batches(i)["image"] for i in range(8)])
        assert not any((np.abs(seen - each).max((1, 2, 3)) < 1e-6).any() for each in test)
        batches.close()


def test_a_test_folder_is_used_where_there_is_one(tmp_path, pictures):
    for part, some in (("train", pictures[:9]), ("test", pictures[9:])):
        (tmp_path / part).mkdir()
        for i, picture in enumerate(some):
            Image.fromarray(picture).save(tmp_path / part / f"{i}.png")
    batches = data.create(configure("folder", tmp_path))
    assert batches.sizes == {"image": 9}
    batches.close()
    config = configure("folder", tmp_path)
    with config.unlocked():
        config.data.held_out_percent = 100.0
    with pytest.raises(DataError, match="no folder"):
        data.create(configure("folder", tmp_path / "none"))
    np.savez(tmp_path / "a.npz", a=pictures)
    with pytest.raises(DataError, match="has no array 'image'"):
        data.create(configure("arrays", tmp_path / "a.npz"))
    with config.unlocked():
        config.data.update(source="arrays", path=str(tmp_path / "b.npz"))
    np.savez(tmp_path / "b.npz", image=pictures)
    with pytest.raises(ConfigError, match="held_out_percent is 100"):
        data.create(config)
