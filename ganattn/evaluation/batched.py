"""See `ganattn.inference.batched`."""

from ganattn.inference.batched import Batched

__all__ = ["Batched"]
