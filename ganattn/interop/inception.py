"""Weights of the FID network: from pytorch-fid's file, or reproducible random ones."""

import hashlib
import os
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from ganattn.errors import ForeignFileError
from ganattn.interop.torch_files import read_torch
from ganattn.networks.inception import SIDE, Inception
from ganattn.state import flatten

FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # start of the digest of the published file
EPSILON = 1e-3  # of the batch normalizations
Arrays = Mapping[str, np.ndarray]


def check_inception(path: str | os.PathLike) -> str:
    """The SHA-256 of pytorch-fid's weight file.

    Raises ForeignFileError for a file whose content differs from the published one, which the
    numbers in papers are computed with.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise ForeignFileError(
            f"no file {path}: give {FILE}, which pytorch-fid publishes"
        ) from None
    if not digest.startswith(SHA256):
        raise ForeignFileError(
            f"{path} has SHA-256 {digest[:8]}..., the FID network's begins {SHA256}: give {FILE}, "
            "which pytorch-fid publishes, or copy it once more"
        )
    return digest


def read_inception(path: str | os.PathLike) -> dict:
    """Variables of `networks.inception.Inception` from pytorch-fid's weight file.

    Raises ForeignFileError for a file of another network; see `check_inception`.
    """
    return from_pytorch_fid(read_torch(path))


def from_pytorch_fid(arrays: Arrays) -> dict:
    """Variables of `Inception` from pytorch-fid's names and arrays.

    Each batch normalization is folded into its convolution, in float64. Raises ForeignFileError for
    arrays that are missing or of another shape.
    """
    for name, shape in sorted(shapes().items()):
        if name not in arrays or tuple(arrays[name].shape) != shape:
            fault = f"has shape {arrays[name].shape}" if name in arrays else "is missing"
            raise ForeignFileError(f"{name} {fault}: give {FILE}, where its shape is {shape}")
    params = {"fc/kernel": np.transpose(arrays["fc.weight"]), "fc/bias": arrays["fc.bias"]}
    for name in (key.removesuffix(".conv.weight") for key in shapes() if ".conv." in key):
        part = {k: np.asarray(arrays[f"{name}.{k}"], np.float64) for k in PARTS}
        scale = part["bn.weight"] / np.sqrt(part["bn.running_var"] + EPSILON)
        kernel = (part["conv.weight"] * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        bias = part["bn.bias"] - part["bn.running_mean"] * scale
        path = name.replace(".", "/")
        params[f"{path}/conv/kernel"] = kernel.astype(np.float32)
        params[f"{path}/conv/bias"] = bias.astype(np.float32)
    return {"params": unflatten_dict(params, sep="/")}


PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in pytorch-fid's file (layout out, in, h, w)."""
    spec = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    tree = jax.eval_shape(Inception().init, jax.random.key(0), spec)["params"]
    shapes = {}
    for path, leaf in flatten(tree).items():
        *modules, kind = path.split("/")
        if modules == ["fc"]:
            shapes["fc.weight" if kind == "kernel" else "fc.bias"] = leaf.shape[::-1]
        elif kind == "kernel":
            name = ".".join(modules[:-1])
            height, width, channels, features = leaf.shape
            shapes[f"{name}.conv.weight"] = (features, channels, height, width)
            shapes |= {f"{name}.{part}": (features,) for part in PARTS[1:]}
    return shapes


def random_inception() -> Arrays:
    """Arrays by pytorch-fid's names, the same on every machine: names seed the generators.

    Convolutions keep the scale of their inputs (He et al. 2015). Distances between such features
    rank generated images, but are not comparable with published numbers.
    """
    return {name: _draw(name, shape) for name, shape in sorted(shapes().items())}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("conv.weight"):
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name == "fc.weight":
        values = rng.standard_normal(shape) * np.sqrt(1 / shape[1])
    elif name.endswith(("bn.weight", "running_var")):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return values.astype(np.float32)
