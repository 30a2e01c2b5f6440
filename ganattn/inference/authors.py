"""Checkpoints of the authors' code: their files, and the config that fits them."""

import copy
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ganattn import config as configuration
from ganattn import interop, methods
from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop.tensorflow_files import find_tensorflow, read_tensorflow, write_tensorflow
from ganattn.interop.torch_files import read_torch
from ganattn.interop.torch_writer import write_torch
from ganattn.state import Variables

Files = str | os.PathLike | Sequence[str | os.PathLike]
_NETWORK = re.compile(r"_net_(\w+)\.")  # latest_net_G_A.pth
_KIND = re.compile(r"^(gen|dis)_\w+\.pt$")  # gen_00000010.pt
TENSORFLOW = "tf"  # the variant of a config that follows the authors' TensorFlow code


def read_authors(
    files: Files,
    system: str,
    config: ConfigDict | None = None,
    given: Collection[str] | None = None,
) -> tuple[ConfigDict, dict[str, dict[str, Any]]]:
    """Config and variables of an authors' checkpoint: a config with the files' sizes.

    files: one file or several. A file holds all networks by name, or one network, which its name
    gives (latest_net_G_A.pth) or a prefix ("G_A=FILE"); gen_*.pt and dis_*.pt of UNIT and
    MUNIT hold the networks gen_a, gen_b, dis_a and dis_b, or those of another prefix ("gen=FILE").
    A checkpoint of TensorFlow is given as `find_tensorflow` takes it. Without a VGG file the
    perceptual loss is off.

    config: answers what the files do not show, such as method.up_sampling of SPADE, and is not
    changed; None: the system's own, which answers nothing. given: the fields of config.method that
    answer; None: all of a given config. Raises ForeignFileError when a file is not such a
    checkpoint, CheckpointError when arrays do not fit each other, ConfigError when an answer is
    missing or contradicts the files.
    """
    listed = [files] if isinstance(files, str | os.PathLike) else list(files)
    networks: dict[str, Any] = {}
    for file in listed:
        content = _networks(os.fspath(file), system)
        double = sorted(set(content) & set(networks))
        if double:
            raise ForeignFileError(f"{file} holds {double[0]} again: name each network once")
        networks |= content
    variables = interop.from_authors(system, networks)
    answers = {} if config is None else dict(config.method.items())
    if given is not None:
        answers = {name: answers[name] for name in given}
    if config is None:
        config = configuration.load(configuration.find(system), variant_of(listed))
    config = copy.deepcopy(config)
    with config.unlocked():
        config.method.update(interop.method_fields(system, networks, answers))
        if not config.method.get("perceptual_weights", "file"):
            config.method.perceptual_weight = 0.0
    methods.create(config).check_variables(variables)
    return config, variables


def variant_of(files: Sequence[str | os.PathLike]) -> str:
    """The config's variant for the code base that wrote the files."""
    return TENSORFLOW if any(map(find_tensorflow, files)) else ""


def write_authors(
    folder: str | os.PathLike,
    config: ConfigDict,
    variables: Mapping[str, Variables],
    step: int = 0,
) -> list[Path]:
    """Writes networks as the authors' code does, in its names and layouts; returns the files.

    config: of the run, whose method has the authors' names. variables: any of its networks. step:
    for names of files. The inverse of `read_authors`; optimizer states are not written. Raises
    ConfigError for a method without the authors' names, CheckpointError for a network that their
    code cannot build.
    """
    system = config.method.name
    if system not in interop.systems():
        known = ", ".join(interop.systems())
        raise ConfigError(f"the authors' layout of {system} is not known: it is that of {known}")
    options = {name: config.method[name] for name in interop.option_names(system)}
    networks = interop.to_authors(system, variables, **options)
    contents = interop.to_files(system, networks, step)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        if Path(file).suffix in (".pt", ".pth"):
            partial = folder / f".{file}.{os.getpid()}.partial"
            write_torch(partial, content)
            partial.replace(folder / file)
        else:
            write_tensorflow(folder / file, content)
    return [folder / file for file in contents]


def _networks(argument: str, system: str) -> dict[str, Any]:
    """The networks of a file by the authors' names."""
    checkpoint = find_tensorflow(argument)
    if checkpoint is not None:
        return read_tensorflow(checkpoint, interop.networks_of(system))
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
    networks = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    return {f"{prefix}_{key}" if prefix else key: value for key, value in networks.items()}
