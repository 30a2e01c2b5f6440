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
        arrays = names.plain(arrays)
        rows = _kind(module, name).rows(arrays)
        variables[module.NETWORKS[name]] = names.to_ours(name, arrays, rows)
    return variables


def to_authors(
    system: str, variables: Mapping[str, Mapping], **options: object
) -> dict[str, dict[str, np.ndarray]]:
    """Inverse of `from_authors`: the same keys and layouts; networks may be missing.

    options: what the keys depend on and the variables do not show, such as dropout=True for
    "cyclegan".
    """
    module, result = _system(system), {}
    for theirs, ours in module.NETWORKS.items():
        if ours in variables:
            leaves = flatten(variables[ours])
            result[theirs] = names.to_theirs(leaves, _kind(module, theirs).rows(leaves, **options))
    return module.repeat(result) if hasattr(module, "repeat") else result


def method_fields(system: str, networks: Networks) -> dict[str, object]:
    """The fields of config.method that the authors' arrays determine.

    Raises ForeignFileError for an array that is missing.
    """
    module, fields = _system(system), dict[str, object]()
    try:
        for name, arrays in networks.items():
            fields |= _kind(module, name).fields(name, names.plain(arrays))
    except KeyError as error:
        raise ForeignFileError(
            f"{system} needs the key {error}: give a state_dict of the authors' released code"
        ) from None
    return module.combine(fields) if hasattr(module, "combine") else fields


def _system(name: str) -> ModuleType:
    if name not in systems():
        raise ConfigError(f"unknown system {name!r}: use one of {', '.join(systems())}")
    return _module(name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _kind(module: ModuleType, network: str) -> names.Kind:
    return next(kind for start, kind in module.KINDS.items() if network.startswith(start))
