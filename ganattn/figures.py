"""Figures for people: grids with titles, and heat maps over images; Pillow and numpy only."""

import base64
import html
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganattn.data.palettes import IDS, palette
from ganattn.runs.storage import write_atomic

SMALLEST_CELL = 128  # pixels; smaller images are enlarged by an integer factor
GAP = 4  # pixels of white between cells and around them
SHOWN = 12  # rows of a result that a notebook shows
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def to_uint8(images: Any) -> np.ndarray:
    """Rounds images in [-1, 1] to uint8; values outside are clipped and NaN becomes black.

    Images that are uint8 are returned as they are.
    """
    if np.asarray(images).dtype == np.uint8:
        return np.asarray(images)
    images = np.nan_to_num(np.asarray(images, np.float32), nan=-1.0)
    return np.round(127.5 * (np.clip(images, -1, 1) + 1)).astype(np.uint8)


def to_unit(heatmap: Any) -> np.ndarray:
    """Scales each map of (n, h, w, 1) to its own range: float32 in [0, 1].

    A map with a single value becomes zeros; values that are not finite count as 0.
    """
    heatmap = np.nan_to_num(np.asarray(heatmap, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low = heatmap.min((1, 2, 3), keepdims=True)
    span = heatmap.max((1, 2, 3), keepdims=True) - low
    return ((heatmap - low) / np.where(span > 0, span, 1)).astype(np.float32)


def color(heatmap: Any) -> np.ndarray:
    """Maps (..., 1) in [0, 1] from blue over green to red: (..., 3) uint8, like OpenCV's JET."""
    centres = np.array([3, 2, 1], np.float32).reshape((1,) * (np.ndim(heatmap) - 1) + (3,))
    ramps = np.clip(1.5 - np.abs(4 * np.asarray(heatmap, np.float32) - centres), 0, 1)
    return np.round(255 * ramps).astype(np.uint8)


def overlay(images: Any, heatmap: Any, opacity: float = 0.5) -> np.ndarray:
    """Lays a colored heat map over each image: (n, h, w, 3) uint8.

    images: (n, h, w, 3), uint8 or in [-1, 1]. heatmap: (n, h', w', 1) of any range: each map is
    scaled to its own range by `to_unit` and resized bilinearly. opacity: weight of the heat map.
    """
    images = to_uint8(images)
    height, width = images.shape[1:3]
    maps = [
        np.asarray(Image.fromarray(m[..., 0]).resize((width, height), Image.Resampling.BILINEAR))
        for m in to_unit(heatmap)
    ]
    colors = color(np.stack(maps)[..., None])
    mixed = (1 - opacity) * images.astype(np.float32) + opacity * colors.astype(np.float32)
    return np.round(mixed).astype(np.uint8)


def grid(columns: Mapping[str, Any]) -> Image.Image:
    """Draws one row per image and one column per entry, with the entries' names on top.

    columns: name -> (n, h, w, 3), uint8 or in [-1, 1], or (n, h', w', 1), a heat map that is laid
    over the first column, or (n, h, w, 1) integers, label ids that are colored. Raises ValueError
    when there is nothing to draw, when the columns differ in their number of images, or when the
    first is a heat map.
    """
    cells = {name: _enlarged(images) for name, images in _drawn(columns).items()}
    height = max(images.shape[1] for images in cells.values())
    font = ImageFont.load_default(max(16, height // 12))
    title = math.ceil(font.getbbox("Ag")[3])
    widths = [max(p.shape[2], math.ceil(font.getlength(name))) for name, p in cells.items()]
    rows = len(next(iter(cells.values())))
    size = (GAP + sum(w + GAP for w in widths), GAP + title + GAP + rows * (height + GAP))
    canvas = Image.new("RGB", size, WHITE)
    pen = ImageDraw.Draw(canvas)
    left = GAP
    for (name, images), width in zip(cells.items(), widths, strict=True):
        pen.text((left + width / 2, GAP), name, BLACK, font, anchor="ma")
        for row, image in enumerate(images):
            inset = (width - image.shape[1]) // 2
            top = GAP + title + GAP + row * (height + GAP)
            canvas.paste(Image.fromarray(image), (left + inset, top))
        left += width + GAP
    return canvas


def mosaic(images: Any, per_row: int | None = None) -> Image.Image:
    """Draws images side by side, without gaps, row by row.

    images: (n, h, w, 3), uint8 or in [-1, 1]. per_row: number of images in a row; None draws about
    a square. Raises ValueError when there is no image.
    """
    images = _enlarged(to_uint8(images), SMALLEST_CELL // 2)
    if not len(images):
        raise ValueError("there is no image to draw")
    count, height, width, _ = images.shape
    per_row = per_row or math.ceil(math.sqrt(count))
    canvas = Image.new("RGB", (per_row * width, -(-count // per_row) * height), WHITE)
    for i, image in enumerate(images):
        canvas.paste(Image.fromarray(image), (i % per_row * width, i // per_row * height))
    return canvas


class Drawn:
    """A result that notebooks show as a grid; a subclass has `columns()`, as `grid` takes them."""

    @property
    def images_per_row(self) -> int:
        """Number of images in a row of `figure`."""
        return 1

    def figure(self, rows: int | None = None) -> Image.Image:
        """A grid with one row per image, or with the first `rows` of them."""
        columns = self.columns()  # type: ignore[attr-defined]
        return grid({name: images[:rows] for name, images in columns.items()})

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure(SHOWN).save(buffer, "PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        columns = self.columns()  # type: ignore[attr-defined]
        count = len(next(iter(columns.values())))
        encoded = base64.b64encode(self._repr_png_()).decode()
        titles = html.escape(", ".join(columns))
        shown = SHOWN * self.images_per_row
        note = f"<br>the first {shown} of {count} images" if count > shown else ""
        style = "max-width: 100%; height: auto"
        return f'<img alt="{titles}" style="{style}" src="data:image/png;base64,{encoded}">{note}'


def save_grid(path: str | os.PathLike, columns: Mapping[str, Any]) -> None:
    """Writes `grid(columns)` as `save_image` does."""
    save_image(path, grid(columns))


def save_image(path: str | os.PathLike, image: Image.Image | np.ndarray) -> None:
    """Writes an image to a file, which appears complete or not at all; creates its folder.

    image: Pillow's, or (h, w, 3) uint8. The suffix of the file selects the format. Raises
    ValueError for a suffix that Pillow does not know.
    """
    path = path if isinstance(path, PurePath) else Path(path)  # a bucket's path is not a Path
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    formats, content = Image.registered_extensions(), io.BytesIO()
    if path.suffix.lower() not in formats:
        raise ValueError(f"unknown file extension: {path.suffix}")
    # quality is an option of JPEG; other formats ignore it
    image.save(content, formats[path.suffix.lower()], quality=95)
    write_atomic(cast(Path, path), content.getvalue())


def _drawn(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every column as (n, h, w, 3) uint8."""
    arrays = {name: _colored(np.asarray(images)) for name, images in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    first = next(iter(arrays.values()), np.zeros(0))
    if not first.size or first.ndim != 4 or first.shape[-1] != 3:
        raise ValueError(f"the first column must be images (n, h, w, 3): there are {shapes}")
    for name, shape in shapes.items():
        if len(shape) != 4 or shape[0] != len(first) or shape[-1] not in (1, 3):
            raise ValueError(f"column {name!r} does not fit the first: there are {shapes}")
    return {
        name: overlay(first, array) if array.shape[-1] == 1 else to_uint8(array)
        for name, array in arrays.items()
    }


def _colored(array: np.ndarray) -> np.ndarray:
    """Label ids in colors; anything else as it is."""
    is_ids = array.ndim == 4 and array.shape[-1] == 1 and np.issubdtype(array.dtype, np.integer)
    return palette("spectrum")[np.clip(array[..., 0], 0, IDS - 1)] if is_ids else array


def _enlarged(images: np.ndarray, smallest: int = SMALLEST_CELL) -> np.ndarray:
    factor = math.ceil(smallest / min(images.shape[1:3]))
    return images.repeat(factor, 1).repeat(factor, 2)
