"""Names of the authors' PyTorch SPADE (NVlabs/SPADE): latest_net_G.pth, _D and, of GauGAN, _E."""

import re
from collections.abc import Collection, Mapping

import numpy as np

from ganattn.interop.cyclegan import without_prefix
from ganattn.interop.names import CONV, COUNT, DENSE, SAME, Row, kernel_vector

NETWORKS = {"G": "generator", "D": "discriminator", "E": "encoder"}
BLOCKS = {"head_0": "head_0", "G_middle_0": "middle_0", "G_middle_1": "middle_1"} | {
    f"up_{i}": f"up_{i}" for i in range(5)
}


def rows(network: str, keys: Collection[str]) -> list[Row]:
    """The table of one network, as deep as `keys` (theirs, or our paths) say."""
    plain = list(without_prefix(dict.fromkeys(keys)))
    return {"G": generator_rows, "D": _discriminator, "E": _encoder}[network](plain)


def config_values(networks: Mapping[str, Mapping]) -> dict[str, object]:
    """The fields of config.method that the arrays determine.

    Whether a channel of the input is an instance boundary cannot be seen: it is taken for one if
    the number of channels is that of Cityscapes or COCO-Stuff.
    """
    values: dict[str, object] = {}
    for name, arrays in networks.items():
        plain = without_prefix(arrays)
        if name == "G":
            values["width"] = int(plain["conv_img.weight"].shape[1]) << (
                "up_4.conv_0.bias" in plain
            )
            channels = plain["head_0.norm_0.mlp_shared.0.weight"].shape[1]
            boundaries = channels in (36, 184)
            dontcare = channels in (151, 184)
            values["num_classes"] = int(channels) - boundaries - dontcare
            values.update(use_instances=boundaries, use_dontcare=dontcare)
            values["use_vae"] = plain["fc.weight"].ndim == 2
            if "up_4.conv_0.bias" in plain:
                values["up_sampling"] = "most"
        elif name == "D":
            values["discriminator_width"] = int(plain["discriminator_0.model0.0.bias"].shape[0])
        else:
            values["latent_size"] = int(plain["fc_mu.bias"].shape[0])
    return values


def generator_rows(keys: Collection[str]) -> list[Row]:
    """The plain generator; `keys` say which blocks are there and which have a shortcut."""
    dense = "params/start/bias" in keys and not any("middle_0" in key for key in keys)
    table = _layer("fc", "start", DENSE if dense else CONV)
    for theirs, ours in BLOCKS.items():
        if f"{theirs}.conv_0.bias" in keys or f"params/{ours}/conv_0/bias" in keys:
            table += _block(theirs, ours, keys)
    return table + _layer("conv_img", "output", CONV)


def _block(theirs: str, ours: str, keys: Collection[str]) -> list[Row]:
    shortcut = f"{theirs}.conv_s.weight_orig" in keys or f"params/{ours}/conv_s/kernel" in keys
    parts = ("0", "1", "s") if shortcut else ("0", "1")
    table = []
    for part in parts:
        size = 1 if part == "s" else 3
        table += spectral_rows(f"{theirs}.conv_{part}", f"{ours}/conv_{part}", size, size > 1)
    for part in parts:
        table += _norm(f"{theirs}.norm_{part}", f"{ours}/norm_{part}", keys)
    return table


def _norm(theirs: str, ours: str, keys: Collection[str]) -> list[Row]:
    table = []
    batch = f"{theirs}.param_free_norm.running_mean" in keys
    if batch or f"batch_stats/{ours}/norm/mean" in keys:
        mean, variance, batches = (
            f"{theirs}.param_free_norm.{name}"
            for name in ("running_mean", "running_var", "num_batches_tracked")
        )
        table += [
            Row(mean, f"batch_stats/{ours}/norm/mean", SAME),
            Row(variance, f"batch_stats/{ours}/norm/variance", SAME),
            Row(batches, f"batch_stats/{ours}/norm/batches", COUNT, np.zeros((), np.int64)),
        ]
    names = {"mlp_shared.0": "shared", "mlp_gamma": "gamma", "mlp_beta": "beta"}
    for their_name, our_name in names.items():
        table += _layer(f"{theirs}.{their_name}", f"{ours}/{our_name}", CONV)
    return table


def _layer(theirs: str, ours: str, layout) -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"params/{ours}/kernel", layout),
        Row(f"{theirs}.bias", f"params/{ours}/bias", SAME),
    ]


def spectral_rows(theirs: str, ours: str, size: int, bias: bool) -> list[Row]:
    """A spectrally normalised convolution with a kernel of `size` pixels a side."""
    table = [Row(f"{theirs}.bias", f"params/{ours}/bias", SAME)] if bias else []
    return [
        *table,
        Row(f"{theirs}.weight_orig", f"params/{ours}/kernel", CONV),
        Row(f"{theirs}.weight_u", f"spectral/{ours}/u", SAME),
        Row(f"{theirs}.weight_v", f"spectral/{ours}/v", kernel_vector(size)),
    ]


def _discriminator(keys: Collection[str]) -> list[Row]:
    found = [re.match(r"discriminator_(\d+)\.|params/scale(\d+)/", key) for key in keys]
    scales = 1 + max((int(m[1] or m[2]) for m in found if m), default=1)
    theirs = [re.match(r"discriminator_0\.model(\d+)\.", key) for key in keys]
    ours = [re.match(r"params/scale0/conv(\d+)/", key) for key in keys]
    last = max([*(int(m[1]) for m in theirs if m), *(int(m[1]) for m in ours if m)], default=4)
    table = []
    for scale in range(scales):
        there, here = f"discriminator_{scale}", f"scale{scale}"
        table += _layer(f"{there}.model0.0", f"{here}/conv1", CONV)
        for i in range(1, last):
            table += spectral_rows(f"{there}.model{i}.0.0", f"{here}/conv{i + 1}", 4, False)
        table += _layer(f"{there}.model{last}.0", f"{here}/classifier", CONV)
    return table


def _encoder(keys: Collection[str]) -> list[Row]:
    table = []
    for i in range(1, 7):
        table += spectral_rows(f"layer{i}.0", f"conv{i}", 3, False)
    return table + _layer("fc_mu", "mean", DENSE) + _layer("fc_var", "variance", DENSE)
