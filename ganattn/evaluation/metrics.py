"""The metrics by name, and what a metric is.

A new metric is a subclass of `Metric` and a line in METRICS.
"""

import abc
import importlib
import math
import statistics
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ganattn.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ganattn.evaluation.examples import Example, ExampleStream
    from ganattn.evaluation.settings import Settings

# Name -> module and class. Metrics of one class are computed together. Modules are imported when a
# metric is created, so that the command line starts fast.
METRICS = {
    "fid": "distances:FeatureDistances",
    "kid": "distances:FeatureDistances",
    "mean_fid": "distances:FeatureDistances",
    "mean_kid": "distances:FeatureDistances",
    "truth": "images:Truth",
    "psnr": "images:Psnr",
    "ssim": "images:Ssim",
    "fcn": "labels:SegmentedLabels",
    "labels": "labels:PaintedLabels",
    "attention": "attention:AttentionByClass",
    "attention_iou": "attention:AttentionIou",
}
FEATURES = tuple(name for name, place in METRICS.items() if place.startswith("distances:"))
_MISSING = {
    "source": "the images from which they are generated",
    "target": "the true images: evaluate pairs (--pairs: by name), or use another metric",
    "mask": "masks of the objects: procedural data has them",
}


class Metric(abc.ABC):
    """One metric, or several that share their work, over a stream of examples.

    needs: fields of `Example` without which it cannot be computed. streams: whether `add` has to be
    called at all.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    streams = True

    def __init__(self, names: Sequence[str], examples: "ExampleStream", settings: "Settings"):
        """names: of METRICS. Raises DataError where the examples lack a field that is needed."""
        for field in self.needs:
            if field not in examples.fields:
                raise DataError(f"{' and '.join(names)} needs {_MISSING[field]}")
        self.names, self.settings = names, settings

    @abc.abstractmethod
    def add(self, example: "Example") -> None:
        """Consumes one example."""

    @abc.abstractmethod
    def results(self) -> list[dict[str, Any]]:
        """Results with "metric", "value", "samples" and everything that qualifies the number."""


class MeanOverImages(Metric):
    """A metric whose value is the mean of a number for each image."""

    def __init__(self, names: Sequence[str], examples: "ExampleStream", settings: "Settings"):
        super().__init__(names, examples, settings)
        self._values: dict[str, list[float]] = {}

    @abc.abstractmethod
    def values(self, example: "Example") -> dict[str, float]:
        """Convention ("" where there is only one) -> the number of this image."""

    def add(self, example: "Example") -> None:
        """Computes the numbers of one image."""
        for convention, value in self.values(example).items():
            self._values.setdefault(convention, []).append(float(value))

    def results(self) -> list[dict[str, Any]]:
        """Mean and standard deviation over images."""
        return [
            {
                "metric": self.names[0],
                **({"convention": convention} if convention else {}),
                "value": statistics.fmean(values),
                "std": statistics.pstdev(values) if all(map(math.isfinite, values)) else None,
                "samples": [len(values), len(values)],
            }
            for convention, values in self._values.items()
        ]


def check_names(names: Collection[str], what: str = "--metrics") -> None:
    """Raises ConfigError when no metric is named, or one that does not exist."""
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        problem = f"has no metric {unknown[0]!r}" if unknown else "is empty"
        raise ConfigError(f"{what} {problem}: use some of {', '.join(METRICS)}")


def create(names: Collection[str], examples: "ExampleStream", settings: "Settings") -> list[Metric]:
    """The metrics of these names, in the order of METRICS.

    Everything that can be wrong is refused here, before an image is generated: raises ConfigError
    for an unknown metric, DataError where the examples lack what one needs.
    """
    check_names(names)
    groups: dict[str, list[str]] = {}
    for name, place in METRICS.items():
        if name in names:
            groups.setdefault(place, []).append(name)
    return [_load(place)(group, examples, settings) for place, group in groups.items()]


def default_metrics(examples: "ExampleStream") -> tuple[str, ...]:
    """ "truth" where the true outputs and masks are known, else "kid"."""
    return ("truth",) if {"source", "target", "mask"} <= examples.fields else ("kid",)


def _load(place: str) -> type[Metric]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"ganattn.evaluation.{module}"), name)
