"""Names of the authors' PyTorch DAGAN (Ha0Tang/DAGAN): SPADE's, and those of its attention."""

from collections.abc import Collection, Mapping

from ganattn.interop import spade
from ganattn.interop.names import Kind, Row, conv_rows

NETWORKS, combine = spade.NETWORKS, spade.combine


def _generator(keys: Collection[str]) -> list[Row]:
    return [
        *spade.generator_rows(keys),
        *conv_rows("conv_64", "previous"),
        *conv_rows("cab.conv1", "channel_attention/conv1"),
        *conv_rows("cab.conv2", "channel_attention/conv2"),
        *conv_rows("spatialAtt.conv", "spatial_attention/conv", bias=False),
    ]


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return spade.generator_fields(name, arrays) | {"attention": "last"}


KINDS = {**spade.KINDS, "G": Kind(_generator, _generator_fields)}
