"""Names of the authors' PyTorch attention-guided pix2pix (voidstrike/ASGIT, pix2pix_attn)."""

from collections.abc import Collection, Mapping

from ganattn.interop import pix2pix
from ganattn.interop.guidance import discriminator_rows, discriminator_values
from ganattn.interop.names import TRANSPOSED_CONV, Row, conv_rows, norm_rows

NETWORKS = {"G": "generator_a2b", "SC": "upsampler_a2b", "D": "discriminator_b"}


def rows(network: str, keys: Collection[str]) -> list[Row]:
    """The table of one network; keys: theirs, or our paths, which determine the depth."""
    if network == "SC":
        table: list[Row] = []
        for i in range(3):
            table += conv_rows(f"model.{3 * i}", f"up{i + 1}", TRANSPOSED_CONV, bias=True)
            table += norm_rows(f"model.{3 * i + 1}", f"up{i + 1}_norm", True, keys)
        return table
    return pix2pix.rows(network, keys) if network == "G" else discriminator_rows(keys)


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine."""
    values: dict[str, object] = {}
    for name, arrays in networks.items():
        if name == "G":
            values.update(pix2pix.config_values({name: arrays}))
            values.pop("norm")
        elif name == "SC":
            values["upsampler_width"] = int(arrays["model.0.weight"].shape[1])
        else:
            values.update(discriminator_values(name, arrays, channels=6))
    return values
