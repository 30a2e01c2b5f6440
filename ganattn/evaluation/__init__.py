"""Scores of translated and sampled pictures, in numpy and jax alone."""
