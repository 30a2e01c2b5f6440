#!/usr/bin/env bash
# Trains on a Cloud TPU slice, and resumes on a new one when the slice is preempted:
#
#   launch/tpu_pod.sh --name pod --zone us-east5-a --type v5p-1024 --spot -- \
#       --config configs/ugatit.py:horse2zebra --workdir gs://BUCKET/runs/horse2zebra
#
# Creates the slice, or uses the one of that name; copies this checkout to all its workers; starts
# `ganattn train` on each with the arguments after --; follows worker 0's log. A slice that is
# preempted is created again and the run resumes from its checkpoint, which is why the workdir is in
# a bucket. The training does not depend on this terminal: run again, the script follows it.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'TEXT'
usage: launch/tpu_pod.sh --name NAME --zone ZONE --type TYPE [options] -- ARGUMENTS_OF_GANATTN_TRAIN
       launch/tpu_pod.sh --name NAME --zone ZONE --delete
  --type TYPE         accelerator type, such as v4-8, v5litepod-256, v5p-1024, v6e-256
  --project PROJECT   instead of gcloud's default
  --runtime VERSION   TPU software (default: that of the type)
  --spot              cheaper, may be preempted; --reserved: from your reservation
  --direct            request the slice directly instead of queueing for it
  --network NETWORK, --service-account ACCOUNT, --internal-ip: passed to gcloud
  --extras LIST       of the package, installed on the workers (default: tf,tpu)
  --setup COMMAND     run on every worker after the installation, such as copying data from a bucket
  --max-restarts N    after failures of the training, not preemptions (default: 3)
  --max-slices N      number of slices created, including the first (default: 100)
  --poll SECONDS      interval of checking the slice (default: 30)
  --delete-after      delete the slice when the training has finished
  --delete            delete the slice now, even if training runs on it
  --dry-run           print the commands and stop
TEXT
}

die() {
    echo "tpu_pod: $1" >&2
    exit "${2:-2}"
}

say() {
    echo "== $*" >&2
}

name='' zone='' type='' project='' runtime='' capacity='' direct='' extras=tf,tpu setup=''
max_restarts=3 max_slices=100 poll=30 delete='' delete_after='' dry_run='' internal_ip=''
create_flags=()
while (($#)); do
    case $1 in
        --name | --zone | --type | --project | --runtime | --extras | --setup | --poll | \
            --max-restarts | --max-slices)
            (($# > 1)) || die "$1 needs a value"
            field=${1#--}
            printf -v "${field//-/_}" %s "$2"
            shift
            ;;
        --network | --service-account)
            (($# > 1)) || die "$1 needs a value"
            create_flags+=("$1=$2")
            shift
            ;;
        --spot | --reserved) capacity=$1 ;;
        --direct) direct=yes ;;
        --internal-ip) internal_ip=yes ;;
        --delete) delete=yes ;;
        --delete-after) delete_after=yes ;;
        --dry-run) dry_run=yes ;;
        -h | --help) usage && exit ;;
        --) shift && break ;;
        *) die "unknown option $1: see --help; arguments of ganattn train come after --" ;;
    esac
    shift
done
[[ $name && $zone ]] || die "--name and --zone are needed: see --help"
for number in "$max_restarts" "$max_slices" "$poll"; do
    [[ $number =~ ^[0-9]+$ ]] || die "$number is not a number of restarts, slices or seconds"
done

where=(--zone "$zone")
[[ -z $project ]] || where+=(--project "$project")
over=()
[[ -z $internal_ip ]] || over+=(--internal-ip)
[[ -z $internal_ip ]] || create_flags+=(--internal-ips)

# Runs gcloud, or with --dry-run prints the command.
cloud() {
    if [[ $dry_run ]]; then
        printf 'gcloud'
        printf ' %q' "$@"
        echo
    else
        gcloud "$@"
    fi
}

# The output of `gcloud ... describe`, or ABSENT. Retries after network errors: hours of training
# depend on this loop.
describe() {
    local try answer
    for try in 1 2 3 4 5; do
        if answer=$(gcloud compute tpus "$1" describe "$name" "${where[@]}" --format="value($2)" \
            2>"$scratch/error"); then
            echo "${answer:-UNKNOWN}"
            return
        elif grep -q -i -e NOT_FOUND -e 'was not found' "$scratch/error"; then
            echo ABSENT
            return
        fi
        ((try == 5)) || sleep "$poll"
    done
    die "gcloud cannot describe $name: $(head -n 1 "$scratch/error")" 3
}

slice_state() {
    if [[ $dry_run ]]; then
        echo ABSENT
    else
        describe tpu-vm state
    fi
}

queue_state() {
    if [[ $dry_run || $direct ]]; then
        echo ABSENT
    else
        describe queued-resources state.state
    fi
}

software() {
    case $type in
        v5litepod-*) echo v2-alpha-tpuv5-lite ;;
        v5p-*) echo v2-alpha-tpuv5 ;;
        v6e-*) echo v2-alpha-tpuv6e ;;
        v[234]-*) echo tpu-ubuntu2204-base ;;
        *) die "no TPU software is known for type $type: set --runtime VERSION" ;;
    esac
}

create() {
    local flags=("${where[@]}" --accelerator-type "$type" ${capacity:+"$capacity"})
    flags+=(${create_flags[@]+"${create_flags[@]}"})
    say "creating $name, $type in $zone"
    if [[ $direct ]]; then
        cloud compute tpus tpu-vm create "$name" "${flags[@]}" --version "$runtime"
    else
        cloud compute tpus queued-resources create "$name" --node-id "$name" "${flags[@]}" \
            --runtime-version "$runtime"
    fi
}

delete_slice() {
    say "deleting $name"
    if [[ $dry_run && -z $direct || $(queue_state) != ABSENT ]]; then
        cloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
    elif [[ $dry_run || $(slice_state) != ABSENT ]]; then
        cloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
    fi
}

# Returns when the slice is ready; creates it, and deletes the remains of one that was preempted.
ready_slice() {
    local slice queue waited=''
    while true; do
        slice=$(slice_state)
        case $slice in
            READY) return ;;
            STOPPED) cloud compute tpus tpu-vm start "$name" "${where[@]}" && continue ;;
            PREEMPTED | TERMINATED | UNHEALTHY_* | HIDDEN) delete_slice && continue ;;
        esac
        # A queue entry outlives its slice, and refuses a new one of the same name.
        queue=$(queue_state)
        case $slice:$queue in
            ABSENT:SUSPENDED | ABSENT:FAILED) delete_slice && continue ;;
            ABSENT:ABSENT)
                ((slices++ < max_slices)) || die "$max_slices slices were preempted: giving up" 3
                create
                [[ -z $dry_run ]] || return 0
                continue
                ;;
        esac
        [[ $waited == "$slice:$queue" ]] || say "waiting: slice $slice, queue $queue"
        waited=$slice:$queue
        sleep "$poll"
    done
}

on_workers() {
    local workers=$1
    shift
    cloud compute tpus tpu-vm ssh "$name" "${where[@]}" ${over[@]+"${over[@]}"} \
        --worker "$workers" --command "$*"
}

pack_code() {
    cd "$checkout"
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        # Neither files that git ignores nor deleted files that it still lists.
        git ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done |
            tar --create --gzip --null --files-from=- --file "$scratch/ganattn.tgz"
    else
        tar --create --gzip --exclude=./.venv --exclude=./runs --exclude=./data --exclude=./.cache \
            --file "$scratch/ganattn.tgz" .
    fi
}

# The TPU images have Python 3.10; uv installs a newer one without administrator rights.
install() {
    say "copying the code and installing .[$extras]"
    [[ $dry_run ]] || pack_code
    cloud compute tpus tpu-vm scp "$scratch/ganattn.tgz" "$name:ganattn.tgz" "${where[@]}" \
        ${over[@]+"${over[@]}"} --worker all
    on_workers all "set -e
        mkdir -p ganattn && cd ganattn && tar --extract --gzip --file ../ganattn.tgz
        if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            python3 -m pip install --quiet --user uv
            ~/.local/bin/uv python install --quiet 3.12
            export PYTHON=\$(~/.local/bin/uv python find 3.12)
        fi
        source launch/environment.sh $(printf %q "$extras")
        ${setup:-true}"
}

# .run on a worker holds the run's pid, its log and, when it has ended, its exit code.
start() {
    local command
    printf -v command '%q ' ganattn train "$@"
    say "starting the training on every worker"
    on_workers all "set -e
        cd ganattn && mkdir -p .run
        source .venv/bin/activate
        if [ -e .run/pid ]; then kill -KILL -- -\$(cat .run/pid) 2>/dev/null || true; fi
        rm -f .run/code .run/pid
        nohup setsid bash -c $(printf %q "$command"'; echo $? >.run/code') >.run/log 2>&1 </dev/null &
        echo \$! >.run/pid"
}

# Prints worker 0's log until the run ends there; the last line is "ended CODE WORD".
follow() {
    # shellcheck disable=SC2016  # all of it is for the worker's shell
    on_workers 0 'cd ganattn
        tail --lines +1 --follow --pid $(cat .run/pid) .run/log
        word=$(grep -q "^preempted:" .run/log && echo preempted || echo ran)
        echo "ended $(cat .run/code 2>/dev/null || echo killed) $word"'
}

runs_already() {
    # shellcheck disable=SC2016
    on_workers 0 'cd ganattn 2>/dev/null && kill -0 -- -$(cat .run/pid)' >/dev/null 2>&1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
slices=0

if [[ $delete ]]; then
    delete_slice
    exit
fi
[[ $type ]] || die "--type is needed: see --help"
runtime=${runtime:-$(software)}
[[ " $* " == *" --config"[\ =]* ]] || die "no --config FILE[:VARIANT] after --"
[[ " $* " == *" --workdir"[\ =]gs://* ]] ||
    die "--workdir is not in a bucket, and files on a slice are lost with it: use gs://BUCKET/RUN"
[[ $dry_run ]] || command -v gcloud >/dev/null ||
    die "gcloud is not on the PATH: see https://cloud.google.com/sdk/docs/install"

if [[ $dry_run ]]; then
    ready_slice
    install
    start "$@"
    follow
    [[ -z $delete_after ]] || delete_slice
    exit
fi

failures=0
ready_slice
if ((slices == 0)) && runs_already; then
    say "the training already runs on $name: following it"
else
    install
    start "$@"
fi
while true; do
    follow | tee "$scratch/output" || true
    ended=$(tail -n 1 "$scratch/output")
    if [[ $(slice_state) != READY ]]; then
        say "the slice was preempted: creating it again and resuming"
        ready_slice
        install
        start "$@"
        continue
    fi
    case $ended in
        'ended 0 ran')
            say "finished"
            [[ -z $delete_after ]] || delete_slice
            [[ $delete_after ]] || say "$name still exists and costs money: --delete deletes it"
            exit
            ;;
        'ended 0 preempted')
            say "the run saved itself before a preemption: waiting for the state of the slice"
            sleep "$poll"
            [[ $(slice_state) != READY ]] || start "$@"
            ;;
        'ended 2 '*)
            die "the training refused its arguments or data, see above; $name still exists"
            ;;
        'ended '*)
            ((failures++ < max_restarts)) ||
                die "the training failed $failures time$( ((failures == 1)) || echo s), see above; $name still exists" 3
            say "the training failed ($ended): restarting it from its checkpoint"
            start "$@"
            ;;
        *)
            say "the connection was lost: following again"
            sleep "$poll"
            ;;
    esac
done
