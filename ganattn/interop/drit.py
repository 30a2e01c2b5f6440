"""Names of the authors' PyTorch DRIT (HsinYingLee/DRIT) since its change of 2018-08-05.

A file holds all networks by name, each with both domains, and their Adam states. Earlier files have
another layer normalization and are refused.
"""

from collections.abc import Collection, Mapping

import numpy as np

from ganattn.interop.names import (
    CONV,
    DENSE,
    TRANSPOSED_CONV,
    Kind,
    Layout,
    Row,
    check_channels,
    conv_rows,
    count,
)

NETWORKS = {
    "enc_c": "content_encoder",
    "enc_a": "attribute_encoder",
    "gen": "generator",
    "disA": "discriminator_a",
    "disA2": "random_discriminator_a",
    "disB": "discriminator_b",
    "disB2": "random_discriminator_b",
    "disContent": "content_discriminator",
}
FILES = {"": "{step:05d}.pth"}
PER_CHANNEL = Layout(np.ravel, lambda x: x.reshape(-1, 1, 1))
# A transposed 1x1 convolution, (in, out, 1, 1), is a plain one.
TRANSPOSED_POINTWISE = Layout(lambda x: x.transpose(2, 3, 0, 1), lambda x: x.transpose(2, 3, 0, 1))
_CONVS = (("1", "conv1"), ("5", "conv2"))  # of a residual block


def _content_fields(name: str, arrays: Mapping) -> dict[str, object]:
    check_channels(name, arrays["convA.0.model.1.weight"].shape[1], 3)
    return {
        "width": int(arrays["convA.0.model.1.bias"].shape[0]),
        "num_residual_blocks": _content_blocks(arrays),
    }


def _attribute_fields(name: str, arrays: Mapping) -> dict[str, object]:
    concat = _is_concat(arrays)
    stem, output = ("conv_A.1", "fc_A.0") if concat else ("model_a.1", "model_a.16")
    check_channels(name, arrays[f"{stem}.weight"].shape[1], 3)
    return {
        "concat": concat,
        "width": int(arrays[f"{stem}.bias"].shape[0]),
        "attribute_size": int(arrays[f"{output}.bias"].shape[0]),
    }


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    concat, blocks = _is_concat(arrays), _decoder_blocks(arrays)
    if concat:
        features = arrays["dec_share.0.model.1.bias"].shape[0]
        size = (arrays["decA2.0.model.0.weight"].shape[0] - features) // 2  # concatenated twice
    else:
        features, size = arrays["mlpA.0.weight"].shape
    output = "decA4.0" if concat else f"decA{blocks + 1}.2"
    check_channels(name, arrays[f"{output}.weight"].shape[1], 3)
    return {
        "concat": concat,
        "width": int(features) // 4,
        "attribute_size": int(size),
        "num_residual_blocks": blocks if concat else blocks - 1,
    }


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    scales, layers = _scales(arrays)
    first = "Diss.0.0" if scales > 1 else "model.0"
    check_channels(name, arrays[f"{first}.model.1.weight"].shape[1], 3)
    width = int(arrays[f"{first}.model.1.bias"].shape[0])
    return {"discriminator_width": width, "num_scales": scales, "discriminator_layers": layers}


def _content_discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    layers = _content_layers(arrays)
    fields: dict[str, object] = {"content_discriminator_layers": layers}
    if layers:
        size = int(arrays["model.0.model.1.weight"].shape[-1])
        fields["content_discriminator_kernel"] = size
    return fields


def _content_encoder(keys: Collection[str]) -> list[Row]:
    table = []
    for domain in "ab":
        theirs, ours = f"conv{domain.upper()}", f"encoder_{domain}"
        for i, name in enumerate(("stem", "down1", "down2")):
            table += conv_rows(f"{theirs}.{i}.model.1", f"{ours}/{name}")
        for i in range(_content_blocks(keys)):
            table += _block_rows(f"{theirs}.{i + 3}", f"{ours}/block{i + 1}")
    return table + _block_rows("conv_share.0", "shared")


def _attribute_encoder(keys: Collection[str]) -> list[Row]:
    table = []
    for domain in "ab":
        upper, ours = domain.upper(), f"encoder_{domain}"
        if not _is_concat(keys):
            for i, name in enumerate(("stem", "down1", "down2", "down3", "down4", "output")):
                table += conv_rows(f"model_{domain}.{3 * i + 1}", f"{ours}/{name}")
            continue
        table += conv_rows(f"conv_{upper}.1", f"{ours}/stem")
        for i in range(1, 4):
            theirs = f"conv_{upper}.{i + 1}"
            table += conv_rows(f"{theirs}.conv.2", f"{ours}/block{i}/conv1")
            table += conv_rows(f"{theirs}.conv.4.1", f"{ours}/block{i}/conv2")
            table += conv_rows(f"{theirs}.shortcut.1", f"{ours}/block{i}/shortcut")
        table += conv_rows(f"fc_{upper}.0", f"{ours}/mean", DENSE)
        table += conv_rows(f"fcVar_{upper}.0", f"{ours}/variance", DENSE)
    return table


def _generator(keys: Collection[str]) -> list[Row]:
    concat, blocks = _is_concat(keys), _decoder_blocks(keys)
    table = _block_rows("dec_share.0", "shared") if concat else []
    for domain in "ab":
        theirs, ours = f"dec{domain.upper()}", f"decoder_{domain}"
        if concat:
            ups, output = (f"{theirs}2.0", f"{theirs}3.0"), f"{theirs}4.0"
            for i in range(blocks):
                table += _block_rows(f"{theirs}1.{i}", f"{ours}/block{i + 1}")
        else:
            last = f"{theirs}{blocks + 1}"
            ups, output = (f"{last}.0", f"{last}.1"), f"{last}.2"
            for i in range(1, blocks + 1):
                table += _transform_rows(f"{theirs}{i}", f"{ours}/block{i}")
            for i in range(3):
                mlp = f"mlp{domain.upper()}.{2 * i}"
                table += conv_rows(mlp, f"{ours}/dense{i + 1}", DENSE)
        for i, up in enumerate(ups, 1):
            table += conv_rows(f"{up}.model.0", f"{ours}/up{i}", TRANSPOSED_CONV)
            table += [
                Row(f"{up}.model.1.weight", f"params/{ours}/up{i}_norm/gamma", PER_CHANNEL),
                Row(f"{up}.model.1.bias", f"params/{ours}/up{i}_norm/beta", PER_CHANNEL),
            ]
        table += conv_rows(output, f"{ours}/output", TRANSPOSED_POINTWISE)
    return table


def _discriminator(keys: Collection[str]) -> list[Row]:
    scales, layers = _scales(keys)
    table = []
    for scale in range(scales):
        theirs = f"Diss.{scale}" if scales > 1 else "model"
        for i in range(layers):
            table += conv_rows(f"{theirs}.{i}.model.1", f"scale{scale}_conv{i + 1}")
        table += conv_rows(f"{theirs}.{layers}", f"scale{scale}_classifier")
    return table


def _content_discriminator(keys: Collection[str]) -> list[Row]:
    layers, table = _content_layers(keys) + 1, []
    for i in range(layers):
        table += conv_rows(f"model.{i}.model.1", f"conv{i + 1}")
    return table + conv_rows(f"model.{layers}", "classifier")


def _block_rows(theirs: str, ours: str) -> list[Row]:
    rows = [conv_rows(f"{theirs}.model.{i}", f"{ours}/{name}") for i, name in _CONVS]
    return [row for part in rows for row in part]


def _transform_rows(theirs: str, ours: str) -> list[Row]:
    table = []
    for i in (1, 2):
        table += conv_rows(f"{theirs}.conv{i}.0.1", f"{ours}/conv{i}", CONV)
        table += conv_rows(f"{theirs}.blk{i}.0", f"{ours}/transform{i}_hidden", CONV)
        table += conv_rows(f"{theirs}.blk{i}.2", f"{ours}/transform{i}", CONV)
    return table


def _is_concat(keys: Collection[str]) -> bool:
    """Whether the attribute encoder or generator is of the authors' --concat 1."""
    signs = ("fc_A.0.bias", "dec_share.0.model.1.bias")
    ours = ("params/encoder_a/mean/bias", "params/shared/conv1/bias")
    return any(key in keys for key in (*signs, *ours))


def _content_blocks(keys: Collection[str]) -> int:
    return count(r"convA\.\d+\.model\.5\.bias|params/encoder_a/block\d+/conv2/bias", keys)


def _decoder_blocks(keys: Collection[str]) -> int:
    theirs = r"decA1\.\d+\.model\.5\.bias|decA\d+\.conv2\.0\.1\.bias"
    return count(rf"{theirs}|params/decoder_a/block\d+/conv2/bias", keys)


def _scales(keys: Collection[str]) -> tuple[int, int]:
    """Numbers of scales, and of convolutions of each without the classifier."""
    scales = count(r"Diss\.\d+\.0\.model\.1\.bias|params/scale\d+_conv1/bias", keys)
    layers = r"(Diss\.0|model)\.\d+\.model\.1\.bias|params/scale0_conv\d+/bias"
    return max(scales, 1), count(layers, keys)


def _content_layers(keys: Collection[str]) -> int:
    """The number of strided convolutions."""
    return count(r"model\.\d+\.model\.1\.bias|params/conv\d+/bias", keys) - 1


KINDS = {
    "enc_c": Kind(_content_encoder, _content_fields),
    "enc_a": Kind(_attribute_encoder, _attribute_fields),
    "gen": Kind(_generator, _generator_fields),
    "disContent": Kind(_content_discriminator, _content_discriminator_fields),
    "dis": Kind(_discriminator, _discriminator_fields),
}
