"""Label maps in, pictures and attention out: for notebooks and the command line."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ganattn import config as configuration
from ganattn import figures, methods
from ganattn.data.images import check_ids, read_ids, read_rgb, to_float
from ganattn.errors import ConfigError, DataError
from ganattn.inference.sampler import Sampler
from ganattn.inference.translator import Files, Picture, Translator, read_authors
from ganattn.runs.checkpoints import Step, restore_trees, restore_variables
from ganattn.runs.storage import locate
from ganattn.state import with_averages

Labels = np.ndarray | Image.Image | str | os.PathLike


@dataclasses.dataclass(frozen=True)
class Synthesized(figures.Drawn):
    """Pictures made from label maps.

    labels: (n, h, w, 1) int32. images: (n, h, w, 3) uint8. spatial: (n, h, w, 1) and channel
    (n, 1, c, 1) float32 in (0, 1), DAGAN's attention, or None.
    """

    labels: np.ndarray
    images: np.ndarray
    spatial: np.ndarray | None
    channel: np.ndarray | None

    def columns(self) -> dict[str, Any]:
        """For `figures.grid`: label map, what the spatial attention stresses, the picture."""
        attention = {} if self.spatial is None else {"attention": self.heatmaps}
        return {"label": self.labels, **attention, "synthesis": self.images}

    @property
    def heatmaps(self) -> np.ndarray | None:
        """(n, h, w, 3) uint8: each picture under its spatial attention, scaled to its own range."""
        return None if self.spatial is None else figures.overlay(self.images, self.spatial)


class Synthesizer:
    """Makes pictures from label maps with a trained generator.

    method, variables: from `methods.create` and a TrainState. config: the run's, for the size of
    the pictures and the range of the ids.
    """

    def __init__(self, method: methods.Method, variables: Mapping[str, Any], config: ConfigDict):
        self.method, self.variables, self._config = method, variables, config

    @classmethod
    def from_workdir(cls, workdir: str | os.PathLike, step: Step | None = None) -> Self:
        """Loads the newest whole checkpoint of a run, or that of `step`.

        Raises CheckpointError when there is none.
        """
        variables, meta = restore_variables(locate(workdir) / "checkpoints", step)
        config = configuration.from_dict(meta["config"])
        return cls(methods.create(config), variables, config)

    @classmethod
    def from_authors(cls, file: Files, system: str = "dagan") -> Self:
        """Loads latest_net_G.pth (and, of GauGAN, _E.pth); torch is not needed.

        Raises ForeignFileError when a file is not such a checkpoint.
        """
        config, variables = read_authors(file, system)
        return cls(methods.create(config), variables, config)

    def __call__(
        self,
        labels: Labels | Sequence[Labels],
        instances: Labels | Sequence[Labels] | None = None,
        *,
        styles: Picture | Sequence[Picture] | None = None,
        seed: int | None = None,
    ) -> Synthesized:
        """Makes a picture for every label map.

        labels, instances: (h, w) arrays of ids, files, or Pillow pictures, one or several; they are
        resized to the size of the training pictures by the nearest pixel. styles: a picture for
        each (or one for all), whose style is taken; seed: draws a style for each; neither: the mean
        style. Raises DataError for an id that is no class and for missing instances, ConfigError
        for a style where the method has no style encoder.
        """
        maps = {"label": self._ids(labels, check=True)}
        if self._config.method.use_instances:
            if instances is None:
                raise DataError("the method was trained with instance maps: give them too")
            maps["instance"] = self._ids(instances, check=False)
        count = len(maps["label"])
        if len({len(each) for each in maps.values()}) > 1:
            raise DataError("give as many instance maps as label maps")
        latent = self._latent(count, styles, seed)
        made = [
            self._make({k: m[i : i + 1] for k, m in maps.items()}, latent[i : i + 1])
            for i in range(count)
        ]
        images = figures.to_uint8(np.concatenate([each.images for each in made]))
        attentions: dict[str, Any] = {"spatial": None, "channel": None}
        if made[0].attentions:
            attentions = {n: np.concatenate([m.attentions[n] for m in made]) for n in attentions}
        return Synthesized(maps["label"], images, **attentions)

    @cached_property
    def _compiled(self) -> Any:
        def make(variables, maps, latent):
            style = latent if self._config.method.use_vae else None
            return self.method.translate(variables, maps, latent=style)

        return jax.jit(make)

    @cached_property
    def _on_device(self) -> Mapping[str, Any]:
        prefixes = self.method.translates_with
        return jax.device_put({n: v for n, v in self.variables.items() if n.startswith(prefixes)})

    def _make(self, maps: dict[str, np.ndarray], latent: np.ndarray) -> Any:
        return jax.device_get(self._compiled(self._on_device, maps, latent))

    def _latent(self, count: int, styles: Any, seed: int | None) -> np.ndarray:
        size = self._config.method.latent_size if self._config.method.use_vae else 0
        if not size and (styles is not None or seed is not None):
            raise ConfigError(
                "the run has no style encoder: train with config.method.use_vae=True to give styles"
            )
        if seed is not None:
            return np.random.default_rng(seed).standard_normal((count, size), np.float32)
        if styles is None or not size:
            return np.zeros((count, size), np.float32)
        pictures = np.stack([self._style_picture(p) for p in _listed(styles)])
        encode = jax.jit(self.method.networks["encoder"].apply)
        mean, _ = encode(self._on_device["encoder"], pictures)
        return np.resize(np.asarray(mean), (count, size))

    def _style_picture(self, picture: Picture) -> np.ndarray:
        if isinstance(picture, str | os.PathLike):
            picture = read_rgb(picture)
        whole = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        size = self._size
        return to_float(np.asarray(whole.convert("RGB").resize(size, Image.Resampling.BICUBIC)))

    @property
    def _size(self) -> tuple[int, int]:
        width = self._config.method.crop_size
        return width, round(width / self._config.method.aspect_ratio)

    def _ids(self, maps: Any, check: bool) -> np.ndarray:
        """(n, h, w, 1) int32 at the size of the training pictures."""
        method = self._config.method
        result = []
        for number, each in enumerate(_listed(maps)):
            is_path = isinstance(each, str | os.PathLike)
            ids = read_ids(each) if is_path else np.asarray(each).astype(np.int64)
            name = str(each) if is_path else f"label map {number}"
            if ids.ndim != 2:
                raise DataError(f"{name} has shape {ids.shape}: give (height, width) of ids")
            if check:
                classes = method.num_classes + method.use_dontcare
                ids = check_ids(ids, classes, method.use_dontcare, name)
            picture = Image.fromarray(ids.astype(np.int32))
            result.append(np.asarray(picture.resize(self._size, Image.Resampling.NEAREST)))
        return np.stack(result).astype(np.int32)[..., None]


def from_workdir(
    workdir: str | os.PathLike, step: Step | None = None
) -> Translator | Synthesizer | Sampler:
    """What a run's method needs: a `Translator` of pictures, a `Synthesizer` from label maps, or a
    `Sampler` from noise.

    Raises CheckpointError when there is no whole checkpoint.
    """
    trees, meta = restore_trees(locate(workdir) / "checkpoints", step, ("variables", "ema"))
    variables = trees["variables"]
    config = configuration.from_dict(meta["config"])
    method = methods.create(config)
    if method.takes == "latents":
        return Sampler(method, with_averages(variables, trees["ema"]))
    if method.takes == "labels":
        return Synthesizer(method, variables, config)
    return Translator(method, variables, config.data.crop_size)


def _listed(maps: Any) -> list[Any]:
    if isinstance(maps, np.ndarray) and maps.ndim == 2:
        return [maps]
    if isinstance(maps, str | os.PathLike | Image.Image):
        return [maps]
    if isinstance(maps, np.ndarray) and maps.dtype == np.uint8 and maps.shape[-1] == 3:
        return [maps] if maps.ndim == 3 else list(maps)
    if not len(maps):
        raise DataError("no label maps: give at least one")
    return list(maps)
