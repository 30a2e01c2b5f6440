"""Made pix2pix_{batch,instance}.npz: `python make.py FOLDER`, with torch 2.13.0.

The networks are written out here with the module nesting, and so the keys, of the authors' code
(junyanz/pytorch-CycleGAN-and-pix2pix), the step with its order and losses; dropout is off, because
its draws cannot be shared. Float64, weights rounded to float32 so that they are exact in both.
"""

import itertools
import sys

import numpy as np
import torch
from torch import nn

SIZE, WIDTH, LEVELS, BATCH, STEPS = 32, 3, 5, 2, 2
LAMBDA_L1, RATE, BETAS = 100.0, 2e-4, (0.5, 0.999)


class Level(nn.Module):
    """One level of the U-Net around the next deeper one."""

    def __init__(self, outer, inner, deeper, norm, channels=None):
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        down = nn.Conv2d(channels or outer, inner, 4, 2, 1, bias=bias)
        into = inner if deeper is None else 2 * inner
        self.outermost = channels is not None
        up = nn.ConvTranspose2d(into, outer, 4, 2, 1, bias=bias or self.outermost)
        if self.outermost:
            layers = [down, deeper, nn.ReLU(), up, nn.Tanh()]
        elif deeper is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(outer)]
        else:
            act = nn.LeakyReLU(0.2)
            layers = [act, down, norm(inner), deeper, nn.ReLU(), up, norm(outer)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        made = self.model(x)
        return made if self.outermost else torch.cat([x, made], 1)


class Generator(nn.Module):
    def __init__(self, norm):
        super().__init__()
        widths = [WIDTH * min(2**i, 8) for i in range(LEVELS)]
        level = None
        for outer, inner in reversed(list(itertools.pairwise(widths))):
            level = Level(outer, inner, level, norm)
        self.model = Level(3, WIDTH, level, norm, channels=3)

    def forward(self, x):
        return self.model(x)


class Discriminator(nn.Module):
    def __init__(self, norm):
        super().__init__()
        layers, bias = [nn.Conv2d(6, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)], norm is nn.InstanceNorm2d
        for i, stride in ((1, 2), (2, 2), (3, 1)):
            into, out = WIDTH * 2 ** (i - 1), WIDTH * 2**i
            layers += [nn.Conv2d(into, out, 4, stride, 1, bias=bias), norm(out), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * WIDTH, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


def start(network):
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        positive = "running_var" in name or (name.endswith("weight") and tensor.dim() == 1)
        spread = (tensor.dim() > 1 and tensor[0].numel() ** -0.5) or 0.1
        value = spread * torch.randn(tensor.shape) + float(positive)
        tensor.copy_(value.abs() if positive else value)
    return network


def arrays(prefix, network):
    return {f"{prefix}/{k}": v.numpy().copy() for k, v in network.state_dict().items()}


def run(norm):
    torch.manual_seed(0)
    made = {"meta": np.array([SIZE, WIDTH, LEVELS, BATCH, STEPS])}
    networks = {"G": start(Generator(norm)), "D": start(Discriminator(norm))}
    for name, network in networks.items():
        made |= arrays(f"init/{name}", network)
        network.double()
    optimizers = {k: torch.optim.Adam(n.parameters(), RATE, BETAS) for k, n in networks.items()}
    bce = nn.BCEWithLogitsLoss()

    def judge(a, b, real):
        logits = networks["D"](torch.cat([a, b], 1))
        return bce(logits, torch.full_like(logits, float(real)))

    for step in range(STEPS):
        pair = torch.rand(2, BATCH, 3, SIZE, SIZE) * 2 - 1
        made[f"step{step}/real_A"], made[f"step{step}/real_B"] = pair.numpy()
        a, b = pair.double()
        fake = networks["G"](a)
        terms = {"d_fake": judge(a, fake.detach(), False), "d_real": judge(a, b, True)}
        terms["d_total"] = 0.5 * (terms["d_fake"] + terms["d_real"])
        optimizers["D"].zero_grad()
        terms["d_total"].backward()
        optimizers["D"].step()
        terms |= {"g_adv": judge(a, fake, True), "g_l1": nn.functional.l1_loss(fake, b)}
        terms["g_total"] = terms["g_adv"] + LAMBDA_L1 * terms["g_l1"]
        optimizers["G"].zero_grad()
        terms["g_total"].backward()
        optimizers["G"].step()
        made |= {f"step{step}/{name}": value.item() for name, value in terms.items()}
    for name, network in networks.items():
        made |= arrays(f"final/{name}", network.float())
    return made


if __name__ == "__main__":
    for kind, norm in (("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d)):
        np.savez_compressed(f"{sys.argv[1]}/pix2pix_{kind}.npz", **run(norm))
