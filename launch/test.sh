#!/usr/bin/env bash
# All that must hold before a commit: launch/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh tf,notebook,dev

export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/.cache/xla}

stage() {
    echo "== $*"
    "$@"
}

stage ruff check --quiet
stage ruff format --check --quiet
stage mypy --no-error-summary
# Most of a test is compiling, on one core; a file's tests share what they compile.
stage pytest -q -n 2 --dist loadfile "$@"
