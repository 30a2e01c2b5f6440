"""Checkpoints of the authors' code: their names and layouts, and files of PyTorch without torch."""

from ganattn.interop.authors import (
    from_authors,
    method_fields,
    networks_of,
    option_names,
    systems,
    to_authors,
    to_files,
)

__all__ = [
    "from_authors",
    "method_fields",
    "networks_of",
    "option_names",
    "systems",
    "to_authors",
    "to_files",
]
