"""Names of the authors' PyTorch U-GAT-IT (znxlwm/UGATIT-pytorch).

Checkpoints of their TensorFlow code have the names of `ganattn.interop.ugatit_tensorflow`.
"""

from collections.abc import Collection, Mapping

from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop import ugatit_tensorflow
from ganattn.interop.names import (
    CHANNEL,
    CONV,
    DENSE,
    POINTWISE,
    SAME,
    Kind,
    Layout,
    Row,
    count,
    kernel_vector,
    spectral_rows,
)

NETWORKS = {
    "genA2B": "generator_a2b",
    "genB2A": "generator_b2a",
    "disGA": "discriminator_global_a",
    "disGB": "discriminator_global_b",
    "disLA": "discriminator_local_a",
    "disLB": "discriminator_local_b",
    **ugatit_tensorflow.SCOPES,
}
FILES = {
    **dict.fromkeys(ugatit_tensorflow.KINDS, "UGATIT.model-{step}"),
    "": "params_{step:07d}.pt",
}
_DISCRIMINATOR_CONV = r"(model\.\d+\.weight_orig|params/conv\d+/kernel)"

# Their full model flattens (channels, height, width), ours (height, width, channels); the layer has
# as many outputs as channels, and the light model's is the case of one pixel.
_FLATTENED = Layout(
    lambda x: x.reshape(len(x), len(x), -1).transpose(2, 1, 0).reshape(-1, len(x)),
    lambda x: x.reshape(-1, x.shape[1], x.shape[1]).transpose(2, 1, 0).reshape(x.shape[1], -1),
)


def combine(fields: dict[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """The fields of all networks; a discriminator that is missing has the authors' depth.

    Raises ConfigError where `given` has the profile of the other code base.
    """
    if given.get("profile", fields["profile"]) != fields["profile"]:
        raise ConfigError(
            f"config.method.profile is {given['profile']!r} and the checkpoint is of the authors' "
            f"other code: import it with --profile {fields['profile']}"
        )
    layers = fields.pop("global", 7), fields.pop("local", 5)
    return fields | {"discriminator_layers": layers}


def theirs(name: str, leaves: Mapping) -> str:
    """The authors' name of one of our networks, from its arrays by our paths.

    Only in the TensorFlow code do a generator's first and a discriminator's last layer have biases.
    """
    is_tensorflow = {"params/stem/bias", "params/classifier/bias"} & set(leaves)
    scopes = ugatit_tensorflow.SCOPES
    names = scopes if is_tensorflow else {n: o for n, o in NETWORKS.items() if n not in scopes}
    return next(theirs for theirs, ours in names.items() if ours == name)


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    width, flat = arrays["FC.0.weight"].shape
    size = {} if width == flat else {"image_size": 4 * round((flat // width) ** 0.5)}
    return size | {
        "width": int(arrays["DownBlock.1.weight"].shape[0]),
        "num_residual_blocks": count(r"DownBlock\.\d+\.conv_block\.1\.weight", arrays),
        "light": width == flat,
        "profile": "pytorch",
    }


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    kind = "global" if name.startswith("disG") else "local"
    return {kind: 1 + count(_DISCRIMINATOR_CONV, arrays), "profile": "pytorch"}


def _generator(keys: Collection[str]) -> list[Row]:
    """Raises ForeignFileError for a generator without ReLUs between the layers of gamma and beta.

    Older code lacked them: weights of the same shapes compute another function.
    """
    if "FC.1.weight" in keys:
        raise ForeignFileError(
            "the generator has the key FC.1.weight, so it predates the authors' change of "
            "2019-08-07 and computes another function: use a checkpoint of newer code"
        )
    blocks = count(r"(UpBlock1_\d+\.conv1\.weight|params/decode\d+/conv1/kernel)", keys)
    table = [
        Row("gap_fc.weight", "params/attention/average/kernel", DENSE),
        Row("gmp_fc.weight", "params/attention/maximum/kernel", DENSE),
        Row("conv1x1.weight", "params/attention/kernel", POINTWISE),
        Row("conv1x1.bias", "params/attention/bias", SAME),
        Row("gamma.weight", "params/gamma/kernel", DENSE),
        Row("beta.weight", "params/beta/kernel", DENSE),
    ]
    for i in range(1, blocks + 1):
        for j in (1, 2):
            theirs, ours = f"UpBlock1_{i}", f"decode{i}"
            table.append(Row(f"{theirs}.conv{j}.weight", f"params/{ours}/conv{j}/kernel", CONV))
            table.append(Row(f"{theirs}.norm{j}.rho", f"rho/{ours}/norm{j}/rho", CHANNEL))
    table += [
        Row("DownBlock.1.weight", "params/stem/kernel", CONV),
        Row("DownBlock.5.weight", "params/down1/kernel", CONV),
        Row("DownBlock.9.weight", "params/down2/kernel", CONV),
    ]
    for i in range(blocks):
        theirs, ours = f"DownBlock.{12 + i}.conv_block", f"params/encode{i + 1}"
        table.append(Row(f"{theirs}.1.weight", f"{ours}/conv1/kernel", CONV))
        table.append(Row(f"{theirs}.5.weight", f"{ours}/conv2/kernel", CONV))
    table += [
        Row("FC.0.weight", "params/mlp1/kernel", _FLATTENED),
        Row("FC.2.weight", "params/mlp2/kernel", DENSE),
    ]
    for i, index in ((1, 2), (2, 7)):
        norm = f"UpBlock2.{index + 1}"
        table += [
            Row(f"UpBlock2.{index}.weight", f"params/up{i}/kernel", CONV),
            Row(f"{norm}.rho", f"rho/up{i}_norm/rho", CHANNEL),
            Row(f"{norm}.gamma", f"params/up{i}_norm/gamma", CHANNEL),
            Row(f"{norm}.beta", f"params/up{i}_norm/beta", CHANNEL),
        ]
    table.append(Row("UpBlock2.11.weight", "params/output/kernel", CONV))
    return table


def _discriminator(keys: Collection[str]) -> list[Row]:
    convs = count(_DISCRIMINATOR_CONV, keys)
    table = [
        *spectral_rows("gap_fc", "attention/average", DENSE, SAME),
        *spectral_rows("gmp_fc", "attention/maximum", DENSE, SAME),
        Row("conv1x1.weight", "params/attention/kernel", POINTWISE),
        Row("conv1x1.bias", "params/attention/bias", SAME),
        *spectral_rows("conv", "classifier", CONV, kernel_vector(4)),
    ]
    for i in range(convs):
        theirs, ours = f"model.{1 + 3 * i}", f"conv{i + 1}"
        table.append(Row(f"{theirs}.bias", f"params/{ours}/bias", SAME))
        table += spectral_rows(theirs, ours, CONV, kernel_vector(4))
    return table


KINDS = {
    **ugatit_tensorflow.KINDS,
    "gen": Kind(_generator, _generator_fields),
    "dis": Kind(_discriminator, _discriminator_fields),
}
