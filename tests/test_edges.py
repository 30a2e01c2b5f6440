"""Images with smoothed edges: OpenCV's pixels, and the same batches from every source."""

import warnings

import numpy as np
import pytest
from PIL import Image

from ganattn import data
from ganattn.config import base
from ganattn.data import edges
from ganattn.data.images import to_float
from ganattn.errors import ConfigError

SIZE, CROP = 24, 16


@pytest.fixture(scope="module")
def file():
    return np.load("tests/golden/cartoongan.npz")


def test_smoothed_edges_equal_those_of_opencv(file):
    """In every pixel and at every stage."""
    image, gray, found = (file[f"smoothing/{name}"] for name in ("input", "gray", "edges"))
    np.testing.assert_array_equal(edges.to_gray(image), gray)
    np.testing.assert_array_equal(edges.detect_edges(gray), found)
    np.testing.assert_array_equal(edges.dilate(found), file["smoothing/dilated"])
    output = edges.smooth_edges(image)
    np.testing.assert_array_equal(output, file["smoothing/output"])
    assert output.dtype == np.uint8 and np.any(output != image)


def test_images_without_edges_stay():
    flat = np.full((5, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(edges.smooth_edges(flat), flat)


def cartoon(seed):
    """Two colors with a sharp border, and faint noise that tells flips and crops apart."""
    rng = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), rng.integers(0, 60, 3), np.uint8)
    image[rng.integers(5, 12) :, : rng.integers(9, 16)] = rng.integers(180, 255, 3)
    return image + rng.integers(0, 2, image.shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        for domain in "AB":
            path = tmp_path / f"train{domain}" / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(cartoon(10 * (domain == "B") + i)).save(path)
    return tmp_path


def configure(**fields):
    config = base()
    config.data.update(batch_size=4, load_size=SIZE, crop_size=CROP, smooth_edges=True)
    config.data.update(fields)
    return config.lock()


def views(image):
    """Every crop of an image, mirrored and not."""
    for top in range(SIZE - CROP + 1):
        for left in range(SIZE - CROP + 1):
            crop = image[top : top + CROP, left : left + CROP]
            yield from (crop, crop[:, ::-1])


def test_smoothed_images_belong_to_those_of_domain_b(folder, tmp_path):
    """From files with TensorFlow, from files with Pillow, and from arrays."""
    arrays = {d: np.stack([cartoon(10 * (d == "b") + i) for i in range(4)]) for d in "ab"}
    np.savez(tmp_path / "images.npz", **arrays)
    sources = [
        configure(path=str(folder)),
        configure(path=str(folder), cache=True),
        configure(source="arrays", path=str(tmp_path / "images.npz")),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow warns about its own code while it is imported
        batches = [data.create(config) for config in sources]
        seen = [[source(step) for step in (0, 1)] for source in batches]
    for first, *others in zip(*seen, strict=True):
        assert set(first) == {"a", "b", "b_smooth", "index_a", "index_b"}
        for other in others:
            for name in first:
                np.testing.assert_array_equal(other[name], first[name], err_msg=name)
        for index, image, smooth in zip(
            first["index_b"], first["b"], first["b_smooth"], strict=True
        ):
            original = arrays["b"][index]
            pairs = zip(views(original), views(edges.smooth_edges(original)), strict=True)
            (expected,) = [s for x, s in pairs if np.array_equal(to_float(x), image)]
            np.testing.assert_array_equal(smooth, to_float(expected))
            assert np.abs(smooth - image).max() > 0.3
    for source in batches:
        source.close()


def test_smoothed_images_are_for_two_domains_alone():
    with pytest.raises(ConfigError, match=r"smooth_edges is True and .*layout 'single'"):
        data.create(configure(source="procedural", layout="single"))
