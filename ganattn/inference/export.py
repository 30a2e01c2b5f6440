"""A trained generator as one StableHLO file that needs neither this library nor Flax."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from ganattn.errors import CheckpointError, ConfigError
from ganattn.layers.lowering import lowering_for
from ganattn.methods import Method
from ganattn.runs.storage import write_atomic

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4  # of a reloaded export against the library, images in [-1, 1]


def export_translator(
    method: Method,
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    direction: str | None = None,
) -> tuple[int, ...]:
    """Writes images (b, h, w, c) -> translated images, for any batch b, weights included.

    Returns (h, w, c), the size of training. Styles, where a method has them, are the mean style;
    dropout that remains in translation has one fixed mask.
    Read the file with `jax.export.deserialize(bytearray(open(path, "rb").read())).call(images)`. It
    appears only after it was read back and gave the same images; else CheckpointError. Raises
    ConfigError for a direction that takes other inputs than images.
    """
    direction = method.direction(direction)
    specs = method.inputs(direction)
    required = [name for name, spec in specs.items() if not spec.optional]
    if [specs[name].kind for name in required] != ["image"]:
        raise ConfigError(
            f"direction {direction} takes {' and '.join(required or specs)}: export writes "
            "generators that take one image"
        )
    (name,), shape = required, specs[required[0]].shape
    weights = {n: jax.tree.map(np.asarray, variables[n]) for n in method.networks_for(direction)}

    def translate(images):
        return method.generate(weights, {name: images}, direction).images

    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, *shape), np.float32)
    with lowering_for("any"):
        exported = jax.export.export(jax.jit(translate), platforms=PLATFORMS)(spec)

    def check(file: Path) -> None:
        _check(bytearray(file.read_bytes()), translate, shape)

    write_atomic(Path(path), bytes(exported.serialize()), check)
    return shape


def _check(serialized: bytearray, translate: Any, shape: tuple[int, ...]) -> None:
    reloaded = jax.export.deserialize(serialized)
    images = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    for count in (1, 2):
        expected = np.asarray(jax.jit(translate)(images[:count]))
        difference = np.abs(np.asarray(reloaded.call(images[:count])) - expected).max()
        if not difference < TOLERANCE:
            raise CheckpointError(
                f"the exported generator differs from the original by {difference:.1e}: "
                "the file was not written; report this with the config of the run"
            )
