#!/usr/bin/env bash
# N training processes on this machine over loopback, which is how to try a pod's behaviour without
# one: launch/local_processes.sh N [arguments of ganattn train, such as --config ... --workdir ...]
set -euo pipefail
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: launch/local_processes.sh N [arguments of ganattn train]" >&2
    exit 2
fi
processes=$1
shift
exec ganattn train --local-processes "$processes" "$@"
