"""Fault-injection tests: break small training runs and check that nothing is lost.

    python launch/soak.py layouts    # 1, 2 and 4 processes against one, float64, 10 steps
    python launch/soak.py kills      # kill -9 of each process in turn at random steps, 20 times
    python launch/soak.py stops      # SIGTERM at random steps, 10 times
    python launch/soak.py damage     # checkpoints cut at 50 random offsets, or without a file

Each prints its results as JSON and exits with code 1 if something did not hold. All of them run on
the CPU, over loopback.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PIX2PIX = {  # batch norm over all devices, dropout
    "method.width": 2,
    "method.num_downs": 4,
    "method.image_size": 16,
    "method.discriminator": "pixel",
    "data.load_size": 18,
    "data.flip": True,
}
CYCLEGAN = {"method.width": 2, "data.load_size": 34, "data.flip": True}  # image pool
METHODS: dict[str, dict[str, Any]] = {"pix2pix": PIX2PIX, "cyclegan": CYCLEGAN}
QUIET = {"train.pictures_every": 0, "train.histograms_every": 0, "data.batch_size": 4}
ROUNDING = 1e-8  # arrays whose largest value is less hold nothing but rounding
KILLED_EVERY, STOPPED_EVERY = 15, 60  # steps; processes agree to stop a few steps ahead
LAYOUTS = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1))  # processes, devices of each


def fields(method: str, **more: Any) -> dict[str, Any]:
    """Config fields of a run that takes a moment."""
    return {**METHODS[method], **QUIET, **{k.replace("__", "."): v for k, v in more.items()}}


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
    """The training process with that index under a supervisor."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if parent == supervisor and words[-3:-1] == [b"--process-id", str(index).encode()]:
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


def kills(folder: Path, options: argparse.Namespace) -> dict:
    """kill -9 of each process in turn at random steps, under one supervisor."""
    total = KILLED_EVERY * (options.count + 1)
    schedule = {"optimizer__total_steps": total, "optimizer__decay_start_step": total // 2}
    schedule |= {"train__checkpoint_every": 4, "train__log_every": 1}
    reference, broken, log = folder / "reference", folder / "broken", folder / "kills.log"
    with started(
        train_command("pix2pix", reference, options.processes, **schedule), folder, log
    ) as process:
        assert process.wait() == 0, log.read_text()
    chance, killed_after, waits = random.Random(options.seed), [], []
    flags = ("--max-restarts", str(options.count), "--worker-timeout", "30")
    command = train_command("pix2pix", broken, options.processes, *flags, **schedule)
    with started(command, folder, log) as process:
        for number in range(options.count):
            target = KILLED_EVERY * number + chance.randint(1, KILLED_EVERY - 1)
            pid = None
            while pid is None:
                wait_for_step(process, broken, target)
                pid = worker_pid(process.pid, number % options.processes)
            os.kill(pid, signal.SIGKILL)
            then, at = time.monotonic(), last_step(broken)
            while last_step(broken) <= at + 1 and process.poll() is None:
                time.sleep(0.05)
            waits.append(round(time.monotonic() - then, 1))
            killed_after.append(at)
        code = process.wait()
    named = [line for line in log.read_text().splitlines() if "was killed by SIGKILL" in line]
    actual, expected = leaves(broken), leaves(reference)
    return {
        "kills": len(killed_after),
        "processes": options.processes,
        "exit code": code,
        "killed after step": killed_after,
        "seconds until training continued": waits,
        "deaths named": len(named),
        "last message": named[-1] if named else "",
        "bit-equal to the uninterrupted run": actual == expected,
        "holds": code == 0 and actual == expected and len(named) == options.count,
    }


def stops(folder: Path, options: argparse.Namespace) -> dict:
    """SIGTERM to a process, or to the supervisor, at random steps; the same command resumes."""
    total = STOPPED_EVERY * (options.count + 1)
    schedule = {"optimizer__total_steps": total, "optimizer__decay_start_step": total // 2}
    schedule |= {"train__checkpoint_every": 100_000, "train__log_every": 1}
    reference, broken, log = folder / "reference", folder / "broken", folder / "stops.log"
    with started(
        train_command("pix2pix", reference, options.processes, **schedule), folder, log
    ) as process:
        assert process.wait() == 0, log.read_text()
    chance, saved, problems, seconds = random.Random(options.seed), [], [], []
    command = train_command("pix2pix", broken, options.processes, **schedule)
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

    workdir, log = folder / "run", folder / "damage.log"
    schedule = {"optimizer__total_steps": 6, "train__checkpoint_every": 2}
    with started(
        train_command("pix2pix", workdir, options.processes, **schedule), folder, log
    ) as process:
        assert process.wait() == 0, log.read_text()
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
    with started(
        train_command("pix2pix", workdir, options.processes, **schedule), folder, log
    ) as process:
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


def layouts(folder: Path, options: argparse.Namespace) -> dict:
    """Ten float64 steps on every layout, and five on each followed by five on the next."""
    errors: dict[str, Any] = {}
    for method in METHODS:
        run = folder / method
        for layout in LAYOUTS:
            on_layout(folder, method, run / name(layout), layout, 10)
        expected = parameters(run / name(LAYOUTS[0]))
        for layout in LAYOUTS[1:]:
            error = difference(parameters(run / name(layout)), expected)
            errors[f"{method} {name(layout)}"] = error
        if method != "pix2pix":  # one method shows how checkpoints move
            continue
        for first, then in zip(LAYOUTS, (*LAYOUTS[1:], LAYOUTS[0]), strict=True):
            run_of_both = run / f"{name(first)} to {name(then)}"
            on_layout(folder, method, run_of_both, first, 5)
            on_layout(folder, method, run_of_both, then, 10)
            errors[f"{method} {run_of_both.name}"] = difference(parameters(run_of_both), expected)
    return {
        "relative differences from 1x1 after 10 steps": errors,
        "largest": max(errors.values()),
        "holds": max(errors.values()) <= 1e-12,
    }


def name(layout: tuple[int, int]) -> str:
    """PROCESSESxDEVICES."""
    return "x".join(map(str, layout))


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    """Every variable of the newest checkpoint by its path."""
    import jax

    from ganattn.runs.checkpoints import restore_variables

    variables, meta = restore_variables(workdir / "checkpoints")
    assert meta["step"] == 10, meta["step"]
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat}


def difference(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference in any array, relative to that array's largest value.

    A bias before an instance norm changes nothing: its gradient is rounding, which Adam enlarges to
    some 1e-10 after ten steps. Such arrays are recognized by their size and compared with 1e3.
    """
    assert all(leaf.dtype == np.float64 for leaf in actual.values())
    worst = 0.0
    for path, leaf in expected.items():
        size = float(np.abs(leaf).max())
        scale = size if size > ROUNDING else 1e3
        worst = max(worst, float(np.abs(actual[path] - leaf).max()) / scale)
    return worst


def on_layout(folder: Path, method: str, workdir: Path, layout: tuple[int, int], total: int):
    """Trains with this file's `worker` on each process, unless the folder has the run."""
    processes, devices = layout
    if (workdir / "checkpoints" / str(total)).is_dir():
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    common = [sys.executable, __file__, "worker", "--method", method, "--workdir", str(workdir)]
    common += ["--total", str(total), "--processes", str(processes), "--port", str(port)]
    variables = {**environment(folder, devices), "JAX_ENABLE_X64": "1"}
    workers = [
        subprocess.Popen([*common, "--index", str(index)], env=variables)
        for index in range(processes)
    ]
    codes = [process.wait() for process in workers]
    assert not any(codes), f"{layout}: exit codes {codes}"


def worker(folder: Path, options: argparse.Namespace) -> dict:
    """One process of `layouts`: trains in float64, and verifies what it restores."""
    import jax

    from ganattn import config as configuration
    from ganattn import methods, parallel, processes
    from ganattn.runs.checkpoints import Checkpoints, restore_variables
    from ganattn.training.loop import train

    if options.processes > 1:
        processes.join(f"127.0.0.1:{options.port}", options.processes, options.index, 60)
    config = configuration.load(configuration.find(options.method), "tiny")
    with config.unlocked():
        config.update_from_flattened_dict(fields(options.method))
        config.optimizer.update(total_steps=options.total, decay_start_step=5)
        config.train.checkpoint_every = 100
    method = doubled(methods.create(config))
    store = Checkpoints(options.workdir / "checkpoints")
    if store.latest() is not None:
        like = jax.eval_shape(method.create_state, jax.random.key(0))
        state, _ = store.restore(like, parallel.create_mesh())
        host_variables, _ = restore_variables(store.directory)
        pairs = zip(jax.tree.leaves(state.variables), jax.tree.leaves(host_variables), strict=True)
        for leaf, stored in pairs:
            for shard in leaf.addressable_shards:
                assert np.array_equal(np.asarray(shard.data), stored), "restored inexactly"
    train(config, options.workdir, method=method)
    return {"holds": True}


def doubled(method: Any) -> Any:
    """The same method with a state in double precision."""
    import jax
    import jax.numpy as jnp

    kind = type(method)

    def create_state(self, rng, variables=None):
        single = kind.create_state(self, rng, variables)
        double = jax.tree.map(lambda x: x.astype(jnp.float64), single.variables)
        return kind.create_state(self, rng, double)

    given = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    return type(kind.__name__, (kind,), {"create_state": create_state})(**given)


def main() -> int:
    """Runs one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = {f.__name__: f for f in (layouts, kills, stops, damage, worker)}
    counts = {"kills": 20, "stops": 10, "damage": 50}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--count", type=int, help="number of faults")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the runs in this folder")
    parser.add_argument("--method", default="pix2pix", choices=METHODS)
    for hidden, kind in (("workdir", Path), ("total", int), ("index", int), ("port", int)):
        parser.add_argument(f"--{hidden}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.count = options.count or counts.get(options.part, 50)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = parts[options.part](folder, options)
    if options.part != "worker":
        print(json.dumps(result, indent=2))
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
