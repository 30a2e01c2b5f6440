"""What the loop can measure of a run, by name: add a function here and a config may ask for it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ganattn.errors import ConfigError
from ganattn.evaluation.results import Result
from ganattn.evaluation.truth import Truth

Measure = Callable[[Mapping[str, Any]], list[Result]]
PAIRS, CHUNK = 32, 8  # test pairs that are compared, and how many of them at once


def against_truth(config: Any, method: Any, batches: Any) -> Measure:
    """The scores of `Truth`: for data that come with it, such as procedural pictures."""
    if batches.truth is None:
        raise ConfigError(
            "config.evaluation.measures has 'truth', but nobody knows the true translations of "
            f"config.data.source {config.data.source!r}: use procedural data or another measure"
        )
    truth = Truth(method, batches.truth)
    samples = {direction: len(batches.truth[direction[0]]) for direction in truth.directions}

    def measure(variables: Mapping[str, Any]) -> list[Result]:
        return [
            {
                "direction": direction,
                "metric": metric,
                "value": value,
                "samples": samples[direction],
            }
            for direction in truth.directions
            for metric, value in truth(variables, direction)[0].items()
        ]

    return measure


def against_pairs(config: Any, method: Any, batches: Any) -> Measure:
    """Mean absolute distance of test translations to their true target, of paired data: "l1"."""
    if config.data.layout == "unpaired":
        raise ConfigError(
            "config.evaluation.measures has 'pairs', but config.data.layout is 'unpaired': "
            "use pairs, or another measure"
        )
    batch = batches.test_pictures(PAIRS)
    translate = jax.jit(method.translate, static_argnames="direction")

    def measure(variables: Mapping[str, Any]) -> list[Result]:
        results = []
        for direction in method.directions:
            target = np.asarray(batch["image" if method.takes == "labels" else direction[-1]])
            distances = []
            for start in range(0, PAIRS, CHUNK):
                part = {key: value[start : start + CHUNK] for key, value in batch.items()}
                made = translate(variables, method.source(part, direction), direction=direction)
                images = np.asarray(made.images, np.float64)
                distances.append(np.abs(images - target[start : start + CHUNK]).mean())
            value = float(np.mean(distances))
            results.append(
                {"direction": direction, "metric": "l1", "value": value, "samples": PAIRS}
            )
        return results

    return measure


MEASURES: dict[str, Callable[[Any, Any, Any], Measure]] = {
    "truth": against_truth,
    "pairs": against_pairs,
}


def create(config: Any, method: Any, batches: Any) -> list[Measure]:
    """The measures that `config.evaluation` names, each a function of a method's variables.

    Raises ConfigError for a name that is not known and for a measure that the data cannot serve.
    """
    wanted = config.evaluation.measures
    for word in wanted:
        if word not in MEASURES:
            raise ConfigError(
                f"config.evaluation.measures has {word!r}: use some of {', '.join(MEASURES)}"
            )
    if not wanted:
        raise ConfigError(
            f"config.evaluation.measures is empty: name some of {', '.join(MEASURES)}, "
            "or set config.evaluation.every=0"
        )
    return [MEASURES[word](config, method, batches) for word in wanted]
