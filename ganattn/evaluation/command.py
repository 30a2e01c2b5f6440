"""The body of `ganattn evaluate`."""

import argparse
import dataclasses

from ml_collections import ConfigDict

from ganattn.errors import ConfigError
from ganattn.evaluation.evaluate import describe, evaluate_images, evaluate_run
from ganattn.evaluation.examples import image_set
from ganattn.evaluation.features import load_features
from ganattn.evaluation.metrics import FEATURES
from ganattn.evaluation.settings import Settings, load_callable
from ganattn.evaluation.snapshots import Snapshot
from ganattn.evaluation.statistics import collect
from ganattn.runs.results import append_results

WITHOUT_REALS = ("fcn", "labels", "attention")


def run(options: argparse.Namespace, config: ConfigDict | None = None) -> None:
    """Evaluates; prints a line for each result and appends it to evaluation.jsonl.

    config: that of the run in options.workdir, where it is evaluated on other data than its own.
    Raises ConfigError for options that do not go together, and what the evaluation raises.
    """
    if (options.workdir is None) == (options.fakes is None):
        raise ConfigError("evaluate takes a run or images: give --workdir, or --fakes and --reals")
    metrics = [word.strip() for word in options.metrics.split(",") if word.strip()]
    settings = _settings(options, metrics)
    if options.workdir is not None:
        _refuse(options, ("reals", "source", "size", "save_statistics"), "--workdir")
        snapshot = Snapshot.from_workdir(
            options.workdir, options.step, config, options.pairs, options.samples
        )
        directions = [options.direction] if options.direction else []
        results = evaluate_run(
            snapshot, metrics, settings, directions=directions, output=options.output
        )
        append_results(options.workdir, results)
    else:
        results = _evaluate_folders(options, metrics, settings)
    if options.output is not None:
        append_results(options.output, results)
    for result in results:
        print(describe(result))


def _evaluate_folders(options, metrics, settings):
    _refuse(options, ("direction", "step"), "--fakes")
    if options.pairs:
        raise ConfigError("--pairs does not go with --fakes: these are paired by name already")
    if options.reals is None and set(metrics) - set(WITHOUT_REALS):
        raise ConfigError("--fakes are compared with real images: give --reals")
    results = evaluate_images(
        options.fakes, options.reals, metrics, settings, source=options.source, size=options.size
    )
    if options.save_statistics is not None:
        reals = image_set(options.reals, "reals", options.size)
        collect(reals, settings.features, cache=settings.cache, progress=True).save(
            options.save_statistics
        )
    return results


def _settings(options: argparse.Namespace, metrics: list[str]) -> Settings:
    names = {field.name for field in dataclasses.fields(Settings)}
    values = {k: v for k, v in vars(options).items() if k in names and v is not None}
    uses_features = set(metrics) & set(FEATURES) or options.save_statistics
    return Settings(
        **{
            **values,
            "features": load_features(options.features, options.convention, options.layer)
            if uses_features
            else None,
            "segmenter": load_callable(options.segmenter) if options.segmenter else None,
            "cache": None if options.no_cache else options.cache,
            "progress": True,
        }
    )


def _refuse(options: argparse.Namespace, names: tuple[str, ...], beside: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} does not go with {beside}: leave it out")
