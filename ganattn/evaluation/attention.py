"""Attention metrics: overlap of heat maps with masks, and how often each class is attended."""

from collections.abc import Sequence

import jax
import numpy as np
from numpy.typing import ArrayLike

from ganattn.errors import ConfigError
from ganattn.evaluation.examples import Example, ExampleStream
from ganattn.evaluation.labels import by_class, true_labels
from ganattn.evaluation.metrics import MeanOverImages, Metric
from ganattn.evaluation.settings import Settings
from ganattn.figures import to_unit
from ganattn.runs.results import Result


def heatmap_iou(heatmaps: ArrayLike, masks: ArrayLike, threshold: float = 0.5) -> float:
    """Mean intersection over union of masks and the hot parts of heat maps.

    heatmaps (n, h', w', 1), masks (n, h, w), bool. A heat map is resized bilinearly to its mask and
    stretched to [0, 1]; hot pixels are those above the threshold. An image without mask and hot
    pixels counts as 1; a constant map has no hot pixels.
    """
    masks = np.asarray(masks, bool)
    hot = stretched(heatmaps, masks.shape) > threshold
    both, either = ((f(hot, masks)).sum((1, 2)) for f in (np.logical_and, np.logical_or))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


class ClassAttention:
    """Counts how often each class of objects is attended, after Lin et al. 2021.

    A pixel is crucial where the heat map, stretched to [0, 1], is above `alpha`; a class is
    attended in an image when at least `share` of its pixels are crucial.
    """

    def __init__(self, classes: int, alpha: float = 0.5, share: float = 0.5):
        self._alpha, self._share = alpha, share
        self.images = 0
        self._present, self._attended, self._objects = np.zeros((3, classes), np.int64)
        self._has_instances = True

    def add(
        self, heatmaps: ArrayLike, labels: ArrayLike, instances: ArrayLike | None = None
    ) -> None:
        """Adds images: heatmaps (n, h', w', 1), labels (n, h, w); ids of no class are void.

        instances (n, h, w): an id for each object; objects are counted where they are given.
        """
        labels = np.asarray(labels)
        crucial = stretched(heatmaps, labels.shape) > self._alpha
        self.images += len(labels)
        self._has_instances &= instances is not None
        for i, label in enumerate(labels):
            for number in np.unique(label[(label >= 0) & (label < len(self._present))]):
                pixels = label == number
                self._present[number] += 1
                self._attended[number] += crucial[i][pixels].mean() >= self._share
                if instances is not None:
                    self._objects[number] += len(np.unique(np.asarray(instances)[i][pixels]))

    def table(self) -> dict[str, np.ndarray]:
        """ "intensity", "frequency" and "average" (classes,), NaN where nothing was counted.

        intensity: share of a class's images in which it is attended. frequency: share of the images
        that show it. average: number of its objects per image.
        """
        images = max(self.images, 1)
        with np.errstate(invalid="ignore"):
            intensity = self._attended / self._present
        average = self._objects / images if self._has_instances else np.full_like(intensity, np.nan)
        return {"intensity": intensity, "frequency": self._present / images, "average": average}


def stretched(heatmaps: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Heat maps (n, h', w', 1) as (n, h, w) in [0, 1]: resized bilinearly, each to its own range.

    A map with a single value becomes zeros.
    """
    large = jax.image.resize(np.asarray(heatmaps, np.float32), (*shape, 1), "bilinear")
    return to_unit(large)[..., 0]


class AttentionByClass(Metric):
    """How often each class is attended, and how often it occurs."""

    CONVENTION = "map above 0.5 in half of a class's pixels"
    COLUMNS = (
        ("attention_intensity", "intensity", CONVENTION),
        ("class_frequency", "frequency", ""),
        ("average_frequency", "average", ""),
    )

    def __init__(self, names: Sequence[str], examples: ExampleStream, settings: Settings):
        super().__init__(names, examples, settings)
        self._set, self._read = true_labels(examples, settings, "source")
        self._counts = ClassAttention(len(self._set))

    def add(self, example: Example) -> None:
        """Counts the classes of one image, and their objects where an instance map fits."""
        label, instance = self._read(example), example.instance
        fits = instance is not None and instance.shape == label.shape
        heatmap = attention_of(example)[None]
        self._counts.add(heatmap, label[None], instance[None] if fits else None)  # type: ignore[index]

    def results(self) -> list[Result]:
        """Three results with the values of every class."""
        table, samples = self._counts.table(), [self._counts.images] * 2
        return [
            {
                "metric": metric,
                **by_class(self._set.names, table[column]),
                "samples": samples,
                **({"convention": convention} if convention else {}),
            }
            for metric, column, convention in self.COLUMNS
        ]


class AttentionIou(MeanOverImages):
    """Overlap of the hot part of heat maps with the mask of the object."""

    needs = ("mask",)

    def values(self, example: Example) -> dict[str, float]:
        """See `MeanOverImages`."""
        assert example.mask is not None
        return {"": heatmap_iou(attention_of(example)[None], example.mask[None])}


def attention_of(example: Example) -> np.ndarray:
    """The attention map of an example; raises ConfigError where the method has none."""
    if example.attention is None:
        raise ConfigError("the method has no attention maps: leave out the attention metrics")
    return example.attention
