"""Noise in, images and attention out: for notebooks and the command line."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image

from ganattn import figures, latents
from ganattn.errors import DataError
from ganattn.inference.model import Model

BLOCK = 64  # latent vectors that are drawn at once


@dataclasses.dataclass(frozen=True)
class Sampled(figures.Drawn):
    """Images generated from noise.

    images: (n, h, w, 3) uint8. latents: (n, size) float32. attentions: one map for each join of
    SPAP, in order, by the level that it adds ("c3d5": the 3x3 convolution of rate 5), or of
    self-attention; (n, h', w', 1) float32, empty where the generator has none. per_row: number of
    images that belong side by side.
    """

    images: np.ndarray
    latents: np.ndarray
    attentions: Mapping[str, Any]
    per_row: int | None = None

    @property
    def heatmaps(self) -> dict[str, np.ndarray]:
        """name -> (n, h, w, 3) uint8: each image under that map, scaled to the map's range."""
        return {name: figures.overlay(self.images, m) for name, m in self.attentions.items()}

    def columns(self) -> dict[str, Any]:
        """For `figures.grid`: the image, and the image under each map."""
        return {"sample": self.images, **self.heatmaps}

    @property
    def images_per_row(self) -> int:
        """Number of samples in a row of `figure`: one beside its maps, or several alone."""
        if self.attentions and self.per_row is None:
            return 1
        return self.per_row or math.ceil(math.sqrt(len(self.images)))

    def figure(self, rows: int | None = None) -> Image.Image:
        """One row per image with its maps; without maps, or of paths, the images side by side.

        rows: only the first ones.
        """
        if self.attentions and self.per_row is None:
            return super().figure(rows)
        count = None if rows is None else rows * self.images_per_row
        return figures.mosaic(self.images[:count], self.images_per_row)

    def mosaic(self) -> Image.Image:
        """The images alone, side by side."""
        return figures.mosaic(self.images, self.per_row)


class Sampler(Model):
    """Generates images from latent vectors with a trained generator."""

    from_noise = True

    @property
    def latent_size(self) -> int:
        """Length of a latent vector."""
        return self.inputs()["latent"].shape[0]

    @property
    def distribution(self) -> str:
        """Of the numbers in latent vectors, see `latents.draw`."""
        return self.config.method.get("latent", "normal")

    def __call__(self, number: int, seed: int = 0, truncation: float | None = None) -> Sampled:
        """Generates images; the i-th of a seed is the same for any number.

        truncation: bound of the numbers in the latent vectors, in place of the run's own (see
        `latents.draw`; 0 is none); a smaller one gives images that are more alike and more usual.
        Raises DataError for a number below 1.
        """
        return self.from_latents(self.draw(number, seed, truncation))

    def draw(self, number: int, seed: int = 0, truncation: float | None = None) -> np.ndarray:
        """The latent vectors (number, size) float32 of a seed. Raises DataError as a call does."""
        if number < 1:
            raise DataError(f"the number of images is {number}: give at least 1")
        if truncation is not None and not 0 <= truncation < np.inf:
            raise DataError(f"the truncation is {truncation}: give at least 0")
        key, bound, blocks = jax.random.key(seed), truncation, []
        if bound is None:
            bound = self.config.method.get("latent_bound", 0.0)
        for start in range(0, number, BLOCK):  # of one size, so that this compiles once
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(start + np.arange(BLOCK))
            draws = latents.draw(keys, self.latent_size, self.distribution, bound, np.float32)
            blocks.append(np.asarray(draws))
        return np.concatenate(blocks)[:number]

    def from_latents(self, vectors: np.ndarray) -> Sampled:
        """Generates an image from each vector of (n, size); DataError for another shape."""
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.latent_size or not len(vectors):
            raise DataError(
                f"latent vectors have shape {vectors.shape}: give (n, {self.latent_size})"
            )
        output = self.generate({"latent": vectors})
        return Sampled(figures.to_uint8(output.images), vectors, output.attention)

    def interpolate(
        self, number: int, steps: int = 8, seed: int = 0, truncation: float | None = None
    ) -> Sampled:
        """Paths between samples: `number` rows of `steps` images.

        Row i goes from sample 2i of the seed to sample 2i + 1, see `latents.interpolate`. Raises
        DataError for fewer than 1 row or 2 steps.
        """
        if steps < 2:
            raise DataError(f"the number of steps is {steps}: give at least 2, start and end")
        ends = self.draw(2 * number, seed, truncation)
        path = latents.interpolate(ends[::2], ends[1::2], steps, self.distribution)
        samples = self.from_latents(path.reshape(number * steps, -1))
        return dataclasses.replace(samples, per_row=steps)
