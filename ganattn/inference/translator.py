"""Pictures in, translated pictures and heat maps out: for notebooks and the command line."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ganattn import config as configuration
from ganattn import figures, interop, methods
from ganattn.data.images import read_rgb
from ganattn.errors import ConfigError, DataError, ForeignFileError
from ganattn.interop.torch_files import read_torch
from ganattn.runs.checkpoints import Step, restore_variables
from ganattn.runs.storage import locate

Picture = np.ndarray | Image.Image | str | os.PathLike
Files = str | os.PathLike | Sequence[str | os.PathLike]
CHUNK = 8  # pictures translated at once


@dataclasses.dataclass(frozen=True)
class Translated(figures.Drawn):
    """Translated pictures with what the network looked at.

    sources, images: (n, h, w, 3) uint8. attention: (n, h', w', 1) float32, unscaled, or None.
    """

    sources: np.ndarray
    images: np.ndarray
    attention: np.ndarray | None

    @property
    def heatmaps(self) -> np.ndarray | None:
        """(n, h, w, 3) uint8: each source under its attention, scaled to the map's own range."""
        if self.attention is None:
            return None
        return figures.overlay(self.sources, self.attention)

    def columns(self) -> dict[str, np.ndarray]:
        """For `figures.grid`: source, attention (laid over it), translation."""
        attention = {} if self.attention is None else {"attention": self.attention}
        return {"source": self.sources, **attention, "translation": self.images}


class Translator:
    """Translates pictures with trained generators.

    method, variables: from `methods.create` and a TrainState. size: side of the square that inputs
    are resized to, as the authors' test code does; None keeps each picture's size, rounded to
    multiples of 4 (only for models that take any size).
    """

    def __init__(
        self, method: methods.Method, variables: Mapping[str, Any], size: int | None = None
    ):
        self.method = method
        self.variables = variables
        self.size = size

    @classmethod
    def from_workdir(cls, workdir: str | os.PathLike, step: Step | None = None) -> Self:
        """Loads the newest whole checkpoint of a run, or that of `step`, which may be "best".

        Raises CheckpointError when there is none.
        """
        variables, meta = restore_variables(locate(workdir) / "checkpoints", step)
        config = configuration.from_dict(meta["config"])
        return cls(methods.create(config), variables, config.data.crop_size)

    @classmethod
    def from_authors(cls, file: Files, system: str = "ugatit") -> Self:
        """Loads a checkpoint that the authors' PyTorch code wrote; torch is not needed.

        file: see `read_authors`. Raises ForeignFileError when one is not such a checkpoint.
        """
        config, variables = read_authors(file, system)
        return cls(methods.create(config), variables, config.method.image_size)

    def __call__(self, pictures: Picture | Sequence[Picture], direction: str = "a2b") -> Translated:
        """Translates one picture or several.

        pictures: uint8 arrays (h, w, 3) or (n, h, w, 3), PIL pictures, or paths. With `size` None
        all must have one size. Raises ConfigError for a direction whose generator is not there,
        DataError for a file that is no picture.
        """
        if f"generator_{direction}" not in self.variables:
            there = [name.removeprefix("generator_") for name in self.variables]
            known = [name for name in there if name in self.method.directions]
            raise ConfigError(
                f"no generator for direction {direction!r}: there are {', '.join(known) or 'none'}"
            )
        sources = np.stack([self._prepare(picture) for picture in _listed(pictures)])
        chunks = [self._translate(part, direction) for part in _chunks(sources)]
        images = np.concatenate([images for images, _ in chunks])
        maps = [attention for _, attention in chunks if attention is not None]
        return Translated(sources, images, np.concatenate(maps) if maps else None)

    @property
    def rho(self) -> dict[str, np.ndarray]:
        """Every AdaLIN's and LIN's rho: layer -> (channels,), 0 is layer and 1 instance norm.

        {} for a method that has none.
        """
        found = {name: collections.get("rho", {}) for name, collections in self.variables.items()}
        leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(found))
        # The last entry of a path is the word rho itself.
        return {
            jax.tree_util.keystr(path[:-1], simple=True, separator="/"): leaf
            for path, leaf in leaves
        }

    @cached_property
    def _compiled(self) -> Any:
        return jax.jit(self.method.translate, static_argnames="direction")

    @cached_property
    def _on_device(self) -> Mapping[str, Any]:
        prefixes = self.method.translates_with
        return jax.device_put({n: v for n, v in self.variables.items() if n.startswith(prefixes)})

    def _translate(self, sources: np.ndarray, direction: str) -> tuple[np.ndarray, Any]:
        # Every chunk has one of two lengths, so that a folder compiles at most twice.
        length = 1 if len(sources) == 1 else CHUNK
        missing = length - len(sources)
        padded = np.concatenate([sources, np.repeat(sources[-1:], missing, 0)])
        images = padded.astype(np.float32) / 127.5 - 1
        out = jax.device_get(self._compiled(self._on_device, images, direction=direction))
        attention = None if out.attention is None else out.attention[: len(sources)]
        return figures.to_uint8(out.images[: len(sources)]), attention

    def _prepare(self, picture: Picture) -> np.ndarray:
        if isinstance(picture, str | os.PathLike):
            array = read_rgb(picture)
        elif isinstance(picture, Image.Image):
            array = np.asarray(picture.convert("RGB"))
        else:
            array = np.asarray(picture)
        if array.ndim != 3 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise DataError(
                f"a picture has shape {array.shape} and type {array.dtype}: "
                "give (height, width, 3) of uint8, a PIL picture, or a path"
            )
        height, width = array.shape[:2]
        target = (self.size, self.size) if self.size else (_multiple(width), _multiple(height))
        if target == (width, height):
            return array
        return np.asarray(Image.fromarray(array).resize(target, Image.Resampling.BILINEAR))


def read_authors(file: Files, system: str) -> tuple[ConfigDict, dict[str, dict[str, Any]]]:
    """Config and variables of an authors' checkpoint: the system's config with the file's sizes.

    file: one that holds all networks by name, or a list with one for each network, as "G_A=FILE"
    or named like latest_net_G_A.pth. Raises ForeignFileError when one is not such a checkpoint,
    CheckpointError when arrays do not fit each other.
    """
    networks: dict[str, Any] = {}
    for one in [file] if isinstance(file, str | os.PathLike) else file:
        networks |= _networks(os.fspath(one))
    variables = interop.from_authors(system, networks)
    config = configuration.load(configuration.find(system))
    with config.unlocked():
        config.method.update(interop.method_fields(system, networks))
        config.data.crop_size = config.method.image_size
    methods.create(config).check_variables(variables)
    return config, variables


def _networks(file: str) -> dict[str, Any]:
    """The networks of a file by the authors' names."""
    name, path = file.split("=", 1) if "=" in file and not Path(file).exists() else ("", file)
    content = read_torch(path)
    if not any(isinstance(value, np.ndarray) for value in content.values()):
        return content
    found = re.search(r"_net_(\w+)\.", Path(path).name)
    if not name and not found:
        raise ForeignFileError(
            f"{path} holds one network and does not say which: write NAME=FILE, such as G_A={path}"
        )
    return {name or found[1]: content}  # type: ignore[index]


def _listed(pictures: Any) -> list[Picture]:
    if isinstance(pictures, np.ndarray):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    if isinstance(pictures, str | os.PathLike | Image.Image):
        return [pictures]
    if not len(pictures):
        raise DataError("no pictures to translate: give at least one")
    return list(pictures)


def _chunks(pictures: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pictures), CHUNK):
        yield pictures[start : start + CHUNK]


def _multiple(side: int) -> int:
    return max(4, 4 * round(side / 4))
