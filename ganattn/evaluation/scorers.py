"""The metrics by name: each takes in what was made, as it comes, and gives lines of results."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np

from ganattn.errors import ConfigError, DataError
from ganattn.evaluation import distances
from ganattn.evaluation.attention import ClassAttention, heatmap_iou
from ganattn.evaluation.images import psnr, ssim
from ganattn.evaluation.labels import LabelFolder, label_set
from ganattn.evaluation.names import DISTANCES, METRICS
from ganattn.evaluation.segmentation import (
    LabelScores,
    confusion,
    enlarged,
    label_scores,
    nearest_labels,
    nearest_sized,
)
from ganattn.evaluation.settings import Settings
from ganattn.evaluation.sources import Source
from ganattn.evaluation.subjects import Made, Subject
from ganattn.runs.results import Result


class Scorer(Protocol):
    """One metric, or several that share their work, over one `Subject`.

    wants_pictures: whether anything is to be added.
    """

    wants_pictures: bool

    def add(self, made: Made) -> None:
        """Takes in some pictures."""
        ...

    def results(self) -> list[Result]:
        """Lines with "metric", "value" and all that tells the number from another one."""
        ...


class Distances(distances.Distances):
    """FID and KID; see `distances`."""

    def __init__(self, metrics: Collection[str], subject: Subject, settings: Settings):
        real, source = subject.real, subject.source
        super().__init__(metrics, real, source, settings, subject.made)
        self.wants_pictures = subject.made is None
        for side in (real, source if {"mean_fid", "mean_kid"} & set(metrics) else None):
            count = (side.count or 0) if isinstance(side, Source) else 0
            distances.check_counts(metrics, subject.count, count, settings)

    def add(self, made: Made) -> None:
        """See `Scorer`."""
        super().add(made.images)


class Similarity:
    """PSNR and SSIM against the true pictures."""

    wants_pictures = True

    def __init__(self, metrics: Collection[str], subject: Subject, settings: Settings):
        self._metrics, self._subject = metrics, subject
        self._scores: dict[tuple[str, str], list[float]] = {}
        if subject.target(0) is None:
            raise DataError(
                "psnr and ssim need the true pictures: evaluate pairs (--pairs: by name)"
            )

    def add(self, made: Made) -> None:
        """See `Scorer`."""
        for i, image in enumerate(made.images):
            truth = self._subject.target(made.first + i)
            assert truth is not None
            pair = image[None], truth[None]
            if "psnr" in self._metrics:
                self._note("psnr", "", psnr(*pair))
            if "ssim" in self._metrics:
                self._note("ssim", "uniform 7x7", ssim(*pair))
                self._note("ssim", "gaussian 11x11", ssim(*pair, "gaussian"))

    def _note(self, metric: str, convention: str, scores: np.ndarray) -> None:
        self._scores.setdefault((metric, convention), []).append(float(scores[0]))

    def results(self) -> list[Result]:
        """See `Scorer`."""
        return [
            {
                "metric": metric,
                **({"convention": convention} if convention else {}),
                "value": float(np.mean(scores)),
                "std": float(np.std(scores)) if np.isfinite(scores).all() else None,
                "samples": [len(scores), len(scores)],
            }
            for (metric, convention), scores in self._scores.items()
        ]


class _Truth:
    """True label maps of a subject's pictures, as class numbers."""

    def __init__(self, subject: Subject, settings: Settings, side: str):
        self._subject, self._side = subject, side
        self._folder = None if settings.labels is None else LabelFolder(settings.labels)
        self.set = label_set(settings.label_set, subject.classes)
        if self._folder is None and not subject.classes and self._picture(0) is None:
            raise DataError("there are no true label maps: give --labels FOLDER, or evaluate pairs")

    def read(self, made: Made, i: int) -> np.ndarray:
        """(h, w) class numbers for picture i of `made`."""
        if self._folder is not None:
            return self.set.classes(self._folder.read(self._subject.name(made.first + i)))
        if "label" in made.examples:
            return self.set.classes(made.examples["label"][i, ..., 0])
        picture = self._picture(made.first + i)
        assert picture is not None and self.set.colours is not None
        return nearest_labels(picture[None], self.set.colours)[0]

    def _picture(self, index: int) -> np.ndarray | None:
        subject = self._subject
        return subject.origin(index) if self._side == "source" else subject.target(index)


class LabelScore:
    """Of what a segmenter finds in made photos ("fcn"), or of painted label maps ("labels")."""

    wants_pictures = True

    def __init__(self, metrics: Collection[str], subject: Subject, settings: Settings):
        (self._metric,) = metrics
        self._settings = settings
        if self._metric == "fcn" and settings.segmenter is None:
            raise ConfigError(
                "fcn needs a segmenter, whose weights are yours: --segmenter MODULE:FUNCTION, from "
                "(n, h, w, 3) uint8 pictures to (n, h, w) class numbers"
            )
        self._truth = _Truth(subject, settings, "source" if self._metric == "fcn" else "target")
        if self._metric == "labels" and self._truth.set.colours is None:
            raise ConfigError("labels needs a --label-set with colours, such as cityscapes")
        classes = len(self._truth.set)
        self._counts = np.zeros((classes + 1, classes), np.int64)
        self._pictures = 0

    def add(self, made: Made) -> None:
        """See `Scorer`."""
        for i, image in enumerate(made.images):
            truth = self._truth.read(made, i)
            found = self._found(image[None], truth.shape)
            self._counts += confusion(truth[None], found, len(self._truth.set))
        self._pictures += len(made.images)

    def _found(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if self._metric == "fcn":
            assert self._settings.segmenter is not None
            return np.asarray(self._settings.segmenter(enlarged(image, size)))
        assert self._truth.set.colours is not None
        return nearest_sized(nearest_labels(image, self._truth.set.colours), size)

    def results(self) -> list[Result]:
        """See `Scorer`."""
        absent, void = self._settings.absent, self._settings.void
        scores = label_scores(self._counts, absent, void)  # type: ignore[arg-type]
        told = {
            "convention": f"absent classes {absent}, void {void}",
            "label_set": self._settings.label_set,
            "samples": [self._pictures, self._pictures],
        }
        lines = label_lines(self._metric, scores, self._truth.set.names)
        return [{**line, **told} for line in lines]


def label_lines(prefix: str, scores: LabelScores, names: Sequence[str]) -> list[Result]:
    """Lines of the three scores of label maps, two of them with each class's own."""

    return [
        {"metric": f"{prefix}_pixel_accuracy", "value": scores.pixel_accuracy},
        {
            "metric": f"{prefix}_class_accuracy",
            "value": scores.class_accuracy,
            "per_class": _by_class(names, scores.per_class_accuracy),
        },
        {
            "metric": f"{prefix}_class_iou",
            "value": scores.class_iou,
            "per_class": _by_class(names, scores.per_class_iou),
        },
    ]


def _by_class(names: Sequence[str], values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    pairs = zip(names, map(float, values), strict=True)
    return {name: None if np.isnan(value) else value for name, value in pairs}


ATTENTION_LINES = {
    "attention_intensity": "intensity",
    "class_frequency": "frequency",
    "average_frequency": "average",
}


class AttentionByClass:
    """How often each class is attended, and how often it is there."""

    wants_pictures = True

    def __init__(self, metrics: Collection[str], subject: Subject, settings: Settings):
        self._truth = _Truth(subject, settings, "source")
        self._counts = ClassAttention(len(self._truth.set))
        self._pictures = 0

    def add(self, made: Made) -> None:
        """See `Scorer`."""
        maps = _attention(made)
        for i in range(len(made.images)):
            label = self._truth.read(made, i)[None]
            instances = made.examples.get("instance")
            fitting = instances is not None and instances[i, ..., 0].shape == label.shape[1:]
            objects = instances[i, ..., 0][None] if fitting else None  # type: ignore[index]
            self._counts.add(maps[i : i + 1], label, objects)
        self._pictures += len(made.images)

    def results(self) -> list[Result]:
        """See `Scorer`."""
        table, names = self._counts.table(), self._truth.set.names
        results = []
        for metric, column in ATTENTION_LINES.items():
            values = np.array([row[column] for row in table])
            there = values[~np.isnan(values)]
            line: Result = {
                "metric": metric,
                "value": float(there.mean()) if there.size else None,
                "per_class": _by_class(names, values),
                "samples": [self._pictures, self._pictures],
            }
            if metric == "attention_intensity":
                line["convention"] = "map above 0.5 in half of a class's pixels"
            results.append(line)
        return results


class AttentionIou:
    """Overlap of the hot part of heat maps with the object's mask."""

    wants_pictures = True

    def __init__(self, metrics: Collection[str], subject: Subject, settings: Settings):
        self._subject, self._scores = subject, list[float]()
        if subject.mask(0) is None:
            raise DataError("attention_iou needs masks of the objects: procedural data has them")

    def add(self, made: Made) -> None:
        """See `Scorer`."""
        maps = _attention(made)
        for i in range(len(maps)):
            mask = self._subject.mask(made.first + i)
            assert mask is not None
            self._scores.append(heatmap_iou(maps[i : i + 1], mask[None]))

    def results(self) -> list[Result]:
        """See `Scorer`."""
        count = len(self._scores)
        value = float(np.mean(self._scores))
        return [{"metric": "attention_iou", "value": value, "samples": [count, count]}]


def _attention(made: Made) -> np.ndarray:
    if made.attention is None:
        raise ConfigError("the method has no attention maps: leave the attention metrics out")
    return made.attention


# Those of one entry are made together.
SCORERS: dict[tuple[str, ...], Any] = {
    DISTANCES: Distances,
    ("psnr", "ssim"): Similarity,
    ("fcn",): LabelScore,
    ("labels",): LabelScore,
    ("attention",): AttentionByClass,
    ("attention_iou",): AttentionIou,
}


def create(metrics: Collection[str], subject: Subject, settings: Settings) -> list[Scorer]:
    """The scorers of some METRICS.

    Everything that can be wrong is found here, before a picture is made: raises ConfigError for an
    unknown metric, DataError for data that one cannot be taken of.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        name = f"there is no metric {unknown[0]!r}" if unknown else "no metric is named"
        raise ConfigError(f"{name}: use some of {', '.join(METRICS)}")
    wanted = {names: [name for name in names if name in metrics] for names in SCORERS}
    return [SCORERS[names](some, subject, settings) for names, some in wanted.items() if some]
