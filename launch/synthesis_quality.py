"""Does SNDCGAN learn? Trains on pictures made by formula and measures how far samples are off.

    python launch/synthesis_quality.py --workdir runs/quality [--variant vanilla] [--steps 800]

The distance is Fréchet's between Gaussians, as in FID, over the features of a small convolutional
network with fixed random weights. It is no FID of the literature: it compares runs of this script.
Prints a line now and then, writes distance.jsonl and a grid of samples for each, and exits with 1
unless the distance has fallen to a third of its first value, and of that of pictures without any
content: the mean colour of the real ones (fresh networks are far worse than that).
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ganattn import figures, methods
from ganattn.config import find, load
from ganattn.data import procedural
from ganattn.data.images import to_float
from ganattn.parallel import example_keys
from ganattn.runs.workdir import JsonLines
from ganattn.state import with_averages
from ganattn.training.loop import train

SAMPLES = 512
LEVELS = (32, 64, 128)  # channels of the random network


def main() -> None:
    """Trains, measures, and says whether it learned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--variant", default="spap_c2f", help="of configs/sndcgan.py")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--every", type=int, default=100, help="steps between measurements")
    options = parser.parse_args()
    config = load(find("sndcgan"), f"{options.variant},quickstart")
    with config.unlocked():
        config.optimizer.total_steps = options.steps
        config.train.pictures_every = 0
        if "spap" in options.variant:
            config.method.pyramid_start_step = options.steps // 2
    method = methods.create(config)
    distance = Distance(method, options.workdir, config.data.crop_size, options.every)
    fresh = jax.jit(method.create_state)(jax.random.key(config.seed))
    distance(0, fresh, {})
    train(config, options.workdir, hooks=[distance])
    first, last = distance.found[0], distance.found[-1]
    print(f"from {first:.3f} to {last:.3f}: {last / first:.1%} of the start's")
    print(f"pictures of the mean colour: {distance.blank:.3f}, {last / distance.blank:.1%} of it")
    raise SystemExit(int(last > min(first, distance.blank) / 3))


class Distance:
    """A hook that measures how far samples are from pictures that training does not see."""

    def __init__(self, method, workdir, size, every):
        self._every, self._workdir = every, workdir
        workdir.mkdir(parents=True, exist_ok=True)
        self._lines = JsonLines(workdir / "distance.jsonl", -1)
        self._start = time.monotonic()
        self.found = []
        features = jax.jit(random_features)
        seeds = (1, 2)
        sets = [procedural.train_set(SAMPLES // 2, size, 1_000 + seed) for seed in seeds]
        real = [features(to_float(np.concatenate([s["a"], s["b"]]))) for s in sets]
        self._real = statistics(real[0])
        mean = to_float(np.concatenate(list(sets[0].values()))).mean((0, 1, 2))
        blank = np.broadcast_to(mean, (SAMPLES, size, size, 3))
        self.blank = frechet(self._real, statistics(features(blank)))
        self._floor = frechet(self._real, statistics(real[1]))

        @jax.jit
        def sample(variables):
            latents = method.draw(example_keys(jax.random.key(7), SAMPLES, None))
            made = method.translate(variables, latents)
            # jit returns dictionaries sorted by key: the order is noted while it traces.
            self._order = list(made.attentions or {})
            maps = {n: m[:8] for n, m in (made.attentions or {}).items()}
            return made.images[:64], maps, random_features(made.images)

        self._sample = sample

    def __call__(self, step, state, metrics):
        if step % self._every:
            return
        images, maps, features = self._sample(with_averages(state.variables, state.ema))
        found = frechet(self._real, statistics(features))
        self.found.append(found)
        seconds = time.monotonic() - self._start
        self._lines.write({"step": step, "distance": found, "seconds": round(seconds, 1)})
        print(f"step {step}: {found:.3f} after {seconds:.0f} s (real pictures: {self._floor:.3f})")
        name = f"{step:06d}.png"
        figures.save_picture(self._workdir / "samples" / name, figures.mosaic(images))
        if maps:
            columns = {"sample": images[:8], **{name: maps[name] for name in self._order}}
            figures.save_grid(self._workdir / "attention" / name, columns)

    def close(self):
        self._lines.close()


def random_features(images):
    """(n, 448): means and deviations of each level's channels, with weights that never change."""
    x, found = images, []
    for level, channels in enumerate(LEVELS):
        key = jax.random.fold_in(jax.random.key(3), level)
        kernel = jax.random.normal(key, (3, 3, x.shape[-1], channels))
        kernel *= np.sqrt(2 / (9 * x.shape[-1]))
        numbers = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=numbers)
        x = jax.nn.leaky_relu(x, 0.2)
        found += [x.mean((1, 2)), x.std((1, 2))]
    return jnp.concatenate(found, -1)


def statistics(features):
    """Mean and covariance, in double precision."""
    features = np.asarray(features, np.float64)
    return features.mean(0), np.cov(features, rowvar=False)


def frechet(one, other):
    """Squared Fréchet distance of two Gaussians (mean, covariance)."""
    (mean, covariance), (other_mean, other_covariance) = one, other
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    trace = np.trace(covariance) + np.trace(other_covariance)
    return float(
        np.sum((mean - other_mean) ** 2) + trace - 2 * np.sqrt(np.maximum(product, 0)).sum()
    )


if __name__ == "__main__":
    main()
