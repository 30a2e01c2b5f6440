"""Names that UNIT and MUNIT have in common in the authors' PyTorch code (NVlabs/MUNIT).

Their files gen_*.pt and dis_*.pt hold "a" and "b"; here these are gen_a, gen_b, dis_a, dis_b.
"""

from collections.abc import Collection, Mapping

from ganattn.interop.names import SAME, Kind, Row, conv_rows, count, norm_rows

NETWORK_NAMES = {
    "gen_a": "generator_a",
    "gen_b": "generator_b",
    "dis_a": "discriminator_a",
    "dis_b": "discriminator_b",
}


def depths(keys: Collection[str]) -> tuple[int, int]:
    """Numbers of down-samplings and of residual blocks."""
    return (
        count(r"dec\.model\.\d+\.norm\.beta|params/decoder/up\d+_norm/beta", keys),
        count(r"dec\..+\.model\.0\.conv\.bias|params/decoder/block\d+/conv1/bias", keys),
    )


def depth_fields(encoder: str, arrays: Mapping) -> dict[str, object]:
    """The fields of config.method that the sizes of encoder and decoder determine."""
    downsamplings, blocks = depths(arrays)
    return {
        "width": int(arrays[f"{encoder}.model.0.conv.bias"].shape[0]),
        "num_downsamplings": downsamplings,
        "num_residual_blocks": blocks,
    }


def encoder_rows(theirs: str, ours: str, keys: Collection[str]) -> list[Row]:
    """The content encoder; averages of instance normalization, of PyTorch 0.3, are dropped."""
    downsamplings, blocks = depths(keys)
    table = []
    for i in range(downsamplings + 1):
        layer, name = f"{theirs}.model.{i}", f"down{i}" if i else "stem"
        table += norm_rows(f"{layer}.norm", "", True, keys)
        table += conv_rows(f"{layer}.conv", f"{ours}/{name}")
    for i in range(blocks):
        for j in range(2):
            layer = f"{theirs}.model.{downsamplings + 1}.model.{i}.model.{j}"
            table += norm_rows(f"{layer}.norm", "", True, keys)
            table += conv_rows(f"{layer}.conv", f"{ours}/block{i + 1}/conv{j + 1}")
    return table


def decoder_rows(keys: Collection[str]) -> list[Row]:
    """The decoder, without the normalizations of its residual blocks."""
    downsamplings, blocks = depths(keys)
    table = []
    for i in range(blocks):
        for j in range(2):
            theirs = f"dec.model.0.model.{i}.model.{j}.conv"
            table += conv_rows(theirs, f"decoder/block{i + 1}/conv{j + 1}")
    for i in range(1, downsamplings + 1):
        theirs, ours = f"dec.model.{2 * i}", f"decoder/up{i}"
        table += [
            Row(f"{theirs}.norm.gamma", f"params/{ours}_norm/gamma", SAME),
            Row(f"{theirs}.norm.beta", f"params/{ours}_norm/beta", SAME),
            *conv_rows(f"{theirs}.conv", ours),
        ]
    return table + conv_rows(f"dec.model.{2 * downsamplings + 1}.conv", "decoder/output")


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    scales, layers = _scales(arrays)
    width = int(arrays["cnns.0.0.conv.bias"].shape[0])
    return {"discriminator_width": width, "num_scales": scales, "discriminator_layers": layers}


def _discriminator(keys: Collection[str]) -> list[Row]:
    scales, layers = _scales(keys)
    table = []
    for scale in range(scales):
        for i in range(layers):
            table += conv_rows(f"cnns.{scale}.{i}.conv", f"scale{scale}/conv{i + 1}")
        table += conv_rows(f"cnns.{scale}.{layers}", f"scale{scale}/classifier")
    return table


def _scales(keys: Collection[str]) -> tuple[int, int]:
    """Numbers of scales, and of convolutions of each without the classifier."""
    return (
        count(r"cnns\.\d+\.0\.conv\.bias|params/scale\d+/conv1/bias", keys),
        count(r"cnns\.0\.\d+\.conv\.bias|params/scale0/conv\d+/bias", keys),
    )


DISCRIMINATOR = Kind(_discriminator, _discriminator_fields)
