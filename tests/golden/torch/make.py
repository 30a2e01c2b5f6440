"""Made zip.pt, legacy.pt and expected.npz: `python make.py FOLDER`, with torch 2.13.0.

A bfloat16 tensor is expected as float32, under its name with `@bfloat16`.
"""

import sys

import numpy as np
import torch


def checkpoint() -> dict:
    """What a training script might save: views, every type, and leaves that are no tensors."""
    torch.manual_seed(0)
    base = torch.randn(6, 5)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    tensors = {
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "transposed": base.t(),
        "window": base[1:4, 1::2],
        "row": base[2],
        "expanded": base[0, :1].expand(4),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(2, 3).bfloat16(),
        "float64": torch.randn(2, dtype=torch.float64),
        "int64_scalar": torch.tensor(-(2**40)),
        "int32": torch.tensor([-70_000, 70_000], dtype=torch.int32),
        "int16": torch.tensor([-300, 300], dtype=torch.int16),
        "int8": torch.tensor([-5, 5], dtype=torch.int8),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
    }
    others = {"step": 12345, "loss": 0.25, "name": "ugatit", "best": None, "betas": (0.5, 0.999)}
    history = [1, "two", [3.0, {"lr": torch.tensor(0.5)}]]
    return {"network": network.state_dict(), "tensors": tensors, **others, "history": history}


def flatten(tree: dict) -> dict[str, np.ndarray]:
    """The tensors of two levels of dicts as {"outer/inner": array}."""
    flat = {}
    for outer in ("network", "tensors"):
        for name, tensor in tree[outer].items():
            if tensor.dtype == torch.bfloat16:
                name, tensor = f"{name}@bfloat16", tensor.float()
            flat[f"{outer}/{name}"] = tensor.detach().contiguous().numpy()
    return flat


if __name__ == "__main__":
    saved = checkpoint()
    torch.save(saved, f"{sys.argv[1]}/zip.pt")
    torch.save(saved, f"{sys.argv[1]}/legacy.pt", _use_new_zipfile_serialization=False)
    np.savez_compressed(f"{sys.argv[1]}/expected.npz", **flatten(saved))
