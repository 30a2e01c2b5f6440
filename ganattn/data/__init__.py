"""Images and label maps for training: `create(config)` gives `batches(step)`."""

from ganattn.data.batches import Batches, create

__all__ = ["Batches", "create"]
