"""The VGG19 of torchvision, whose features the perceptual loss compares."""

import os

from ganattn.errors import ForeignFileError
from ganattn.interop.names import CONV, SAME, Row, to_ours
from ganattn.interop.torch_files import read_torch
from ganattn.networks.vgg import CONVOLUTIONS


def read_vgg19(path: str | os.PathLike) -> dict:
    """Variables of `networks.vgg.VGG19Features` from torchvision's vgg19 checkpoint.

    Raises ForeignFileError for a file of another kind.
    """
    arrays = {k: v for k, v in read_torch(path).items() if k.startswith("features.")}
    if not arrays:
        raise ForeignFileError(f"{path} has no features.*: give torchvision's vgg19 .pth file")
    table = []
    for index in CONVOLUTIONS:
        table += [
            Row(f"features.{index}.weight", f"params/conv{index}/kernel", CONV),
            Row(f"features.{index}.bias", f"params/conv{index}/bias", SAME),
        ]
    wanted = {row.key for row in table}
    # The last three convolutions serve no layer that is compared.
    return to_ours("vgg19", {k: v for k, v in arrays.items() if k in wanted}, table)
