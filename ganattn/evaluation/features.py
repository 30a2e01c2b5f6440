"""Features of images: Inception's, with the papers' preprocessing, or those of any callable."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from ganattn.errors import ConfigError, DataError
from ganattn.evaluation.settings import CONVENTIONS, load_callable
from ganattn.inference.batched import Batched
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
    """Where features come from, as every result that uses them says.

    digest: identifies their parameters, "" where unknown. comparable: with published numbers.
    """

    name: str
    convention: str = ""
    digest: str = ""
    comparable: bool = False


class NetworkFeatures:
    """Features by a function of variables and images, spread over the devices.

    apply: (variables, prepared images) -> (n, d). load: returns the variables; it is called for the
    first image. prepare: (n, h, w, 3) uint8 -> the input of `apply`, float32 by default.
    batch_size, devices: see `Batched`.
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
        self.provenance, self.batch_size = provenance, batch_size
        self._apply, self._load = Batched(apply, batch_size, devices), load
        self._prepare = prepare or (lambda images: images.astype(np.float32))

    @cached_property
    def _variables(self) -> Any:
        return self._apply.place(self._load())

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(n, h, w, 3) uint8 to (n, d) float32."""
        return self._apply(self._variables, self._prepare(images)).astype(np.float32, copy=False)


class InceptionFeatures(NetworkFeatures):
    """The features of FID and KID.

    load: returns the variables of `networks.inception.Inception`. provenance: its convention is one
    of those of `network_input`. layer: output of Inception, "2048" for published numbers. options:
    batch_size and devices, see `Batched`.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        provenance: Provenance,
        layer: str = "2048",
        **options: Any,
    ):
        super().__init__(
            lambda variables, images: Inception().apply(variables, images)[layer],
            load,
            provenance,
            lambda images: network_input(images, provenance.convention),
            **options,
        )

    @classmethod
    def from_file(
        cls, path: str | os.PathLike, convention: str = "pytorch-fid", layer: str = "2048"
    ) -> Self:
        """From pytorch-fid's weight file; raises ForeignFileError for a file of other content."""
        _known(convention, layer)
        digest = check_inception(path)
        name = "inception" if layer == "2048" else f"inception {layer}"
        return cls(lambda: read_inception(path), Provenance(name, convention, digest, True), layer)

    @classmethod
    def random(cls, convention: str = "pytorch-fid", layer: str = "2048") -> Self:
        """With random weights, equal on every machine: for trends, not comparable with papers."""
        _known(convention, layer)
        name = "random-inception" if layer == "2048" else f"random-inception {layer}"
        origin = Provenance(name, convention, "built-in")
        return cls(lambda: from_pytorch_fid(random_inception()), origin, layer)


def load_features(name: str | None, convention: str, layer: str = "2048") -> Features:
    """Features of a weight file or "module:function"; None is Inception with random weights.

    Raises ConfigError for a function that cannot be imported, ForeignFileError for a wrong file.
    """
    if name is None:
        return InceptionFeatures.random(convention, layer)
    if ":" in name and not Path(name).exists():
        return load_callable(name)
    return InceptionFeatures.from_file(name, convention, layer)


def provenance(features: Features) -> Provenance:
    """The attribute `provenance` of a callable, or one with the callable's name."""
    given = getattr(features, "provenance", None)
    if isinstance(given, Provenance):
        return given
    name = getattr(features, "__qualname__", type(features).__qualname__)
    return Provenance(f"{getattr(features, '__module__', '')}:{name}".lstrip(":"))


def network_input(images: np.ndarray, convention: str) -> Any:
    """(n, h, w, 3) uint8 to the input of Inception: (n, 299, 299, 3) float32.

    "pytorch-fid": bilinear, neither antialiased nor rounded; [-1, 1]. "tf": the graph of the FID's
    authors (and torch-fidelity), bilinear from the upper left corners of the pixels;
    (x - 128) / 128. "clean": clean-fid, antialiased bicubic by Pillow in floats; (x - 128) / 128.
    """
    if convention == "clean":
        return (np.stack([_smoothed(image) for image in images]) - 128) / np.float32(128)
    if convention == "tf":
        return _tensorflow_input(images)
    _known(convention)
    return _pytorch_input(images)


@jax.jit
def _pytorch_input(images: Array) -> Array:
    images = images.astype(jnp.float32) / 255
    shape = (len(images), SIDE, SIDE, images.shape[-1])
    return 2 * jax.image.resize(images, shape, "linear", antialias=False) - 1


@jax.jit
def _tensorflow_input(images: Array) -> Array:
    images = images.astype(jnp.float32)
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


def _smoothed(image: np.ndarray) -> np.ndarray:
    channels = [
        Image.fromarray(image[..., i].astype(np.float32)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        for i in range(image.shape[-1])
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], -1), 0, 255)


def _known(convention: str, layer: str = TAPS[-1]) -> None:
    if layer not in TAPS:
        raise ConfigError(f"Inception has no layer {layer!r} for FID: use {', '.join(TAPS)}")
    if convention not in CONVENTIONS:
        raise ConfigError(f"the convention is {convention!r}: use one of {', '.join(CONVENTIONS)}")


def extract(features: Features, images: np.ndarray) -> np.ndarray:
    """`features(images)`; raises DataError unless they are (images, channels)."""
    result = np.asarray(features(images))
    if result.ndim != 2 or len(result) != len(images):
        raise DataError(
            f"{provenance(features).name} returned {result.shape} for {len(images)} images: it "
            "must return (images, channels)"
        )
    return result
