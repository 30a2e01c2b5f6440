"""How heat maps are scored against masks."""

import numpy as np
import pytest

from ganattn.evaluation.attention import heatmap_iou


def picture(rows, side=8):
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
    heatmap = 3 + 5.0 * picture(hot)[None, ..., None]
    assert heatmap_iou(heatmap, picture(rows)[None]) == pytest.approx(expected)


def test_small_maps_are_enlarged_and_pictures_averaged():
    heatmaps = np.zeros((2, 2, 2, 1))
    heatmaps[:, 0] = 1
    masks = np.stack([picture(slice(0, 4)), picture(slice(4, 8))])
    assert heatmap_iou(heatmaps, masks) == pytest.approx(0.5)
