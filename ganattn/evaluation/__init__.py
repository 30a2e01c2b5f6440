"""Scores of translated and sampled pictures, in numpy and jax alone.

    from ganattn import evaluation
    features = evaluation.InceptionFeatures.from_file("pt_inception-2015-12-05-6726825d.pth")
    settings = evaluation.Settings(features=features)
    evaluation.evaluate_pictures("fakes", "reals", ["fid", "kid"], settings)

Pictures are folders, arrays (n, h, w, 3) or iterables. Names are imported when they are first asked
for, so that the command line starts fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganattn.evaluation.attention import ClassAttention, heatmap_iou
    from ganattn.evaluation.evaluate import describe, evaluate_pictures, evaluate_run
    from ganattn.evaluation.extraction import collect
    from ganattn.evaluation.features import InceptionFeatures, NetworkFeatures, Provenance
    from ganattn.evaluation.frechet import frechet_distance
    from ganattn.evaluation.images import psnr, ssim
    from ganattn.evaluation.kernel import kid, mean_kid, mmd2
    from ganattn.evaluation.runs import Run
    from ganattn.evaluation.segmentation import confusion, label_scores, nearest_labels
    from ganattn.evaluation.settings import Settings
    from ganattn.evaluation.statistics import Moments, Statistics

_PLACES = {
    "attention": ("ClassAttention", "heatmap_iou"),
    "extraction": ("collect",),
    "evaluate": ("describe", "evaluate_pictures", "evaluate_run"),
    "features": ("InceptionFeatures", "NetworkFeatures", "Provenance"),
    "frechet": ("frechet_distance",),
    "images": ("psnr", "ssim"),
    "kernel": ("kid", "mean_kid", "mmd2"),
    "runs": ("Run",),
    "segmentation": ("confusion", "label_scores", "nearest_labels"),
    "settings": ("Settings",),
    "statistics": ("Moments", "Statistics"),
}
__all__ = [
    "ClassAttention", "InceptionFeatures", "Moments", "NetworkFeatures", "Provenance", "Run",
    "Settings", "Statistics", "collect", "confusion", "describe", "evaluate_pictures",
    "evaluate_run", "frechet_distance", "heatmap_iou", "kid", "label_scores", "mean_kid", "mmd2",
    "nearest_labels", "psnr", "ssim",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
