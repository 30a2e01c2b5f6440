"""Names of the authors' PyTorch CycleGAN (junyanz/pytorch-CycleGAN-and-pix2pix)."""

import re
from collections.abc import Collection, Mapping

import numpy as np

from ganattn.errors import ForeignFileError
from ganattn.interop.names import CONV, COUNT, SAME, TRANSPOSED_CONV, Layout, Row

# Their D_A judges what G_A makes, which are pictures of domain B.
NETWORKS = {
    "G_A": "generator_a2b",
    "G_B": "generator_b2a",
    "D_A": "discriminator_b",
    "D_B": "discriminator_a",
}


def rows(network: str, keys: Collection[str], dropout: bool = False) -> list[Row]:
    """The table of one network, as deep as `keys` (theirs, or our paths) say.

    dropout: only for our paths, whether their generator has dropout, which moves the key of each
    block's second convolution; their own keys show it.
    """
    return _generator(keys, dropout) if network.startswith("G") else discriminator_rows(keys)


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine.

    Raises ForeignFileError for pictures that are not RGB.
    """
    values: dict[str, object] = {}
    for name, arrays in networks.items():
        plain = without_prefix(arrays)
        if name.startswith("G"):
            first = plain["model.1.weight"]
            check_channels(name, first.shape[1], 3)
            values["width"] = int(first.shape[0])
            values["num_residual_blocks"] = _count_blocks(plain)
            values["norm"] = "instance" if "model.1.bias" in plain else "batch"
            values["dropout"] = _has_dropout(plain)
        else:
            values.update(discriminator_values(name, plain, channels=3))
    return values


def _generator(keys: Collection[str], dropout: bool) -> list[Row]:
    plain = without_prefix(dict.fromkeys(keys))
    blocks = _count_blocks(plain)
    bias = "params/stem/bias" in plain or "model.1.bias" in plain
    second = 6 if dropout or _has_dropout(plain) else 5
    table: list[Row] = []

    def add(index: str, norm: str, name: str, layout: Layout = CONV) -> None:
        table.extend(conv_rows(index, name, layout, bias))
        table.extend(norm_rows(norm, f"{name}_norm", bias, plain))

    add("model.1", "model.2", "stem")
    add("model.4", "model.5", "down1")
    add("model.7", "model.8", "down2")
    for i in range(blocks):
        for j, index in ((1, 1), (2, second)):
            theirs, name = f"model.{10 + i}.conv_block", f"block{i + 1}"
            table.extend(conv_rows(f"{theirs}.{index}", f"{name}/conv{j}", CONV, bias))
            table.extend(norm_rows(f"{theirs}.{index + 1}", f"{name}/norm{j}", bias, plain))
    add(f"model.{10 + blocks}", f"model.{11 + blocks}", "up1", TRANSPOSED_CONV)
    add(f"model.{13 + blocks}", f"model.{14 + blocks}", "up2", TRANSPOSED_CONV)
    table.extend(conv_rows(f"model.{17 + blocks}", "output", CONV, True))
    return table


def discriminator_rows(keys: Collection[str]) -> list[Row]:
    """The table of a PatchGAN or pixel discriminator."""
    plain = without_prefix(dict.fromkeys(keys))
    pixel, layers = _discriminator_kind(plain)
    theirs, ours = ("net", "pixel") if pixel else ("model", "conv")
    bias = f"{theirs}.2.bias" in plain or f"params/{ours}2/bias" in plain
    table = conv_rows(f"{theirs}.0", f"{ours}1", CONV, True)
    for i in range(layers):
        name, index = f"{ours}{i + 2}", 2 + 3 * i
        table += conv_rows(f"{theirs}.{index}", name, CONV, bias)
        table += norm_rows(f"{theirs}.{index + 1}", f"{name}_norm", bias, plain)
    last = f"{theirs}.{2 + 3 * layers}"
    return table + conv_rows(last, "classifier", CONV, bias or not pixel)


def discriminator_values(name: str, plain: Mapping, channels: int) -> dict[str, object]:
    """The fields of config.method that a discriminator's arrays determine."""
    pixel, layers = _discriminator_kind(plain)
    module = "net" if pixel else "model"
    first = plain[f"{module}.0.weight"]
    check_channels(name, first.shape[1], channels)
    depth = {} if pixel else {"discriminator_layers": layers}
    return depth | {
        "discriminator": "pixel" if pixel else "patch",
        "discriminator_width": int(first.shape[0]),
        "norm": "instance" if f"{module}.2.bias" in plain else "batch",
    }


def conv_rows(theirs: str, ours: str, layout: Layout, bias: bool) -> list[Row]:
    """A convolution: kernel, and bias if it has one."""
    kernel = Row(f"{theirs}.weight", f"params/{ours}/kernel", layout)
    return [kernel, Row(f"{theirs}.bias", f"params/{ours}/bias", SAME)] if bias else [kernel]


def norm_rows(theirs: str, ours: str, instance: bool, keys: Collection[str]) -> list[Row]:
    """Batch normalisation; of instance normalisation, old files' averages, which are dropped."""
    averages = ("running_mean", "running_var", "num_batches_tracked")
    if instance:
        found = [f"{theirs}.{name}" for name in averages if f"{theirs}.{name}" in keys]
        return [Row(key, None, SAME) for key in found]
    mean, variance, batches = (f"{theirs}.{name}" for name in averages)
    return [
        Row(f"{theirs}.weight", f"params/{ours}/gamma", SAME),
        Row(f"{theirs}.bias", f"params/{ours}/beta", SAME),
        Row(mean, f"batch_stats/{ours}/mean", SAME),
        Row(variance, f"batch_stats/{ours}/variance", SAME),
        Row(batches, f"batch_stats/{ours}/batches", COUNT, np.zeros((), np.int64)),
    ]


def without_prefix(arrays: Mapping) -> dict:
    """The same without the "module." that DataParallel puts before every key."""
    return {key.removeprefix("module."): value for key, value in arrays.items()}


def check_channels(name: str, found: int, expected: int) -> None:
    """Raises ForeignFileError for a network over pictures of another kind."""
    if found != expected:
        raise ForeignFileError(
            f"network {name!r} takes {found} channels instead of {expected}: "
            "give one that was trained on RGB pictures"
        )


def _count_blocks(plain: Collection[str]) -> int:
    pattern = r"model\.\d+\.conv_block\.1\.weight|params/block\d+/conv1/kernel"
    return sum(re.fullmatch(pattern, key) is not None for key in plain)


def _has_dropout(plain: Collection[str]) -> bool:
    return "model.10.conv_block.1.weight" in plain and "model.10.conv_block.5.weight" not in plain


def _discriminator_kind(plain: Collection[str]) -> tuple[bool, int]:
    """Whether it judges single pixels, and how many normalised layers it has."""
    if any(key.startswith(("net.", "params/pixel")) for key in plain):
        return True, 1
    ours = sum(re.fullmatch(r"params/conv\d+/kernel", key) is not None for key in plain)
    if ours:
        return False, ours - 1
    indices = [re.fullmatch(r"model\.(\d+)\.weight", key) for key in plain]
    last = max((int(match[1]) for match in indices if match), default=2)
    return False, (last - 2) // 3
