"""Eight host devices, strict ranks, and a compilation cache that outlives the process."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "xla")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture
def x64():
    """float64 inside one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def golden_folder() -> Path:
    """Numbers that the authors' code produced."""
    return Path(__file__).parent / "golden"
