"""One paper a file, found by the config's name: `config.method.name = "ugatit"` is `ugatit.py`."""

import dataclasses
import importlib
import inspect
import pkgutil

from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.errors import ConfigError
from ganattn.methods.base import DTYPES, Direction, Input, Method, Output

__all__ = ["Direction", "Input", "Method", "Output", "create", "names"]


def names() -> list[str]:
    """Names of all methods, in alphabetical order."""
    return sorted(
        m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name != "base"
    )


def create(config: ConfigDict) -> Method:
    """Builds the method that `config.method.name` names.

    Raises ConfigError for an unknown name, or when the method refuses a value.
    """
    name = config.method.name
    if name not in names():
        raise ConfigError(f"config.method.name is {name!r}: use one of {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    classes = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Method) and member.__module__ == module.__name__
    ]
    check(config, "method.dtype", choices=DTYPES)
    check(config, "method.ema_decay", least=0, below=1)
    check(config, "method.ema_start_step", least=0)
    check(config, "optimizer.accumulate_steps", least=1)
    shared = {
        "ema_decay": config.method.get("ema_decay", 0.0),
        "ema_start_step": config.method.get("ema_start_step", 0),
        "accumulate_steps": config.optimizer.get("accumulate_steps", 1),
    }
    return dataclasses.replace(classes[0].from_config(config), **shared)
