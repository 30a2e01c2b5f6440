"""Checkpoints of the authors' code: their names and layouts, and files of PyTorch without torch."""

from ganattn.interop.authors import from_authors, method_fields, systems, to_authors

__all__ = ["from_authors", "method_fields", "systems", "to_authors"]
