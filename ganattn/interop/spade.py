"""Names of the authors' PyTorch SPADE (NVlabs/SPADE): latest_net_G.pth, _D and, of GauGAN, _E."""

import math
import re
from collections.abc import Collection, Mapping

from ganattn.interop.names import (
    CONV,
    DENSE,
    Kind,
    Layout,
    Row,
    average_rows,
    conv_rows,
    kernel_vector,
    spectral_rows,
)
from ganattn.networks.spade import DOUBLINGS

NETWORKS = {"G": "generator", "D": "discriminator", "E": "encoder"}
BLOCKS = {"head_0": "head_0", "G_middle_0": "middle_0", "G_middle_1": "middle_1"} | {
    f"up_{i}": f"up_{i}" for i in range(5)
}
# The authors' data sets, by the channels of their label maps (with classes for void pixels and
# boundaries of instances): the fields that leave no trace in the shapes of the weights.
_SQUARE = {"crop_size": 256, "aspect_ratio": 1.0, "up_sampling": "normal"}
DATA_SETS: dict[int, dict[str, object]] = {
    36: {  # Cityscapes
        "num_classes": 35, "use_instances": True, "use_dontcare": False,
        "crop_size": 512, "aspect_ratio": 2.0, "up_sampling": "more",
    },
    151: {"num_classes": 150, "use_instances": False, "use_dontcare": True, **_SQUARE},  # ADE20K
    184: {"num_classes": 182, "use_instances": True, "use_dontcare": True, **_SQUARE},  # COCO-Stuff
}  # fmt: skip
# A convolution of the label map, or in GauGAN a dense layer of the style.
_START = Layout(
    lambda x: (DENSE if x.ndim == 2 else CONV).ours(x),  # type: ignore[misc]
    lambda x: (DENSE if x.ndim == 2 else CONV).theirs(x),
)


def generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    """The fields of config.method that a generator's arrays determine.

    What the shapes do not show is that of the authors' data set with as many channels, see
    DATA_SETS. With other numbers of channels, each channel counts as a class, and only the dense
    layer of GauGAN's generator determines `crop_size` and `aspect_ratio` (1 or 2).
    """
    most, start = "up_4.conv_0.bias" in arrays, arrays["fc.weight"]
    width = int(arrays["conv_img.weight"].shape[1]) << most
    channels = int(arrays["head_0.norm_0.mlp_shared.0.weight"].shape[1])
    batch = "head_0.norm_0.param_free_norm.running_mean" in arrays
    values: dict[str, object] = {
        "num_classes": channels,
        "use_instances": False,
        "use_dontcare": False,
        "up_sampling": "normal",
        **DATA_SETS.get(channels, {}),
        "width": width,
        "norm": "batch" if batch else "instance",
        "use_vae": start.ndim == 2,
    }
    if most:
        values["up_sampling"] = "most"
    if start.ndim == 2:
        values["latent_size"] = int(start.shape[1])
        area = start.shape[0] // (16 * width)
        aspect = 1 if math.isqrt(area) ** 2 == area else 2
        side = math.isqrt(area * aspect)
        values["crop_size"] = side << DOUBLINGS[str(values["up_sampling"])]
        values["aspect_ratio"] = float(aspect)
    return values


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return {"discriminator_width": int(arrays["discriminator_0.model0.0.bias"].shape[0])}


def _encoder_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return {"latent_size": int(arrays["fc_mu.bias"].shape[0])}


def generator_rows(keys: Collection[str]) -> list[Row]:
    """The plain generator; `keys` determine its blocks, and which of them have a shortcut."""
    table = conv_rows("fc", "start", _START)
    for theirs, ours in BLOCKS.items():
        if f"{theirs}.conv_0.bias" in keys or f"params/{ours}/conv_0/bias" in keys:
            table += _block(theirs, ours, keys)
    return table + conv_rows("conv_img", "output")


def _block(theirs: str, ours: str, keys: Collection[str]) -> list[Row]:
    shortcut = f"{theirs}.conv_s.weight_orig" in keys or f"params/{ours}/conv_s/kernel" in keys
    parts = ("0", "1", "s") if shortcut else ("0", "1")
    table = []
    for part in parts:
        size = 1 if part == "s" else 3
        names = f"{theirs}.conv_{part}", f"{ours}/conv_{part}"
        table += spectral_rows(*names, CONV, kernel_vector(size), bias=size > 1)
    for part in parts:
        table += _norm(f"{theirs}.norm_{part}", f"{ours}/norm_{part}", keys)
    return table


def _norm(theirs: str, ours: str, keys: Collection[str]) -> list[Row]:
    averages = f"{theirs}.param_free_norm"
    batch = f"{averages}.running_mean" in keys or f"batch_stats/{ours}/norm/mean" in keys
    table = average_rows(averages, f"{ours}/norm") if batch else []
    names = {"mlp_shared.0": "shared", "mlp_gamma": "gamma", "mlp_beta": "beta"}
    for their_name, our_name in names.items():
        table += conv_rows(f"{theirs}.{their_name}", f"{ours}/{our_name}")
    return table


def _discriminator(keys: Collection[str]) -> list[Row]:
    scales = _last(r"discriminator_(\d+)\.|params/scale(\d+)/", keys)
    last = _last(r"discriminator_0\.model(\d+)\.|params/scale0/conv(\d+)/", keys)
    table = []
    for scale in range(scales + 1):
        theirs, ours = f"discriminator_{scale}", f"scale{scale}"
        table += conv_rows(f"{theirs}.model0.0", f"{ours}/conv1")
        for i in range(1, last):
            names = f"{theirs}.model{i}.0.0", f"{ours}/conv{i + 1}"
            table += spectral_rows(*names, CONV, kernel_vector(4))
        table += conv_rows(f"{theirs}.model{last}.0", f"{ours}/classifier")
    return table


def _last(pattern: str, keys: Collection[str]) -> int:
    """The largest number that the pattern's groups match in the keys."""
    matches = [match for match in (re.match(pattern, key) for key in keys) if match]
    return max((int(match[1] or match[2]) for match in matches), default=1)


def _encoder(keys: Collection[str]) -> list[Row]:
    table = []
    for i in range(1, 7):
        table += spectral_rows(f"layer{i}.0", f"conv{i}", CONV, kernel_vector(3))
    return table + conv_rows("fc_mu", "mean", DENSE) + conv_rows("fc_var", "variance", DENSE)


KINDS = {
    "G": Kind(generator_rows, generator_fields),
    "D": Kind(_discriminator, _discriminator_fields),
    "E": Kind(_encoder, _encoder_fields),
}
