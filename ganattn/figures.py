"""Pictures for people: grids with titles and heat maps over pictures; Pillow and numpy only."""

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

SMALLEST_CELL = 128  # pixels; smaller pictures are enlarged by a whole factor
GAP = 4  # pixels of white between cells and around them
SHOWN = 12  # rows of a result that a notebook shows
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def to_uint8(images: Any) -> np.ndarray:
    """Rounds pictures in [-1, 1] to uint8; values outside are clipped and NaN is drawn black."""
    images = np.nan_to_num(np.asarray(images, np.float32), nan=-1.0)
    return np.round(127.5 * (np.clip(images, -1, 1) + 1)).astype(np.uint8)


def to_unit(heatmap: Any) -> np.ndarray:
    """Scales each map of (n, h, w, 1) to its own range: float32 in [0, 1].

    A map with a single value becomes zeros; what is not finite counts as 0.
    """
    heatmap = np.nan_to_num(np.asarray(heatmap, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low = heatmap.min((1, 2, 3), keepdims=True)
    span = heatmap.max((1, 2, 3), keepdims=True) - low
    return ((heatmap - low) / np.where(span > 0, span, 1)).astype(np.float32)


def colour(heatmap: Any) -> np.ndarray:
    """Maps (..., 1) in [0, 1] from blue over green to red: (..., 3) uint8, like OpenCV's JET."""
    centres = np.array([3, 2, 1], np.float32).reshape((1,) * (np.ndim(heatmap) - 1) + (3,))
    ramps = np.clip(1.5 - np.abs(4 * np.asarray(heatmap, np.float32) - centres), 0, 1)
    return np.round(255 * ramps).astype(np.uint8)


def overlay(images: Any, heatmap: Any, opacity: float = 0.5) -> np.ndarray:
    """Lays a coloured heat map over each picture: (n, h, w, 3) uint8.

    images: (n, h, w, 3), uint8 or in [-1, 1]. heatmap: (n, h', w', 1) of any range: each map is
    scaled to its own by `to_unit` and resized bilinearly. opacity: weight of the heat map.
    """
    images = _pixels(images)
    height, width = images.shape[1:3]
    maps = [
        np.asarray(Image.fromarray(m[..., 0]).resize((width, height), Image.Resampling.BILINEAR))
        for m in to_unit(heatmap)
    ]
    colours = colour(np.stack(maps)[..., None])
    mixed = (1 - opacity) * images.astype(np.float32) + opacity * colours.astype(np.float32)
    return np.round(mixed).astype(np.uint8)


def grid(columns: Mapping[str, Any]) -> Image.Image:
    """Draws one row a picture and one column an entry, with the entries' names on top.

    columns: name -> (n, h, w, 3), uint8 or in [-1, 1], or (n, h', w', 1), a heat map that is laid
    over the first column, or (n, h, w, 1) integers, label ids that are painted. Raises ValueError
    when there is nothing to draw, when the columns differ in their number of pictures, or when the
    first is a heat map.
    """
    cells = {name: _enlarged(pictures) for name, pictures in _drawn(columns).items()}
    height = max(pictures.shape[1] for pictures in cells.values())
    font = ImageFont.load_default(max(16, height // 12))
    title = math.ceil(font.getbbox("Ag")[3])
    widths = [max(p.shape[2], math.ceil(font.getlength(name))) for name, p in cells.items()]
    rows = len(next(iter(cells.values())))
    size = (GAP + sum(w + GAP for w in widths), GAP + title + GAP + rows * (height + GAP))
    canvas = Image.new("RGB", size, WHITE)
    pen = ImageDraw.Draw(canvas)
    left = GAP
    for (name, pictures), width in zip(cells.items(), widths, strict=True):
        pen.text((left + width / 2, GAP), name, BLACK, font, anchor="ma")
        for row, picture in enumerate(pictures):
            inset = (width - picture.shape[1]) // 2
            top = GAP + title + GAP + row * (height + GAP)
            canvas.paste(Image.fromarray(picture), (left + inset, top))
        left += width + GAP
    return canvas


def mosaic(images: Any, per_row: int | None = None) -> Image.Image:
    """Draws pictures side by side, without gaps, row by row.

    images: (n, h, w, 3), uint8 or in [-1, 1]. per_row: as many as make it about square if None.
    Raises ValueError when there is no picture.
    """
    images = _enlarged(_pixels(images), SMALLEST_CELL // 2)
    if not len(images):
        raise ValueError("there is no picture to draw")
    count, height, width, _ = images.shape
    per_row = per_row or math.ceil(math.sqrt(count))
    canvas = Image.new("RGB", (per_row * width, -(-count // per_row) * height), WHITE)
    for i, picture in enumerate(images):
        canvas.paste(Image.fromarray(picture), (i % per_row * width, i // per_row * height))
    return canvas


class Drawn:
    """A result that notebooks show as a grid; it has `columns()`, as `grid` takes them."""

    @property
    def pictures_per_row(self) -> int:
        """How many results a row of `figure` shows."""
        return 1

    def figure(self, rows: int | None = None) -> Image.Image:
        """A grid with a row a picture, or with the first `rows` of them."""
        columns = self.columns()  # type: ignore[attr-defined]
        return grid({name: pictures[:rows] for name, pictures in columns.items()})

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure(SHOWN).save(buffer, "PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        columns = self.columns()  # type: ignore[attr-defined]
        count = len(next(iter(columns.values())))
        encoded = base64.b64encode(self._repr_png_()).decode()
        titles = html.escape(", ".join(columns))
        shown = SHOWN * self.pictures_per_row
        note = f"<br>the first {shown} of {count} pictures" if count > shown else ""
        style = "max-width: 100%; height: auto"
        return f'<img alt="{titles}" style="{style}" src="data:image/png;base64,{encoded}">{note}'


def save_grid(path: str | os.PathLike, columns: Mapping[str, Any]) -> None:
    """Writes `grid(columns)` as `save_picture` does."""
    save_picture(path, grid(columns))


def save_picture(path: str | os.PathLike, picture: Image.Image | np.ndarray) -> None:
    """Writes a picture to a file that appears whole or not at all, in a folder made for it.

    picture: Pillow's, or (h, w, 3) uint8. The file's suffix says the format. Raises ValueError for
    a suffix that Pillow does not know.
    """
    path = cast(Path, path if isinstance(path, PurePath) else Path(path))  # a bucket's is no Path
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    content = io.BytesIO()
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"unknown file extension: {path.suffix}")
    # quality is of JPEG; other formats do not look at it
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], quality=95)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.write_bytes(content.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _pixels(images: Any) -> np.ndarray:
    images = np.asarray(images)
    return images if images.dtype == np.uint8 else to_uint8(images)


def _drawn(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every column as (n, h, w, 3) uint8."""
    arrays = {name: _painted(np.asarray(pictures)) for name, pictures in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    first = next(iter(arrays.values()), np.zeros(0))
    if not first.size or first.ndim != 4 or first.shape[-1] != 3:
        raise ValueError(f"the first column must be pictures (n, h, w, 3): there are {shapes}")
    for name, shape in shapes.items():
        if len(shape) != 4 or shape[0] != len(first) or shape[-1] not in (1, 3):
            raise ValueError(f"column {name!r} does not go with the first: there are {shapes}")
    return {
        name: overlay(first, array) if array.shape[-1] == 1 else _pixels(array)
        for name, array in arrays.items()
    }


def _painted(array: np.ndarray) -> np.ndarray:
    """Label ids in colours; anything else as it is."""
    is_ids = array.ndim == 4 and array.shape[-1] == 1 and np.issubdtype(array.dtype, np.integer)
    return palette("spectrum")[np.clip(array[..., 0], 0, IDS - 1)] if is_ids else array


def _enlarged(pictures: np.ndarray, smallest: int = SMALLEST_CELL) -> np.ndarray:
    factor = math.ceil(smallest / min(pictures.shape[1:3]))
    return pictures.repeat(factor, 1).repeat(factor, 2)
