#!/usr/bin/env bash
# All checks that must pass before a commit: launch/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh tf,notebook,dev

export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/.cache/xla}

# stage NUMBER NAME COMMAND...
stage() {
    local name="$1/5 $2" begin=$SECONDS
    shift 2
    echo "== $name: $*"
    if ! "$@"; then
        echo "== $name failed after $((SECONDS - begin)) s" >&2
        exit 1
    fi
    echo "== $name passed in $((SECONDS - begin)) s"
}

stage 1 structure pytest -q tests/test_structure.py
stage 2 lint ruff check --quiet
stage 3 format ruff format --check --quiet
stage 4 types mypy --no-error-summary
# Tests spend most of their time compiling, on one core. A file or class shares compiled programs and
# has one worker; in the order of the files the long ones come first.
stage 5 tests pytest -q -n 2 --dist loadscope --no-loadscope-reorder "$@"
