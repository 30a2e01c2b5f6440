"""Names of the authors' PyTorch UNIT (mingyuliutw/UNIT since 2018, and NVlabs/MUNIT)."""

from collections.abc import Collection, Mapping

from ganattn.errors import ForeignFileError
from ganattn.interop.autoencoders import (
    DISCRIMINATOR,
    NETWORK_NAMES,
    decoder_rows,
    depth_fields,
    depths,
    encoder_rows,
)
from ganattn.interop.names import Kind, Row, norm_rows

NETWORKS = NETWORK_NAMES
FILES = {"": "{kind}_{step:08d}.pt"}


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return depth_fields("enc", arrays)


def _generator(keys: Collection[str]) -> list[Row]:
    if any(key.startswith("enc_content.") for key in keys):
        raise ForeignFileError("the generator has keys enc_content.*: it is MUNIT's, not UNIT's")
    table = encoder_rows("enc", "encoder", keys) + decoder_rows(keys)
    _, blocks = depths(keys)
    for i in range(blocks):
        for j in range(2):
            # The averages of instance normalization that files of PyTorch 0.3 hold.
            table += norm_rows(f"dec.model.0.model.{i}.model.{j}.norm", "", True, keys)
    return table


KINDS = {"gen": Kind(_generator, _generator_fields), "dis": DISCRIMINATOR}
