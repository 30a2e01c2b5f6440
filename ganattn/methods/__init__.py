"""One paper a file, found by the config's name: `config.method.name = "ugatit"` is `ugatit.py`."""

import importlib
import inspect
import pkgutil

from ml_collections import ConfigDict

from ganattn.errors import ConfigError
from ganattn.methods.base import Method, Translation

__all__ = ["Method", "Translation", "create", "names"]


def names() -> list[str]:
    """Names of all methods, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def create(config: ConfigDict) -> Method:
    """Builds the method that `config.method.name` names.

    Raises ConfigError for an unknown name, or when the method refuses a value.
    """
    name = config.method.name
    if name not in names():
        raise ConfigError(f"config.method.name is {name!r}: use one of {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Method) and member.__module__ == module.__name__
    ]
    return found[0].from_config(config)
