"""Made fal_{batch,instance}.npz: `python make.py CHECKOUT FOLDER`, with torch 2.13.0.

CHECKOUT: voidstrike/ASGIT at 235f922, whose own networks, losses and order of updates run here, at
256 pixels and batch 1, the only size that they accept. Changed: the widths that they write as
numbers follow WIDTH; dropout is off, because its draws cannot be shared; the rounds are recorded
with a copy of the discriminator, because today's PyTorch refuses to differentiate through weights
that were updated in between. Float64, weights rounded to float32 so that they are exact in both.
"""

import copy
import functools
import inspect
import itertools
import re
import sys
import types

import numpy as np
import torch
from torch import nn

RATE, BETAS, SIZE, WIDTH, BLOCKS, STEPS = 2e-4, (0.5, 0.999), 256, 2, 5, 2
ROUNDS = {"batch": 2, "instance": 3}
LOSSES = ("D_fake", "D_real", "D", "G_GAN", "G_L1", "G")

root, folder = sys.argv[1:]
sys.modules["models"] = types.ModuleType("models")  # theirs imports more than the steps need
sys.modules["models"].__path__ = [f"{root}/models"]
from models import networks  # noqa: E402
from models.fal_model import FALModel  # noqa: E402

torch.set_default_dtype(torch.float64)
NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False),
}


def feedback_decoder():
    """Their class, with widths of 64 * n as WIDTH * n."""
    source = inspect.getsource(networks.GeneratorDecoder)
    source = re.sub(r"\b(64|256|512)\b", lambda m: str(int(m[0]) // 64 * WIDTH), source)
    scope = vars(networks).copy()
    exec(source, scope)
    return scope["GeneratorDecoder"]


class Model(FALModel):
    def forward(self):
        """Theirs, recorded with a copy of the discriminator; its averages move on."""
        live, self.netD = self.netD, copy.deepcopy(self.netD)
        super().forward()
        with torch.no_grad():
            for mine, theirs in zip(live.buffers(), self.netD.buffers(), strict=True):
                mine.copy_(theirs)
        self.netD = live


def randomize(nets):
    generator = torch.Generator().manual_seed(17)
    for name, p in itertools.chain(*(net.named_parameters() for net in nets.values())):
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() > 1:
            value = noise * 1.5 / p[0].numel() ** 0.5
        else:
            value = 0.1 * noise + (0 if name.endswith("bias") else 1)
        p.data = value.float().double()


def create(norm):
    model = Model.__new__(Model)
    encoder = networks.GeneratorEncoder(3, 3, WIDTH, NORMS[norm], False, BLOCKS)
    nets = {
        "GE": encoder,
        "GD": feedback_decoder()(encoder.decoder, NORMS[norm]),
        "D": networks.NLayerDiscriminator(6, WIDTH, norm_layer=NORMS[norm]),
    }
    randomize(nets)
    for name, net in nets.items():
        setattr(model, f"net{name}", net)
    model.opt = types.SimpleNamespace(lambda_L1=100.0, direction="AtoB")
    model.iter_K, model.device = ROUNDS[norm], "cpu"
    model.criterionGAN, model.criterionL1 = networks.GANLoss("vanilla"), nn.L1Loss()
    both = list(nets["GE"].parameters()) + list(nets["GD"].parameters())  # as theirs: with repeats
    model.optimizer_G = torch.optim.Adam(both, lr=RATE, betas=BETAS)
    model.optimizer_D = torch.optim.Adam(nets["D"].parameters(), lr=RATE, betas=BETAS)
    return model, nets


def state(when, nets, dtype):
    arrays = {
        f"{when}/{name}/{key}": value.numpy()
        for name, net in nets.items()
        for key, value in net.state_dict().items()
    }
    return {
        key: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x.copy()
        for key, x in arrays.items()
    }


def picture(random):
    """Squares of 8 pixels in random colors."""
    colors = random.uniform(-1, 1, (1, 3, SIZE // 8, SIZE // 8)).astype(np.float32)
    return colors.repeat(8, 2).repeat(8, 3)


for norm, rounds in ROUNDS.items():
    model, nets = create(norm)
    random = np.random.default_rng(6)
    out = {"meta": np.array([SIZE, WIDTH, BLOCKS, rounds, STEPS])}
    out |= state("init", nets, np.float32)
    for i in range(STEPS):
        real = {d: picture(random) for d in "AB"}
        batch = {d: torch.tensor(x).double() for d, x in real.items()}
        model.set_input(batch | {"A_paths": ""})
        model.optimize_parameters()
        out |= {f"step{i}/real_{d}": x for d, x in real.items()}
        out |= {f"step{i}/{n}": np.array(float(getattr(model, f"loss_{n}"))) for n in LOSSES}
        if i == 0:
            out["step0/fake_B"] = model.fake_B.detach().numpy()[..., ::8, ::8]
            grad = nets["GD"].fe[0].weight.grad
            out["grad0/GD/fe.0.weight"] = grad.numpy()
    out |= state("final", nets, np.float64)
    np.savez_compressed(f"{folder}/fal_{norm}.npz", **out)
