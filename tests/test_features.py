"""Inception's features against the reference packages', and sets of pictures as streams."""

import jax
import numpy as np
import pytest
from PIL import Image
from reference import close, waves

from ganattn.errors import ConfigError, DataError, ForeignFileError, UserError
from ganattn.evaluation.distances import frechet_distance
from ganattn.evaluation.examples import image_set
from ganattn.evaluation.features import (
    CONVENTIONS,
    InceptionFeatures,
    NetworkFeatures,
    Provenance,
    network_input,
    provenance,
)
from ganattn.evaluation.statistics import collect
from ganattn.interop import inception
from ganattn.networks.inception import Inception


@pytest.fixture(scope="module")
def network():
    """Random variables, and the network compiled for two pictures."""
    variables = inception.from_pytorch_fid(inception.random_inception())
    return variables, jax.jit(Inception().apply)


@pytest.mark.parametrize("side", [256, 299])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_inception_features_are_those_of_the_reference_packages(
    network, golden_folder, convention, side
):
    expected = np.load(golden_folder / "metrics" / "inception.npz")
    variables, apply = network
    found = jax.device_get(apply(variables, network_input(waves(side), convention)))
    prefix = f"{convention}_{side}/"
    keys = [key for key in expected.files if key.startswith(prefix)]
    assert len(keys) == (6 if (convention, side) == ("tf", 299) else 4)
    for key in keys:
        close(found[key.removeprefix(prefix)], expected[key], 1e-5, key)


def mean_colours(devices=None, batch_size=8):
    """Features that need no network: eight sums of pixels."""
    weights = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    return NetworkFeatures(
        lambda weights, images: images.mean((1, 2)) @ weights,
        lambda: weights,
        Provenance("colours", digest="1"),
        batch_size=batch_size,
        devices=devices,
    )


def noise(count, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def test_one_device_equals_eight():
    pictures = noise(21)
    one, eight = (mean_colours(jax.devices()[:n])(pictures) for n in (1, 8))
    assert one.shape == (21, 8)
    np.testing.assert_allclose(one, eight, rtol=1e-6)
    assert len(jax.devices()) == 8


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    for i, picture in enumerate(noise(11)):
        Image.fromarray(picture).save(path / f"{i}.png")
    return path


def test_folders_arrays_and_iterators_have_the_same_statistics(folder):
    names = sorted(f"{i}.png" for i in range(11))
    pictures = np.stack([np.asarray(Image.open(folder / name)) for name in names])
    floats = (pictures / 127.5 - 1).astype(np.float32)
    features = mean_colours()
    given = [folder, pictures, floats, iter(pictures), (pictures[:7], pictures[7:])]
    found = [collect(each, features) for each in given]
    for other in found[1:]:
        np.testing.assert_array_equal(other.features, found[0].features)


def test_features_are_kept_by_content(folder, tmp_path):
    calls = []

    def features(pictures):
        calls.append(len(pictures))
        return colours(pictures)

    colours = mean_colours()
    features.provenance, features.batch_size = colours.provenance, 8
    cache = tmp_path / "cache"
    first = collect(folder, features, cache=cache)
    assert calls == [8, 3]
    again = collect(folder, features, cache=cache)
    assert calls == [8, 3] and frechet_distance(first, again) == pytest.approx(0, abs=1e-9)
    collect(folder, features, cache=cache, size=4)
    assert sum(calls) == 22
    (folder / "3.png").write_bytes((folder / "4.png").read_bytes())
    collect(folder, features, cache=cache)
    assert sum(calls) == 33
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    collect(folder, features, cache=cache)
    assert sum(calls) == 44


def test_a_file_of_statistics_is_taken_for_pictures(folder, tmp_path):
    features = mean_colours()
    made = collect(folder, features)
    made.save(tmp_path / "stats.npz")
    np.testing.assert_array_equal(collect(tmp_path / "stats.npz", features).mean, made.mean)


def broken(kind):
    pictures = noise(6).astype(np.float32) / 127.5 - 1
    pictures[3, 0, 0] = {"nan": np.nan, "range": 130.0}[kind]
    return pictures


@pytest.mark.parametrize(
    "pictures, message",
    [
        (lambda: broken("nan"), "image 3 of images holds NaN"),
        (lambda: iter([broken("nan")]), "image 3 of images holds NaN"),
        (lambda: broken("range"), "image 3 of images has values"),
        (lambda: [noise(1)[0], noise(1, 9)[0]], "image 1 of images has 9x9 pixels"),
        (lambda: noise(3)[..., :1], "give \\(height, width, 3\\)"),
        (lambda: noise(3).astype(int), "give uint8, or floats"),
        (lambda: [], "no images in images"),
        (lambda: "/nowhere", "no folder /nowhere"),
        (lambda: "/nowhere.npz", "no file /nowhere.npz"),
    ],
)
def test_bad_pictures_are_one_clear_line(pictures, message):
    with pytest.raises(DataError, match=message) as caught:
        collect(pictures(), mean_colours())
    assert "\n" not in str(caught.value)


def test_bad_folders_name_the_file(folder, tmp_path):
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"5\.png cannot be decoded as an image"):
        collect(folder, mean_colours())
    Image.fromarray(noise(1, 9)[0]).save(folder / "5.png")
    with pytest.raises(DataError, match=r"5\.png has 9x9 pixels and .*0\.png has 8x8.*--size"):
        collect(folder, mean_colours())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        collect(tmp_path / "empty", mean_colours())


def test_pictures_are_resized_on_request():
    batch = next(image_set([noise(1, 9)[0], noise(1)[0]], size=5).batches(4))
    assert batch.shape == (2, 5, 5, 3)


def test_any_callable_gives_features_and_is_named():
    def thumbnails(pictures):
        return pictures[:, ::4, ::4].reshape(len(pictures), -1)

    assert collect(noise(5), thumbnails).features.shape == (5, 12)
    assert provenance(thumbnails).name.endswith("thumbnails")
    assert not provenance(thumbnails).comparable
    with pytest.raises(DataError, match="must return"):
        collect(noise(5), lambda pictures: pictures[0])
    with pytest.raises(DataError, match="not finite"):
        collect(noise(5), lambda pictures: np.full((len(pictures), 2), np.inf))


def test_a_wrong_weight_file_is_refused(golden_folder, tmp_path):
    with pytest.raises(ForeignFileError, match=r"SHA-256 .* begins 6726825d"):
        InceptionFeatures.from_file(golden_folder / "torch" / "zip.pt")
    with pytest.raises(ForeignFileError, match="no file"):
        InceptionFeatures.from_file(tmp_path / "none.pth")
    arrays = dict(inception.random_inception())
    arrays["fc.bias"] = arrays["fc.bias"][:1000]
    with pytest.raises(ForeignFileError, match=r"fc\.bias has shape \(1000,\)"):
        inception.from_pytorch_fid(arrays)
    del arrays["Mixed_7c.branch1x1.conv.weight"]
    with pytest.raises(ForeignFileError, match=r"Mixed_7c\.branch1x1\.conv\.weight is missing"):
        inception.from_pytorch_fid(arrays)


@pytest.mark.parametrize("wrong", [{"convention": "torchmetrics"}, {"layer": "42"}])
def test_unknown_conventions_and_layers_are_named(wrong):
    with pytest.raises(ConfigError, match=r"convention|layer") as caught:
        InceptionFeatures.random(**wrong)
    assert isinstance(caught.value, UserError)
