"""Names of the authors' PyTorch attention-based spatial guidance (voidstrike/ASGIT)."""

from collections.abc import Collection, Mapping

from ganattn.interop import cyclegan
from ganattn.interop.image_translation import resnet_rows
from ganattn.interop.names import CONV, SAME, Kind, Row, check_channels, conv_rows, norm_rows

NETWORKS = cyclegan.NETWORKS

_LAYERS = ("conv1", "conv2", "conv3", "conv4", "classifier")
_POSTHOC = ("model_p1.0", "model_p1.2", "model_p1.5", "model_p2.0", "model_p2.3")
_TRAINABLE = ("fe.0", "trunk_brunch.0", "trunk_brunch.3", "fin_phase.0", "fin_phase.3")
_MASK = (
    ("d1", "down1"),
    ("d2", "down2"),
    ("skip2", "skip"),
    ("mid.0", "middle1"),
    ("mid.2", "middle2"),
    ("u2", "expand"),
    ("last.2", "project1"),
    ("last.4", "project2"),
)


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    """A generator of four channels has the blend "alpha"; the weights do not show the products."""
    first = arrays["model.1.weight"]
    fields: dict[str, object] = {} if first.shape[1] != 4 else {"blend": "alpha"}
    check_channels(name, first.shape[1], 4 if fields else 3)
    return fields | {
        "width": int(first.shape[0]),
        "num_residual_blocks": sum(key.endswith(".conv_block.1.weight") for key in arrays),
    }


def discriminator_rows(keys: Collection[str]) -> list[Row]:
    """The table of a discriminator with post-hoc or trainable attention."""
    trainable = _is_trainable(keys)
    table: list[Row] = []
    for theirs, ours in zip(_TRAINABLE if trainable else _POSTHOC, _LAYERS, strict=True):
        table += conv_rows(theirs, ours, CONV, bias=True)
        module, index = theirs.split(".")
        table += norm_rows(f"{module}.{int(index) + 1}", f"{ours}_norm", True, keys)
    if not trainable:
        return table
    for theirs, ours in _MASK:
        table += conv_rows(f"mask_brunch.{theirs}", f"mask/{ours}", CONV, bias=False)
    table += norm_rows("mask_brunch.last.0", "mask/norm1", False, keys)
    table += norm_rows("mask_brunch.last.3", "mask/norm2", False, keys)
    # Their forward pass never reaches this convolution.
    unused = "mask_brunch.u1.weight"
    return [*table, Row(unused, None, SAME)] if unused in keys else table


def discriminator_fields(name: str, arrays: Mapping, channels: int = 3) -> dict[str, object]:
    """The fields of config.method that a discriminator's arrays determine."""
    trainable = _is_trainable(arrays)
    first = arrays["fe.0.weight" if trainable else "model_p1.0.weight"]
    check_channels(name, first.shape[1], channels)
    return {
        "discriminator": "trainable_attn" if trainable else "posthoc_attn",
        "discriminator_width": int(first.shape[0]),
    }


def _is_trainable(keys: Collection[str]) -> bool:
    return any(key.startswith(("fe.", "params/mask/")) for key in keys)


KINDS = {
    "G": Kind(resnet_rows, _generator_fields),
    "D": Kind(discriminator_rows, discriminator_fields),
}
