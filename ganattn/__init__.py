"""Attention-guided GANs in JAX: training, evaluation and translation from one code base.

    translator = ganattn.Translator.from_workdir("runs/horse2zebra")
    translator("horse.jpg")

Submodules are imported on first access, so that `import ganattn` costs nothing.
"""

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganattn.inference.sampler import Sampler
    from ganattn.inference.translator import Translator

__version__ = "0.1.0"
__all__ = ["Sampler", "Translator", "__version__"]


_CLASSES = {"Sampler": "inference.sampler", "Translator": "inference.translator"}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
    if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(module.name for module in pkgutil.iter_modules(__path__))})
