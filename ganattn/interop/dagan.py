"""Names of the authors' PyTorch DAGAN (Ha0Tang/DAGAN): SPADE's, and those of its attention."""

from collections.abc import Collection, Mapping

from ganattn.interop import spade
from ganattn.interop.cyclegan import without_prefix
from ganattn.interop.names import CONV, SAME, Row

NETWORKS = spade.NETWORKS


def rows(network: str, keys: Collection[str]) -> list[Row]:
    """The table of one network, as deep as `keys` (theirs, or our paths) say."""
    table = spade.rows(network, keys)
    return table + _attention() if network == "G" else table


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine; see `spade.config_values`."""
    values = spade.config_values(networks)
    if "G" in networks and "up_4.conv_0.bias" not in without_prefix(networks["G"]):
        values["attention"] = "last"
    return values


def _attention() -> list[Row]:
    names = {
        "conv_64": "previous",
        "cab.conv1": "channel_attention/conv1",
        "cab.conv2": "channel_attention/conv2",
    }
    table = []
    for theirs, ours in names.items():
        table.append(Row(f"{theirs}.weight", f"params/{ours}/kernel", CONV))
        table.append(Row(f"{theirs}.bias", f"params/{ours}/bias", SAME))
    return [*table, Row("spatialAtt.conv.weight", "params/spatial_attention/conv/kernel", CONV)]
