"""Names of the networks of junyanz/pytorch-CycleGAN-and-pix2pix: ResNets, U-Nets, discriminators.

Every network has the norm "instance", which gives its convolutions biases, "batch" or "none".
"""

import re
from collections.abc import Callable, Collection, Mapping

from ganattn.interop.names import (
    CONV,
    TRANSPOSED_CONV,
    Layout,
    Row,
    check_channels,
    conv_rows,
    count,
    norm_rows,
)

NormRows = Callable[[str, str], list[Row]]


def generator_rows(keys: Collection[str], dropout: bool = False) -> list[Row]:
    """The table of a generator of either kind; dropout: see `resnet_rows`."""
    return unet_rows(keys) if _is_unet(keys) else resnet_rows(keys, dropout)


def generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    """The fields of config.method that a generator's arrays determine."""
    if _is_unet(arrays):
        return {"generator": "unet", **unet_fields(name, arrays)}
    first = arrays["model.1.weight"]
    check_channels(name, first.shape[1], 3)
    return {
        "generator": "resnet",
        "width": int(first.shape[0]),
        "num_residual_blocks": _count_blocks(arrays),
        "norm": norm_of(arrays, "model.1.bias"),
        "dropout": _has_dropout(arrays),
    }


def resnet_rows(keys: Collection[str], dropout: bool = False) -> list[Row]:
    """The table of a ResNet.

    dropout: whether their generator has dropout, which shifts the key of each block's second
    convolution; only for our paths, as their own keys show it.
    """
    blocks = _count_blocks(keys)
    bias = "params/stem/bias" in keys or "model.1.bias" in keys
    second = 6 if dropout or _has_dropout(keys) else 5
    norms = _norm_rows(keys, bias)
    table: list[Row] = []

    def add(index: str, norm: str, name: str, layout: Layout = CONV) -> None:
        table.extend(conv_rows(index, name, layout, bias))
        table.extend(norms(norm, f"{name}_norm"))

    add("model.1", "model.2", "stem")
    add("model.4", "model.5", "down1")
    add("model.7", "model.8", "down2")
    for i in range(blocks):
        for j, index in ((1, 1), (2, second)):
            theirs, name = f"model.{10 + i}.conv_block", f"block{i + 1}"
            table.extend(conv_rows(f"{theirs}.{index}", f"{name}/conv{j}", CONV, bias))
            table.extend(norms(f"{theirs}.{index + 1}", f"{name}/norm{j}"))
    add(f"model.{10 + blocks}", f"model.{11 + blocks}", "up1", TRANSPOSED_CONV)
    add(f"model.{13 + blocks}", f"model.{14 + blocks}", "up2", TRANSPOSED_CONV)
    table.extend(conv_rows(f"model.{17 + blocks}", "output", CONV, True))
    return table


def unet_fields(name: str, arrays: Mapping) -> dict[str, object]:
    """The fields of config.method that a U-Net's arrays determine."""
    first = arrays["model.model.0.weight"]
    check_channels(name, first.shape[1], 3)
    return {
        "width": int(first.shape[0]),
        "num_downs": _count_levels(arrays),
        "norm": norm_of(arrays, "model.model.0.bias"),
    }


def unet_rows(keys: Collection[str]) -> list[Row]:
    """The table of a U-Net."""
    bias = "params/down1/bias" in keys or "model.model.0.bias" in keys
    innermost, norms = _count_levels(keys), _norm_rows(keys, bias)

    def level_rows(level: int, theirs: str) -> list[Row]:
        """Each level's module holds the next deeper one, so the table nests as their keys do."""
        deepest = level == innermost
        up, up_norm = (3, 4) if deepest else (5, 6)
        table = conv_rows(f"{theirs}.1", f"down{level}", CONV, bias)
        if not deepest:
            table += norms(f"{theirs}.2", f"down{level}_norm")
            table += level_rows(level + 1, f"{theirs}.3.model")
        table += conv_rows(f"{theirs}.{up}", f"up{level}", TRANSPOSED_CONV, bias)
        return table + norms(f"{theirs}.{up_norm}", f"up{level}_norm")

    return [
        *conv_rows("model.model.0", "down1", CONV, bias),
        *level_rows(2, "model.model.1.model"),
        *conv_rows("model.model.3", "up1", TRANSPOSED_CONV, True),
    ]


def discriminator_rows(keys: Collection[str], **_: object) -> list[Row]:
    """The table of a PatchGAN or pixel discriminator."""
    pixel, layers = _discriminator_kind(keys)
    theirs, ours = ("net", "pixel") if pixel else ("model", "conv")
    bias = f"{theirs}.2.bias" in keys or f"params/{ours}2/bias" in keys
    norms = _norm_rows(keys, bias)
    table = conv_rows(f"{theirs}.0", f"{ours}1", CONV, True)
    for i in range(layers):
        name, index = f"{ours}{i + 2}", 2 + 3 * i
        table += conv_rows(f"{theirs}.{index}", name, CONV, bias)
        table += norms(f"{theirs}.{index + 1}", f"{name}_norm")
    last = f"{theirs}.{2 + 3 * layers}"
    return table + conv_rows(last, "classifier", CONV, bias or not pixel)


def discriminator_fields(name: str, arrays: Mapping, channels: int = 3) -> dict[str, object]:
    """The fields of config.method that a discriminator's arrays determine."""
    pixel, layers = _discriminator_kind(arrays)
    module = "net" if pixel else "model"
    first = arrays[f"{module}.0.weight"]
    check_channels(name, first.shape[1], channels)
    depth = {} if pixel else {"discriminator_layers": layers}
    return depth | {
        "discriminator": "pixel" if pixel else "patch",
        "discriminator_width": int(first.shape[0]),
        "norm": norm_of(arrays, f"{module}.2.bias"),
    }


def norm_of(keys: Collection[str], bias: str) -> str:
    """The norm of a network; bias: the key of a bias that only instance normalization brings."""
    if bias in keys:
        return "instance"
    return "batch" if _has_averages(keys) else "none"


def _norm_rows(keys: Collection[str], bias: bool) -> NormRows:
    """The rows of one normalization, from their name of it and ours."""
    if not bias and not _has_averages(keys):
        return lambda theirs, ours: []
    return lambda theirs, ours: norm_rows(theirs, ours, bias, keys)


def _has_averages(keys: Collection[str]) -> bool:
    return any(key.endswith(("running_mean", "_norm/mean", "/norm1/mean")) for key in keys)


def _is_unet(keys: Collection[str]) -> bool:
    if "params/down1/kernel" in keys:
        return "params/stem/kernel" not in keys
    return any(key.startswith("model.model.") for key in keys)


def _count_blocks(keys: Collection[str]) -> int:
    return count(r"model\.\d+\.conv_block\.1\.weight|params/block\d+/conv1/kernel", keys)


def _has_dropout(keys: Collection[str]) -> bool:
    return "model.10.conv_block.1.weight" in keys and "model.10.conv_block.5.weight" not in keys


def _count_levels(keys: Collection[str]) -> int:
    ours = count(r"params/down\d+/kernel", keys)
    return ours or max((key.split(".").count("model") for key in keys), default=3) - 1


def _discriminator_kind(keys: Collection[str]) -> tuple[bool, int]:
    """Whether it is a pixel discriminator, and the number of its normalized layers."""
    if any(key.startswith(("net.", "params/pixel")) for key in keys):
        return True, 1
    ours = count(r"params/conv\d+/kernel", keys)
    if ours:
        return False, ours - 1
    indices = [re.fullmatch(r"model\.(\d+)\.weight", key) for key in keys]
    last = max((int(match[1]) for match in indices if match), default=2)
    return False, (last - 2) // 3
