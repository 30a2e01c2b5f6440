"""Names of the authors' PyTorch attention-based spatial guidance (voidstrike/ASGIT)."""

from collections.abc import Collection, Mapping

from ganattn.interop import cyclegan
from ganattn.interop.cyclegan import conv_rows, norm_rows, without_prefix
from ganattn.interop.names import CONV, SAME, Row

NETWORKS = cyclegan.NETWORKS

_POSTHOC = (
    ("model_p1.0", "conv1"),
    ("model_p1.2", "conv2"),
    ("model_p1.5", "conv3"),
    ("model_p2.0", "conv4"),
    ("model_p2.3", "classifier"),
)
_TRAINABLE = (
    ("fe.0", "conv1"),
    ("trunk_brunch.0", "conv2"),
    ("trunk_brunch.3", "conv3"),
    ("fin_phase.0", "conv4"),
    ("fin_phase.3", "classifier"),
)
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


def rows(network: str, keys: Collection[str]) -> list[Row]:
    """The table of one network, as deep as `keys` (theirs, or our paths) say."""
    return cyclegan.rows(network, keys) if network.startswith("G") else critic_rows(keys)


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine.

    A generator that takes four channels shows its blend; the products leave no trace.
    """
    values: dict[str, object] = {}
    for name, arrays in networks.items():
        plain = without_prefix(arrays)
        if name.startswith("D"):
            values.update(critic_values(name, plain, channels=3))
            continue
        first = plain["model.1.weight"]
        if first.shape[1] == 4:
            values["blend"] = "alpha"
        else:
            cyclegan.check_channels(name, first.shape[1], 3)
        values["width"] = int(first.shape[0])
        values["num_residual_blocks"] = sum(key.endswith(".conv_block.1.weight") for key in plain)
    return values


def critic_rows(keys: Collection[str]) -> list[Row]:
    """The table of a critic with post-hoc or trainable attention."""
    plain = without_prefix(dict.fromkeys(keys))
    trainable = _is_trainable(plain)
    table: list[Row] = []
    for theirs, ours in _TRAINABLE if trainable else _POSTHOC:
        table += conv_rows(theirs, ours, CONV, bias=True)
        module, index = theirs.split(".")
        table += norm_rows(f"{module}.{int(index) + 1}", f"{ours}_norm", True, plain)
    if not trainable:
        return table
    for theirs, ours in _MASK:
        table += conv_rows(f"mask_brunch.{theirs}", f"mask/{ours}", CONV, bias=False)
    table += norm_rows("mask_brunch.last.0", "mask/norm1", False, plain)
    table += norm_rows("mask_brunch.last.3", "mask/norm2", False, plain)
    # Their forward pass never reaches this convolution.
    unused = "mask_brunch.u1.weight"
    return [*table, Row(unused, None, SAME)] if unused in plain else table


def critic_values(name: str, plain: Mapping, channels: int) -> dict[str, object]:
    """The fields of config.method that a critic's arrays determine."""
    trainable = _is_trainable(plain)
    first = plain["fe.0.weight" if trainable else "model_p1.0.weight"]
    cyclegan.check_channels(name, first.shape[1], channels)
    return {
        "discriminator": "trainable_attn" if trainable else "posthoc_attn",
        "discriminator_width": int(first.shape[0]),
    }


def _is_trainable(plain: Collection[str]) -> bool:
    return any(key.startswith(("fe.", "params/mask/")) for key in plain)
