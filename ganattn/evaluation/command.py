"""`ganattn evaluate`: what its options mean."""

import argparse

from ml_collections import ConfigDict

from ganattn.errors import ConfigError
from ganattn.evaluation.evaluate import describe, describe_classes, evaluate_pictures, evaluate_run
from ganattn.evaluation.extraction import collect
from ganattn.evaluation.names import DISTANCES
from ganattn.evaluation.runs import Run
from ganattn.evaluation.settings import Settings, load_callable, load_features
from ganattn.evaluation.sources import source
from ganattn.runs.results import append_results

CHOSEN = (
    "kid", "subset_size", "subsets", "block_size", "seed", "weights", "labels", "label_set",
    "absent", "void",
)  # fmt: skip
OF_LABELS = ("fcn", "labels", "attention")


def run(options: argparse.Namespace, config: ConfigDict | None = None) -> None:
    """Evaluates; prints a line for each result and appends it to evaluation.jsonl.

    config: that of the run in options.workdir, where it is not evaluated on its own data.
    Raises ConfigError for options that do not go together, and what the evaluation raises.
    """
    if (options.workdir is None) == (options.fakes is None):
        raise ConfigError(
            "evaluate takes a run or pictures: give --workdir, or --fakes and --reals"
        )
    metrics = [word.strip() for word in options.metrics.split(",") if word.strip()]
    settings = _settings(options, metrics)
    if options.workdir is not None:
        _refuse(options, ("reals", "source", "size", "save_statistics"), "--workdir")
        evaluated = Run.from_workdir(
            options.workdir, options.step, config, options.pairs, options.samples
        )
        directions = [options.direction] if options.direction else []
        results = evaluate_run(
            evaluated, metrics, settings, directions=directions, output=options.output
        )
        append_results(options.workdir, results)
    else:
        _refuse(options, ("direction", "step"), "--fakes")
        if options.pairs:
            raise ConfigError("--pairs does not go with --fakes: these are paired by name already")
        if options.reals is None and set(metrics) - set(OF_LABELS):
            raise ConfigError("--fakes are compared with pictures: give --reals")
        results = evaluate_pictures(
            options.fakes,
            options.reals,
            metrics,
            settings,
            source=options.source,
            size=options.size,
        )
        if options.save_statistics is not None:
            _save_statistics(options, settings)
    if options.output is not None:
        append_results(options.output, results)
    for result in results:
        print(describe(result))
        if result.get("per_class"):
            print(f"  {describe_classes(result)}")


def _settings(options: argparse.Namespace, metrics: list[str]) -> Settings:
    chosen = {name: getattr(options, name) for name in CHOSEN}
    if set(metrics) & set(DISTANCES) or options.save_statistics:
        chosen["features"] = load_features(options.features, options.convention, options.layer)
    if options.segmenter is not None:
        chosen["segmenter"] = load_callable(options.segmenter)
    if not options.no_cache:
        chosen["cache"] = options.cache
    return Settings(**{k: v for k, v in chosen.items() if v is not None}, progress=True)


def _save_statistics(options: argparse.Namespace, settings: Settings) -> None:
    assert settings.features is not None
    reals = source(options.reals, "reals", options.size)
    statistics = collect(reals, settings.features, cache=settings.cache, progress=True)
    statistics.save(options.save_statistics)


def _refuse(options: argparse.Namespace, names: tuple[str, ...], beside: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} does not go with {beside}: leave it out")
