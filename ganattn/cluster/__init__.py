"""Several processes: launcher, supervisor, and the worker's link to it."""
