"""Made guidance_*.npz: `python make.py CHECKOUT FOLDER`, torch 2.13.0.

CHECKOUT: voidstrike/ASGIT at 235f922 for trainable, buffer, decomposed and supervised, or
voidstrike/pytorch-CycleGAN-and-pix2pix at 4a852a5, in which it was developed, for fusion. Their own
networks and training steps run here; dropout and the image pool are off, because their draws cannot
be shared. Float64, weights rounded to float32 (of fusion, float16) so that they are exact in both.
"""

import functools
import importlib.util
import itertools
import sys
import types

import numpy as np
import torch

RATE, BETAS, SIZE, WIDTH = 2e-4, (0.5, 0.999), 32, 2

root, folder = sys.argv[1:]
for package in ("models", "data", "util"):  # theirs import more than the steps need
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [f"{root}/{package}"]
from data.aux_dataset import AuxAttnDataset  # noqa: E402
from models import networks  # noqa: E402
from util.image_pool import ImagePool  # noqa: E402

torch.set_default_dtype(torch.float64)
NORM = functools.partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)


def model_class(module, name):
    return getattr(importlib.import_module(f"models.{module}_model"), name)


def critic(trainable, channels, scaled):
    if trainable:
        sides = (SIZE // 4, SIZE // 4), (SIZE // 8, SIZE // 8)
        return networks.AttnDiscriminator(channels, WIDTH, 3, SIZE, NORM, scaled, *sides)
    net = networks.PHADiscriminator(channels, WIDTH, norm_layer=NORM, inner_rescale=scaled)
    net.mask_shape = SIZE
    return net


def randomize(nets, exact=torch.float32):
    generator = torch.Generator().manual_seed(11)
    for name, p in itertools.chain(*(net.named_parameters() for net in nets.values())):
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() > 1:
            value = noise * 1.5 / p[0].numel() ** 0.5
        else:
            value = 0.1 * noise + (0 if name.endswith("bias") else 1)
        p.data = value.to(exact).double()


def adam(*nets):
    parameters = itertools.chain(*(net.parameters() for net in nets))
    return torch.optim.Adam(parameters, lr=RATE, betas=BETAS)


def bank(size, initial=1):
    maps = AuxAttnDataset(3, 3, "cpu", mask_size=size, given_constant=initial)
    maps.A_attns, maps.B_attns = maps.A_attns.double(), maps.B_attns.double()
    return maps


def run(model, nets, indices, losses):
    """The file's arrays: weights before and after, pictures, indices and losses of the steps."""
    out, random = {}, np.random.default_rng(4)

    def keep(when, names):
        for name in names:
            for key, value in nets[name].state_dict().items():
                array = value.numpy()
                whole = not np.issubdtype(array.dtype, np.floating)
                out[f"{when}/{name}/{key}"] = array.copy() if whole else array.astype(np.float32)

    keep("init", nets)
    for i, (a, b) in enumerate(indices):
        real = {d: random.uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32) for d in "AB"}
        model.set_input(
            {d: torch.tensor(x).double() for d, x in real.items()}
            | {"A_paths": "", "B_paths": "", "DX": [a], "ADX": [a], "BDX": [b]}
        )
        model.optimize_parameters()
        out |= {f"step{i}/real_{d}": x for d, x in real.items()}
        out[f"step{i}/index"] = np.array([a, b])
        out |= {
            f"step{i}/{name}": np.array(float(getattr(model, f"loss_{name}"))) for name in losses
        }
    keep("final", nets)
    return out


def unpaired(kind, trainable, blend, identity, indices):
    model = kind.__new__(kind)
    channels = 4 if blend == "alpha" else 3
    nets = {
        name: networks.ResnetGenerator(channels, 3, WIDTH, NORM, n_blocks=1)
        for name in ("G_A", "G_B")
    } | {name: critic(trainable, 3, True) for name in ("D_A", "D_B")}
    randomize(nets)
    for name, net in nets.items():
        setattr(model, f"net{name}", net)
    model.opt = types.SimpleNamespace(
        lambda_identity=identity, lambda_A=10.0, lambda_B=10.0, direction="AtoB"
    )
    model.concat, model.device, model.use_rec = blend, "cpu", False
    model.ones_attn_holder = torch.ones(1, 1, SIZE, SIZE)
    model.fake_A_pool, model.fake_B_pool = ImagePool(0), ImagePool(0)
    model.criterionGAN = networks.GANLoss("lsgan")
    model.criterionCycle = model.criterionIdt = torch.nn.L1Loss()
    model.optimizer_G, model.optimizer_D = (
        adam(*list(nets.values())[:2]),
        adam(*list(nets.values())[2:]),
    )
    model.aux_data = bank(SIZE)
    names = LOSSES
    if kind.__name__ == "DecomposeAttnModel":
        names += ("G_A_2", "G_B_2", "cycle_A_2", "cycle_B_2")
    out = run(model, nets, indices, names)
    return out | {
        "bank/a": model.aux_data.A_attns.numpy(),
        "bank/b": model.aux_data.B_attns.numpy(),
    }


def supervised(indices):
    kind = model_class("pix2pix_attn", "Pix2PixAttnModel")
    model = kind.__new__(kind)
    nets = {
        "G": networks.UnetGenerator(3, 3, 5, WIDTH, norm_layer=NORM, use_dropout=False),
        "SC": networks.SComponent(NORM),
        "D": critic(True, 6, False),
    }
    randomize(nets)
    for name, net in nets.items():
        setattr(model, f"net{name}", net)
    model.opt, model.device = types.SimpleNamespace(lambda_L1=100.0, direction="AtoB"), "cpu"
    model.criterionGAN, model.criterionL1 = networks.GANLoss("vanilla"), torch.nn.L1Loss()
    model.optimizer_G, model.optimizer_D = adam(nets["G"], nets["SC"]), adam(nets["D"])
    model.aux_data = bank(SIZE // 8)
    out = run(model, nets, indices, ("G_GAN", "G_L1", "G", "D_real", "D_fake", "D"))
    return out | {"bank/a": model.aux_data.A_attns.numpy()}


def fusion(indices):
    """Steps of the generators resnet_9blocks_2, and the images of all four under one map.

    Keys of the generators are those of ResnetGenerator ("model.N"), whose layers theirs has in two
    parts. Of the networks S_CA and S_CB after the steps, every 16th number is kept.
    """

    def generator(mode):
        return networks.InterResnetGenerator(3, 3, WIDTH, NORM, n_blocks=6, split_mode=mode)

    def joined(net):
        return torch.nn.ModuleDict({"model": torch.nn.Sequential(*net.model1, *net.model2)})

    kind = model_class("attn_cycle_gan_v3", "AttnCycleGANV3Model")
    model = kind.__new__(kind)
    nets = {name: generator(2) for name in ("G_A", "G_B")}
    nets |= {name: networks.SComponent(NORM, mode=1) for name in ("S_CA", "S_CB")}
    nets |= {name: critic(False, 3, False) for name in ("D_A", "D_B")}
    randomize(nets, torch.float16)
    for name, net in nets.items():
        setattr(model, f"net{name}", net)
    model.opt = types.SimpleNamespace(
        lambda_identity=0.0, lambda_A=10.0, lambda_B=10.0, direction="AtoB"
    )
    model.concat, model.device = "rmult", "cpu"
    model.zero_attn_holder = torch.zeros(1, 1, SIZE // 4, SIZE // 4)
    model.fake_A_pool, model.fake_B_pool = ImagePool(0), ImagePool(0)
    model.criterionGAN = networks.GANLoss("lsgan")
    model.criterionCycle = model.criterionIdt = torch.nn.L1Loss()
    model.optimizer_G = adam(*(nets[name] for name in nets if name[0] != "D"))
    model.optimizer_D = adam(nets["D_A"], nets["D_B"])
    model.aux_data = bank(SIZE // 8, 0.25)

    out, random = {}, np.random.default_rng(5)
    image, guide = random.uniform(-1, 1, (1, 3, SIZE, SIZE)), random.uniform(0, 2, (1, 1, 4, 4))
    out |= {"forward/image": image, "forward/map": guide}
    image, guide = torch.tensor(image), torch.tensor(guide)
    large = networks.SComponent(NORM, mode=0)
    randomize({"large": large}, torch.float16)
    for key, value in large.state_dict().items():
        out[f"forward/S_C/{key}"] = value.numpy().astype(np.float32)
    for mode in range(1, 5):
        net = generator(mode)
        joined(net).load_state_dict(joined(nets["G_A"]).state_dict())
        enlarge = large if mode == 1 else nets["S_CA"]
        out[f"forward/F{mode}"] = net(image, enlarge(guide)).detach().numpy()

    flat = {name: joined(net) if name[0] == "G" else net for name, net in nets.items()}
    steps = run(model, flat, indices, LOSSES)
    for key, array in steps.items():
        out[key] = array.ravel()[::16] if key.startswith("final/S_C") else array
    return out | {
        "bank/a": model.aux_data.A_attns.numpy(),
        "bank/b": model.aux_data.B_attns.numpy(),
    }


LOSSES = ("G_A", "G_B", "cycle_A", "cycle_B", "idt_A", "idt_B", "G", "D_A", "D_B")
VISITS = [(0, 2), (1, 2), (0, 1)]


def files():
    if importlib.util.find_spec("models.attn_cycle_gan_v3_model"):
        return {"fusion": fusion(VISITS)}
    decomposed = model_class("decompose_attn", "DecomposeAttnModel")
    buffered = model_class("attn_cycle_gan", "AttnCycleGANModel")
    in_iteration = model_class("attn_cycle_gan_v2", "AttnCycleGANV2Model")
    return {
        "trainable": unpaired(in_iteration, True, "alpha", 0.2, [(0, 0), (1, 1)]),
        "buffer": unpaired(buffered, False, "rmult", 0.5, VISITS),
        "decomposed": unpaired(decomposed, True, "rmult", 0.5, [(0, 0), (1, 1)]),
        "supervised": supervised([(1, 1), (1, 1)]),
    }


for name, arrays in files().items():
    np.savez_compressed(f"{folder}/guidance_{name}.npz", **arrays)
