"""Trains small float64 runs on every layout of processes and devices, and compares the results.

    python launch/layouts.py    # 1, 2 and 4 processes against one, 10 steps

Prints the differences as JSON and exits with code 1 if one is too large. Runs on the CPU, over
loopback.
"""

import argparse
import dataclasses
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from soak import METHODS, environment, fields

COMPARED = ("pix2pix", "cyclegan")
ROUNDING = 1e-8  # arrays whose largest value is less hold nothing but rounding
LAYOUTS = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1))  # processes, devices of each


def compare(folder: Path) -> dict[str, Any]:
    """Ten float64 steps on every layout, and five on each followed by five on the next."""
    errors: dict[str, Any] = {}
    for method in COMPARED:
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
            both = run / f"{name(first)} to {name(then)}"
            on_layout(folder, method, both, first, 5)
            on_layout(folder, method, both, then, 10)
            errors[f"{method} {both.name}"] = difference(parameters(both), expected)
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
    """Trains with `worker` on each process, unless the folder has the run."""
    processes, devices = layout
    if (workdir / "checkpoints" / str(total)).is_dir():
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    common = [sys.executable, __file__, "--method", method, "--workdir", str(workdir)]
    common += ["--total", str(total), "--processes", str(processes), "--port", str(port)]
    variables = {**environment(folder, devices), "JAX_ENABLE_X64": "1"}
    workers = [
        subprocess.Popen([*common, "--index", str(index)], env=variables)
        for index in range(processes)
    ]
    codes = [process.wait() for process in workers]
    assert not any(codes), f"{layout}: exit codes {codes}"


def worker(options: argparse.Namespace) -> None:
    """One process of a layout: trains in float64, and verifies what it restores."""
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
                assert np.array_equal(np.asarray(shard.data), stored), "the restored state differs"
    train(config, options.workdir, method=method)


def doubled(method: Any) -> Any:
    """The same method with a state in double precision."""
    import jax
    import jax.numpy as jnp

    kind = type(method)

    def create_state(self, rng, variables=None):
        single = kind.create_state(self, rng, variables)
        double = jax.tree.map(lambda x: x.astype(jnp.float64), single.variables)
        return kind.create_state(self, rng, double)

    values = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    return type(kind.__name__, (kind,), {"create_state": create_state})(**values)


def main() -> int:
    """Compares the layouts, or with --workdir is one of their processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the runs in this folder")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--workdir", type=Path, help=argparse.SUPPRESS)
    for hidden in ("total", "processes", "index", "port"):
        parser.add_argument(f"--{hidden}", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workdir:
        worker(options)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = compare(folder)
    print(json.dumps(result, indent=2))
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
