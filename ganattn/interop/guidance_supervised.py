"""Names of the authors' PyTorch attention-guided pix2pix (voidstrike/ASGIT, pix2pix_attn)."""

from collections.abc import Collection, Mapping
from functools import partial

from ganattn.interop import guidance
from ganattn.interop.image_translation import unet_fields, unet_rows
from ganattn.interop.names import TRANSPOSED_CONV, Kind, Row, conv_rows, norm_rows

NETWORKS = {"G": "generator_a2b", "SC": "upsampler_a2b", "D": "discriminator_b"}


def _upsampler(keys: Collection[str]) -> list[Row]:
    table: list[Row] = []
    for i in range(3):
        table += conv_rows(f"model.{3 * i}", f"up{i + 1}", TRANSPOSED_CONV)
        table += norm_rows(f"model.{3 * i + 1}", f"up{i + 1}_norm", True, keys)
    return table


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    fields = unet_fields(name, arrays)
    return {field: value for field, value in fields.items() if field != "norm"}


def _upsampler_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return {"upsampler_width": int(arrays["model.0.weight"].shape[1])}


KINDS = {
    "G": Kind(unet_rows, _generator_fields),
    "SC": Kind(_upsampler, _upsampler_fields),
    "D": Kind(guidance.discriminator_rows, partial(guidance.discriminator_fields, channels=6)),
}
