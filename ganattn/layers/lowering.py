"""Selects the form of an operation for the platform that it is traced for.

XLA's CPU convolutions are slow on small deep maps, where a matrix product over patches is many
times faster; on GPU and TPU `lax.conv_general_dilated` is the fast path. All forms give the same
numbers up to rounding.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


@contextlib.contextmanager
def lowering_for(platform: str) -> Iterator[None]:
    """Context that traces for `platform` ("cpu", "gpu", "tpu") instead of the default backend."""
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


def on_cpu() -> bool:
    """Whether operations are traced for a CPU."""
    return (_target.get() or jax.default_backend()) == "cpu"
