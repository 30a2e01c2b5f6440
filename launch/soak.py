"""Fault-injection tests: break small training runs and check that nothing is lost.

    python launch/soak.py kills     # kill -9 of each process in turn at random moments, 20 times
    python launch/soak.py stops     # SIGTERM at random steps, 10 times
    python launch/soak.py damage    # checkpoints cut at 50 random offsets, or without a file

Each prints its results as JSON and exits with code 1 if something did not hold. All of them run on
the CPU, over loopback.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PIX2PIX = {  # batch norm over all devices, dropout
    "method.width": 2,
    "method.num_downs": 4,
    "method.image_size": 16,
    "method.discriminator": "pixel",
    "data.load_size": 18,
    "data.flip": True,
}
CYCLEGAN = {"method.width": 2, "data.load_size": 34, "data.flip": True}  # image pool
UGATIT = {"data.batch_size": 1}
METHODS: dict[str, dict[str, Any]] = {"pix2pix": PIX2PIX, "cyclegan": CYCLEGAN, "ugatit": UGATIT}
QUIET = {"train.pictures_every": 0, "train.histograms_every": 0, "data.batch_size": 4}
KILLED_EVERY, STOPPED_EVERY = 15, 60  # steps; processes agree to stop a few steps ahead


def fields(method: str, **more: Any) -> dict[str, Any]:
    """Config fields of a run that takes a moment."""
    return {**QUIET, **METHODS[method], **{k.replace("__", "."): v for k, v in more.items()}}


def train_command(method: str, workdir: Path, processes: int, *flags: str, **more: Any) -> list:
    """`ganattn train` on that many processes."""
    overrides = [f"--config.{name}={value}" for name, value in fields(method, **more).items()]
    command = [sys.executable, "-m", "ganattn.cli", "train", "--config", f"{method}:tiny"]
    shared = ["--workdir", str(workdir), "--local-processes", str(processes), *flags]
    return [*command, *shared, *overrides]


def environment(folder: Path, devices: int = 1) -> dict[str, str]:
    """Environment variables: a compilation cache, and no TensorFlow, which starts slowly."""
    absent = folder / "absent"
    absent.mkdir(exist_ok=True)
    (absent / "tensorflow.py").write_text("raise ImportError('not needed')\n")
    root = Path(__file__).parents[1]
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(absent), str(root)]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get(
            "JAX_COMPILATION_CACHE_DIR", str(root / ".cache" / "soak")
        ),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def last_step(workdir: Path) -> int:
    """The newest step in metrics.jsonl, 0 without one."""
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"] if lines else 0
    except (OSError, json.JSONDecodeError):
        return 0


def leaves(workdir: Path) -> tuple[int, list]:
    """(step, path and SHA-256 of every leaf) of the newest checkpoint."""
    from ganattn.runs.checkpoints import restore_variables

    meta = restore_variables(workdir / "checkpoints")[1]
    return meta["step"], meta["leaves"]


def worker_pid(supervisor: int, index: int) -> int | None:
    """The training process with that index under a supervisor, or its only one."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
            several = b"--process-id" in words
            if parent == supervisor and (not several or words[-2] == str(index).encode()):
                return int(entry.name)
    return None


@contextlib.contextmanager
def started(command: Sequence[str], folder: Path, log: Path) -> Iterator[subprocess.Popen]:
    """A command that is killed on leaving, with its output in a file."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=environment(folder), stdout=file, stderr=file)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for_step(process: subprocess.Popen, workdir: Path, step: int, seconds: float = 300) -> int:
    """The newest step as soon as it is `step` or more; raises when the run ends or takes long."""
    end = time.monotonic() + seconds
    while (newest := last_step(workdir)) < step:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no step {step} in {workdir}: it is at {newest}")
        time.sleep(0.05)
    return newest


def uninterrupted(workdir: Path, log: Path, options: argparse.Namespace, **schedule: Any) -> Path:
    """A run that nothing disturbs."""
    command = train_command(options.method, workdir, options.processes, **schedule)
    with started(command, workdir.parent, log) as process:
        assert process.wait() == 0, log.read_text()
    return workdir


def unreported(workdir: Path, reference: Path) -> list[str]:
    """Lines and figures that differ from the uninterrupted run's, and what a kill has left."""
    problems = []
    for path in sorted(reference.glob("*.jsonl")):
        actual, expected = (
            [json.loads(line) for line in folder.joinpath(path.name).read_text().splitlines()]
            for folder in (workdir, reference)
        )
        for line in (*actual, *expected):
            line.pop("seconds", None)
        if actual != expected:
            steps = [line["step"] for line in actual]
            problems.append(f"{path.name} differs: it has the steps {steps}")
    actual, expected = (
        {path.name: path.read_bytes() for path in folder.joinpath("pictures").iterdir()}
        for folder in (workdir, reference)
    )
    differing = {name for name, _ in actual.items() ^ expected.items()}
    problems += [f"figure {name} differs or is missing" for name in sorted(differing)]
    partial = [path for path in workdir.rglob("*") if path.name[0] == "." or "tmp" in path.name]
    return problems + [f"{path} is left" for path in partial]


def kills(folder: Path, options: argparse.Namespace) -> dict:
    """kill -9 of each process in turn at random moments, under one supervisor."""
    total = options.steps or KILLED_EVERY * (options.count + 1)
    schedule = {"optimizer__total_steps": total, "optimizer__decay_start_step": total // 2}
    schedule |= {"train__checkpoint_every": 4, "train__pictures_every": 4}
    schedule |= {"train__log_every": 1, "train__histograms_every": 1}
    broken, log = folder / "broken", folder / "kills.log"
    reference = uninterrupted(folder / "reference", log, options, **schedule)
    chance, killed_after, waits = random.Random(options.seed), [], []
    flags = ("--max-restarts", str(options.count), "--worker-timeout", "30")
    command = train_command(options.method, broken, options.processes, *flags, **schedule)
    every = total // (options.count + 1)
    with started(command, folder, log) as process:
        for number in range(options.count):
            wait_for_step(process, broken, every * number + chance.randint(1, every - 1))
            time.sleep(chance.random() / 2)
            while (pid := worker_pid(process.pid, number % options.processes)) is None:
                time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
            then, at = time.monotonic(), last_step(broken)
            while last_step(broken) <= at + 1 and process.poll() is None:
                time.sleep(0.05)
            waits.append(round(time.monotonic() - then, 1))
            killed_after.append(at)
        code = process.wait()
    named = [line for line in log.read_text().splitlines() if "was killed by SIGKILL" in line]
    equal, problems = leaves(broken) == leaves(reference), unreported(broken, reference)
    return {
        "kills": len(killed_after),
        "processes": options.processes,
        "exit code": code,
        "killed after step": killed_after,
        "seconds until training continued": waits,
        "deaths named": len(named),
        "last message": named[-1] if named else "",
        "bit-equal to the uninterrupted run": equal,
        "lines": len((broken / "metrics.jsonl").read_text().splitlines()),
        "figures": len(list((broken / "pictures").iterdir())),
        "problems": problems,
        "holds": code == 0 and equal and not problems and len(named) == options.count,
    }


def stops(folder: Path, options: argparse.Namespace) -> dict:
    """SIGTERM to a process, or to the supervisor, at random steps; the same command resumes."""
    total = STOPPED_EVERY * (options.count + 1)
    schedule = {"optimizer__total_steps": total, "optimizer__decay_start_step": total // 2}
    schedule |= {"train__checkpoint_every": 100_000, "train__log_every": 1}
    broken, log = folder / "broken", folder / "stops.log"
    reference = uninterrupted(folder / "reference", log, options, **schedule)
    chance, saved, problems, seconds = random.Random(options.seed), [], [], []
    command = train_command(options.method, broken, options.processes, **schedule)
    before = ""
    for number in range(options.count + 1):
        with started(command, folder, log) as process:
            if number < options.count:
                reached = saved[-1] if saved else 0
                wait_for_step(process, broken, reached + chance.randint(1, 9))
                who = worker_pid(process.pid, number % (options.processes + 1)) or process.pid
                then = time.monotonic()
                os.kill(who, signal.SIGTERM)
            if process.wait() != 0:
                problems.append(f"exit code {process.returncode} after stop {number}")
        text = (broken / "metrics.jsonl").read_text()
        if not text.startswith(before):
            problems.append(f"steps before stop {number} were computed again")
        before = text
        if number < options.count:
            seconds.append(round(time.monotonic() - then, 1))
            saved.append(leaves(broken)[0])
            if saved[-1] != last_step(broken):
                problems.append(f"saved {saved[-1]}, computed {last_step(broken)}")
    steps = [json.loads(line)["step"] for line in before.splitlines()]
    if steps != list(range(1, total + 1)):
        problems.append("a step is missing or came twice")
    if leaves(broken) != leaves(reference):
        problems.append("not bit-equal to the uninterrupted run")
    return {
        "stops": options.count,
        "processes": options.processes,
        "saved at step": saved,
        "seconds until the end": seconds,
        "problems": problems,
        "holds": not problems,
    }


def damage(folder: Path, options: argparse.Namespace) -> dict:
    """Each cut, and each missing file, must be reported and lead to the checkpoint before."""
    from ganattn.runs.checkpoints import restore_variables

    log = folder / "damage.log"
    schedule = {"optimizer__total_steps": 6, "train__checkpoint_every": 2}
    workdir = uninterrupted(folder / "run", log, options, **schedule)
    store = workdir / "checkpoints"
    intact = {step: leaves_of(store, step) for step in (4, 6)}
    files = sorted(p for p in (store / "6").rglob("*") if p.is_file())
    sizes = [path.stat().st_size for path in files]
    chance, problems = random.Random(options.seed), []
    cuts: list[tuple[Path, int | None]] = [(path, None) for path in files]
    for _ in range(options.count):
        offset = chance.randrange(sum(sizes))
        for path, size in zip(files, sizes, strict=True):
            if offset < size:
                cuts.append((path, offset))
                break
            offset -= size
    for path, cut in cuts:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy)
        broken = copy / path.relative_to(store)
        broken.unlink() if cut is None else os.truncate(broken, cut)
        meta = restore_variables(copy)[1]
        unlisted = broken.name == "files.json" and cut is None  # its checksums still decide
        if meta["step"] != (6 if unlisted else 4) or meta["leaves"] != intact[meta["step"]]:
            problems.append(f"{path.relative_to(store)} cut at {cut}: step {meta['step']}")
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    command = train_command(options.method, workdir, options.processes, **schedule)
    with started(command, folder, log) as process:
        code = process.wait()
    together = code == 0 and leaves_of(store, 6) == intact[6] and "is damaged" in log.read_text()
    if not together:
        problems.append(f"{options.processes} processes did not resume from step 4: {code}")
    return {
        "files": len(files),
        "bytes": sum(sizes),
        "cuts": options.count,
        "missing files": len(files),
        "processes that fell back together": options.processes,
        "problems": problems,
        "holds": not problems,
    }


def leaves_of(store: Path, step: int) -> list:
    """Path and SHA-256 of every leaf of one checkpoint, which is read and verified."""
    from ganattn.runs.checkpoints import restore_variables

    return restore_variables(store, step)[1]["leaves"]


def main() -> int:
    """Runs one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = {f.__name__: f for f in (kills, stops, damage)}
    counts = {"kills": 20, "stops": 10, "damage": 50}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--count", type=int, help="number of faults")
    parser.add_argument("--steps", type=int, help="length of the run that is killed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the runs in this folder")
    parser.add_argument("--method", default="pix2pix", choices=METHODS)
    options = parser.parse_args()
    options.count = options.count or counts[options.part]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = parts[options.part](folder, options)
    print(json.dumps(result, indent=2))
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
