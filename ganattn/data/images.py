"""Picture files to upright 8-bit RGB, with Pillow: the decoder that all others must equal."""

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ganattn.errors import DataError
from ganattn.processes import agree, gather_text, own_share

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
ORIENTATION = 0x0112  # EXIF tag
_PLAIN = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_SMALL = (32, 32)
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_rgb(path: str | os.PathLike | IO[bytes]) -> np.ndarray:
    """(h, w, 3) uint8, upright by its EXIF tag; grey, palette, CMYK, 16-bit, alpha are converted.

    Alpha is dropped, as the authors' loaders do; 16-bit values lose their lower byte. Raises
    DataError for a file that is no whole picture.
    """
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I") or upright.mode == "F":
                return _from_deep_grey(upright)
            return np.asarray(upright.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"no picture {path}: check the path") from None
    except _BROKEN as error:
        raise DataError(
            f"{path} is no whole picture ({error}): replace or remove the file"
        ) from error


def _from_deep_grey(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture).astype(np.float64)
    if values.max(initial=0) > 255:
        values = values // 256
    grey = np.clip(values, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def read_ids(file: str | os.PathLike | bytes | IO[bytes]) -> np.ndarray:
    """(h, w) int64: the ids that an 8- or 16-bit file of one channel holds.

    Raises DataError for a file that is no whole picture or has more than one channel.
    """
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            if picture.mode not in ("L", "P", "I;16", "I;16B", "I", "1"):
                raise DataError(f"{file!s} holds {picture.mode} and no ids: give one channel")
            return np.asarray(picture).astype(np.int64)
    except FileNotFoundError:
        raise DataError(f"no picture {file!s}: check the path") from None
    except _BROKEN as error:
        raise DataError(f"{file!s} is no whole picture ({error}): replace or remove it") from error


def read_labels(file: str | os.PathLike | IO[bytes], palette: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: the colours that `palette` (ids, 3) gives to a file of label ids.

    Raises DataError as `read_ids` does, and for an id that the palette lacks.
    """
    ids = read_ids(file)
    if ids.max() >= len(palette):
        raise DataError(f"{file} has the label id {ids.max()}: data.palette has {len(palette)} ids")
    return palette[ids]


def resize(picture: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """(h, w, 3) uint8 to (height, width, 3) uint8; interpolation "bilinear" or "bicubic"."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = Image.fromarray(picture).resize((width, height), INTERPOLATIONS[interpolation])
    return np.asarray(resized)


def to_float(pictures: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [-1, 1]."""
    return pictures.astype(np.float32) / np.float32(127.5) - 1


def find_pictures(folder: str | os.PathLike) -> list[Path]:
    """Paths relative to `folder` of all pictures below it, sorted.

    Raises DataError when the folder is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: check the path")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DataError(f"no pictures in {folder}: put {' '.join(SUFFIXES)} files there")
    return sorted(path.relative_to(folder) for path in found)


class Scan(NamedTuple):
    """paths: of whole pictures. plain: which of them any 8-bit JPEG or PNG decoder reads right.

    broken: messages about the others, one line each.
    """

    paths: list[Path]
    plain: np.ndarray
    broken: list[str]


def scan(paths: Sequence[Path], threads: int | None = None) -> Scan:
    """Decodes every file once, JPEG at reduced size, to find broken and unusual ones.

    Of several processes each decodes its share, and all get the same answer.
    """
    agree("\n".join(map(str, paths)), "the list of pictures", "let all read the same files")
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        own = list(pool.map(_kind, own_share(paths)))
    shares = [json.loads(text) for text in gather_text(json.dumps(own))]
    kinds = [shares[i % len(shares)][i // len(shares)] for i in range(len(paths))]
    good = [i for i, kind in enumerate(kinds) if isinstance(kind, bool)]
    broken = [kind for kind in kinds if isinstance(kind, str)]
    return Scan([paths[i] for i in good], np.array([kinds[i] for i in good], bool), broken)


def is_plain(file: str | os.PathLike | IO[bytes]) -> bool:
    """Whether any 8-bit JPEG or PNG decoder reads this file right: RGB or grey, and upright.

    Decodes it, JPEG at reduced size. Raises OSError, SyntaxError or ValueError when it is broken.
    """
    with Image.open(file) as picture:
        plain = (picture.format, picture.mode) in _PLAIN and "transparency" not in picture.info
        upright = picture.getexif().get(ORIENTATION, 1) == 1
        picture.draft(None, _SMALL)
        picture.load()
        return plain and upright


def _kind(path: Path) -> bool | str:
    try:
        return is_plain(path)
    except _BROKEN as error:
        return f"{path} is no whole picture ({error})"
