"""Images or label maps in, translated images and heat maps out: for notebooks and commands."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from ganattn import figures
from ganattn.data import images as files
from ganattn.data.palettes import palette
from ganattn.errors import ConfigError, DataError
from ganattn.inference.model import Model
from ganattn.methods import Input

ImageLike = np.ndarray | Image.Image | str | os.PathLike
Size = Literal["train", "keep"] | tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Translated(figures.Drawn):
    """Translated images with the attention of the networks.

    sources: (n, h, w, 3) uint8 images or (n, h, w, 1) int32 label ids, as the generator received
    them. images: (n, h, w, 3) uint8. attentions: name -> (n, h', w', 1) float32, unscaled; the last
    one is the heat map.
    """

    sources: np.ndarray
    images: np.ndarray
    attentions: Mapping[str, Any]

    @property
    def attention(self) -> np.ndarray | None:
        """The last attention map, None where the networks have none."""
        return next(reversed([*self.attentions.values()]), None)

    @property
    def heatmaps(self) -> np.ndarray | None:
        """(n, h, w, 3) uint8: the attention, scaled to its own range, over each source image.

        Over the generated image where the source is a label map.
        """
        base = self.images if self._is_from_labels else self.sources
        return None if self.attention is None else figures.overlay(base, self.attention)

    def columns(self) -> dict[str, Any]:
        """For `figures.grid`: source, heat map, translation."""
        labels = "label", "synthesis"
        source, target = labels if self._is_from_labels else ("source", "translation")
        attention = {} if self.attention is None else {"attention": self.heatmaps}
        return {source: self.sources, **attention, target: self.images}

    @property
    def _is_from_labels(self) -> bool:
        return self.sources.shape[-1] == 1


class Translator(Model):
    """Translates images, or label maps, with trained generators."""

    from_noise = False

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        direction: str | None = None,
        *,
        size: Size = None,
        instances: ImageLike | Sequence[ImageLike] | None = None,
        style: ImageLike | Sequence[ImageLike] | None = None,
        seed: int | None = None,
        styles: int | None = None,
        indices: Sequence[int] | None = None,
    ) -> Translated:
        """Translates one image or label map, or several of one size.

        images: uint8 arrays (h, w, 3) or (n, h, w, 3), Pillow images, or paths; where the method
        takes label maps, (h, w) arrays of ids, Pillow images, or paths. They are resized as the
        run's test images are. direction: the method's first one if None. size: None or "train" for
        the size of training, "keep" for each image's own size, rounded to what the network accepts
        (the output is not resized back), or (width, height). instances: instance maps, where the
        method takes them.

        A method with styles uses the mean style, unless given one of these: style, an example image
        or a code (style size,), or one for each image; seed, which draws one for each image, or as
        many as `styles` says; then the translations of an image follow each other. A method that
        keeps dropout in translation draws it by the seed, 0 if None. indices: numbers of the
        images, which what a seed draws depends on; 0 to n - 1 if None.

        Raises ConfigError for an unknown direction, a size that the network cannot take, and
        arguments that do not apply; DataError for files that cannot be decoded, unknown ids, and
        missing instance maps.
        """
        specs, direction = self.inputs(direction), self.method.direction(direction)
        self._check_arguments(specs, direction, instances, style, seed, styles)
        name, colors = next(iter(specs)), ""
        if direction.source == "a":
            colors = self.config.data.get("palette", "")
        raw = [self._read(image, specs[name], f"{name} {i}", colors)
               for i, image in enumerate(_listed(images))]  # fmt: skip
        sizes = {self.target_size(image.shape, direction, size) for image in raw}
        if len(sizes) > 1:
            raise DataError("the images have different sizes: translate those of one size at once")
        (target,), count = sizes, styles or 1
        arrays = {name: self._resized(raw, specs[name], target)}
        if "instance" in specs:
            maps = [self._read(each, specs["instance"], "a map") for each in _listed(instances)]
            arrays["instance"] = self._resized(maps, specs["instance"], target)
        if style is not None:
            arrays["style"] = self._styles(style, specs["style"], len(raw))
        if len({len(array) for array in arrays.values()}) > 1:
            raise DataError("give as many instance maps as label maps")
        numbers = range(len(raw)) if indices is None else indices
        draws = [(i, j) for i in numbers for j in range(count)]
        inputs = {
            key: np.repeat(files.to_float(x) if x.dtype == np.uint8 else x, count, 0)
            for key, x in arrays.items()
        }
        seed = 0 if styles and seed is None else seed
        output = self.generate(inputs, direction, seed=seed, indices=draws)
        sources = np.repeat(arrays[name], count, 0)
        return Translated(sources, figures.to_uint8(output.images), output.attention)

    def target_size(
        self, shape: tuple[int, ...], direction: str | None = None, size: Size = None
    ) -> tuple[int, int]:
        """(height, width) at which an image of `shape`, (height, width), is translated.

        size: as in a call. Raises ConfigError when the network cannot take it.
        """
        spec = next(iter(self.inputs(direction).values()))
        trained = spec.shape[0], spec.shape[1]
        if size in (None, "train"):
            return trained
        step = spec.multiple
        if step is None:
            raise ConfigError(
                f"the network of {self.name} takes images of {trained[1]}x{trained[0]} pixels "
                "alone: leave out the size"
            )
        if size == "keep":
            height, width = (max(step, step * round(side / step)) for side in shape[:2])
            return height, width
        width, height = cast(tuple[int, int], size)
        if min(width, height) < 1 or width % step or height % step:
            raise ConfigError(
                f"the size is {width}x{height}: {self.name} takes multiples of {step} pixels"
            )
        return height, width

    def _check_arguments(self, specs, direction, instances, style, seed, styles) -> None:
        styled = {"style": style, "seed": seed, "styles": styles}
        given = [flag for flag, value in styled.items() if value is not None]
        unstyled = [flag for flag in given if flag != "seed" or not self.method.draws_noise]
        if unstyled and "style" not in specs:
            raise ConfigError(
                f"{unstyled[0]} does not apply: {self.name} has no styles in direction {direction}"
            )
        if style is not None and len(given) > 1:
            raise ConfigError(f"style and {given[1]} exclude each other: give one of them")
        if styles is not None and styles < 1:
            raise ConfigError(f"styles is {styles}: give at least 1")
        if instances is not None and "instance" not in specs:
            raise ConfigError(f"instances do not apply: {self.name} takes no instance maps")
        if instances is None and "instance" in specs:
            raise DataError(f"{self.name} was trained with instance maps: give the instances too")

    def _read(self, image: Any, spec: Input, name: str, colors: str = "") -> np.ndarray:
        """(h, w, 3) uint8, or (h, w) ids."""
        is_path = isinstance(image, str | os.PathLike)
        if spec.kind == "ids":
            ids = files.read_ids(image) if is_path else np.asarray(image)
            name = str(image) if is_path else name
            if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.number):
                raise DataError(f"{name} has shape {ids.shape}: give (height, width) of ids")
            ids = ids.astype(np.int64)
            return files.check_ids(ids, spec.classes, spec.void, name) if spec.classes else ids
        if is_path:
            is_colored = colors and files.holds_ids(image)
            array = (
                files.read_labels(image, palette(colors)) if is_colored else files.read_rgb(image)
            )
        else:
            array = files.to_rgb(image) if isinstance(image, Image.Image) else np.asarray(image)
        if array.ndim != 3 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise DataError(
                f"an image has shape {array.shape} and type {array.dtype}: "
                "give (height, width, 3) of uint8, a Pillow image, or a path"
            )
        return array

    def _resized(self, arrays: Sequence[np.ndarray], spec: Input, size: tuple[int, int]) -> Any:
        if spec.kind == "ids":
            return np.stack([files.resize_ids(array, *size) for array in arrays])[..., None]
        interpolation = self.config.data.interpolation
        return np.stack([files.resize(array, *size, interpolation) for array in arrays])

    def _styles(self, style: Any, spec: Input, count: int) -> np.ndarray:
        """(count, h, w, 3) uint8 images at the size of training, or (count, size) codes."""
        if isinstance(style, np.ndarray) and np.issubdtype(style.dtype, np.floating):
            styles = style.reshape(-1, style.shape[-1]).astype(np.float32)
        else:
            images = [self._read(image, spec, "style") for image in _listed(style)]
            styles = self._resized(images, spec, (spec.shape[0], spec.shape[1]))
        if len(styles) not in (1, count):
            raise DataError(f"there are {len(styles)} styles for {count} images: give 1 or {count}")
        return np.repeat(styles, count // len(styles), 0)


def _listed(images: Any) -> list[Any]:
    """The images one by one; an array is one image if it has the axes of one."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and (
        images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (3, 4))
    ):
        return [images]
    if not len(images):
        raise DataError("no images to translate: give at least one")
    return list(images)
