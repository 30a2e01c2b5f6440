"""Building blocks of networks: convolutions, normalization, spectral norm, attention."""
