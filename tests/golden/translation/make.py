"""Made the .npz files beside it: `python make.py CHECKOUT FOLDER`, torch 2.13.0.

CHECKOUT: voidstrike/ASGIT at 235f922, whose own networks and `test` methods run here, on one image,
with the networks in training mode, as test.py leaves them, and where that matters as with its
--eval. Dropout is that of torch; the masks that it drew are stored. Of a translation, 32 x 32
pixels on a grid are stored. Float64; weights are multiples of 1/128, so that they are exact in
float32 and compress well.
"""

import copy
import functools
import itertools
import sys
import types

import numpy as np
import torch

SIZE, WIDTH = 32, 2

root, folder = sys.argv[1:]
for package in ("models", "data", "util"):  # theirs import more than the tests need
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [f"{root}/{package}"]
from data.aux_dataset import AuxAttnDataset  # noqa: E402
from models import networks  # noqa: E402
from models.attn_cycle_gan_model import AttnCycleGANModel  # noqa: E402
from models.attn_cycle_gan_v2_model import AttnCycleGANV2Model  # noqa: E402
from models.cycle_gan_model import CycleGANModel  # noqa: E402
from models.pix2pix_attn_model import Pix2PixAttnModel  # noqa: E402
from models.pix2pix_model import Pix2PixModel  # noqa: E402

torch.set_default_dtype(torch.float64)
INSTANCE, BATCH = (networks.get_norm_layer(kind) for kind in ("instance", "batch"))


def randomize(nets):
    generator = torch.Generator().manual_seed(11)
    for net in nets.values():
        for name, tensor in itertools.chain(net.named_parameters(), net.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            positive = name.endswith("running_var") or (tensor.dim() == 1 and "weight" in name)
            if tensor.dim() > 1:
                value = noise * 1.5 / tensor[0].numel() ** 0.5
            else:
                value = 0.1 * noise + (1 if positive else 0)
            tensor.data = torch.round(128 * value) / 128


def bank(size):
    maps = AuxAttnDataset(2, 2, "cpu", mask_size=size)
    maps.A_attns, maps.B_attns = maps.A_attns.double(), maps.B_attns.double()
    return maps


def translate(kind, nets, size=SIZE, evaluate=True, **attributes):
    """The arrays of a file: weights, images, their translations, and the dropout masks of these.

    evaluate: whether eval/ holds what --eval translates.
    """
    model = kind.__new__(kind)
    randomize(nets)
    out, masks, random = {}, [], np.random.default_rng(4)
    for name, net in nets.items():
        setattr(model, f"net{name}", net)
        for key, value in net.state_dict().items():
            whole = not value.is_floating_point()
            out[f"init/{name}/{key}"] = value.numpy().astype(np.int64 if whole else np.float32)
    vars(model).update(
        opt=types.SimpleNamespace(direction="AtoB"), device="cpu", model_names=[*nets], **attributes
    )
    real = {d: random.uniform(-1, 1, (1, 3, size, size)).astype(np.float16) for d in "AB"}
    model.set_input(
        {d: torch.tensor(x).double() for d, x in real.items()}
        | {"A_paths": "", "B_paths": "", "DX": [0], "ADX": [0], "BDX": [1]}
    )

    def record(module, inputs, output):
        # Where a ReLU gives 0, the mask is unknown and without effect.
        masks.append((output != 0).numpy())

    def finish(net, inputs, output):
        calls.append((output, [*masks]))
        masks.clear()

    start = {name: copy.deepcopy(net.state_dict()) for name, net in nets.items()}
    for net in nets.values():
        net.register_forward_hook(finish)
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.register_forward_hook(record)
    for prefix in ("", "eval/") if evaluate else ("",):
        calls = []
        for name, net in nets.items():
            net.load_state_dict(start[name])
        if prefix:
            model.eval()
        torch.manual_seed(7)
        model.test()
        for target in "AB":
            fake = getattr(model, f"fake_{target}", None)
            for output, drawn in calls:
                if output is not fake:
                    continue
                source = "B" if target == "A" else "A"
                out[f"real_{source}"] = real[source].astype(np.float32)
                out[f"{prefix}fake_{target}"] = fake[:, :, :: size // SIZE, :: size // SIZE].numpy()
                for i, mask in enumerate(() if prefix else drawn):
                    out[f"dropout_{target}/{i}"] = mask
    return out


def generators(channels=3, norm=INSTANCE, dropout=False):
    return {
        name: networks.ResnetGenerator(channels, 3, WIDTH, norm, dropout, n_blocks=1)
        for name in ("G_A", "G_B")
    }


def critics(trainable):
    if trainable:
        sides = (SIZE // 4, SIZE // 4), (SIZE // 8, SIZE // 8)
        create = functools.partial(
            networks.AttnDiscriminator, 3, WIDTH, 3, SIZE, INSTANCE, True, *sides
        )
        return {"D_A": create(), "D_B": create()}
    nets = {
        name: networks.PHADiscriminator(3, WIDTH, norm_layer=INSTANCE) for name in ("D_A", "D_B")
    }
    for net in nets.values():
        net.mask_shape = SIZE
    return nets


def buffer(blend):
    ones = torch.ones(1, 1, SIZE, SIZE)
    nets = generators(4 if blend == "alpha" else 3)
    maps = {"aux_data": bank(SIZE), "ones_attn_holder": ones}
    return translate(AttnCycleGANModel, nets, evaluate=False, concat=blend, **maps)


def in_iteration(trainable, blend):
    nets = generators(4 if blend == "alpha" else 3) | critics(trainable)
    return translate(AttnCycleGANV2Model, nets, evaluate=trainable, concat=blend)


def supervised():
    nets = {
        "G": networks.UnetGenerator(3, 3, 6, WIDTH, norm_layer=INSTANCE, use_dropout=True),
        "SC": networks.SComponent(INSTANCE),
    }
    return translate(Pix2PixAttnModel, nets, 64, evaluate=False, aux_data=bank(8))


def pix2pix():
    net = networks.UnetGenerator(3, 3, 7, WIDTH, norm_layer=BATCH, use_dropout=True)
    return translate(Pix2PixModel, {"G": net}, 128)


FILES = {
    "guidance_buffer_rmult": lambda: buffer("rmult"),
    "guidance_buffer_mult": lambda: buffer("mult"),
    "guidance_buffer_alpha": lambda: buffer("alpha"),
    "guidance_trainable": lambda: in_iteration(True, "rmult"),
    "guidance_posthoc": lambda: in_iteration(False, "alpha"),
    "guidance_supervised": supervised,
    "pix2pix": pix2pix,
    "cyclegan": lambda: translate(CycleGANModel, generators(norm=BATCH, dropout=True)),
}
for name, make in FILES.items():
    np.savez_compressed(f"{folder}/{name}.npz", **make())
