"""Eight host devices, strict ranks, fast compilation and a cache that outlives the process."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile more than they compute. Processes that they start compile in the same way.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
    ]
)

import float64
import jax
import pytest

float64.install()
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
