"""Measures one training step and the input pipeline of a config, and prints JSON.

    python launch/benchmark.py --config configs/ugatit.py:light --size 128 --batch 1

The step: compile time without and with the persistent cache, XLA's count of operations and memory,
the median time of many steps after two. The input: 256 px files, resized, cropped and mirrored as
the config says. Peak memory is that of a process that finds the step in the cache. Perceptual
networks have random weights, which take the same time.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from step_costs import without_weights

from ganattn import config as configuration
from ganattn import data, parallel
from ganattn.data import procedural
from ganattn.errors import ConfigError, UserError
from ganattn.methods import Method
from ganattn.state import TrainState

IMAGES = 64  # of each domain
IMAGE_SIZE = 256
WARM_UP = 2


def main() -> None:
    """Runs the measurements that the arguments ask for."""
    options = _parse()
    try:
        config = _resolve(options)
        if options.compile_only:
            print(_compile(without_weights(config), config)[-1])
            return
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), config.data)
            config.data.update(source="folder", path=folder)
            result = {**_describe(options), **measure_step(config, options.steps, folder)}
            if not options.no_input:
                result |= measure_input(config, options.steps)
    except UserError as error:
        sys.exit(f"benchmark: {error}")
    print(json.dumps(result, indent=2))


def measure_step(config: ConfigDict, steps: int, folder: str) -> dict[str, object]:
    """Compile times, XLA's operations and memory, and times of the training step.

    A separate process compiles first, so that the compiler's memory does not count as the step's.
    """
    result: dict[str, object] = {"compile_seconds_cold": _compile_elsewhere(folder)}
    method = without_weights(config)
    step, state, compiled, result["compile_seconds_cached"] = _compile(method, config)
    costs, memory = compiled.cost_analysis(), compiled.memory_analysis()
    result["gflop_per_step"] = round(costs["flops"] / 1e9, 1)
    result["xla_arguments_gb"] = round(memory.argument_size_in_bytes / 1e9, 3)
    result["xla_temporaries_gb"] = round(memory.temp_size_in_bytes / 1e9, 3)
    times = []
    placed = step.place(random_batch(method, config.data.batch_size))
    for _ in range(WARM_UP + steps):
        started = time.perf_counter()
        state, metrics = compiled(state, placed)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - started)
    times = times[WARM_UP:]
    result["step_seconds"] = round(statistics.median(times), 4)
    result["step_seconds_range"] = [round(min(times), 4), round(max(times), 4)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_host_gb"] = round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)
    if on_device := jax.local_devices()[0].memory_stats():
        result["peak_device_gb"] = round(on_device["peak_bytes_in_use"] / 1e9, 2)
    return result


def _compile(
    method: Method, config: ConfigDict
) -> tuple[parallel.MappedStep, TrainState, jax.stages.Compiled, float]:
    """(step, state, executable, seconds)"""
    mesh, size = parallel.create_mesh(), config.data.batch_size
    parallel.check_batch_size(size, mesh, method.accumulate_steps)
    seed = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    state = parallel.replicate(method.create_state, mesh)(seed)
    step = parallel.map_method(method, mesh, config.parallel)
    started = time.perf_counter()
    compiled = step.compile(state, random_batch(method, size))
    return step, state, compiled, round(time.perf_counter() - started, 2)


def _compile_elsewhere(folder: str) -> float:
    """Seconds that a fresh process takes; it leaves the executables in the cache for this one."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, __file__, *sys.argv[1:], "--compile-only"]
    child = subprocess.run(command, env={**os.environ, **cache}, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        sys.exit(child.returncode)
    jax.config.update("jax_compilation_cache_dir", cache["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    return float(child.stdout.split()[-1])


def random_batch(method: Method, count: int) -> dict[str, np.ndarray]:
    """A batch as the method's step reads it: floats in [-1, 1], and zeros for indices and ids."""
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(-1, 1, spec.shape).astype(spec.dtype)
        if np.issubdtype(spec.dtype, np.floating)
        else np.zeros(spec.shape, spec.dtype)
        for name, spec in method.batch_spec(count).items()
    }


def measure_input(config: ConfigDict, steps: int) -> dict[str, object]:
    """Files a second out of the pipeline, of all kinds together, while nothing else runs."""
    batches = data.create(config)
    count = max(steps, 1000 // config.data.batch_size)
    for step in range(WARM_UP):
        batches(step)
    started = time.perf_counter()
    for step in range(WARM_UP, WARM_UP + count):
        batch = batches(step)
    seconds = time.perf_counter() - started
    batches.close()
    files = count * sum(len(array) for array in batch.values() if array.ndim == 4)
    return {"input_files_per_second": round(files / seconds)}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="FILE[:VARIANT]")
    parser.add_argument("--size", type=int, help="of the images, in config.method")
    parser.add_argument("--batch", type=int, help="config.data.batch_size, over all devices")
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--compile-only", action="store_true", help="print the seconds and exit")
    parser.add_argument("--no-input", action="store_true", help="skip the input pipeline")
    return parser.parse_args()


def _resolve(options: argparse.Namespace) -> ConfigDict:
    path, _, variant = options.config.partition(":")
    config = configuration.load(configuration.find(path), variant)
    if options.size:
        fields = [name for name in ("image_size", "crop_size") if name in config.method]
        if not fields:
            raise ConfigError("--size: config.method has no image_size: use another variant")
        config.method[fields[0]] = options.size
    if options.batch:
        config.data.batch_size = options.batch
    return config


def _describe(options: argparse.Namespace) -> dict[str, object]:
    return {
        "config": options.config,
        "size": options.size,
        "batch": options.batch,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def write_images(folder: Path, options: ConfigDict) -> None:
    """Writes training images as the layout of `config.data` expects them in a folder."""
    if options.layout == "semantic":
        height = round(IMAGE_SIZE / options.aspect_ratio)
        scenes = procedural.scenes(IMAGES, height, IMAGE_SIZE, 0)
        ids = {"train_label": scenes["label"], "train_inst": scenes["instance"]}
        _save(folder, {name: array.astype(np.uint8) for name, array in ids.items()}, "png")
        _save(folder, {"train_img": scenes["image"]}, "jpg")
        return
    a, b = procedural.train_set(IMAGES, IMAGE_SIZE, 0).values()
    if options.layout == "aligned":
        _save(folder, {"train": np.concatenate([a, b], 2)}, "jpg")
    elif options.layout == "single":
        _save(folder, {"train": a}, "jpg")
    else:
        _save(folder, {"trainA": a, "trainB": b}, "jpg")


def _save(root: Path, folders: Mapping[str, np.ndarray], suffix: str) -> None:
    for name, images in folders.items():
        (root / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{i}.{suffix}", quality=95)


if __name__ == "__main__":
    main()
