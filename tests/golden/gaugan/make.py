"""Made sampled.npz beside it: `python make.py CHECKOUT FOLDER`, torch 2.13.0.

CHECKOUT: NVlabs/SPADE at fecacc9, whose own generator, encoder and `inference` run here in eval
mode, as its test.py does; the synchronized batch normalization, which is a repository of its own,
is PyTorch's, which is the same in that mode. The noise of the style is stored. Float64; weights are
multiples of 1/128, so that they are exact in float32 and compress well.
"""

import itertools
import sys
import types

import numpy as np
import torch

root, folder = sys.argv[1:]
for package in ("models", "util"):  # theirs import more than the test needs
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [f"{root}/{package}"]
for name in ("util.util", "models.networks", "models.networks.sync_batchnorm", "torchvision"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["models"].networks = sys.modules["models.networks"]
sys.modules["models.networks"].__path__ = [f"{root}/models/networks"]
sys.modules["util"].util = sys.modules["util.util"]
sys.modules["models.networks.sync_batchnorm"].SynchronizedBatchNorm2d = torch.nn.BatchNorm2d
from models.networks.encoder import ConvEncoder  # noqa: E402
from models.networks.generator import SPADEGenerator  # noqa: E402
from models.pix2pix_model import Pix2PixModel  # noqa: E402

torch.set_default_dtype(torch.float64)
SIZE, CLASSES, STYLE = 32, 3, 256
opt = types.SimpleNamespace(
    ngf=1, z_dim=STYLE, use_vae=True, crop_size=SIZE, aspect_ratio=1.0, label_nc=CLASSES,
    semantic_nc=CLASSES, num_upsampling_layers="normal", norm_G="spectralspadesyncbatch3x3",
    norm_E="spectralinstance", contain_dontcare_label=False, no_instance=True, gpu_ids=[],
)  # fmt: skip

# From 256 pixels on their encoder has the six layers that its last ones need.
encoder = ConvEncoder(types.SimpleNamespace(**{**vars(opt), "crop_size": 256}))
nets = {"G": SPADEGenerator(opt), "E": encoder}
generator = torch.Generator().manual_seed(11)
out = {}
for net in nets.values():
    for name, tensor in itertools.chain(net.named_parameters(), net.named_buffers()):
        if tensor.is_floating_point() and not name.endswith(("_u", "_v")):
            noise = torch.randn(tensor.shape, generator=generator)
            spread = 1.5 / tensor[0].numel() ** 0.5 if tensor.dim() > 1 else 0.1
            value = spread * noise + (1 if name.endswith("running_var") else 0)
            tensor.data = torch.round(128 * value) / 128
    # The vectors of spectral normalization settle in training mode.
    with torch.no_grad():
        for module in net.modules():
            for hook in module._forward_pre_hooks.values():
                for _ in range(20):
                    hook.compute_weight(module, True)
for label, net in nets.items():
    for key, value in net.state_dict().items():
        value.copy_(value.float() if value.is_floating_point() else value)
        whole = not value.is_floating_point()
        out[f"init/{label}/{key}"] = value.numpy().astype(np.int64 if whole else np.float32)

model = Pix2PixModel.__new__(Pix2PixModel)
torch.nn.Module.__init__(model)
model.opt, model.netG, model.netE, model.netD = opt, nets["G"], nets["E"], None
model.FloatTensor, model.ByteTensor = torch.DoubleTensor, torch.ByteTensor
model.eval()
random = np.random.default_rng(4)
label = random.integers(0, CLASSES, (1, 1, SIZE, SIZE))
image = random.uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
noise = []


def draw(like):
    noise.append(random.normal(size=like.shape))
    return torch.tensor(noise[-1])


torch.randn_like = draw
data = {"label": torch.tensor(label), "image": torch.tensor(image).double(), "instance": None}
fake = model(data, mode="inference")
mean, log_variance = nets["E"](data["image"])
assert len(noise) == 1
out |= {"label": label, "image": image, "noise": noise[0], "fake": fake.numpy()}
out |= {"mean": mean.detach().numpy(), "log_variance": log_variance.detach().numpy()}
np.savez_compressed(f"{folder}/sampled.npz", **out)
