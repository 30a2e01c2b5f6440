"""Checkpoints of the authors' code in and out, and export for other programs."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType

import jax
import numpy as np

from ganattn.errors import ConfigError, ForeignFileError
from ganattn.interop import names

__all__ = ["from_authors", "method_fields", "systems", "to_authors"]


def systems() -> list[str]:
    """Names of the systems whose checkpoints can be read: the modules that define NETWORKS."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if hasattr(_module(name), "NETWORKS"))


def from_authors(system: str, networks: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict]:
    """Variables from the authors' arrays: {"genA2B": {key: array}} to {"generator_a2b": {...}}.

    Networks may be missing; arrays keep their dtype and a leading "module." is dropped. Raises
    ConfigError for an unknown system, ForeignFileError for unknown networks, or keys that are
    missing or unknown.
    """
    table = _system(system)
    unknown = sorted(set(networks) - set(table.NETWORKS))
    if unknown or not networks:
        raise ForeignFileError(
            f"{system} has no network {', '.join(map(repr, unknown)) or 'in this file'}: "
            f"expected {', '.join(table.NETWORKS)}"
        )
    return {
        table.NETWORKS[name]: names.to_ours(name, arrays, table.rows(name, arrays))
        for name, arrays in networks.items()
    }


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


def method_fields(
    system: str, networks: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, object]:
    """The fields of config.method that the authors' arrays determine by their shapes."""
    return _system(system).config_values(networks)


def _system(name: str) -> ModuleType:
    if name not in systems():
        raise ConfigError(f"unknown system {name!r}: use one of {', '.join(systems())}")
    return _module(name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _paths(tree: Mapping) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return ["/".join(entry.key for entry in path) for path, _ in leaves]
