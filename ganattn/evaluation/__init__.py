"""Evaluation of generated images, in numpy and JAX alone.

    from ganattn import evaluation
    features = evaluation.InceptionFeatures.from_file("pt_inception-2015-12-05-6726825d.pth")
    settings = evaluation.Settings(features=features)
    evaluation.evaluate_images("fakes", "reals", ["fid", "kid"], settings)

Images are folders, arrays (n, h, w, 3) or iterables. Names are imported when first accessed, so
that the command line starts fast.
"""

import importlib
from typing import Any

_MODULES = {
    "attention": "ClassAttention heatmap_iou",
    "distances": "frechet_distance kid mean_kid mmd2",
    "evaluate": "describe evaluate_images evaluate_run",
    "features": "InceptionFeatures NetworkFeatures Provenance",
    "images": "psnr ssim",
    "labels": "confusion label_accuracy nearest_labels",
    "metrics": "METRICS Metric",
    "settings": "Settings",
    "snapshots": "Snapshot",
    "statistics": "Moments Statistics collect",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_PLACES)
