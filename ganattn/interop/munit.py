"""Names of the authors' PyTorch MUNIT (NVlabs/MUNIT)."""

from collections.abc import Collection, Mapping

import numpy as np

from ganattn.interop.autoencoders import (
    DISCRIMINATOR,
    NETWORK_NAMES,
    decoder_rows,
    depth_fields,
    depths,
    encoder_rows,
)
from ganattn.interop.names import DENSE, Kind, Layout, Row, conv_rows

NETWORKS = NETWORK_NAMES
FILES = {"": "{kind}_{step:08d}.pt"}
# AdaIN's running statistics in their files: never used, always these values.
ZEROS, ONES = Layout(None, np.zeros_like), Layout(None, np.ones_like)


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    mlp_width, style_size = arrays["mlp.model.0.fc.weight"].shape
    fields = {"mlp_width": int(mlp_width), "style_size": int(style_size)}
    return {**fields, **depth_fields("enc_content", arrays)}


def _generator(keys: Collection[str]) -> list[Row]:
    table = encoder_rows("enc_content", "content_encoder", keys) + decoder_rows(keys)
    for i, name in enumerate(("stem", "down1", "down2", "down3", "down4")):
        table += conv_rows(f"enc_style.model.{i}.conv", f"style_encoder/{name}")
    table += conv_rows("enc_style.model.6", "style_encoder/output")
    _, blocks = depths(keys)
    for i in range(blocks):
        for j in range(2):
            theirs = f"dec.model.0.model.{i}.model.{j}.norm"
            bias = f"params/decoder/block{i + 1}/conv{j + 1}/bias"
            table += [
                Row(f"{theirs}.running_mean", bias, ZEROS),
                Row(f"{theirs}.running_var", bias, ONES),
            ]
    for i, name in enumerate(("dense1", "dense2", "output")):
        table += conv_rows(f"mlp.model.{i}.fc", f"mlp/{name}", DENSE)
    return table


KINDS = {"gen": Kind(_generator, _generator_fields), "dis": DISCRIMINATOR}
