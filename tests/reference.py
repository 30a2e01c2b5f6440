"""Reads files of the authors' numbers, and compares our numbers with them or with each other."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np

from ganattn import interop, parallel

# What XLA does by default; all else in the tests is compiled without optimization.
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


def waves(side):
    """The images of tests/golden/metrics/make.py."""
    n, i, j, c = np.ogrid[1:3, :side, :side, 2:5]
    return ((n * i * j // 97 + c * i * i // 61 + 31 * j // n) % 256).astype(np.uint8)


def arrays_under(file, prefix, dtype):
    """The arrays of one network, {key: array}; weights as `dtype`, counters as they are."""
    arrays = {name.removeprefix(prefix): file[name] for name in file.files if prefix in name}
    return {key: x.astype(dtype) if x.dtype == np.float32 else x for key, x in arrays.items()}


def networks_of(file, system, dtype=np.float64):
    """{network: {key: array}} before the first step."""
    names = importlib.import_module(f"ganattn.interop.{system}").NETWORKS
    return {name: arrays_under(file, f"init/{name}/", dtype) for name in names}


def pictures_of(file, step, dtype=np.float64):
    """The batch of a step."""
    return {d: nhwc(file[f"step{step}/real_{d.upper()}"]).astype(dtype) for d in "ab"}


def nhwc(images):
    return images.transpose(0, 2, 3, 1)


def close(actual, expected, tolerance, name=""):
    """Within `tolerance` of the largest expected value."""
    error = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"{name} off by {error:.2e} relative"


def check_steps(file, method, system, terms, draws=lambda step: {}):
    """Checks all steps of a file: metrics within 1e-9, weights within the rounding of float32.

    terms: our metric -> (the names of its parts in the file, the weight that these contain).
    draws: of a step.
    """
    variables = interop.from_authors(system, networks_of(file, system))
    state = method.create_state(jax.random.key(0), variables)
    step = jax.jit(method.train_step)
    for i in range(sum(name.endswith("/real_A") for name in file.files)):
        state, metrics = step(state, pictures_of(file, i), draws(i))
        assert set(metrics) >= set(terms)
        for ours, (names, weight) in terms.items():
            close(weight * metrics[ours], sum(file[f"step{i}/{name}"] for name in names), 1e-9)
    trained = interop.to_authors(system, state.variables)
    final = [name for name in file.files if name.startswith("final/")]
    assert len(final) == sum(map(len, trained.values()))
    for name in final:
        _, network, key = name.split("/")
        close(trained[network][key], file[name], 1e-6, name)


def in_float64(method):
    """A fresh state in double precision."""
    given = jax.jit(method.create_state)(jax.random.key(0)).variables
    given = jax.tree.map(lambda x: x.astype(jnp.float64), given)
    return method.create_state(jax.random.key(0), given)


def filled(method, dtype=np.float64):
    """{network: collections} of the networks' shapes, drawn by numpy: initializing compiles longer.

    Statistics and vectors have their usual scale; gates are closed, biases are 0.
    """
    random = np.random.default_rng(0)
    positive = {"batch_stats": (0.5, 1.5), "rho": (0.2, 0.8)}

    def draw(collection, path, leaf):
        if collection == "params" and leaf.ndim < 2:
            return np.full(leaf.shape, leaf.ndim == 1 and path[-1].key in ("gamma", "scale"))
        if collection in positive:
            return random.uniform(*positive[collection], leaf.shape)
        values = random.normal(size=leaf.shape)
        if collection == "spectral":
            return values / np.linalg.norm(values)
        return values * np.prod(leaf.shape[:-1]) ** -0.5

    return {
        name: {
            collection: jax.tree.map_with_path(
                lambda path, leaf, c=collection: draw(c, path, leaf).astype(dtype), tree
            )
            for collection, tree in method.shapes(name).items()
        }
        for name in method.networks
    }


def train_on(method, batches, devices=1, backend=None):
    """(state, metrics of the last step) after a step on each batch; backend None: not mapped."""
    state = in_float64(method)
    step = jax.jit(method.train_step)
    if backend is not None:
        mesh = parallel.create_mesh(jax.devices()[:devices])
        state = jax.device_put(state, parallel.replicated(mesh))
        step = parallel.map_step(method.mapped().train_step, mesh, backend)
    for batch in batches:
        state, metrics = step(state, batch)
    return jax.device_get((state.replace(rng=jax.random.key_data(state.rng)), metrics))


def assert_equal(one, other, tolerance=1e-10):
    """Trees with the same leaves, within `tolerance` of 1 or of the value."""
    paths, tree = jax.tree_util.tree_flatten_with_path(one)
    leaves, other_tree = jax.tree.flatten(other)
    assert tree == other_tree
    for (path, x), y in zip(paths, leaves, strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=name)
