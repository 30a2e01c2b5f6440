#!/usr/bin/env bash
# Trains a small U-GAT-IT on procedural pictures and leaves its pictures and scores in
# runs/quickstart; started again, it resumes. launch/quickstart.sh [--config.FIELD=VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh ""

exec ganattn train --config configs/ugatit.py:quickstart --workdir runs/quickstart "$@"
