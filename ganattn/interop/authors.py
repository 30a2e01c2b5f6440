"""The authors' checkpoints in and out, for every system that has a table of names."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import jax
import numpy as np

from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop import names

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
    table = _system(system)
    unknown = sorted(set(networks) - set(table.NETWORKS))
    if unknown or not networks:
        raise ForeignFileError(
            f"{system} has no network {', '.join(map(repr, unknown)) or 'in this file'}: "
            f"expected {', '.join(table.NETWORKS)}"
        )
    variables = {}
    for name, arrays in networks.items():
        arrays = names.plain(arrays)
        variables[table.NETWORKS[name]] = names.to_ours(name, arrays, table.rows(name, arrays))
    return variables


def to_authors(
    system: str, variables: Mapping[str, Mapping], **options: object
) -> dict[str, dict[str, np.ndarray]]:
    """Inverse of `from_authors`: the same keys and layouts; networks may be missing.

    options: what the keys depend on and the variables do not show, such as dropout=True for
    "cyclegan".
    """
    table = _system(system)
    return {
        theirs: names.to_theirs(
            variables[ours], table.rows(theirs, _paths(variables[ours]), **options)
        )
        for theirs, ours in table.NETWORKS.items()
        if ours in variables
    }


def method_fields(system: str, networks: Networks) -> dict[str, object]:
    """The fields of config.method that the authors' arrays determine.

    Raises ForeignFileError for an array that is missing.
    """
    arrays = {name: names.plain(network) for name, network in networks.items()}
    try:
        return _system(system).config_values(arrays)
    except KeyError as error:
        raise ForeignFileError(
            f"{system} needs the key {error}: give a state_dict of the authors' released code"
        ) from None


def _system(name: str) -> ModuleType:
    if name not in systems():
        raise ConfigError(f"unknown system {name!r}: use one of {', '.join(systems())}")
    return _module(name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _paths(tree: Mapping) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
