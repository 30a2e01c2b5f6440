"""What the loop can measure of a run: a row of MEASURES by its own name, or any metric of one."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ganattn.errors import ConfigError
from ganattn.evaluation import scorers
from ganattn.evaluation.evaluate import evaluate_run
from ganattn.evaluation.names import CONVENTIONS, DISTANCES, METRICS
from ganattn.evaluation.options import cache_folder
from ganattn.evaluation.runs import Run
from ganattn.evaluation.settings import Settings, load_features
from ganattn.evaluation.truth import Truth
from ganattn.runs.results import Result

Measure = Callable[[Mapping[str, Any], int], list[Result]]  # of a method's variables and a step


def against_truth(config: Any, method: Any, batches: Any) -> Measure:
    """The scores of `Truth`: for data that come with it, such as procedural pictures."""
    if batches.truth is None:
        raise ConfigError(
            "config.evaluation.measures has 'truth', but nobody knows the true translations of "
            f"config.data.source {config.data.source!r}: use procedural data or another measure"
        )
    truth = Truth(method, batches.truth)
    samples = {direction: len(batches.truth[direction[0]]) for direction in truth.directions}

    def measure(variables: Mapping[str, Any], step: int) -> list[Result]:
        return [
            {
                "step": step,
                "direction": direction,
                "metric": metric,
                "value": value,
                "samples": samples[direction],
            }
            for direction in truth.directions
            for metric, value in truth(variables, direction)[0].items()
        ]

    return measure


def of_tests(metrics: Sequence[str], config: Any, method: Any, batches: Any) -> Measure:
    """Metrics of `ganattn evaluate` over all test pictures, which are translated once for all.

    Features of real pictures are kept as the command keeps them. Raises what it raises.
    """
    fields = config.evaluation
    if fields.convention not in CONVENTIONS:
        raise ConfigError(
            f"config.evaluation.convention is {fields.convention!r}: "
            f"use one of {', '.join(CONVENTIONS)}"
        )
    settings = Settings(cache=cache_folder())
    if set(metrics) & set(DISTANCES):
        features = load_features(fields.features or None, fields.convention)
        settings = dataclasses.replace(settings, features=features)
    run = Run(method, {}, config, 0, batches)
    for direction in method.directions:
        scorers.create(metrics, run.subject(direction), settings)

    def measure(variables: Mapping[str, Any], step: int) -> list[Result]:
        now = dataclasses.replace(run, variables=variables, step=step)
        return evaluate_run(now, metrics, settings)

    return measure


MEASURES: dict[str, Callable[[Any, Any, Any], Measure]] = {"truth": against_truth}


def create(config: Any, method: Any, batches: Any) -> list[Measure]:
    """The measures that `config.evaluation` names.

    Raises ConfigError for a name that is not known and for a measure that the data cannot serve,
    and what loading features raises.
    """
    wanted = tuple(config.evaluation.measures)
    known = (*MEASURES, *METRICS)
    for word in wanted:
        if word not in known:
            raise ConfigError(
                f"config.evaluation.measures has {word!r}: use some of {', '.join(known)}"
            )
    if not wanted:
        raise ConfigError(
            f"config.evaluation.measures is empty: name some of {', '.join(known)}, "
            "or set config.evaluation.every=0"
        )
    measures = [MEASURES[word](config, method, batches) for word in wanted if word in MEASURES]
    metrics = [word for word in wanted if word in METRICS]
    return measures + ([of_tests(metrics, config, method, batches)] if metrics else [])
