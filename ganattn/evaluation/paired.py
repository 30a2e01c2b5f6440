"""Scores against a known translation, inside and outside the object's mask."""

import numpy as np
from numpy.typing import ArrayLike


def masked_l1(images: ArrayLike, truth: ArrayLike, mask: ArrayLike) -> float:
    """Mean |images - truth| where the mask is set.

    images, truth (n, h, w, c) in [-1, 1]; mask (n, h, w), bool. NaN where the mask is empty.
    """
    difference = np.abs(np.asarray(images, np.float64) - np.asarray(truth, np.float64))
    chosen = difference[np.asarray(mask, bool)]
    return float(chosen.mean()) if chosen.size else float("nan")


def paired_scores(
    source: ArrayLike, translated: ArrayLike, truth: ArrayLike, mask: ArrayLike
) -> dict[str, float]:
    """How well the object was translated and the background kept; pictures in [-1, 1].

    mask_l1: to the truth inside the mask. mask_l1_ratio: over that of the unchanged source, so 0 is
    perfect and 1 is doing nothing. background_l1: to the source outside the mask.
    """
    inside = masked_l1(translated, truth, mask)
    return {
        "mask_l1": inside,
        "mask_l1_ratio": inside / masked_l1(source, truth, mask),
        "background_l1": masked_l1(translated, source, ~np.asarray(mask, bool)),
    }
