"""`Translator` and export: any input, any number and size of images, the same results."""

import copy
import io
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

import ganattn
from ganattn import Translator, figures, methods
from ganattn.config import find, load
from ganattn.data import create as create_data
from ganattn.data.images import to_float
from ganattn.errors import CheckpointError, ConfigError, DataError
from ganattn.inference import export
from ganattn.inference.model import Model
from ganattn.runs.checkpoints import Checkpoints

SIZE = 32
FILE = Path(__file__).parent / "golden" / "torch" / "ugatit_tiny.pt"


@pytest.fixture(scope="module")
def translator() -> Translator:
    """The small checkpoint of all six networks, at its size."""
    loaded = Translator.from_authors(FILE)
    assert loaded.target_size((9, 9)) == (256, 256)  # a light checkpoint does not store its size
    config = copy.deepcopy(loaded.config)
    with config.unlocked():
        config.method.image_size = SIZE
    return Translator(methods.create(config), loaded.variables, config)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)


def close(one, other):
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_any_number_of_images(translator, images):
    single = [translator(image) for image in images]
    for count in (1, 3, 9):
        result = translator(images[:count])
        assert result.images.shape == (count, SIZE, SIZE, 3) and result.images.dtype == np.uint8
        assert result.attention.shape == (count, SIZE // 4, SIZE // 4, 1)
        assert result.heatmaps.shape == result.images.shape and result.heatmaps.dtype == np.uint8
        close(result.images, np.concatenate([each.images for each in single[:count]]))
        expected = np.concatenate([each.attention for each in single[:count]])
        np.testing.assert_allclose(result.attention, expected, rtol=1e-3, atol=1e-4)


def test_any_number_on_all_devices_equals_the_method(translator, images):
    """Groups are padded and spread over eight devices; nothing of that shows."""
    floats = to_float(np.concatenate([images] * 8))
    output = translator.generate({"image": floats}, "b2a")
    expected = jax.jit(lambda v, x: translator.method.generate(v, {"image": x}, "b2a"))(
        translator.variables, floats[:9]
    )
    assert len(output.images) == 72
    np.testing.assert_allclose(output.images[:9], expected.images, atol=2e-3)
    np.testing.assert_allclose(output.images[63:], output.images[:9], atol=1e-5)
    assert list(output.attention) == list(expected.attention)
    programs = {(devices, share) for _, devices, share in translator._compiled}
    assert programs <= {(1, 1), (8, 1), (8, 8)}


def test_any_kind_of_image(translator, images, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    expected = translator(images[:3]).images
    close(translator(paths).images, expected)
    close(translator([str(path) for path in paths]).images, expected)
    close(translator([Image.open(path) for path in paths]).images, expected)
    close(translator([paths[0], images[1], Image.open(paths[2])]).images, expected)
    Image.fromarray(np.dstack([images[0], images[1][..., 0]])).save(tmp_path / "alpha.png")
    close(translator(tmp_path / "alpha.png").images, expected[:1])


def test_sizes(translator):
    two = [np.zeros((50, 40, 3), np.uint8), np.zeros((20, 90, 3), np.uint8)]
    assert translator(two).sources.shape == (2, SIZE, SIZE, 3)
    assert translator(two, size="train").sources.shape == (2, SIZE, SIZE, 3)
    one = np.zeros((50, 41, 3), np.uint8)
    assert translator(one, size="keep").images.shape == (1, 48, 40, 3)
    assert translator(one, size=(64, 36)).images.shape == (1, 36, 64, 3)
    exact = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    np.testing.assert_array_equal(translator(exact, size="keep").sources[0], exact)
    with pytest.raises(DataError, match="different sizes"):
        translator(two, size="keep")
    with pytest.raises(ConfigError, match="the size is 30x32: ugatit takes multiples of 4"):
        translator(one, size=(30, 32))


def test_a_fixed_size_is_refused(translator, images, monkeypatch):
    specs = {"image": translator.inputs()["image"]._replace(multiple=None)}
    monkeypatch.setattr(type(translator.method), "inputs", lambda *_: specs)
    assert translator.target_size((99, 99)) == (SIZE, SIZE)
    for size in ("keep", (64, 64)):
        with pytest.raises(ConfigError, match="takes images of 32x32 pixels alone"):
            translator(images[0], size=size)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_resized_as_the_test_images_of_evaluation(translator, tmp_path, interpolation):
    config = copy.deepcopy(translator.config)
    with config.unlocked():
        config.data.update(path=str(tmp_path), source="folder", interpolation=interpolation)
    random = np.random.default_rng(1)
    for folder in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / folder).mkdir()
        noise = random.integers(0, 256, (75, 53, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / folder / "0.png")
    batches = create_data(config)
    expected = batches.test_batch(1)["a"]
    batches.close()
    own = Translator(translator.method, translator.variables, config)
    sources = own(tmp_path / "testA" / "0.png").sources
    assert sources.shape == (1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(to_float(sources), expected)


def test_label_files_of_a_palette_are_coloured(translator, tmp_path):
    config = copy.deepcopy(translator.config)
    with config.unlocked():
        config.data.palette = "facades"
    ids = np.arange(12, dtype=np.uint8).repeat(96).reshape(36, 32)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    Image.fromarray(ids[..., None].repeat(3, -1)).save(tmp_path / "rgb.png")
    own = Translator(translator.method, translator.variables, config)
    files = [tmp_path / "ids.png", tmp_path / "rgb.png"]
    coloured, rgb = own(files, size=(32, 36)).sources
    np.testing.assert_array_equal(coloured, ganattn.data.palettes.palette("facades")[ids])
    np.testing.assert_array_equal(rgb[..., 0], ids)


def test_directions_differ(translator, images):
    one, other = (translator(images[:1], direction).images for direction in ("a2b", "b2a"))
    assert (one != other).any()
    np.testing.assert_array_equal(translator(images[:1]).images, one)
    with pytest.raises(ConfigError, match="direction is 'b2c': use one of a2b, b2a"):
        translator(images[:1], "b2c")


def test_notebooks_show_source_heat_map_and_translation(translator, images):
    result = translator(images[:2])
    columns = {
        "source": result.sources, "attention": result.heatmaps, "translation": result.images
    }  # fmt: skip
    expected = np.asarray(figures.grid(columns))
    np.testing.assert_array_equal(np.asarray(result.figure()), expected)
    shown = np.asarray(Image.open(io.BytesIO(result._repr_png_())))
    np.testing.assert_array_equal(shown, expected)
    assert "data:image/png;base64," in result._repr_html_()


def test_rho_of_every_layer(translator):
    layers = ["decode1/norm1", "decode1/norm2", "up1_norm", "up2_norm"]
    expected = [f"generator_{d}/{layer}" for d in ("a2b", "b2a") for layer in layers]
    assert list(translator.rho) == expected
    up = translator.variables["generator_b2a"]["rho"]["up2_norm"]["rho"]
    np.testing.assert_array_equal(translator.rho["generator_b2a/up2_norm"], up)
    other = {"discriminator_local_a": translator.variables["discriminator_local_a"]}
    assert Translator(translator.method, other, translator.config).rho == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8), np.uint8), "an image has shape"),
        (np.zeros((8, 8, 4), np.uint8), "an image has shape"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        ([], "no images to translate"),
        ("nowhere.png", "no file nowhere.png"),
    ],
)
def test_other_values_are_refused(translator, given, message):
    with pytest.raises(DataError, match=message) as caught:
        translator(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["seed", "styles", "style", "instances"])
def test_arguments_that_do_not_apply_are_refused(translator, images, flag):
    value = {"style": images[0], "instances": images[0, ..., 0]}.get(flag, 1)
    with pytest.raises(ConfigError, match=f"{flag} do(es)? not apply: ugatit"):
        translator(images[0], **{flag: value})


def test_a_missing_generator_is_named(translator, images):
    one = {"generator_a2b": translator.variables["generator_a2b"]}
    half = Translator(translator.method, one, translator.config)
    close(half(images[:1]).images, translator(images[:1]).images)
    with pytest.raises(
        ConfigError, match=r"b2a needs the network generator_b2a.*usable directions are a2b"
    ):
        half(images[:1], "b2a")


def test_from_workdir_takes_the_latest_or_a_given_step(translator, images, tmp_path):
    config = load(find("ugatit"), "tiny")
    method = methods.create(config)
    state = method.create_state(jax.random.key(0), translator.variables)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Translator.from_workdir(tmp_path)
    store = Checkpoints(tmp_path / "checkpoints", 3)
    store.save(1, state, config)
    zeros = jax.tree.map(lambda x: 0 * x, state.variables)
    generators = {name: zeros[name] for name in ("generator_a2b", "generator_b2a")}
    average = {name: {"params": tree["params"]} for name, tree in generators.items()}
    store.save(2, state.replace(ema=average), config)
    store.close()
    first, averaged = Translator.from_workdir(tmp_path, 1), Translator.from_workdir(tmp_path)
    assert (first.step, averaged.step) == (1, 2)
    expected = translator(images).images
    close(first(images).images, expected)
    assert np.ptp(averaged(images).images.astype(int)) <= 1
    close(Translator.from_workdir(tmp_path, average=False)(images).images, expected)


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_export_gives_the_same_images_at_any_batch(translator, tmp_path, direction):
    path = tmp_path / "new" / "generator.stablehlo"
    shape = export.export_translator(translator.method, translator.variables, path, direction)
    assert shape == (SIZE, SIZE, 3)
    reloaded = jax.export.deserialize(bytearray(path.read_bytes()))
    assert set(reloaded.platforms) == {"cpu", "cuda", "tpu"}
    images = np.random.default_rng(0).uniform(-1, 1, (5, SIZE, SIZE, 3)).astype(np.float32)
    for count in (1, 5):
        inputs = {"image": images[:count]}
        expected = translator.method.generate(translator.variables, inputs, direction).images
        np.testing.assert_allclose(reloaded.call(images[:count]), expected, atol=1e-4)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_wrong_export_is_not_written(translator, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    path = tmp_path / "generator.stablehlo"
    with pytest.raises(CheckpointError, match="the file was not written"):
        export.export_translator(translator.method, translator.variables, path)
    assert not list(tmp_path.iterdir())


def test_the_model_has_no_preprocessing(translator, images):
    model = Model(translator.method, translator.variables, translator.config)
    output = model.generate({"image": to_float(images[:1])})
    np.testing.assert_array_equal(figures.to_uint8(output.images), translator(images[:1]).images)


class Styled(methods.Method):
    """Adds a style of three numbers to an image: that of an example, a code, or a drawn one."""

    @classmethod
    def from_config(cls, config):
        return cls({}, {}, {})

    def network_input(self, *arguments):
        raise NotImplementedError

    batch_spec = panels = step = network_input

    def inputs(self, direction=None):
        image = methods.Input("image", (8, 8, 3), multiple=2)
        return {"image": image, "style": image._replace(optional=True, multiple=1)}

    def networks_for(self, direction=None):
        return (f"generator_{direction}",)

    def generate(self, variables, inputs, direction=None, rng=None):
        scale = variables[f"generator_{direction}"]["params"]
        count = len(inputs["image"])
        style = jax.numpy.zeros((count, 3))
        if "style" in inputs:
            style = inputs["style"].reshape(count, -1, 3).mean(1)
        elif rng is not None:
            keys = self.examples.keys(rng, count)
            style = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys)
        images = inputs["image"] + scale * style[:, None, None]
        return methods.Output(images, extras={"style": style})


@pytest.fixture
def styled(translator):
    networks = {f"generator_{direction}": {"params": np.float32(1)} for direction in ("a2b", "b2a")}
    return Translator(Styled.from_config(None), networks, translator.config)


def test_styles_of_images(styled):
    images = np.random.default_rng(0).integers(0, 100, (5, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(styled(images).images, images)
    codes = np.array([[0, 0.5, 1.0]], np.float32)
    added = np.round(codes[0] * 127.5)[None, None, None]
    for code in (codes, codes[0], codes[:, None, None]):
        close(styled(images, style=code).images, images + added)
    own = np.repeat(codes, 5, 0) * np.arange(5, dtype=np.float32)[:, None] / 4
    close(
        styled(images, style=own).images[::4],
        images[::4] + added * np.arange(2)[:, None, None, None],
    )
    example = np.full((4, 6, 3), 255, np.uint8)
    close(styled(images, style=example).images, images + 127.5)
    one, many = (styled(images[:n], seed=3, styles=2) for n in (1, 5))
    assert many.images.shape == (10, 8, 8, 3)
    np.testing.assert_array_equal(one.images, many.images[:2])
    differences = [many.images[i].astype(int) - many.sources[i] for i in range(10)]
    assert len({tuple(d[0, 0]) for d in differences}) == 10
    assert all((d == d[0, 0]).mean() > 0.9 for d in differences)
    np.testing.assert_array_equal(
        styled(images, styles=2).images, styled(images, seed=0, styles=2).images
    )
    np.testing.assert_array_equal(
        styled(images[3:], seed=3, styles=2, indices=[3, 4]).images, many.images[6:]
    )


def test_draws_do_not_depend_on_the_devices(styled, monkeypatch):
    inputs = {"image": np.zeros((9, 8, 8, 3), np.float32)}
    expected = styled.generate(inputs, seed=5).extras["style"]
    assert len(np.unique(expected)) == 27
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:2])
    again = Translator(styled.method, styled.variables, styled.config)
    np.testing.assert_array_equal(again.generate(inputs, seed=5).extras["style"], expected)
