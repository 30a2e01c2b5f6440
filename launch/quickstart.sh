#!/usr/bin/env bash
# Trains a small U-GAT-IT on procedural images and writes figures and metrics to runs/quickstart;
# run again, it resumes. launch/quickstart.sh [--config.FIELD=VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh ""

exec ganattn train --config configs/ugatit.py:quickstart --workdir runs/quickstart "$@"
