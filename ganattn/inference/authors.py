"""Checkpoints of the authors' PyTorch code: their files, and the config that fits them."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn import interop, methods
from ganattn.errors import ForeignFileError
from ganattn.interop.torch_files import read_torch

Files = str | os.PathLike | Sequence[str | os.PathLike]
_NETWORK = re.compile(r"_net_(\w+)\.")  # latest_net_G_A.pth
_KIND = re.compile(r"^(gen|dis)_\w+\.pt$")  # gen_00000010.pt


def read_authors(files: Files, system: str) -> tuple[ConfigDict, dict[str, dict[str, Any]]]:
    """Config and variables of an authors' checkpoint: the system's config with the files' sizes.

    files: one file or several. A file holds all networks by name, or one network, which its name
    gives (latest_net_G_A.pth) or a prefix ("G_A=FILE"); MUNIT's gen_*.pt and dis_*.pt hold the
    networks gen_a, gen_b, dis_a and dis_b, or those of another prefix ("gen=FILE"). Without a VGG19
    file the perceptual loss is off. Raises ForeignFileError when a file is not such a checkpoint,
    CheckpointError when arrays do not fit each other.
    """
    networks: dict[str, Any] = {}
    for file in [files] if isinstance(files, str | os.PathLike) else files:
        content = _networks(os.fspath(file))
        double = sorted(set(content) & set(networks))
        if double:
            raise ForeignFileError(f"{file} holds {double[0]} again: name each network once")
        networks |= content
    variables = interop.from_authors(system, networks)
    config = configuration.load(configuration.find(system))
    with config.unlocked():
        config.method.update(interop.method_fields(system, networks))
        if not config.method.get("perceptual_weights", "file"):
            config.method.perceptual_weight = 0.0
    methods.create(config).check_variables(variables)
    return config, variables


def _networks(argument: str) -> dict[str, Any]:
    """The networks of a file by the authors' names."""
    is_named = "=" in argument and not Path(argument).exists()
    name, path = argument.split("=", 1) if is_named else ("", argument)
    content = read_torch(path)
    if any(isinstance(value, np.ndarray) for value in content.values()):
        match = _NETWORK.search(Path(path).name)
        if not name and not match:
            raise ForeignFileError(
                f"{path} holds one network without its name: write NAME=FILE, such as G_A={path}"
            )
        return {name or match[1]: content}  # type: ignore[index]
    kind = _KIND.match(Path(path).name)
    prefix = name or (kind[1] if kind else "")
    networks = {
        key: value
        for key, value in content.items()
        if isinstance(value, Mapping) and "param_groups" not in value  # of an optimizer
    }
    return {f"{prefix}_{key}" if prefix else key: value for key, value in networks.items()}
