"""Names of the authors' PyTorch SPADE (NVlabs/SPADE): latest_net_G.pth, _D and, of GauGAN, _E."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from ganattn.errors import ConfigError, ForeignFileError
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
# What the fields of one network say about those of all, see `combine`.
_CHANNELS, _CELLS = "channels", "cells"
Fields = dict[str, Any]
# A convolution of the label map, or in GauGAN a dense layer of the style.
_START = Layout(
    lambda x: (DENSE if x.ndim == 2 else CONV).ours(x),  # type: ignore[misc]
    lambda x: (DENSE if x.ndim == 2 else CONV).theirs(x),  # type: ignore[misc]
)


def generator_fields(name: str, arrays: Mapping) -> Fields:
    """The fields of config.method that a generator's arrays determine, and what `combine` needs."""
    most, start = "up_4.conv_0.bias" in arrays, arrays["fc.weight"]
    width = int(arrays["conv_img.weight"].shape[1]) << most
    batch = "head_0.norm_0.param_free_norm.running_mean" in arrays
    values: Fields = {
        "width": width,
        "norm": "batch" if batch else "instance",
        "up_sampling": "most" if most else None,
        "use_vae": start.ndim == 2,
        _CHANNELS: int(arrays["head_0.norm_0.mlp_shared.0.weight"].shape[1]),
    }
    if start.ndim == 2:
        values |= {"latent_size": int(start.shape[1]), _CELLS: start.shape[0] // (16 * width)}
    return values


def _discriminator_fields(name: str, arrays: Mapping) -> Fields:
    width, channels = arrays["discriminator_0.model0.0.weight"].shape[:2]
    scales, layers = _depths(arrays)
    return {
        "discriminator_width": int(width),
        "discriminator_scales": scales,
        "discriminator_layers": layers,
        _CHANNELS: int(channels) - 3,
    }


def _encoder_fields(name: str, arrays: Mapping) -> Fields:
    width, size = arrays["layer1.0.weight_orig"].shape[0], arrays["fc_mu.bias"].shape[0]
    return {"use_vae": True, "width": int(width), "latent_size": int(size)}


def combine(fields: Fields, given: Mapping[str, Any]) -> Fields:
    """The fields of all networks, with the answers to what arrays do not show.

    These are: which channels of the label map are classes, void and instances (num_classes,
    use_dontcare, use_instances, or condition_channels); and whether the generator doubles the
    first map five times or six ("normal" and "more" have the same arrays). The dense layer of
    GauGAN's generator shows the number of pixels of the first map; without crop_size and
    aspect_ratio in `given`, the map is a square or twice as wide as high. Raises ConfigError for
    answers that are missing, all in one line, or that contradict the arrays.
    """
    channels, cells = fields.pop(_CHANNELS, 0), fields.pop(_CELLS, 0)
    problems: list[str] = []
    if channels > 0:
        choices = _inputs(channels, given)
        fields |= _choose(choices, given, f"{channels} channels of labels", problems)
    if "up_sampling" in fields:
        known, what = fields.pop("up_sampling"), "these blocks"
        choices = [{"up_sampling": name} for name in ((known,) if known else ("normal", "more"))]
        if cells:
            what += f" and a first map of {cells} pixels"
            choices = [{**c, **_size(cells, c["up_sampling"], given)} for c in choices]
        fields |= _choose(choices, given, what, problems)
    if problems:
        raise ConfigError(
            f"the weights alone do not give config.method: {'; '.join(problems)}: "
            "give these fields, or a config, such as spade:cityscapes"
        )
    return fields


def _inputs(channels: int, given: Mapping) -> list[Fields]:
    """What a label map of so many channels may consist of; classes unless images are given."""
    flags = (False, True)
    if given.get("condition_channels"):
        return [
            {"condition_channels": channels - instances, "use_instances": instances}
            for instances in flags
        ]
    return [
        {
            "num_classes": channels - void - instances,
            "use_dontcare": void,
            "use_instances": instances,
        }
        for void in flags
        for instances in flags
        if channels > void + instances
    ]


def _size(cells: int, up_sampling: str, given: Mapping) -> Fields:
    """The size of images: the given one if its first map fits, or as `combine` says."""
    doublings = DOUBLINGS[up_sampling]
    if {"crop_size", "aspect_ratio"} <= set(given):
        width, aspect = given["crop_size"], given["aspect_ratio"]
        if (width >> doublings) * (round(width / aspect) >> doublings) == cells:
            return {"crop_size": width, "aspect_ratio": aspect}
    aspect = 1 if math.isqrt(cells) ** 2 == cells else 2
    width = math.isqrt(cells * aspect) << doublings
    return {"crop_size": width, "aspect_ratio": float(aspect)}


def _choose(choices: list[Fields], given: Mapping, what: str, problems: list[str]) -> Fields:
    """The one choice that agrees with the given fields; else {}, and a problem is added."""
    left = [c for c in choices if all(given.get(name, value) == value for name, value in c.items())]
    if len(left) == 1:
        return left[0]
    names = [name for name in choices[0] if len({c[name] for c in left or choices}) > 1]
    if left:
        values = {name: " or ".join(sorted({str(c[name]) for c in left})) for name in names}
        flags = ", ".join(f"--config.method.{name}={value}" for name, value in values.items())
        problems.append(f"{what} leave open {flags}")
    else:
        values = {name: given[name] for name in choices[0] if name in given}
        flags = ", ".join(f"{name}={value}" for name, value in values.items())
        problems.append(f"{what} contradict {flags}")
    return {}


def generator_rows(keys: Collection[str]) -> list[Row]:
    """The plain generator; `keys` determine its blocks, and which of them have a shortcut.

    Raises ForeignFileError for a generator without spectral normalization.
    """
    if "head_0.conv_0.weight" in keys:
        raise ForeignFileError(
            "the generator has no spectral normalization: use one whose option norm_G starts with "
            "'spectral', as the authors' default does"
        )
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
    scales, last = _depths(keys)
    table = []
    for scale in range(scales):
        theirs, ours = f"discriminator_{scale}", f"scale{scale}"
        table += conv_rows(f"{theirs}.model0.0", f"{ours}/conv1")
        for i in range(1, last):
            names = f"{theirs}.model{i}.0.0", f"{ours}/conv{i + 1}"
            table += spectral_rows(*names, CONV, kernel_vector(4))
        table += conv_rows(f"{theirs}.model{last}.0", f"{ours}/classifier")
    return table


def _depths(keys: Collection[str]) -> tuple[int, int]:
    """Numbers of scales, and of convolutions of each without the classifier."""
    return (
        1 + _last(r"discriminator_(\d+)\.|params/scale(\d+)/", keys),
        _last(r"discriminator_0\.model(\d+)\.|params/scale0/conv(\d+)/", keys),
    )


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
