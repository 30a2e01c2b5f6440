"""Made image_translation.npz: `python make.py NETWORKS.PY FOLDER`, with torch 2.13.0.

NETWORKS.PY is models/networks.py of junyanz/pytorch-CycleGAN-and-pix2pix or of a repository that
keeps its classes (used: voidstrike/ASGIT at 235f922). The steps have the order and the losses of
the authors' models with gan_mode wgangp; their models never call cal_gradient_penalty, so its place
here is ours: added to a discriminator's loss, on the mixture of what the discriminator was shown.
Float64, weights rounded to float32 so that they are exact in both.
"""

import argparse
import importlib.util
import itertools
import sys

import numpy as np
import torch

RATE, BETAS = 2e-4, (0.5, 0.999)
EPOCHS = 130


def load(path):
    spec = importlib.util.spec_from_file_location("networks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(network):
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            positive = "running_var" in name or (name.endswith("weight") and tensor.dim() == 1)
            spread = (tensor.dim() > 1 and tensor[0].numel() ** -0.5) or 0.1
            value = spread * torch.randn(tensor.shape) + float(positive)
            tensor.copy_(value.abs() if positive else value)
    return network


def arrays(prefix, network):
    return {f"{prefix}/{k}": v.float().numpy().copy() for k, v in network.state_dict().items()}


def penalty_of(their, weight, network, real, fake, shares):
    """cal_gradient_penalty with given shares of the real images."""
    draw, torch.rand = torch.rand, lambda *size, device=None: shares.reshape(size)
    try:
        return their.cal_gradient_penalty(network, real, fake, "cpu", lambda_gp=weight)[0]
    finally:
        torch.rand = draw


class Steps:
    """Networks in training, and what the file gets of them."""

    def __init__(self, their, prefix, groups, networks, weight):
        self.their, self.prefix, self.weight = their, prefix, weight
        self.networks, self.result = networks, {}
        for name, network in networks.items():
            self.result |= arrays(f"{prefix}/init/{name}", start(network))
            network.double()
        self.optimizers = {
            group: torch.optim.Adam(
                itertools.chain(*(networks[n].parameters() for n in names)), RATE, BETAS
            )
            for group, names in groups.items()
        }
        self.gan = their.GANLoss("wgangp")

    def images(self, step, count, size):
        pair = torch.rand(2, count, 3, size, size) * 2 - 1
        shares = torch.rand(2, count)
        for i, domain in enumerate("AB"):
            self.result[f"{self.prefix}/step{step}/real_{domain}"] = pair[i].numpy()
            self.result[f"{self.prefix}/step{step}/share_{domain}"] = shares[i].numpy()
        return pair.double(), shares.double()

    def descend(self, group, loss):
        self.optimizers[group].zero_grad()
        loss.backward()
        self.optimizers[group].step()

    def discriminate(self, name, real, fake, shares):
        """(halved loss, penalty)."""
        network, fake = self.networks[name], fake.detach()
        loss = 0.5 * (self.gan(network(fake), False) + self.gan(network(real), True))
        return loss, penalty_of(self.their, self.weight, network, real, fake, shares)

    def report(self, step, **terms):
        for name, value in terms.items():
            self.result[f"{self.prefix}/step{step}/{name}"] = value.item()

    def finish(self):
        for name, network in self.networks.items():
            self.result |= arrays(f"{self.prefix}/final/{name}", network)
        return self.result


def pix2pix(their, steps=2, size=16, width=2):
    """A ResNet of one block and a PatchGAN of two layers, without normalization."""
    torch.manual_seed(0)
    none = their.get_norm_layer("none")
    networks = {
        "G": their.ResnetGenerator(3, 3, width, none, n_blocks=1),
        "D": their.NLayerDiscriminator(6, width, 2, none),
    }
    run = Steps(their, "pix2pix", {"G": "G", "D": "D"}, networks, 10.0)
    for step in range(steps):
        (a, b), shares = run.images(step, 2, size)
        fake = networks["G"](a)
        shown = [torch.cat([a, x], 1) for x in (b, fake)]
        d_gan, d_penalty = run.discriminate("D", *shown, shares[1])
        run.descend("D", d_gan + d_penalty)
        g_adv = run.gan(networks["D"](torch.cat([a, fake], 1)), True)
        g_l1 = 100.0 * torch.nn.functional.l1_loss(fake, b)
        run.descend("G", g_adv + g_l1)
        run.report(step, d_gan=d_gan, d_penalty=d_penalty, d_total=d_gan + d_penalty)
        run.report(step, g_adv=g_adv, g_l1=g_l1, g_total=g_adv + g_l1)
    return run.finish()


def cyclegan(their, steps=1, size=32, width=1):
    """U-Nets of five levels with instance normalization, and pixel discriminators."""
    torch.manual_seed(1)
    norm = their.get_norm_layer("instance")
    networks = {n: their.UnetGenerator(3, 3, 5, width, norm) for n in ("G_A", "G_B")}
    networks |= {n: their.PixelDiscriminator(3, 2, norm) for n in ("D_A", "D_B")}
    groups = {"G": ("G_A", "G_B"), "D": ("D_A", "D_B")}
    # A weight of 10 would make the rounding of gradients that are 0 (biases before norms) matter.
    run, l1 = Steps(their, "cyclegan", groups, networks, 0.01), torch.nn.functional.l1_loss
    for step in range(steps):
        (a, b), shares = run.images(step, 2, size)
        g_a, g_b = networks["G_A"], networks["G_B"]
        fake_b, fake_a = g_a(a), g_b(b)
        terms = {
            "cycle_A": 10 * l1(g_b(fake_b), a),
            "cycle_B": 10 * l1(g_a(fake_a), b),
            "idt_A": 5 * l1(g_a(b), b),
            "idt_B": 5 * l1(g_b(a), a),
            "g_adv_A": run.gan(networks["D_A"](fake_b), True),
            "g_adv_B": run.gan(networks["D_B"](fake_a), True),
        }
        terms["g_total"] = sum(terms.values())
        run.descend("G", terms["g_total"])
        for name, real, fake, share in (("D_A", b, fake_b, 1), ("D_B", a, fake_a, 0)):
            terms[f"{name}_gan"], terms[f"{name}_penalty"] = run.discriminate(
                name, real, fake, shares[share]
            )
        terms["d_total"] = sum(value for name, value in terms.items() if name.startswith("D_"))
        run.descend("D", terms["d_total"])
        run.report(step, **terms)
    return run.finish()


def forwards(their):
    """Networks without normalization on one image, and a U-Net's."""
    torch.manual_seed(2)
    none, result = their.get_norm_layer("none"), {}
    networks = {
        "unet": their.UnetGenerator(3, 3, 5, 1, none),
        "pixel": their.PixelDiscriminator(3, 2, none),
    }
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    result["forward/input"] = image.numpy()
    for name, network in networks.items():
        result |= arrays(f"forward/{name}/state", start(network))
        result[f"forward/{name}/output"] = network.double()(image.double()).detach().numpy()
    return result


def rates(their):
    """The rate of each epoch (of 100 + 100), with the scheduler stepping at the end of epochs."""
    result = {}
    for policy in ("linear", "step", "plateau", "cosine"):
        options = argparse.Namespace(
            lr_policy=policy, epoch_count=1, niter=100, niter_decay=100, lr_decay_iters=50
        )
        optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], RATE)
        scheduler, values = their.get_scheduler(optimizer, options), []
        for _ in range(EPOCHS):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(*([0] if policy == "plateau" else []))  # their metric stays 0
        result[f"rates/{policy}"] = np.array(values)
    return result


def counts(their):
    """Parameters of the authors' netG and netD with their default widths."""
    result = {}
    for norm in ("instance", "batch", "none"):
        layer = their.get_norm_layer(norm)
        networks = {
            "resnet_9blocks": their.ResnetGenerator(3, 3, 64, layer, n_blocks=9),
            "resnet_6blocks": their.ResnetGenerator(3, 3, 64, layer, n_blocks=6),
            "unet_256": their.UnetGenerator(3, 3, 8, 64, layer),
            "unet_128": their.UnetGenerator(3, 3, 7, 64, layer),
            "basic": their.NLayerDiscriminator(3, 64, 3, layer),
            "pixel": their.PixelDiscriminator(3, 64, layer),
        }
        for name, network in networks.items():
            result[f"counts/{name}/{norm}"] = sum(p.numel() for p in network.parameters())
    return result


if __name__ == "__main__":
    code = load(sys.argv[1])
    parts = [make(code) for make in (pix2pix, cyclegan, forwards, rates, counts)]
    merged = {name: value for part in parts for name, value in part.items()}
    np.savez_compressed(f"{sys.argv[2]}/image_translation.npz", **merged)
