#!/usr/bin/env bash
# Starts N training processes on this machine over loopback, to try the behavior of a pod without
# one: launch/local_processes.sh N [arguments of ganattn train, such as --config ... --workdir ...]
set -euo pipefail
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: launch/local_processes.sh N [arguments of ganattn train]" >&2
    exit 2
fi
processes=$1
shift
if [[ -z $(type -P ganattn) ]]; then
    pushd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null
    source launch/environment.sh ""
    popd >/dev/null
fi
exec ganattn train --local-processes "$processes" "$@"
