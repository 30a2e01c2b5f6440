"""Names of the authors' PyTorch feedback adversarial learning (voidstrike/ASGIT, fal).

Their GE and GD both hold the decoder; it is read from GD and written to both.
"""

from collections.abc import Collection, Mapping
from functools import partial

from ganattn.interop.cyclegan import discriminator_fields, discriminator_rows
from ganattn.interop.names import (
    CONV,
    SAME,
    TRANSPOSED_CONV,
    Kind,
    Layout,
    Row,
    check_channels,
    conv_rows,
    count,
    norm_rows,
)
from ganattn.networks.feedback import ENCODER_BLOCKS

NETWORKS = {"GE": "encoder_a2b", "GD": "generator_a2b", "D": "discriminator_b"}
OPTIONS = ("dropout",)


def repeat(networks: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """The decoder of GD in GE, too, where both are given."""
    result = dict(networks)
    if {"GE", "GD"} <= result.keys():
        decoder = {
            f"decoder.{key.removeprefix('model.')}": array
            for key, array in result["GD"].items()
            if key.startswith("model.")
        }
        result["GE"] = {**result["GE"], **decoder}
    return result


def _layer(
    index: int, name: str, bias: bool, keys: Collection[str], layout: Layout = CONV
) -> list[Row]:
    """A convolution of `model`, and the normalization after it."""
    table = conv_rows(f"model.{index}", name, layout, bias)
    return table + norm_rows(f"model.{index + 1}", f"{name}_norm", bias, keys)


def _blocks(
    start: int, numbers: range, bias: bool, keys: Collection[str], dropout: bool
) -> list[Row]:
    """Residual blocks; dropout shifts the key of their second convolutions."""
    second = 6 if dropout or _has_dropout(keys) else 5
    table = []
    for i, number in enumerate(numbers):
        for j, index in ((1, 1), (2, second)):
            theirs, name = f"model.{start + i}.conv_block", f"block{number}"
            table += conv_rows(f"{theirs}.{index}", f"{name}/conv{j}", CONV, bias)
            table += norm_rows(f"{theirs}.{index + 1}", f"{name}/norm{j}", bias, keys)
    return table


def _encoder(keys: Collection[str], dropout: bool = False) -> list[Row]:
    bias = "params/stem/bias" in keys or "model.1.bias" in keys
    table = []
    for index, name in ((1, "stem"), (4, "down1"), (7, "down2")):
        table += _layer(index, name, bias, keys)
    table += _blocks(10, range(1, ENCODER_BLOCKS + 1), bias, keys, dropout)
    return table + [Row(key, None, SAME) for key in keys if key.startswith("decoder.")]


def _decoder(keys: Collection[str], dropout: bool = False) -> list[Row]:
    blocks = _count_blocks(keys)
    bias = "params/up1/bias" in keys or f"model.{blocks}.bias" in keys
    numbers = range(ENCODER_BLOCKS + 1, ENCODER_BLOCKS + blocks + 1)
    table = _blocks(0, numbers, bias, keys, dropout)
    for i in (1, 2):
        table += _layer(blocks + 3 * (i - 1), f"up{i}", bias, keys, TRANSPOSED_CONV)
    table += conv_rows(f"model.{blocks + 7}", "output")
    table += conv_rows("fe.0", "feedback1") + conv_rows("fe.3", "feedback2")
    table += norm_rows("fe.1", "feedback1_norm", bias, keys)
    layers = _count_modulations(keys)
    for i in range(layers):
        table += conv_rows(f"fd.{3 * i}", f"modulation{i + 1}")
        if i < layers - 1:
            table += norm_rows(f"fd.{3 * i + 1}", f"modulation{i + 1}_norm", bias, keys)
    return table


def _encoder_fields(name: str, arrays: Mapping) -> dict[str, object]:
    first = arrays["model.1.weight"]
    check_channels(name, first.shape[1], 3)
    return {
        "width": int(first.shape[0]),
        "norm": "instance" if "model.1.bias" in arrays else "batch",
        "dropout": _has_dropout(arrays),
    }


def _decoder_fields(name: str, arrays: Mapping) -> dict[str, object]:
    """The middle convolution of a global modulation shows the size of the images."""
    fields: dict[str, object] = {"num_residual_blocks": ENCODER_BLOCKS + _count_blocks(arrays)}
    if _count_modulations(arrays) == 2:
        return {**fields, "modulation": "spatial"}
    size = 64 * int(arrays["fd.3.weight"].shape[2])
    return {**fields, "modulation": "global", "image_size": size}


def _count_blocks(keys: Collection[str]) -> int:
    return count(r"model\.\d+\.conv_block\.1\.weight|params/block\d+/conv1/kernel", keys)


def _count_modulations(keys: Collection[str]) -> int:
    return count(r"fd\.[036]\.weight|params/modulation\d/kernel", keys)


def _has_dropout(keys: Collection[str]) -> bool:
    fifth, sixth = (count(rf"model\.\d+\.conv_block\.{i}\.weight", keys) for i in (5, 6))
    return sixth > 0 and not fifth


KINDS = {
    "GE": Kind(_encoder, _encoder_fields),
    "GD": Kind(_decoder, _decoder_fields),
    "D": Kind(discriminator_rows, partial(discriminator_fields, channels=6)),
}
