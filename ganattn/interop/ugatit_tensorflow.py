"""Names of the authors' TensorFlow U-GAT-IT (taki0112/UGATIT), which the profile "tf" follows.

Their kernels are (height, width, in, out) and their maps (height, width, channels), as ours are.
The generator of scope "generator_B" translates a to b. A power iteration of theirs starts from u
alone, so their files hold no v: it is computed from u and the kernel, as their next iteration would
compute it. The files do not show whether AdaLIN had their "smoothing", the offset of rho that the
profile has and that is on by default there.
"""

from collections.abc import Collection, Mapping

import numpy as np

from ganattn.interop.names import SAME, Kind, Layout, Row, count

SCOPES = {
    "generator_B": "generator_a2b",
    "generator_A": "generator_b2a",
    "discriminator_A/global": "discriminator_global_a",
    "discriminator_B/global": "discriminator_global_b",
    "discriminator_A/local": "discriminator_local_a",
    "discriminator_B/local": "discriminator_local_b",
}
_FIELDS = {"profile": "tf"}

_POINTWISE = Layout(lambda x: x.reshape(x.shape[2:]), lambda x: x[None, None])
_U = Layout(np.ravel, lambda u: u[None])
_V = Layout(SAME.ours, None)
# Code before 2019-08-20 had a classifier of its own for the generators' logits; maps, and so
# images, depended on CAM_logit/kernel and CAM_logit/bias then as now.
_FORMER_CLASSIFIER = ("CAM_logit/dense/kernel", "CAM_logit/dense/bias")


def _generator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    flat, hidden = arrays["MLP/linear_0/dense/kernel"].shape
    size = {} if flat == hidden else {"image_size": 4 * round((flat // hidden) ** 0.5)}
    return {
        **_FIELDS,
        **size,
        "width": int(arrays["conv/conv2d/bias"].shape[0]),
        "num_residual_blocks": _count_blocks(arrays),
        "light": flat == hidden,
    }


def _discriminator_fields(name: str, arrays: Mapping) -> dict[str, object]:
    return {**_FIELDS, name.split("/")[1]: 2 + _count_strided(arrays)}


def _generator(keys: Collection[str]) -> list[Row]:
    table = _layer("conv/conv2d", "stem") + _norm("ins_norm", "stem_norm")
    for i in (0, 1):
        table += _layer(f"conv_{i}/conv2d", f"down{i + 1}")
        table += _norm(f"ins_norm_{i}", f"down{i + 1}_norm")
        table += _layer(f"up_conv_{i}/conv2d", f"up{i + 1}")
        table += _norm(f"layer_ins_norm_{i}", f"up{i + 1}_norm")
        table.append(Row(f"layer_ins_norm_{i}/rho", f"rho/up{i + 1}_norm/rho", SAME))
        table += _layer(f"MLP/linear_{i}/dense", f"mlp{i + 1}")
    for i in range(_count_blocks(keys)):
        for j in (1, 2):
            theirs, ours = f"resblock_{i}/res{j}", f"encode{i + 1}"
            table += _layer(f"{theirs}/conv_0/conv2d", f"{ours}/conv{j}")
            table += _norm(f"{theirs}/instance_norm", f"{ours}/norm{j}")
            theirs, ours = f"adaptive_resblock{i}/res{j}", f"decode{i + 1}"
            table += _layer(f"{theirs}/conv_0/conv2d", f"{ours}/conv{j}")
            rho = f"rho/{ours}/norm{j}/rho"
            table.append(Row(f"{theirs}/instance_layer_norm/rho", rho, SAME))
    for name in ("gamma", "beta"):
        table += _layer(f"MLP/{name}/dense", name)
    table += _layer("CAM_logit", "attention/shared")
    table += _layer("conv_1x1/conv2d", "attention", _POINTWISE)
    table += [Row(key, None, SAME) for key in _FORMER_CLASSIFIER if key in keys]
    return table + _layer("G_logit/conv2d", "output")


def _discriminator(keys: Collection[str]) -> list[Row]:
    strided = _count_strided(keys)
    names = {f"conv_{i}": f"conv{i + 1}" for i in range(strided)}
    names |= {"conv_last": f"conv{strided + 1}", "CAM_logit": "attention/shared"}
    table = _layer("conv_1x1/conv2d", "attention", _POINTWISE)
    for theirs, ours in (names | {"D_logit": "classifier"}).items():
        table += _layer(theirs, ours)
        table.append(Row(f"{theirs}/u", f"spectral/{ours}/u", _U))
        if f"{theirs}/u" in keys or f"spectral/{ours}/v" in keys:
            table.append(Row(f"{theirs}/v", f"spectral/{ours}/v", _V))
    return table


def _with_v(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays and, for each u, the v that their next power iteration starts with."""
    vectors = {}
    for name in (key.removesuffix("/u") for key in arrays if key.endswith("/u")):
        u, kernel = arrays[f"{name}/u"], arrays.get(f"{name}/kernel")
        if kernel is not None and u.size == kernel.shape[-1]:
            v = kernel.reshape(-1, u.size) @ u.ravel()
            vectors[f"{name}/v"] = v / max(np.linalg.norm(v), np.finfo(v.dtype).tiny)
    return {**arrays, **vectors}


def _layer(theirs: str, ours: str, kernel: Layout = SAME) -> list[Row]:
    return [
        Row(f"{theirs}/kernel", f"params/{ours}/kernel", kernel),
        Row(f"{theirs}/bias", f"params/{ours}/bias", SAME),
    ]


def _norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}/{name}", f"params/{ours}/{name}", SAME) for name in ("gamma", "beta")]


def _count_blocks(keys: Collection[str]) -> int:
    return count(r"resblock_\d+/res1/conv_0/conv2d/kernel|params/encode\d+/conv1/kernel", keys)


def _count_strided(keys: Collection[str]) -> int:
    theirs = count(r"conv_\d+/kernel", keys)
    return theirs or count(r"params/conv\d+/kernel", keys) - 1


KINDS = {
    "generator": Kind(_generator, _generator_fields),
    "discriminator": Kind(_discriminator, _discriminator_fields, _with_v),
}
