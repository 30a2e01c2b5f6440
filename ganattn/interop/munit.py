"""Names of the authors' PyTorch MUNIT (NVlabs/MUNIT).

Their files gen_*.pt and dis_*.pt hold "a" and "b"; here these are gen_a, gen_b, dis_a, dis_b.
"""

from collections.abc import Collection, Mapping

import numpy as np

from ganattn.interop.names import DENSE, SAME, Kind, Layout, Row, conv_rows, count, norm_rows

NETWORKS = {
    "gen_a": "generator_a",
    "gen_b": "generator_b",
    "dis_a": "discriminator_a",
    "dis_b": "discriminator_b",
}
FILES = {"": "{kind}_{step:08d}.pt"}
# AdaIN's running statistics in their files: never used, always these values.
ZEROS, ONES = Layout(None, np.zeros_like), Layout(None, np.ones_like)


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    mlp_width, style_size = arrays["mlp.model.0.fc.weight"].shape
    downsamplings, blocks = _depths(arrays)
    return {
        "mlp_width": int(mlp_width),
        "style_size": int(style_size),
        "width": int(arrays["enc_content.model.0.conv.bias"].shape[0]),
        "num_downsamplings": downsamplings,
        "num_residual_blocks": blocks,
    }


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    scales, layers = _scales(arrays)
    width = int(arrays["cnns.0.0.conv.bias"].shape[0])
    return {"discriminator_width": width, "num_scales": scales, "discriminator_layers": layers}


def _generator(keys: Collection[str]) -> list[Row]:
    downsamplings, blocks = _depths(keys)
    table = []
    for i, name in enumerate(("stem", "down1", "down2", "down3", "down4")):
        table += conv_rows(f"enc_style.model.{i}.conv", f"style_encoder/{name}")
    table += conv_rows("enc_style.model.6", "style_encoder/output")
    for i in range(downsamplings + 1):
        theirs, name = f"enc_content.model.{i}", f"down{i}" if i else "stem"
        # The averages of instance normalization that files of PyTorch 0.3 hold.
        table += norm_rows(f"{theirs}.norm", "", True, keys)
        table += conv_rows(f"{theirs}.conv", f"content_encoder/{name}")
    for i in range(blocks):
        for j in range(2):
            theirs = f"enc_content.model.{downsamplings + 1}.model.{i}.model.{j}"
            table += norm_rows(f"{theirs}.norm", "", True, keys)
            table += conv_rows(f"{theirs}.conv", f"content_encoder/block{i + 1}/conv{j + 1}")
            theirs, ours = f"dec.model.0.model.{i}.model.{j}", f"decoder/block{i + 1}/conv{j + 1}"
            table += [
                Row(f"{theirs}.norm.running_mean", f"params/{ours}/bias", ZEROS),
                Row(f"{theirs}.norm.running_var", f"params/{ours}/bias", ONES),
                *conv_rows(f"{theirs}.conv", ours),
            ]
    for i in range(1, downsamplings + 1):
        theirs, ours = f"dec.model.{2 * i}", f"decoder/up{i}"
        table += [
            Row(f"{theirs}.norm.gamma", f"params/{ours}_norm/gamma", SAME),
            Row(f"{theirs}.norm.beta", f"params/{ours}_norm/beta", SAME),
            *conv_rows(f"{theirs}.conv", ours),
        ]
    table += conv_rows(f"dec.model.{2 * downsamplings + 1}.conv", "decoder/output")
    for i, name in enumerate(("dense1", "dense2", "output")):
        table += conv_rows(f"mlp.model.{i}.fc", f"mlp/{name}", DENSE)
    return table


def _discriminator(keys: Collection[str]) -> list[Row]:
    scales, layers = _scales(keys)
    table = []
    for scale in range(scales):
        for i in range(layers):
            table += conv_rows(f"cnns.{scale}.{i}.conv", f"scale{scale}/conv{i + 1}")
        table += conv_rows(f"cnns.{scale}.{layers}", f"scale{scale}/classifier")
    return table


def _depths(keys: Collection[str]) -> tuple[int, int]:
    """Numbers of down-samplings and of residual blocks."""
    return (
        count(r"dec\.model\.\d+\.norm\.beta|params/decoder/up\d+_norm/beta", keys),
        count(r"dec\..+\.model\.0\.conv\.bias|params/decoder/block\d+/conv1/bias", keys),
    )


def _scales(keys: Collection[str]) -> tuple[int, int]:
    """Numbers of scales, and of convolutions of each without the classifier."""
    return (
        count(r"cnns\.\d+\.0\.conv\.bias|params/scale\d+/conv1/bias", keys),
        count(r"cnns\.0\.\d+\.conv\.bias|params/scale0/conv\d+/bias", keys),
    )


KINDS = {
    "gen": Kind(_generator, _generator_fields),
    "dis": Kind(_discriminator, _discriminator_fields),
}
