"""Writes inception.npz and pictures.json: what the reference packages say of made-up pictures.

Run with torch, torchvision, pytorch-fid 0.3.0, torch-fidelity 0.4.0, clean-fid 0.1.35 and
scikit-image 0.26: `python tests/golden/metrics/make.py`.
"""

import json
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytorch_fid.inception
import torch
import torchvision
from cleanfid.resize import build_resizer
from pytorch_fid.inception import InceptionV3
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

HERE = Path(__file__).parent
TAPS = ("64", "192", "768", "2048")


def pictures(side):
    """(2, side, side, 3) uint8: waves of growing frequency."""
    n, i, j, c = np.ogrid[1:3, :side, :side, 2:5]
    return ((n * i * j // 97 + c * i * i // 61 + 31 * j // n) % 256).astype(np.uint8)


def weights():
    """The FID network's state_dict, each array drawn from its name."""
    network = torchvision.models.inception_v3(
        weights=None, num_classes=1008, aux_logits=False, init_weights=False
    )
    state = {}
    for name, value in network.state_dict().items():
        shape, rng = tuple(value.shape), np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("conv.weight"):
            drawn = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name == "fc.weight":
            drawn = rng.standard_normal(shape) * np.sqrt(1 / shape[1])
        elif name.endswith(("bn.weight", "running_var")):
            drawn = rng.uniform(0.5, 1.5, shape)
        else:
            drawn = 0.1 * rng.standard_normal(shape)
        state[name] = torch.from_numpy(np.asarray(drawn, np.float32))
    return state | {k: v for k, v in network.state_dict().items() if k not in state}


@torch.no_grad()
def features(state):
    """{convention_side/tap: (2, channels)}."""
    pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: state
    theirs = InceptionV3([0, 1, 2, 3]).eval()
    bare = InceptionV3([0, 1, 2, 3], resize_input=False, normalize_input=False).eval()
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file.name)
        wanted = [*TAPS, "logits", "logits_unbiased"]
        tf = FeatureExtractorInceptionV3("inception", wanted, file.name).eval()
    result = {}
    for side in (256, 299):
        x = pictures(side)
        nchw = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        clean = np.stack([build_resizer("clean")(each) for each in x]).transpose(0, 3, 1, 2)
        found = {
            "pytorch-fid": zip(TAPS, theirs(nchw.float() / 255), strict=True),
            "tf": zip(wanted, tf(nchw), strict=True),
            "clean": zip(TAPS, bare((torch.from_numpy(clean.copy()) - 128) / 128), strict=True),
        }
        for convention, taps in found.items():
            for tap, value in taps:
                if tap.startswith("logits") and side == 256:
                    continue
                mean = value.mean((2, 3)) if value.ndim == 4 else value
                result[f"{convention}_{side}/{tap}"] = mean.numpy()
    return result


def similarities():
    """PSNR and SSIM of pictures against rolled ones."""
    one = pictures(64)[0]
    other = np.roll(one, 1, 0)
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return {
        "psnr": peak_signal_noise_ratio(one, other, data_range=255),
        "ssim_uniform": structural_similarity(one, other, channel_axis=-1),
        "ssim_gaussian": structural_similarity(one, other, channel_axis=-1, **wang),
        "ssim_grey": structural_similarity(one[..., 0], other[..., 0]),
    }


if __name__ == "__main__":
    np.savez_compressed(HERE / "inception.npz", **features(weights()))
    text = json.dumps({k: float(v) for k, v in similarities().items()}, indent=1)
    (HERE / "pictures.json").write_text(text + "\n")
