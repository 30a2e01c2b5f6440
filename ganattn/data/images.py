"""Image files to upright 8-bit RGB, with Pillow: the decoder that all others must equal."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from ganattn.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
ORIENTATION = 0x0112  # EXIF tag
VOID = 255  # the id of pixels that belong to no class
_PLAIN = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_METADATA = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # PNG chunks, anywhere
_SMALL = (32, 32)
_TURNED = (5, 6, 7, 8)  # values of the EXIF tag that exchange height and width
_OF_IDS = ("L", "P", "I;16", "I;16B", "I", "1")  # Pillow's modes
_ID_BITS = {("PNG", "L"): 8, ("JPEG", "L"): 8, ("PNG", "I;16"): 16}
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # of corrupt files
File = str | os.PathLike | IO[bytes]


class BrokenImageError(DataError):
    """A file that cannot be decoded as an image."""


def read_rgb(path: File) -> np.ndarray:
    """(h, w, 3) uint8 of an image file, converted as `to_rgb` does.

    Raises DataError for a file that is missing or cannot be decoded as an image.
    """
    with _opened(path) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8, upright by the EXIF tag; gray, palette, CMYK, 16-bit, alpha are converted.

    Alpha is dropped, as the authors' loaders do; 16-bit values lose their lower byte.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_deep_gray(upright)
    return np.asarray(upright.convert("RGB"))


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of the upright image in a file, from its header alone.

    Raises DataError as `read_rgb` does.
    """
    with _opened(path) as image:
        width, height = image.size
        is_turned = image.getexif().get(ORIENTATION, 1) in _TURNED
    return (width, height) if is_turned else (height, width)


def read_ids(file: File) -> np.ndarray:
    """(h, w) int64: the ids that an 8- or 16-bit file of one channel holds.

    Raises DataError for a file that is missing, cannot be decoded as an image, or has more than one
    channel.
    """
    with _opened_ids(file) as image:
        return np.asarray(image).astype(np.int64)


def read_labels(file: File, palette: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: the colors that `palette` (ids, 3) gives to a file of label ids.

    Raises DataError as `read_ids` does, and for an id that the palette lacks.
    """
    ids = read_ids(file)
    if ids.max() >= len(palette):
        raise DataError(f"{file} has the label id {ids.max()}: data.palette has {len(palette)} ids")
    return palette[ids]


def holds_ids(file: str | os.PathLike) -> bool:
    """Whether a file has one channel, as files of label ids do; raises DataError as `read_rgb`."""
    with _opened(file) as image:
        return image.mode in _OF_IDS


def check_ids(ids: np.ndarray, classes: int, void: bool, name: str) -> np.ndarray:
    """The ids, which must be 0 to classes - 1; void: id 255 becomes the last class.

    Raises DataError that names the file and its first id out of range.
    """
    if void:
        ids = np.where(ids == VOID, np.int64(classes - 1), ids)
    if ids.size and (ids.min() < 0 or ids.max() >= classes):
        wrong = ids[(ids < 0) | (ids >= classes)][0]
        raise DataError(
            f"{name} has the label id {wrong}: ids are 0 to {classes - 1 - void} and "
            f"{VOID if void else 'no other'}: convert the file, or set config.method.num_classes"
        )
    return ids


def resize(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """(h, w, 3) uint8 to (height, width, 3) uint8; interpolation "bilinear" or "bicubic"."""
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), INTERPOLATIONS[interpolation])
    return np.asarray(resized)


def resize_ids(ids: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) ids to (height, width) int32, each the id of the nearest pixel."""
    image = Image.fromarray(ids.astype(np.int32))
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST), np.int32)


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [-1, 1]."""
    return images.astype(np.float32) / np.float32(127.5) - 1


def find_images(folder: str | os.PathLike) -> list[Path]:
    """Paths relative to `folder` of all images below it, sorted.

    Raises DataError when the folder is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: check the path")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise DataError(f"no images in {folder}: put {' '.join(SUFFIXES)} files there")
    return sorted(path.relative_to(folder) for path in paths)


def inspect(file: Path | io.BytesIO) -> tuple[int, int, int]:
    """(8, 0, 0) if every JPEG or PNG decoder reads this image alike, otherwise (0, 0, 0).

    Such an image has 8 bits, is RGB or gray, and upright. Raises DataError as `read_rgb` does: the
    checksums of a PNG file show that it is intact; JPEG is decoded at reduced size.
    """
    with _opened(file) as image:
        plain = (image.format, image.mode) in _PLAIN and "transparency" not in image.info
        encoded = b""
        if image.format == "PNG":
            encoded = file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()
        if encoded and not any(keyword in encoded for keyword in _METADATA):
            image.verify()
            return 8 * plain, 0, 0
        upright = image.getexif().get(ORIENTATION, 1) == 1
        image.draft(None, _SMALL)
        image.load()
        return 8 * (plain and upright), 0, 0


def inspect_ids(file: File, classes: int, void: bool) -> tuple[int, int, int]:
    """(bits, height, width) of a file of ids; bits 0 if only Pillow decodes it correctly.

    Raises DataError as `read_ids` does, and for ids out of range (see `check_ids`). Where
    `classes` is 0, any id is allowed, and PNG is not decoded: its checksums show that it is intact.
    """
    with _opened_ids(file) as image:
        bits = _ID_BITS.get((image.format or "", image.mode), 0)
        width, height = image.size
        if classes:
            check_ids(np.asarray(image), classes, void, name_of(file))
        elif image.format == "PNG":
            image.verify()
        else:
            image.load()
        return 0 if "transparency" in image.info else bits, height, width


@contextlib.contextmanager
def _opened(file: File) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except FileNotFoundError:
        raise DataError(f"no file {file!s}: check the path") from None
    except _BROKEN as error:
        raise BrokenImageError(
            f"{name_of(file)} cannot be decoded as an image ({error}): replace or remove the file"
        ) from error


@contextlib.contextmanager
def _opened_ids(file: File) -> Iterator[Image.Image]:
    with _opened(file) as image:
        if image.mode not in _OF_IDS:
            raise DataError(f"{name_of(file)} holds {image.mode} and no ids: give one channel")
        yield image


def name_of(file: File) -> str:
    """What messages call a file."""
    return str(file) if isinstance(file, str | os.PathLike) else getattr(file, "name", "a file")


def _from_deep_gray(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.float64)
    if values.max(initial=0) > 255:
        values = values // 256
    gray = np.clip(values, 0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, -1)
