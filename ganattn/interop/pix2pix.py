"""Names of the authors' PyTorch pix2pix (junyanz/pytorch-CycleGAN-and-pix2pix)."""

from collections.abc import Collection, Mapping

from ganattn.interop.cyclegan import discriminator_rows, discriminator_values
from ganattn.interop.names import (
    CONV,
    TRANSPOSED_CONV,
    Row,
    check_channels,
    conv_rows,
    count,
    norm_rows,
)

NETWORKS = {"G": "generator_a2b", "D": "discriminator_b"}


def rows(network: str, keys: Collection[str]) -> list[Row]:
    """The table of one network; keys: theirs, or our paths, which determine the depth."""
    return _generator(keys) if network == "G" else discriminator_rows(keys)


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine.

    Raises ForeignFileError for images that are not RGB.
    """
    values: dict[str, object] = {}
    for name, arrays in networks.items():
        if name == "G":
            first = arrays["model.model.0.weight"]
            check_channels(name, first.shape[1], 3)
            values["width"] = int(first.shape[0])
            values["num_downs"] = _count_levels(arrays)
            values["norm"] = "instance" if "model.model.0.bias" in arrays else "batch"
        else:
            values.update(discriminator_values(name, arrays, channels=6))
    return values


def _generator(keys: Collection[str]) -> list[Row]:
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
