"""The launchers, with the programs that they call replaced by ones that record their calls."""

import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[1] / "launch"
TRAIN = ("--config", "configs/ugatit.py:tiny", "--workdir", "gs://bucket/runs/a b")

# A cloud in a folder: the state of the slice and of its queue entry is in files, a worker is a
# folder in which the commands of ssh really run.
GCLOUD = r"""#!/usr/bin/env bash
{ printf '%s\037' "$@"; printf '\036'; } >>"$CLOUD/calls"
said() {
    [[ -e $CLOUD/$1 ]] || { echo "ERROR: NOT_FOUND: $1" >&2; exit 1; }
    cat "$CLOUD/$1"
}
case "$3 $4" in
    "tpu-vm describe") said slice ;;
    "queued-resources describe") said queue ;;
    "queued-resources create") echo ACTIVE >"$CLOUD/queue"; echo READY >"$CLOUD/slice" ;;
    "tpu-vm create") echo READY >"$CLOUD/slice" ;;
    "queued-resources delete") rm -f "$CLOUD/queue" "$CLOUD/slice" ;;
    "tpu-vm delete") rm -f "$CLOUD/slice" ;;
    "tpu-vm scp") for worker in 0 1; do cp "$5" "$CLOUD/$worker/"; done ;;
    "tpu-vm ssh")
        while (($# > 1)); do
            case $1 in --worker) workers=$2 ;; --command) command=$2 ;; esac
            shift
        done
        [[ $workers == all ]] && workers="0 1"
        for worker in $workers; do
            (cd "$CLOUD/$worker" && HOME=$PWD WORKER=$worker bash -c "$command") || exit
        done ;;
esac
"""

# Worker 0 acts on the next line of the plan, worker 1 waits to be killed.
GANATTN = r"""#!/usr/bin/env bash
printf '%q ' "$@" >>"$CLOUD/$WORKER/trained"
echo >>"$CLOUD/$WORKER/trained"
[[ $WORKER == 0 ]] || exec sleep 2
read -r code slice words <"$CLOUD/plan"
sed -i 1d "$CLOUD/plan"
[[ $slice == - ]] || echo "$slice" >"$CLOUD/slice"
echo "$words"
exit "$code"
"""


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def cloud(tmp_path):
    """A folder with a checkout, a fake gcloud and two workers on which the package is installed."""
    (tmp_path / "checkout").mkdir()
    for name in ("launch/tpu_pod.sh", "launch/environment.sh", "pyproject.toml", ".gitignore"):
        (tmp_path / "checkout" / name).parent.mkdir(exist_ok=True)
        shutil.copy2(LAUNCH.parent / name, tmp_path / "checkout" / name)
    (tmp_path / "checkout/new.py").touch()
    (tmp_path / "checkout/runs").mkdir()
    (tmp_path / "checkout/runs/large").touch()
    subprocess.run(["git", "init", "--quiet", tmp_path / "checkout"], check=True)
    script(tmp_path / "bin/gcloud", GCLOUD)
    for worker in "01":
        checkout = tmp_path / worker / "ganattn"
        script(checkout / ".venv/bin/ganattn", GANATTN)
        script(checkout / ".venv/bin/python", "#!/bin/sh\n")
        (checkout / ".venv/bin/activate").write_text(f"PATH={checkout}/.venv/bin:$PATH\n")
        (checkout / ".venv/.ganattn-tf,tpu").write_text(f"{checkout}\n")
    return tmp_path


def tpu_pod(cloud, *options, plan="0 - finished\n", train=TRAIN, **environment):
    (cloud / "plan").write_text(plan)
    paths = f"{cloud}/bin:{os.environ['PATH']}"
    keep = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "GANATTN_VENV")}
    command = ["bash", cloud / "checkout/launch/tpu_pod.sh", "--name", "pod", "--zone", "z"]
    command += ["--poll", "0"]
    return subprocess.run(
        [*command, *options, *(["--", *train] if train else [])],
        env={**keep, "PATH": paths, "CLOUD": str(cloud), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def calls(cloud, *verbs):
    """The recorded commands of these verbs, as lists of words."""
    path = cloud / "calls"
    lines = path.read_text().split("\036")[:-1] if path.exists() else []
    return [words for words in (line.split("\037")[:-1] for line in lines) if words[3] in verbs]


def trainings(cloud, worker):
    path = cloud / worker / "trained"
    return [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("path", sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")]), ids=str)
def test_shellcheck_finds_nothing(path):
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck")
    found = subprocess.run(
        ["shellcheck", "-x", path], cwd=LAUNCH.parent, capture_output=True, text=True
    )
    assert not found.returncode, found.stdout


def test_a_slice_is_made_and_trains_on_every_worker(cloud):
    done = tpu_pod(
        cloud, "--type", "v5litepod-256", "--spot", "--project", "p", "--network", "n",
        "--setup", "echo data >here", "--delete-after",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = calls(cloud, "create")
    assert " ".join(made) == (
        "compute tpus queued-resources create pod --node-id pod --zone z --project p "
        "--accelerator-type v5litepod-256 --spot --network=n "
        "--runtime-version v2-alpha-tpuv5-lite"
    )
    assert trainings(cloud, "0") == trainings(cloud, "1") == [["train", *TRAIN]]
    assert (cloud / "1/ganattn/here").read_text() == "data\n"
    copied = cloud / "1/ganattn"
    assert (copied / "launch/tpu_pod.sh").exists() and (copied / "new.py").exists()
    assert not (copied / ".git").exists() and not (copied / "runs").exists()
    assert "finished" in done.stdout, "worker 0's log is followed"
    assert calls(cloud, "delete") and not (cloud / "slice").exists()


def test_a_slice_that_is_there_is_used_and_kept(cloud):
    (cloud / "slice").write_text("READY\n")
    done = tpu_pod(cloud, "--type", "v4-8")
    assert done.returncode == 0, done.stderr
    assert not calls(cloud, "create", "delete")
    assert len(trainings(cloud, "0")) == 1
    assert "costs money" in done.stderr


def test_a_training_that_runs_is_followed_not_started_again(cloud):
    (cloud / "slice").write_text("READY\n")
    run = cloud / "0/ganattn/.run"
    run.mkdir()
    text = f"echo $$ >{run}/pid; echo step 7 >{run}/log; sleep 1; echo 0 >{run}/code"
    running = subprocess.Popen(["bash", "-c", text], start_new_session=True)
    threading.Thread(target=running.wait).start()  # or it stays a zombie, which counts as alive
    while not (run / "log").exists():
        time.sleep(0.01)
    done = tpu_pod(cloud, "--type", "v4-8")
    assert done.returncode == 0, done.stderr
    assert "following" in done.stderr and "step 7" in done.stdout
    assert not trainings(cloud, "0") and not calls(cloud, "scp")


@pytest.mark.parametrize(
    ("state", "direct"), [("PREEMPTED", ()), ("TERMINATED", ("--direct",))], ids=str
)
def test_a_preempted_slice_is_made_again_and_the_run_resumes(cloud, state, direct):
    plan = f"143 {state} killed\n0 - finished\n"
    done = tpu_pod(cloud, "--type", "v4-8", *direct, plan=plan)
    assert done.returncode == 0, done.stderr
    kind = "tpu-vm" if direct else "queued-resources"
    assert [c[2:4] for c in calls(cloud, "create", "delete")] == [
        [kind, "create"],
        [kind, "delete"],
        [kind, "create"],
    ]
    assert trainings(cloud, "0") == trainings(cloud, "1") == 2 * [["train", *TRAIN]]
    assert len(calls(cloud, "scp")) == 2, "the new slice has no code"


def test_what_a_preemption_left_in_the_queue_is_cleared_away(cloud):
    (cloud / "queue").write_text("SUSPENDED\n")
    done = tpu_pod(cloud, "--type", "v5p-1024")
    assert done.returncode == 0, done.stderr
    assert [c[3] for c in calls(cloud, "create", "delete")] == ["delete", "create"]
    assert "--force" in calls(cloud, "delete")[0]


def test_a_run_that_saved_itself_goes_on(cloud):
    plan = "0 - preempted: step 5 of 9 is saved\n0 - finished\n"
    done = tpu_pod(cloud, "--type", "v4-8", "--max-restarts", "0", plan=plan)
    assert done.returncode == 0, done.stderr
    assert len(trainings(cloud, "0")) == 2 and len(calls(cloud, "create")) == 1


@pytest.mark.parametrize(("restarts", "text"), [(0, "failed 1 time,"), (1, "failed 2 times,")])
def test_failures_are_counted(cloud, restarts, text):
    done = tpu_pod(cloud, "--type", "v4-8", "--max-restarts", str(restarts), plan=3 * "3 - died\n")
    assert done.returncode == 3
    assert text in done.stderr
    assert len(trainings(cloud, "0")) == restarts + 1


def test_an_error_of_the_user_is_not_tried_again(cloud):
    done = tpu_pod(cloud, "--type", "v4-8", plan="2 - ganattn: no config file\n")
    assert done.returncode == 2
    assert "no config file" in done.stdout and "still exists" in done.stderr
    assert len(trainings(cloud, "0")) == 1


def test_a_dry_run_prints_what_a_run_does_and_calls_nothing(cloud):
    done = tpu_pod(cloud, "--type", "v6e-256", "--reserved", "--dry-run", "--delete-after")
    assert done.returncode == 0, done.stderr
    assert not (cloud / "calls").exists()
    printed = re.findall(r"^gcloud compute tpus \S+ (\w+) ", done.stdout, re.MULTILINE)
    assert printed == ["create", "scp", "ssh", "ssh", "ssh", "delete"]
    assert "--runtime-version v2-alpha-tpuv6e" in done.stdout and "--reserved" in done.stdout


@pytest.mark.parametrize(
    ("options", "train", "message"),
    [
        ((), TRAIN, "--type is needed"),
        (("--type", "v9-8"), TRAIN, "set --runtime"),
        (("--type", "v4-8", "--colour", "red"), TRAIN, "unknown option --colour"),
        (("--type", "v4-8", "--max-restarts", "x"), TRAIN, "not a number"),
        (("--type", "v4-8"), ("--workdir", "gs://b/r"), "no --config"),
        (("--type", "v4-8"), ("--config", "a", "--workdir", "runs/a"), "use gs://"),
    ],
)
def test_wrong_options_cost_nothing(cloud, options, train, message):
    done = tpu_pod(cloud, *options, train=train)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (cloud / "calls").exists()


def test_a_cloud_that_does_not_answer_ends_it_without_making_anything(cloud):
    script(cloud / "bin/gcloud", '#!/bin/sh\necho "$@" >>$CLOUD/calls\necho refused >&2\nexit 1\n')
    done = tpu_pod(cloud, "--type", "v4-8")
    assert done.returncode == 3
    assert "cannot describe pod: refused" in done.stderr
    assert not calls(cloud, "create")


SRUN = r"""#!/usr/bin/env bash
printf '%s\n' "$@" >"$CLOUD/srun"
echo "preempted: something else" >&2
echo "$SAYS"
exit "$CODE"
"""


def sbatch(folder, says, code=0, arguments=TRAIN):
    script(folder / "bin/srun", SRUN)
    script(folder / "bin/scontrol", '#!/bin/sh\necho "$@" >>"$CLOUD/scontrol"\n')
    checkout = folder / "0/ganattn"
    (checkout / "launch").mkdir(exist_ok=True)
    (checkout / "launch/environment.sh").write_text(f'echo "$1" >{folder}/extras\n')
    return subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", *arguments],
        env={
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            **{"CLOUD": str(folder), "SAYS": says, "CODE": str(code)},
            **{"SLURM_SUBMIT_DIR": str(checkout), "SLURM_JOB_ID": "17"},
        },
        capture_output=True,
        text=True,
    )


def test_slurm_runs_the_command_in_every_task(cloud):
    done = sbatch(cloud, "finished at step 9")
    assert done.returncode == 0, done.stderr
    words = (cloud / "srun").read_text().splitlines()
    assert words[words.index("ganattn") :] == ["ganattn", "train", "--max-restarts", "3", *TRAIN]
    assert "--kill-on-bad-exit=1" in words
    assert not (cloud / "scontrol").exists()
    assert (cloud / "extras").read_text() == "tf,cuda\n"


def test_slurm_queues_a_job_again_that_saved_itself(cloud):
    done = sbatch(cloud, "preempted: step 5 of 9 is saved")
    assert done.returncode == 0, done.stderr
    assert (cloud / "scontrol").read_text() == "requeue 17\n"


def test_slurm_does_not_repeat_what_failed(cloud):
    assert sbatch(cloud, "preempted: but then something broke", code=2).returncode == 2
    assert not (cloud / "scontrol").exists()


def test_slurm_starts_in_a_checkout_only(cloud):
    (cloud / "0/ganattn/launch").mkdir()
    (cloud / "1/ganattn/launch").mkdir()
    done = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch"],
        env={"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": str(cloud / "1")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "not a checkout" in done.stderr
