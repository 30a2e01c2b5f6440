"""FID, KID, label maps, PSNR and SSIM against the reference packages; heat maps by hand."""

import json

import numpy as np
import pytest
from reference import waves

from ganattn.errors import DataError, UserError
from ganattn.evaluation import distances
from ganattn.evaluation.attention import heatmap_iou
from ganattn.evaluation.distances import frechet_distance
from ganattn.evaluation.images import psnr, ssim
from ganattn.evaluation.labels import confusion, label_accuracy, nearest_labels
from ganattn.evaluation.statistics import Moments, Statistics


@pytest.fixture
def golden(golden_folder):
    folder = golden_folder / "metrics"
    expected = json.loads((folder / "scalars.json").read_text(encoding="utf-8"))
    return np.load(folder / "scalars.npz"), expected


def features(count, channels=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, channels)).astype(np.float32)


def test_frechet_distance_is_that_of_pytorch_fid_in_both_forms(golden):
    inputs, expected = golden
    kept = [Statistics.of(inputs[name]) for name in "XY"]
    assert frechet_distance(*kept) == pytest.approx(expected["fid_pytorch_fid_f64stats"], rel=1e-8)
    streamed = [Moments(keep=0), Moments(keep=0)]
    for moments, name in zip(streamed, "XY", strict=True):
        moments.add(inputs[name])
    distance = frechet_distance(*(moments.statistics() for moments in streamed))
    assert distance == pytest.approx(expected["fid_eigh_f64"], rel=1e-8)


@pytest.mark.parametrize("size", [20, 45])
def test_kid_over_subsets_is_that_of_torch_fidelity(golden, size):
    inputs, expected = golden
    found = distances.kid(inputs["X"], inputs["Y"], subset_size=size)
    np.testing.assert_allclose(found, expected[f"kid_subsets_of_{size}"], rtol=1e-6)


def test_kid_over_blocks_is_that_of_tf_gan_and_one_block_is_the_full_estimate(golden):
    inputs, expected = golden
    x, y = inputs["X"], inputs["Y"]
    found = distances.kid(x, y, "blocks", block_size=10)
    np.testing.assert_allclose(found, expected["kid_blocks_of_10"], rtol=1e-12)
    one = distances.kid(x, y, "blocks", block_size=60)
    assert one.mean == pytest.approx(expected["mmd2_full_unbiased"], rel=1e-12)
    assert np.isnan(one.spread)


def test_fcn_score_is_that_of_pix2pix_where_an_absent_class_is_zero(golden):
    inputs, expected = golden
    counts = confusion(inputs["gt"], inputs["pred"], 19)
    found = label_accuracy(counts)
    three = found.pixel_accuracy, found.class_accuracy, found.class_iou
    np.testing.assert_allclose(three, expected["fcn"], rtol=1e-9)
    assert found.per_class_iou[5] == 0
    skipped = label_accuracy(counts, absent="skip")
    assert np.isnan(skipped.per_class_iou[5])
    assert skipped.class_iou == pytest.approx(found.class_iou * 19 / 18)


def test_psnr_and_ssim_are_those_of_scikit_image(golden_folder):
    path = golden_folder / "metrics" / "pictures.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    one = waves(64)[:1]
    other = np.roll(one, 1, 1)
    assert psnr(one, other)[0] == pytest.approx(expected["psnr"], rel=1e-12)
    assert ssim(one, other)[0] == pytest.approx(expected["ssim_uniform"], rel=1e-12)
    assert ssim(one, other, "gaussian")[0] == pytest.approx(expected["ssim_gaussian"], rel=1e-12)
    grey = ssim(one[..., :1], other[..., :1])[0]
    assert grey == pytest.approx(expected["ssim_grey"], rel=1e-12)
    in_floats = [x / 255 for x in (one, other)]
    assert ssim(*in_floats, data_range=1)[0] == pytest.approx(expected["ssim_uniform"], rel=1e-9)
    assert psnr(*in_floats, data_range=1)[0] == pytest.approx(expected["psnr"], rel=1e-9)
    assert psnr(one, one)[0] == np.inf and ssim(one, one)[0] == 1


def test_distance_to_oneself_is_zero_and_order_does_not_matter():
    x, y = features(9), features(12, seed=1) + 1
    for keep in (None, 0):

        def gathered(rows, keep=keep):
            moments = Moments(keep)
            moments.add(rows)
            return moments.statistics()

        assert frechet_distance(gathered(x), gathered(x)) == pytest.approx(0, abs=1e-6)
        there = frechet_distance(gathered(x), gathered(y))
        back = frechet_distance(gathered(y[::-1]), gathered(x[::-1]))
        assert there == pytest.approx(back, rel=1e-9)
        assert there > 1


def test_both_forms_of_the_distance_agree():
    few = [features(count, 30, seed) + seed for seed, count in enumerate((12, 20))]
    kept = [Statistics.of(rows) for rows in few]
    bare = [Statistics(s.count, s.mean, s.covariance) for s in kept]
    assert frechet_distance(*kept) == pytest.approx(frechet_distance(*bare), rel=1e-6)


@pytest.mark.parametrize("keep", [None, 25, 0])
def test_streaming_equals_at_once(keep):
    rows = 1000 + features(64)  # a mean that eats digits
    moments = Moments(keep)
    for part in np.array_split(rows, [1, 20, 27, 40]):
        moments.add(part)
    found = moments.statistics()
    assert found.count == 64
    assert (found.features is None) == (keep is not None)
    np.testing.assert_allclose(found.mean, rows.astype(np.float64).mean(0), rtol=1e-12)
    expected = np.cov(rows.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-9, atol=1e-9)


def test_mean_of_kid_over_seeds_approaches_the_full_estimate():
    x, y = features(40), features(50, seed=1) + 0.3
    means = [distances.kid(x, y, subset_size=15, subsets=40, seed=seed).mean for seed in range(25)]
    error = np.std(means) / len(means) ** 0.5
    assert abs(np.mean(means) - distances.mmd2(x, y)) < 4 * error
    assert error < 0.05 * distances.mmd2(x, y)


def test_mean_kid_has_the_weights_of_both_versions_of_the_tool():
    target, source = distances.Kid(0.02, 0.003), distances.Kid(0.2, 0.004)
    assert distances.mean_kid(target, source) == pytest.approx((0.11, 0.0025))
    late = distances.mean_kid(target, source, "2019-08")
    assert late.mean == pytest.approx((0.02 * 0.02 + 0.98 * 0.2) / 2)
    with pytest.raises(UserError, match="equal, 2019-08"):
        distances.mean_kid(target, source, "even")


def test_statistics_files_are_those_of_pytorch_fid(tmp_path):
    theirs, path = Statistics.of(features(20)), tmp_path / "folder" / "stats.npz"
    np.savez(tmp_path / "theirs.npz", mu=theirs.mean, sigma=theirs.covariance)
    theirs.save(path)
    with np.load(path) as file:
        np.testing.assert_array_equal(file["sigma"], theirs.covariance)
        np.testing.assert_array_equal(file["mu"], theirs.mean)
    other = Statistics.of(features(30, seed=1))
    expected = frechet_distance(theirs, other)
    for name in ("folder/stats.npz", "theirs.npz"):
        assert frechet_distance(Statistics.load(tmp_path / name), other) == pytest.approx(expected)
    assert [file.name for file in path.parent.iterdir()] == ["stats.npz"]


def test_void_pixels_are_ignored_or_wrong():
    truth, found = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]])
    ignoring = label_accuracy(confusion(truth, found, 2))
    assert ignoring.pixel_accuracy == pytest.approx(2 / 3)
    np.testing.assert_allclose(ignoring.per_class_iou, [1 / 2, 1 / 2])
    counting = label_accuracy(confusion(truth, found, 2), void="wrong")
    assert counting.pixel_accuracy == pytest.approx(2 / 4)
    np.testing.assert_allclose(counting.per_class_iou, [1 / 2, 1 / 3])


def test_colours_become_the_label_of_the_nearest():
    palette = np.array([[0, 0, 0], [250, 0, 0], [250, 250, 250]], np.uint8)
    picture = np.array([[[[10, 0, 5], [200, 10, 9]], [[255, 255, 255], [180, 120, 120]]]], np.uint8)
    np.testing.assert_array_equal(nearest_labels(picture, palette), [[[0, 1], [2, 1]]])


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: distances.kid(features(9), features(20), subset_size=10), "below 9, such as 4"),
        (lambda: distances.kid(features(9), features(90), "blocks"), "larger block size"),
        (lambda: distances.mmd2(features(1), features(4)), "two images on each side"),
        (lambda: frechet_distance(*map(Statistics.of, (features(4), features(4, 5)))), "channels"),
        (lambda: frechet_distance(*[Statistics.of(features(1))] * 2), "needs two images"),
        (lambda: Statistics.of(np.full((2, 3), np.nan)), "image 0 are not finite"),
        (lambda: Moments().statistics(), "at least two images"),
        (lambda: confusion([0], [7], 3), "must be 0 to 2"),
        (lambda: confusion([0], [[1]], 3), "shapes"),
        (lambda: ssim(waves(6), waves(6)), "smaller than SSIM's 7x7"),
        (lambda: psnr(waves(6), waves(7)), "shapes"),
        (lambda: Statistics.load(__file__), "not a readable .npz"),
    ],
)
def test_bad_input_is_one_clear_line(wrong, message):
    with pytest.raises(DataError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def image(rows, side=8):
    mask = np.zeros((side, side), bool)
    mask[rows] = True
    return mask


@pytest.mark.parametrize(
    ("hot", "rows", "expected"),
    [
        (slice(0, 4), slice(0, 4), 1.0),
        (slice(0, 4), slice(4, 8), 0.0),
        (slice(0, 4), slice(2, 6), 2 / 6),
        (slice(0, 0), slice(0, 4), 0.0),  # a constant map is nowhere hot
        (slice(0, 0), slice(0, 0), 1.0),
    ],
)
def test_iou_of_hot_pixels_and_mask(hot, rows, expected):
    heatmap = 3 + 5.0 * image(hot)[None, ..., None]
    assert heatmap_iou(heatmap, image(rows)[None]) == pytest.approx(expected)


def test_small_maps_are_enlarged_and_images_averaged():
    heatmaps = np.zeros((2, 2, 2, 1))
    heatmaps[:, 0] = 1
    masks = np.stack([image(slice(0, 4)), image(slice(4, 8))])
    assert heatmap_iou(heatmaps, masks) == pytest.approx(0.5)
