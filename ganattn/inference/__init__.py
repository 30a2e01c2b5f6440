"""Inference: models loaded from runs and from the authors' files, and export."""
