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
    hot = stretched(heatmaps, masks.shape) > threshold
    both, either = ((f(hot, masks)).sum((1, 2)) for f in (np.logical_and, np.logical_or))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


class ClassAttention:
    """How often each class of objects is attended, as Lin et al. 2021 count it.

    A pixel is crucial where the heat map, stretched to [0, 1], is above `alpha`; a class is
    attended in a picture when at least `share` of its pixels are crucial.
    """

    def __init__(self, classes: int, alpha: float = 0.5, share: float = 0.5):
        self._alpha, self._share = alpha, share
        self._pictures = 0
        self._present, self._attended, self._objects = np.zeros((3, classes), np.int64)
        self._has_instances = True

    def add(
        self, heatmaps: ArrayLike, labels: ArrayLike, instances: ArrayLike | None = None
    ) -> None:
        """Counts pictures: heatmaps (n, h', w', 1), labels (n, h, w), ids outside are void.

        instances (n, h, w): an id for each object, which are counted where they are given.
        """
        labels = np.asarray(labels)
        crucial = stretched(heatmaps, labels.shape) > self._alpha
        self._pictures += len(labels)
        self._has_instances &= instances is not None
        for i, label in enumerate(labels):
            for number in np.unique(label[(label >= 0) & (label < len(self._present))]):
                pixels = label == number
                self._present[number] += 1
                self._attended[number] += crucial[i][pixels].mean() >= self._share
                if instances is not None:
                    self._objects[number] += len(np.unique(np.asarray(instances)[i][pixels]))

    def table(self) -> list[dict[str, float]]:
        """For each class "intensity", "frequency" and "average", NaN where nothing was counted.

        intensity: the share of its pictures in which it is attended. frequency: the share of the
        pictures that show it. average: its objects a picture.
        """
        pictures = max(self._pictures, 1)
        rows = zip(self._present, self._attended, self._objects, strict=True)
        return [
            {
                "intensity": attended / present if present else float("nan"),
                "frequency": present / pictures,
                "average": objects / pictures if self._has_instances else float("nan"),
            }
            for present, attended, objects in rows
        ]


def stretched(heatmaps: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Heat maps (n, h', w', 1) as (n, h, w) in [0, 1]: enlarged bilinearly, each to its own range.

    A map with a single value becomes zeros.
    """
    large = jax.image.resize(np.asarray(heatmaps, np.float32), (*shape, 1), "bilinear")
    maps = np.asarray(large, np.float64)[..., 0]
    low, high = (f(maps, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return (maps - low) / np.where(high > low, high - low, np.inf)
