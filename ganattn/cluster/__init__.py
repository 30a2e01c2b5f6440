"""Several processes: launcher, supervisor, and the worker that it supervises."""
