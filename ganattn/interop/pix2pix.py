"""Names of the authors' PyTorch pix2pix (junyanz/pytorch-CycleGAN-and-pix2pix)."""

from collections.abc import Collection, Mapping
from functools import partial

from ganattn.interop.cyclegan import discriminator_fields, discriminator_rows
from ganattn.interop.names import (
    CONV,
    TRANSPOSED_CONV,
    Kind,
    Row,
    check_channels,
    conv_rows,
    count,
    norm_rows,
)

NETWORKS = {"G": "generator_a2b", "D": "discriminator_b"}


def generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    """The fields of config.method that a generator's arrays determine."""
    first = arrays["model.model.0.weight"]
    check_channels(name, first.shape[1], 3)
    return {
        "width": int(first.shape[0]),
        "num_downs": _count_levels(arrays),
        "norm": "instance" if "model.model.0.bias" in arrays else "batch",
    }


def generator_rows(keys: Collection[str]) -> list[Row]:
    """The table of a U-Net."""
    bias = "params/down1/bias" in keys or "model.model.0.bias" in keys
    innermost = _count_levels(keys)

    def level_rows(level: int, theirs: str) -> list[Row]:
        """Each level's module holds the next deeper one, so the table nests as their keys do."""
        deepest = level == innermost
        up, up_norm = (3, 4) if deepest else (5, 6)
        table = conv_rows(f"{theirs}.1", f"down{level}", CONV, bias)
        if not deepest:
            table += norm_rows(f"{theirs}.2", f"down{level}_norm", bias, keys)
            table += level_rows(level + 1, f"{theirs}.3.model")
        table += conv_rows(f"{theirs}.{up}", f"up{level}", TRANSPOSED_CONV, bias)
        return table + norm_rows(f"{theirs}.{up_norm}", f"up{level}_norm", bias, keys)

    return [
        *conv_rows("model.model.0", "down1", CONV, bias),
        *level_rows(2, "model.model.1.model"),
        *conv_rows("model.model.3", "up1", TRANSPOSED_CONV, True),
    ]


def _count_levels(keys: Collection[str]) -> int:
    ours = count(r"params/down\d+/kernel", keys)
    return ours or max((key.split(".").count("model") for key in keys), default=3) - 1


KINDS = {
    "G": Kind(generator_rows, generator_fields),
    "D": Kind(discriminator_rows, partial(discriminator_fields, channels=6)),
}
