"""Building blocks of networks: convolutions, normalisation, spectral norm, attention."""
