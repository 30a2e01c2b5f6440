"""Names of the published CartoonGAN generators, and of znxlwm/pytorch-CartoonGAN.

The published files STYLE_net_G_float.pth hold networks of BGR images: their channels are exchanged
on the way. Files of the other code hold networks of RGB images; they are given as
generator=generator_param.pkl and discriminator=discriminator_param.pkl.
"""

from collections.abc import Collection, Mapping

from ganattn.interop.names import (
    CONV,
    SAME,
    TRANSPOSED_CONV,
    Kind,
    Layout,
    Row,
    check_channels,
    conv_rows,
    count,
)

NETWORKS = {
    "G_float": "generator_a2b",  # published
    "generator": "generator_a2b",  # of znxlwm's code
    "discriminator": "discriminator_b",
}
FIRST_BLOCK, FIRST_UP_NORM = 4, 12  # in the published files' names
FROM_BGR = Layout(
    lambda x: x[:, ::-1].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[:, ::-1]
)
TO_BGR = Layout(lambda x: x[::-1].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[::-1])
REVERSED = Layout(lambda x: x[::-1], lambda x: x[::-1])
# Indices of znxlwm's layers, and our names.
DOWN = {0: "stem", 3: "down1_strided", 4: "down1_flat", 7: "down2_strided", 8: "down2_flat"}
UP = {0: "up1_strided", 1: "up1_flat", 4: "up2_strided", 5: "up2_flat", 8: "output"}
DISCRIMINATOR = {
    0: "conv1", 2: "conv2", 4: "conv3", 7: "conv4", 9: "conv5", 12: "conv6", 15: "classifier"
}  # fmt: skip


def theirs(ours: str, keys: Collection[str]) -> str:
    """The name that a network of ours has among theirs, by our paths."""
    if ours == NETWORKS["discriminator"]:
        return "discriminator"
    return "G_float" if _is_published(keys) else "generator"


def _generator(keys: Collection[str]) -> list[Row]:
    return _published(keys) if _is_published(keys) else _znxlwm(keys)


def _published(keys: Collection[str]) -> list[Row]:
    blocks = _count_blocks(keys)

    def norm(theirs: str, ours: str) -> list[Row]:
        return [
            Row(f"{theirs}.scale", f"params/{ours}/gamma", SAME),
            Row(f"{theirs}.shift", f"params/{ours}/beta", SAME),
        ]

    table = conv_rows("conv01_1", "stem", FROM_BGR) + norm("in01_1", "stem_norm")
    for i in (1, 2):
        table += conv_rows(f"conv0{i + 1}_1", f"down{i}_strided")
        table += conv_rows(f"conv0{i + 1}_2", f"down{i}_flat")
        table += norm(f"in0{i + 1}_1", f"down{i}_norm")
    for i in range(blocks):
        for j in (1, 2):
            number = f"{FIRST_BLOCK + i:02d}_{j}"
            table += conv_rows(f"conv{number}", f"block{i + 1}/conv{j}")
            table += norm(f"in{number}", f"block{i + 1}/norm{j}")
    for i in (1, 2):
        table += conv_rows(f"deconv0{i}_1", f"up{i}_strided", TRANSPOSED_CONV)
        table += conv_rows(f"deconv0{i}_2", f"up{i}_flat")
        table += norm(f"in{FIRST_UP_NORM + i - 1}_1", f"up{i}_norm")
    kernel, _ = conv_rows("deconv03_1", "output", TO_BGR)
    return [*table, kernel, Row("deconv03_1.bias", "params/output/bias", REVERSED)]


def _znxlwm(keys: Collection[str]) -> list[Row]:
    table = []
    for index, name in DOWN.items():
        table += conv_rows(f"down_convs.{index}", name)
    for i in range(_count_blocks(keys)):
        for j in (1, 2):
            table += conv_rows(f"resnet_blocks.{i}.conv{j}", f"block{i + 1}/conv{j}")
    for index, name in UP.items():
        layout = TRANSPOSED_CONV if name.endswith("strided") else CONV
        table += conv_rows(f"up_convs.{index}", name, layout)
    return table


def _discriminator(keys: Collection[str]) -> list[Row]:
    table = []
    for index, name in DISCRIMINATOR.items():
        table += conv_rows(f"convs.{index}", name)
    return table


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    published = _is_published(arrays)
    first = arrays["conv01_1.weight" if published else "down_convs.0.weight"]
    check_channels(name, first.shape[1], 3)
    return {
        "form": "official" if published else "znxlwm",
        "width": int(first.shape[0]),
        "num_residual_blocks": _count_blocks(arrays),
    }


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    first = arrays["convs.0.weight"]
    check_channels(name, first.shape[1], 3)
    return {"discriminator_width": int(first.shape[0])}


def _is_published(keys: Collection[str]) -> bool:
    return "in01_1.scale" in keys or "params/stem_norm/gamma" in keys


def _count_blocks(keys: Collection[str]) -> int:
    patterns = (r"params/block\d+/conv1/kernel", r"resnet_blocks\.\d+\.conv1\.weight",
                r"in\d+_2\.scale")  # fmt: skip
    return count("|".join(patterns), keys)


KINDS = {
    "G_float": Kind(_generator, _generator_fields),
    "generator": Kind(_generator, _generator_fields),
    "discriminator": Kind(_discriminator, _discriminator_fields),
}
