"""Names of the authors' TensorFlow 1 AGGAN.

Source: AlamiMejjati/Unsupervised-Attention-guided-Image-to-Image-Translation. A checkpoint
(AGGAN-<epoch>) holds all six networks as "Model/<network>/<key>", see `split_variables`; kernels
are (h, w, in, out), those of transposed convolutions (h, w, out, in). The last layer of every
network has an instance normalization that is never used: it is not read, and is written with scale
1 and offset 0. `AGGAN-<epoch>` is written at the start of that epoch. The horse2zebra weights that
the authors offer translate zebras to horses with g_A.
"""

from collections.abc import Collection, Mapping

import numpy as np

from ganattn.interop.names import SAME, Arrays, Kind, Layout, Row, check_channels, count

NETWORKS = {
    "g_A": "generator_a2b",
    "g_B": "generator_b2a",
    "g_A_ae": "attention_a",
    "g_B_ae": "attention_b",
    "d_A": "discriminator_a",
    "d_B": "discriminator_b",
}
SCOPE = "Model"
SLOTS = ("Adam", "Adam_1")  # the optimizer's moments of a variable
# Ours is the kernel of the equivalent convolution over zero-stuffed images.
TRANSPOSED = Layout(lambda x: x[::-1, ::-1].swapaxes(2, 3), lambda x: x[::-1, ::-1].swapaxes(2, 3))
ZEROS, ONES = Layout(None, np.zeros_like), Layout(None, np.ones_like)
DISCRIMINATOR_LAYERS = ("conv1", "conv2", "conv3", "conv4", "classifier")
DECODER = ("c4", "c5", "c6")


def split_variables(variables: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """{network: {key: array}} of a checkpoint's {variable: array}.

    "Model/g_A/c1/Conv/weights" is the key "c1/Conv/weights" of "g_A". What belongs to the
    optimizer, and the number of the epoch, are left out.
    """
    networks: dict[str, dict[str, np.ndarray]] = {}
    for variable, array in variables.items():
        scope, _, rest = variable.partition("/")
        network, _, key = rest.partition("/")
        if scope == SCOPE and network in NETWORKS and key.rpartition("/")[2] not in SLOTS:
            networks.setdefault(network, {})[key] = array
    return networks


def join_variables(networks: Mapping[str, Arrays]) -> dict[str, np.ndarray]:
    """The inverse of `split_variables`."""
    return {
        f"{SCOPE}/{network}/{key}": array
        for network, arrays in networks.items()
        for key, array in arrays.items()
    }


def _attention_fields(name: str, arrays: Mapping) -> dict[str, object]:
    sizes = (arrays[f"{layer}/Conv/weights"].shape[0] for layer in DECODER)
    return {"attention_width": _width(name, arrays), "decoder_kernels": tuple(map(int, sizes))}


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return {"width": _width(name, arrays), "num_residual_blocks": _blocks(arrays)}


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return {"discriminator_width": _width(name, arrays)}


def _width(name: str, arrays: Mapping) -> int:
    """Features of the first layer."""
    _, _, channels, features = arrays["c1/Conv/weights"].shape
    check_channels(name, channels, 3)
    return int(features)


def _blocks(keys: Collection[str]) -> int:
    return count(r"r\d+/c1/Conv/weights|params/block\d+/conv1/kernel", keys)


def _attention(keys: Collection[str]) -> list[Row]:
    table = [*_layer("c1", "stem"), *_layer("c2", "down1"), *_block(1)]
    return [*table, *_layer("c4", "up1"), *_layer("c5", "up2"), *_last_layer("c6", "output")]


def _generator(keys: Collection[str]) -> list[Row]:
    table = [*_layer("c1", "stem"), *_layer("c2", "down1"), *_layer("c3", "down2")]
    for i in range(_blocks(keys)):
        table += _block(i + 1)
    for theirs, ours in (("c4", "up1"), ("c5", "up2")):
        table += _layer(theirs, ours, "Conv2d_transpose", TRANSPOSED)
    return [*table, *_last_layer("c6", "output")]


def _discriminator(keys: Collection[str]) -> list[Row]:
    names = {f"c{i}": name for i, name in enumerate(DISCRIMINATOR_LAYERS, 1)}
    *hidden, last = names.items()
    return [*(row for pair in hidden for row in _layer(*pair)), *_last_layer(*last)]


def _block(number: int) -> list[Row]:
    """A residual block, counted from 1."""
    layers = (_layer(f"r{number}/c{j}", f"block{number}/conv{j}") for j in (1, 2))
    return [row for layer in layers for row in layer]


def _conv(theirs: str, ours: str, layout: Layout = SAME) -> list[Row]:
    return [
        Row(f"{theirs}/weights", f"params/{ours}/kernel", layout),
        Row(f"{theirs}/biases", f"params/{ours}/bias", SAME),
    ]


def _layer(theirs: str, ours: str, kind: str = "Conv", layout: Layout = SAME) -> list[Row]:
    """A convolution and its instance normalization."""
    return [
        *_conv(f"{theirs}/{kind}", ours, layout),
        Row(f"{theirs}/instance_norm/scale", f"params/{ours}_norm/gamma", SAME),
        Row(f"{theirs}/instance_norm/offset", f"params/{ours}_norm/beta", SAME),
    ]


def _last_layer(theirs: str, ours: str) -> list[Row]:
    """A convolution, and the normalization that the authors' code creates without using it."""
    return [
        *_conv(f"{theirs}/Conv", ours),
        Row(f"{theirs}/instance_norm/scale", f"params/{ours}/bias", ONES),
        Row(f"{theirs}/instance_norm/offset", f"params/{ours}/bias", ZEROS),
    ]


_ATTENTION = Kind(_attention, _attention_fields)
KINDS = {
    "g_A_ae": _ATTENTION,
    "g_B_ae": _ATTENTION,
    "g_": Kind(_generator, _generator_fields),
    "d_": Kind(_discriminator, _discriminator_fields),
}
