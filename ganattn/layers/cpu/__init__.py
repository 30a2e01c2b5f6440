"""How convolutions are computed on CPUs."""
