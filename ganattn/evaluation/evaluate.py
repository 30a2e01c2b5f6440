"""Scores a run, or any pictures, and writes what was found as lines of `evaluation.jsonl`."""

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ganattn.evaluation import scorers
from ganattn.evaluation.runs import Run
from ganattn.evaluation.settings import Settings
from ganattn.evaluation.subjects import Pictures, Subject
from ganattn.figures import save_picture
from ganattn.runs.results import Result


def evaluate_run(
    run: Run,
    metrics: Collection[str],
    settings: Settings | None = None,
    *,
    directions: Sequence[str] = (),
    output: Path | None = None,
) -> list[Result]:
    """Scores what a run makes of its test examples, direction by direction.

    directions: the method's own unless some are given. output: folder for the made pictures, as
    OUTPUT/DIRECTION/NAME.png. Raises ConfigError and DataError before a picture is made where that
    is possible.
    """
    settings = settings or Settings()
    names = tuple(directions) or run.method.directions
    subjects = {direction: run.subject(direction) for direction in names}
    prepared = {d: scorers.create(metrics, subject, settings) for d, subject in subjects.items()}
    told: Result = {"step": run.step}
    if not run.batches.tests.held_out:
        told["split"] = "training pictures, there are no test pictures"
    results = []
    for direction, subject in subjects.items():
        folder = None if output is None else output / direction
        found = _score(subject, prepared.pop(direction), settings, direction, folder)
        results += [{**told, "direction": direction, **line} for line in found]
    return results


def evaluate_pictures(
    fakes: Any,
    reals: Any,
    metrics: Collection[str],
    settings: Settings | None = None,
    *,
    source: Any = None,
    size: int | None = None,
) -> list[Result]:
    """Scores pictures, whoever made them.

    fakes, reals, source: folders, arrays (n, h, w, 3), or iterables, see `sources.source`; reals
    may be an .npz file of statistics. source: what the fakes were made from. size: side of a square
    to which all are resized first. Raises ConfigError and DataError.
    """
    settings = settings or Settings()
    subject = Pictures(fakes, reals, source, size)
    found = _score(subject, scorers.create(metrics, subject, settings), settings, "fakes", None)
    return [
        {"step": 0, **line} if size is None else {"step": 0, **line, "size": size} for line in found
    ]


def describe(result: Result) -> str:
    """One line for a person: the score, its convention, its features and how many pictures."""
    value, deviation = result["value"], result.get("std")
    shown = "not finite" if value is None or not np.isfinite(value) else f"{value:.6g}"
    if deviation is not None and np.isfinite(deviation):
        shown += f" +- {deviation:.2g}"
    told = [
        str(result[part])
        for part in ("estimator", "weights", "convention", "features", "label_set", "split")
        if result.get(part)
    ]
    if result.get("features") and not result.get("comparable"):
        told.append("not comparable with published numbers")
    counts = result.get("samples", [])
    sides = ("made", "real", "source")
    told += [f"{n or 'unknown'} {side}" for n, side in zip(counts, sides, strict=False)]
    head = " ".join(str(result[k]) for k in ("metric", "direction") if result.get(k))
    return f"{head}: {shown} ({', '.join(told)})"


def describe_classes(result: Result) -> str:
    """One line with the score of every class, "" where the result has none."""
    classes = result.get("per_class", {})
    shown = {name: "none" if value is None else f"{value:.4g}" for name, value in classes.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _score(
    subject: Subject,
    wanted: Sequence[scorers.Scorer],
    settings: Settings,
    title: str,
    output: Path | None,
) -> list[Result]:
    start = time.monotonic()
    adding = [scorer for scorer in wanted if scorer.wants_pictures]
    quiet = None if settings.progress else True
    with tqdm(total=subject.count or None, desc=title, unit="picture", disable=quiet) as bar:
        for made in subject.fakes() if adding or output else ():
            for scorer in adding:
                scorer.add(made)
            if output is not None:
                for i, image in enumerate(made.images):
                    save_picture(output / f"{subject.name(made.first + i)}.png", image)
            bar.update(len(made.images))
    results = [line for scorer in wanted for line in scorer.results()]
    seconds = round(time.monotonic() - start, 2)
    return [{**line, "seconds": seconds} for line in results]
