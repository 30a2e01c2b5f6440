"""The authors' checkpoints in and out, for every system that has a table of names."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop import names
from ganattn.state import flatten

Networks = Mapping[str, Mapping[str, np.ndarray]]


def systems() -> list[str]:
    """Names of the systems whose checkpoints can be read: the modules that define NETWORKS."""
    modules = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in modules if hasattr(_module(name), "NETWORKS"))


def from_authors(system: str, networks: Networks) -> dict[str, dict]:
    """Variables from the authors' arrays: {"genA2B": {key: array}} to {"generator_a2b": {...}}.

    Networks may be missing; arrays keep their dtype and a leading "module." is dropped. Raises
    ConfigError for an unknown system, ForeignFileError for unknown networks, and for keys that are
    missing or unknown.
    """
    module = _system(system)
    unknown = sorted(set(networks) - set(module.NETWORKS))
    if unknown or not networks:
        raise ForeignFileError(
            f"{system} has no network {', '.join(map(repr, unknown)) or 'in this file'}: "
            f"expected {', '.join(module.NETWORKS)}"
        )
    variables = {}
    for name, arrays in networks.items():
        kind, arrays = _kind(module, name), names.plain(arrays)
        rows = kind.rows(arrays)
        variables[module.NETWORKS[name]] = names.to_ours(name, kind.complete(arrays), rows)
    return variables


def to_authors(
    system: str, variables: Mapping[str, Mapping], **options: object
) -> dict[str, dict[str, np.ndarray]]:
    """Inverse of `from_authors`: the same keys and layouts; networks may be missing.

    options: what the keys depend on and the variables do not show, such as dropout=True for
    "cyclegan". Raises CheckpointError for a network that the authors' code cannot build.
    """
    module, result = _system(system), {}
    for theirs, ours in module.NETWORKS.items():
        if ours in variables:
            leaves = flatten(variables[ours])
            if not hasattr(module, "theirs") or module.theirs(ours, leaves) == theirs:
                rows = _kind(module, theirs).rows(leaves, **options)
                result[theirs] = names.to_theirs(theirs, leaves, rows)
    return module.repeat(result) if hasattr(module, "repeat") else result


def method_fields(
    system: str, networks: Networks, given: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The fields of config.method that the authors' arrays determine, given others.

    given: fields that answer what the arrays do not show, such as up_sampling="more" for "spade".
    Raises ForeignFileError for an array that is missing or of another rank, ConfigError where
    `given` lacks an answer or contradicts the arrays.
    """
    module, fields = _system(system), dict[str, object]()
    try:
        for name, arrays in networks.items():
            fields |= _kind(module, name).fields(name, names.plain(arrays))
    except KeyError as error:
        raise ForeignFileError(
            f"{system} needs the key {error}: give a state_dict of the authors' released code"
        ) from None
    except (IndexError, ValueError):
        raise ForeignFileError(
            f"an array of network {name!r} has too few or too many dimensions for {system}: "
            "give a state_dict of the authors' released code"
        ) from None
    return module.combine(fields, given or {}) if hasattr(module, "combine") else fields


def option_names(system: str) -> tuple[str, ...]:
    """The fields of config.method that the authors' keys depend on."""
    return getattr(_system(system), "OPTIONS", ())


def to_files(system: str, networks: Networks, step: int) -> dict[str, dict]:
    """What the authors' code writes at a step: file names and contents; see `FILES` in `names`."""
    templates = getattr(_system(system), "FILES", {"": "latest_net_{network}.pth"})
    contents: dict[str, dict] = {}
    for name, arrays in networks.items():
        template = next(file for start, file in templates.items() if name.startswith(start))
        kind, _, rest = name.partition("_")
        file = template.format(network=name, kind=kind, step=step)
        if "{network}" in template:
            contents[file] = dict(arrays)
        else:
            contents.setdefault(file, {})[rest if "{kind}" in template else name] = arrays
    return contents


def networks_of(system: str) -> tuple[str, ...]:
    """The authors' names of all networks. Raises ConfigError for an unknown system."""
    return tuple(_system(system).NETWORKS)


def _system(name: str) -> ModuleType:
    if name not in systems():
        raise ConfigError(f"unknown system {name!r}: use one of {', '.join(systems())}")
    return _module(name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _kind(module: ModuleType, network: str) -> names.Kind:
    return next(kind for start, kind in module.KINDS.items() if network.startswith(start))
