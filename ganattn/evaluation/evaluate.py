"""Evaluates a run, or any images; results have the form of lines of `evaluation.jsonl`."""

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ganattn.evaluation import metrics as registry
from ganattn.evaluation.examples import Example, ExampleStream, of_images
from ganattn.evaluation.settings import Settings
from ganattn.evaluation.snapshots import Snapshot
from ganattn.figures import save_grid, save_image
from ganattn.runs.results import Result

ROWS = 8  # of the grids


def evaluate_run(
    snapshot: Snapshot,
    metrics: Collection[str],
    settings: Settings | None = None,
    *,
    directions: Sequence[str] = (),
    output: Path | None = None,
    grids: Path | None = None,
) -> list[Result]:
    """Evaluates the images that a run generates for its test examples, direction by direction.

    metrics: names of METRICS. directions: default: all of the method. output: folder for the
    generated images, as OUTPUT/DIRECTION/NAME.png. grids: folder for result_DIRECTION.png, the
    first examples side by side. Raises ConfigError and DataError, where possible before an image is
    generated.
    """
    settings = settings or Settings()
    examples = [snapshot.examples(name) for name in directions or snapshot.model.method.directions]
    prepared = [registry.create(metrics, each, settings) for each in examples]
    origin: Result = {"step": snapshot.model.step}
    if not snapshot.batches.tests.held_out:
        origin["split"] = "training images, there are no test images"
    results = []
    for each, consumers in zip(examples, prepared, strict=True):
        direction = each.title
        images = None if output is None else output / direction
        grid = None if grids is None else grids / f"result_{direction}.png"
        lines = _consume(each, consumers, settings, images, grid)
        results += [{**origin, "direction": direction, **line} for line in lines]
    return results


def evaluate_images(
    fakes: Any,
    reals: Any,
    metrics: Collection[str],
    settings: Settings | None = None,
    *,
    source: Any = None,
    size: int | None = None,
) -> list[Result]:
    """Evaluates images produced by any tool.

    fakes, reals, source: folders, arrays (n, h, w, 3), or iterables, see `examples.image_set`;
    reals may be an .npz file of statistics. source: the images that the fakes were generated from.
    metrics: names of METRICS. size: side of a square to which all are resized first. Raises
    ConfigError and DataError.
    """
    settings = settings or Settings()
    examples = of_images(fakes, reals, source, size)
    lines = _consume(examples, registry.create(metrics, examples, settings), settings)
    origin: Result = {} if size is None else {"size": size}
    return [{"step": 0, **line, **origin} for line in lines]


def describe(result: Result) -> str:
    """A result as text: its value, convention, features and numbers of images.

    A second line holds the values of the classes, where there are some.
    """
    value, deviation = result["value"], result.get("std")
    text = "not finite" if value is None or not np.isfinite(value) else f"{value:.6g}"
    if deviation is not None and np.isfinite(deviation):
        text += f" +- {deviation:.2g}"
    notes = [
        str(result[part])
        for part in ("estimator", "weights", "convention", "features", "label_set", "split")
        if result.get(part)
    ]
    if result.get("features") and not result.get("comparable"):
        notes.append("not comparable with published numbers")
    counts = zip(result.get("samples", []), ("generated", "real", "source"), strict=False)
    notes += [f"{count or 'unknown'} {side}" for count, side in counts]
    head = " ".join(str(result[k]) for k in ("metric", "direction") if result.get(k))
    values = result.get("per_class") or {}
    classes = [f"{k} {'none' if value is None else f'{value:.4g}'}" for k, value in values.items()]
    return f"{head}: {text} ({', '.join(notes)})" + (f"\n  {', '.join(classes)}" if classes else "")


def _consume(
    examples: ExampleStream,
    metrics: Sequence[registry.Metric],
    settings: Settings,
    output: Path | None = None,
    grid: Path | None = None,
) -> list[Result]:
    """Passes every example to the metrics; also writes images and a grid where asked to."""
    start, first = time.monotonic(), list[Example]()
    streaming = [metric for metric in metrics if metric.streams]
    quiet = None if settings.progress else True
    with tqdm(
        total=examples.count or None, desc=examples.title, unit="image", disable=quiet
    ) as bar:
        for example in examples.stream() if streaming or output or grid else ():
            for metric in streaming:
                metric.add(example)
            if output is not None:
                save_image(output / f"{example.name}.png", example.generated)
            if grid is not None and len(first) < ROWS:
                first.append(example)
            bar.update()
    if grid is not None:
        save_grid(grid, _columns(first))
    results = [line for metric in metrics for line in metric.results()]
    seconds = round(time.monotonic() - start, 2)
    return [{**line, "seconds": seconds} for line in results]


def _columns(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """The columns of a grid, as far as they are known; heat maps are laid over the first one."""
    names = ("source", "attention", "generated", "target")
    known = {
        name: np.stack([getattr(example, name) for example in examples])
        for name in names
        if getattr(examples[0], name) is not None
    }
    return known if "source" in known else {"generated": known.pop("generated"), **known}
