"""The VGG networks of torchvision's layout, whose features the perceptual losses compare."""

import os
from collections.abc import Iterable

from ganattn.errors import ForeignFileError
from ganattn.interop.names import conv_rows, to_ours
from ganattn.interop.torch_files import read_torch
from ganattn.networks.vgg import CONTENT_CONVOLUTIONS, CONVOLUTIONS, CONVOLUTIONS_16


def read_vgg19(path: str | os.PathLike) -> dict:
    """Variables of `networks.vgg.VGG19Features` from torchvision's vgg19 checkpoint.

    Raises ForeignFileError for a file of another kind.
    """
    return _read("vgg19", path, CONVOLUTIONS)


def read_vgg19_content(path: str | os.PathLike) -> dict:
    """Variables of `networks.vgg.VGG19ContentFeatures` from torchvision's vgg19 checkpoint.

    Raises ForeignFileError for a file of another kind.
    """
    return _read("vgg19", path, CONTENT_CONVOLUTIONS)


def read_vgg16(path: str | os.PathLike) -> dict:
    """Variables of `networks.vgg.VGG16Features` from a vgg16 checkpoint of torchvision's layout.

    The weights are to be those of Caffe, for BGR of 0 to 255, which Johnson published in this
    layout; with torchvision's own weights the loss differs from the authors'. Raises
    ForeignFileError for a file of another kind.
    """
    return _read("vgg16", path, CONVOLUTIONS_16)


def _read(name: str, path: str | os.PathLike, convolutions: Iterable[int]) -> dict:
    arrays = {k: v for k, v in read_torch(path).items() if k.startswith("features.")}
    if not arrays:
        raise ForeignFileError(f"{path} has no features.*: give a {name} .pth file of torchvision")
    table = [row for i in convolutions for row in conv_rows(f"features.{i}", f"conv{i}")]
    expected = {row.key for row in table}
    # The last three convolutions of VGG19 serve no layer that is compared.
    return to_ours(name, {k: v for k, v in arrays.items() if k in expected}, table)
