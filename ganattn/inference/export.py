"""A trained generator as one StableHLO file that needs neither this library nor Flax."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from ganattn.errors import CheckpointError
from ganattn.layers.lowering import lowering_for
from ganattn.methods import Method

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4  # of a reloaded export against the library, pictures in [-1, 1]


def export_translator(
    method: Method,
    variables: Mapping[str, Any],
    size: int,
    path: str | os.PathLike,
    direction: str = "a2b",
) -> None:
    """Writes images (b, size, size, 3) -> translated images, for any batch b, weights included.

    Read it with `jax.export.deserialize(bytearray(open(path, "rb").read())).call(images)`. The file
    appears only after it was read back and gave the same pictures; else CheckpointError.
    """
    others = tuple(prefix for prefix in method.translates_with if prefix != "generator")
    names = [n for n in variables if n == f"generator_{direction}" or n.startswith(others)]
    weights = {name: jax.tree.map(np.asarray, variables[name]) for name in names}

    def translate(images):
        return method.translate(weights, images, direction).images

    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, size, size, 3), np.float32)
    with lowering_for("any"):
        exported = jax.export.export(jax.jit(translate), platforms=PLATFORMS)(spec)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(exported.serialize())
        _check(bytearray(partial.read_bytes()), translate, size)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check(serialized: bytearray, translate: Any, size: int) -> None:
    reloaded = jax.export.deserialize(serialized)
    images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    for count in (1, 2):
        expected = np.asarray(jax.jit(translate)(images[:count]))
        difference = np.abs(np.asarray(reloaded.call(images[:count])) - expected).max()
        if not difference < TOLERANCE:
            raise CheckpointError(
                f"the exported generator differs from the original by {difference:.1e}: "
                "the file was not written; report this with the config of the run"
            )
