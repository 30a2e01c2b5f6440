"""What several papers share: base classes and the parts of a common code base."""
