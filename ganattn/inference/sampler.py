"""Noise in, pictures and attention out: for notebooks and the command line."""

import dataclasses
import math
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import jax
import numpy as np
from PIL import Image

from ganattn import config as configuration
from ganattn import figures, latents, methods
from ganattn.errors import ConfigError, DataError
from ganattn.runs.checkpoints import Step, restore_trees
from ganattn.runs.storage import locate
from ganattn.state import with_averages

CHUNK = 64  # pictures made at once
FEW = 8  # from one to as many are made at once, too


@dataclasses.dataclass(frozen=True)
class Sampled(figures.Drawn):
    """Pictures made from noise.

    images: (n, h, w, 3) uint8. latents: (n, size) float32. attentions: a map for each fuse of SPAP,
    in order, by the level that it adds ("c3d5": the 3x3 convolution of rate 5), or of
    self-attention; (n, h', w', 1) float32, empty where the generator has none. per_row: how many
    belong side by side.
    """

    images: np.ndarray
    latents: np.ndarray
    attentions: Mapping[str, np.ndarray]
    per_row: int | None = None

    @property
    def heatmaps(self) -> dict[str, np.ndarray]:
        """name -> (n, h, w, 3) uint8: each picture under that map, scaled to the map's range."""
        return {name: figures.overlay(self.images, m) for name, m in self.attentions.items()}

    def columns(self) -> dict[str, Any]:
        """For `figures.grid`: the picture, and what each fuse stresses in it."""
        return {"sample": self.images, **self.heatmaps}

    @property
    def pictures_per_row(self) -> int:
        """How many samples a row of `figure` shows: one beside its maps, or several alone."""
        if self.attentions and self.per_row is None:
            return 1
        return self.per_row or math.ceil(math.sqrt(len(self.images)))

    def figure(self, rows: int | None = None) -> Image.Image:
        """A row a picture with its maps; without maps, or of paths, the pictures side by side.

        rows: only the first ones.
        """
        if self.attentions and self.per_row is None:
            return super().figure(rows)
        count = None if rows is None else rows * self.pictures_per_row
        return figures.mosaic(self.images[:count], self.pictures_per_row)

    def mosaic(self) -> Image.Image:
        """The pictures alone, side by side."""
        return figures.mosaic(self.images, self.per_row)


class Sampler:
    """Makes pictures from noise with a trained generator.

    method, variables: from `methods.create` and a TrainState (of which `state.with_averages` puts
    the moving average in place).
    """

    def __init__(self, method: methods.Method, variables: Mapping[str, Any]):
        self.method: Any = method
        self.variables = variables
        self._order: list[str] = []

    @classmethod
    def from_workdir(
        cls, workdir: str | os.PathLike, step: Step | None = None, *, average: bool = True
    ) -> Self:
        """Loads the newest whole checkpoint of a run, or that of `step`.

        average: takes the generator's moving average where the run kept one. Raises CheckpointError
        when there is no checkpoint, ConfigError for a run of a method that takes no noise.
        """
        trees, meta = restore_trees(locate(workdir) / "checkpoints", step, ("variables", "ema"))
        method = methods.create(configuration.from_dict(meta["config"]))
        if method.takes != "latents":
            raise ConfigError(f"{workdir} makes pictures from {method.takes}, not from noise")
        return cls(method, with_averages(trees["variables"], trees["ema"] if average else {}))

    def __call__(self, number: int, seed: int = 0, truncation: float | None = None) -> Sampled:
        """Makes pictures; the i-th of a seed is the same however many are asked for.

        truncation: largest number in the latent vectors, in place of the run's own (see
        `latents.draw`; 0 is none): less makes pictures more alike, and more usual. Raises
        DataError for a number below 1.
        """
        return self.from_latents(self.draw(number, seed, truncation))

    def draw(self, number: int, seed: int = 0, truncation: float | None = None) -> np.ndarray:
        """The latent vectors (number, size) float32 of a seed. Raises DataError as a call does."""
        if number < 1:
            raise DataError(f"the number of pictures is {number}: give at least 1")
        if truncation is not None and not 0 <= truncation < np.inf:
            raise DataError(f"the truncation is {truncation}: give at least 0")
        # Every example has a key of its own; in blocks, so that it compiles once.
        blocks = [self._drawn(seed, start, truncation) for start in range(0, number, CHUNK)]
        return np.concatenate(blocks)[:number]

    def from_latents(self, vectors: np.ndarray) -> Sampled:
        """Makes a picture from every vector of (n, size). Raises DataError for another shape."""
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.method.latent_size or not len(vectors):
            raise DataError(
                f"latent vectors have shape {vectors.shape}: give (n, {self.method.latent_size})"
            )
        images, attentions = [], []
        for start in range(0, len(vectors), CHUNK):
            part = vectors[start : start + CHUNK]
            # Every part has one of two lengths, so that it compiles at most twice.
            length = FEW if len(vectors) <= FEW else CHUNK
            padded = np.concatenate([part, np.repeat(part[-1:], length - len(part), 0)])
            made = jax.device_get(self._compiled(self._on_device, padded))
            images.append(figures.to_uint8(made.images[: len(part)]))
            attentions.append({k: m[: len(part)] for k, m in (made.attentions or {}).items()})
        joined = {name: np.concatenate([a[name] for a in attentions]) for name in self._order}
        return Sampled(np.concatenate(images), vectors, joined)

    def interpolate(
        self, number: int, steps: int = 8, seed: int = 0, truncation: float | None = None
    ) -> Sampled:
        """Paths between samples: `number` rows of `steps` pictures.

        Row i goes from sample 2i of the seed to sample 2i + 1, see `latents.interpolate`. Raises
        DataError for fewer than 1 row or 2 steps.
        """
        if steps < 2:
            raise DataError(f"the number of steps is {steps}: give at least 2, start and end")
        ends = self.draw(2 * number, seed, truncation)
        path = latents.interpolate(ends[::2], ends[1::2], steps, self.method.latent)
        made = self.from_latents(path.reshape(number * steps, -1))
        return dataclasses.replace(made, per_row=steps)

    @cached_property
    def _compiled(self) -> Any:
        def make(variables, vectors):
            made = self.method.translate(variables, vectors)
            # jit returns dictionaries sorted by key: the order is noted while it traces.
            self._order = list(made.attentions or {})
            return made

        return jax.jit(make)

    @cached_property
    def _on_device(self) -> Mapping[str, Any]:
        prefixes = self.method.translates_with
        return jax.device_put({n: v for n, v in self.variables.items() if n.startswith(prefixes)})

    def _drawn(self, seed: int, start: int, truncation: float | None) -> np.ndarray:
        key = jax.random.key(seed)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(start + np.arange(CHUNK))
        return np.asarray(self.method.draw(keys, np.float32, truncation))
