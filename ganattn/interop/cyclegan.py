"""Names of the authors' PyTorch CycleGAN (junyanz/pytorch-CycleGAN-and-pix2pix)."""

import re
from collections.abc import Collection, Mapping

from ganattn.interop.names import (
    CONV,
    TRANSPOSED_CONV,
    Kind,
    Layout,
    Row,
    check_channels,
    conv_rows,
    count,
    norm_rows,
)

# Their D_A discriminates between the outputs of G_A and real images, both of domain B.
NETWORKS = {
    "G_A": "generator_a2b",
    "G_B": "generator_b2a",
    "D_A": "discriminator_b",
    "D_B": "discriminator_a",
}
OPTIONS = ("dropout",)


def generator_rows(keys: Collection[str], dropout: bool = False) -> list[Row]:
    """The table of a generator.

    dropout: whether their generator has dropout, which shifts the key of each block's second
    convolution; only for our paths, as their own keys show it.
    """
    blocks = _count_blocks(keys)
    bias = "params/stem/bias" in keys or "model.1.bias" in keys
    second = 6 if dropout or _has_dropout(keys) else 5
    table: list[Row] = []

    def add(index: str, norm: str, name: str, layout: Layout = CONV) -> None:
        table.extend(conv_rows(index, name, layout, bias))
        table.extend(norm_rows(norm, f"{name}_norm", bias, keys))

    add("model.1", "model.2", "stem")
    add("model.4", "model.5", "down1")
    add("model.7", "model.8", "down2")
    for i in range(blocks):
        for j, index in ((1, 1), (2, second)):
            theirs, name = f"model.{10 + i}.conv_block", f"block{i + 1}"
            table.extend(conv_rows(f"{theirs}.{index}", f"{name}/conv{j}", CONV, bias))
            table.extend(norm_rows(f"{theirs}.{index + 1}", f"{name}/norm{j}", bias, keys))
    add(f"model.{10 + blocks}", f"model.{11 + blocks}", "up1", TRANSPOSED_CONV)
    add(f"model.{13 + blocks}", f"model.{14 + blocks}", "up2", TRANSPOSED_CONV)
    table.extend(conv_rows(f"model.{17 + blocks}", "output", CONV, True))
    return table


def discriminator_rows(keys: Collection[str], **_: object) -> list[Row]:
    """The table of a PatchGAN or pixel discriminator."""
    pixel, layers = _discriminator_kind(keys)
    theirs, ours = ("net", "pixel") if pixel else ("model", "conv")
    bias = f"{theirs}.2.bias" in keys or f"params/{ours}2/bias" in keys
    table = conv_rows(f"{theirs}.0", f"{ours}1", CONV, True)
    for i in range(layers):
        name, index = f"{ours}{i + 2}", 2 + 3 * i
        table += conv_rows(f"{theirs}.{index}", name, CONV, bias)
        table += norm_rows(f"{theirs}.{index + 1}", f"{name}_norm", bias, keys)
    last = f"{theirs}.{2 + 3 * layers}"
    return table + conv_rows(last, "classifier", CONV, bias or not pixel)


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    first = arrays["model.1.weight"]
    check_channels(name, first.shape[1], 3)
    return {
        "width": int(first.shape[0]),
        "num_residual_blocks": _count_blocks(arrays),
        "norm": "instance" if "model.1.bias" in arrays else "batch",
        "dropout": _has_dropout(arrays),
    }


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
        "norm": "instance" if f"{module}.2.bias" in arrays else "batch",
    }


def _count_blocks(keys: Collection[str]) -> int:
    return count(r"model\.\d+\.conv_block\.1\.weight|params/block\d+/conv1/kernel", keys)


def _has_dropout(keys: Collection[str]) -> bool:
    return "model.10.conv_block.1.weight" in keys and "model.10.conv_block.5.weight" not in keys


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


KINDS = {
    "G": Kind(generator_rows, _generator_fields),
    "D": Kind(discriminator_rows, discriminator_fields),
}
