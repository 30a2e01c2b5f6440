"""How well a heat map finds an object."""

import jax
import numpy as np
from numpy.typing import ArrayLike


def heatmap_iou(heatmaps: ArrayLike, masks: ArrayLike, threshold: float = 0.5) -> float:
    """Mean intersection over union of masks and the hot parts of heat maps.

    heatmaps (n, h', w', 1), masks (n, h, w), bool. A heat map is enlarged bilinearly to its mask,
    and stretched to [0, 1]; hot is what lies above the threshold. A picture without a mask and
    hot pixels counts as 1; a constant map has no hot pixels.
    """
    masks = np.asarray(masks, bool)
    heatmaps = np.asarray(heatmaps, np.float64)
    shape = (len(masks), *masks.shape[1:], 1)
    large = np.asarray(jax.image.resize(heatmaps, shape, "bilinear"), np.float64)[..., 0]
    low, high = (f(large, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    span = high - low
    hot = (large - low) > threshold * np.where(span > 0, span, np.inf)
    both, either = ((f(hot, masks)).sum((1, 2)) for f in (np.logical_and, np.logical_or))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())
