"""Pictures to feature vectors: by Inception as the papers' tools feed it, or by any callable."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from ganattn.errors import ConfigError, DataError
from ganattn.evaluation.batched import Batched
from ganattn.evaluation.names import CONVENTIONS
from ganattn.interop.inception import (
    check_inception,
    from_pytorch_fid,
    random_inception,
    read_inception,
)
from ganattn.networks.inception import SIDE, TAPS, Inception

BATCH = 16
Features = Callable[[np.ndarray], np.ndarray]  # (n, h, w, 3) uint8 -> (n, d)


class Provenance(NamedTuple):
    """Where features come from, as every score says.

    digest: that tells their parameters apart, "" where unknown. comparable: with published numbers.
    """

    name: str
    convention: str = ""
    digest: str = ""
    comparable: bool = False


class NetworkFeatures:
    """Features by a function of variables and pictures, which are spread over the devices.

    apply: (variables, prepared pictures) -> (n, d). load: gives the variables, when the first
    picture comes. prepare: (n, h, w, 3) uint8 -> what `apply` takes, float32 by default.
    batch_size, devices: as `Batched` has them.
    """

    def __init__(
        self,
        apply: Callable[[Any, Array], Array],
        load: Callable[[], Any],
        provenance: Provenance,
        prepare: Callable[[np.ndarray], Any] | None = None,
        *,
        batch_size: int = BATCH,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.provenance = provenance
        self._prepare = prepare or (lambda pictures: pictures.astype(np.float32))
        self._create = lambda: Batched(apply, load(), batch_size, devices)
        self.batch_size = batch_size

    @cached_property
    def _apply(self) -> Batched:
        return self._create()

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(n, h, w, 3) uint8 to (n, d) float32."""
        size = self._apply.batch_size
        parts = [
            self._apply(self._prepare(pictures[start : start + size]))
            for start in range(0, len(pictures), size)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)


class InceptionFeatures(NetworkFeatures):
    """The features of FID and KID.

    load: gives the variables of `networks.inception.Inception`. provenance: its convention is one
    of `network_input`. layer: of Inception's outputs, "2048" for the scores that papers print.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        provenance: Provenance,
        layer: str = "2048",
        *,
        batch_size: int = BATCH,
        devices: Sequence[jax.Device] | None = None,
    ):
        network, convention = Inception(), provenance.convention
        super().__init__(
            lambda variables, images: network.apply(variables, images)[layer],
            load,
            provenance,
            lambda pictures: network_input(pictures, convention),
            batch_size=batch_size,
            devices=devices,
        )

    @classmethod
    def from_file(
        cls, path: str | os.PathLike, convention: str = "pytorch-fid", layer: str = "2048"
    ) -> Self:
        """From pytorch-fid's weight file; raises ForeignFileError for any other content."""
        _known(convention, layer)
        digest = check_inception(path)
        name = "inception" if layer == "2048" else f"inception {layer}"
        return cls(lambda: read_inception(path), Provenance(name, convention, digest, True), layer)

    @classmethod
    def random(cls, convention: str = "pytorch-fid", layer: str = "2048") -> Self:
        """With random weights, the same on every machine: for trends, not for papers."""
        _known(convention, layer)
        name = "random-inception" if layer == "2048" else f"random-inception {layer}"
        origin = Provenance(name, convention, "built-in")
        return cls(lambda: from_pytorch_fid(random_inception()), origin, layer)


def provenance(features: Features) -> Provenance:
    """The `provenance` that a callable has, or its name."""
    given = getattr(features, "provenance", None)
    if isinstance(given, Provenance):
        return given
    name = getattr(features, "__qualname__", type(features).__qualname__)
    return Provenance(f"{getattr(features, '__module__', '')}:{name}".lstrip(":"))


def network_input(pictures: np.ndarray, convention: str) -> Any:
    """(n, h, w, 3) uint8 to what Inception takes: (n, 299, 299, 3) float32.

    "pytorch-fid": bilinear, neither smoothed nor rounded; [-1, 1]. "tf": as the graph of the FID's
    authors (and torch-fidelity) does it, bilinear from the upper left corners of the pixels;
    (x - 128) / 128. "clean": clean-fid's, smoothed bicubic by Pillow in floats; (x - 128) / 128.
    """
    if convention == "clean":
        return (np.stack([_smoothed(picture) for picture in pictures]) - 128) / np.float32(128)
    if convention == "tf":
        return _tensorflow_input(pictures)
    _known(convention)
    return _pytorch_input(pictures)


@jax.jit
def _pytorch_input(pictures: Array) -> Array:
    images = pictures.astype(jnp.float32) / 255
    shape = (len(images), SIDE, SIDE, images.shape[-1])
    return 2 * jax.image.resize(images, shape, "linear", antialias=False) - 1


@jax.jit
def _tensorflow_input(pictures: Array) -> Array:
    images = pictures.astype(jnp.float32)
    for axis in (1, 2):
        images = _stretched(images, axis)
    return (images - 128) / 128


def _stretched(images: Array, axis: int) -> Array:
    """Linear in one axis, where pixel i of the result lies at i * size / 299 of the source."""
    size = images.shape[axis]
    place = np.arange(SIDE) * (size / SIDE)
    low = np.floor(place).astype(np.int32)
    share = (place - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
    one, other = (jnp.take(images, i, axis) for i in (low, np.minimum(low + 1, size - 1)))
    return one + (other - one) * share


def _smoothed(picture: np.ndarray) -> np.ndarray:
    channels = [
        Image.fromarray(picture[..., i].astype(np.float32)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        for i in range(picture.shape[-1])
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], -1), 0, 255)


def _known(convention: str, layer: str = TAPS[-1]) -> None:
    if layer not in TAPS:
        raise ConfigError(f"Inception has no layer {layer!r} for FID: use {', '.join(TAPS)}")
    if convention not in CONVENTIONS:
        raise ConfigError(f"the convention is {convention!r}: use one of {', '.join(CONVENTIONS)}")


def checked(features: Features, pictures: np.ndarray) -> np.ndarray:
    """`features(pictures)`; raises DataError when they are not a row of numbers a picture."""
    found = np.asarray(features(pictures))
    if found.ndim != 2 or len(found) != len(pictures):
        raise DataError(
            f"{provenance(features).name} made {found.shape} of {len(pictures)} pictures: it must "
            "return (pictures, channels)"
        )
    return found
