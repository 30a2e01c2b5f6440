"""Names of the authors' PyTorch DAGAN (Ha0Tang/DAGAN): SPADE's, and those of its attention."""

from collections.abc import Collection, Mapping

from ganattn.interop import spade
from ganattn.interop.names import Row, conv_rows

NETWORKS = spade.NETWORKS


def rows(network: str, keys: Collection[str]) -> list[Row]:
    """The table of one network; keys: theirs, or our paths, which determine the depth."""
    table = spade.rows(network, keys)
    return table + _attention() if network == "G" else table


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine; see `spade.config_values`."""
    attention = {"attention": "last"} if "G" in networks else {}
    return spade.config_values(networks) | attention


def _attention() -> list[Row]:
    return [
        *conv_rows("conv_64", "previous"),
        *conv_rows("cab.conv1", "channel_attention/conv1"),
        *conv_rows("cab.conv2", "channel_attention/conv2"),
        *conv_rows("spatialAtt.conv", "spatial_attention/conv", bias=False),
    ]
