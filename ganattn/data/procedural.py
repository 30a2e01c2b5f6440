"""Procedurally generated data sets: two domains with true translations, and labelled scenes.

A scene is a disc or a square on a dull background. Domain a paints it orange with dark rows,
domain b blue with light columns; both textures are locked to the image's grid and symmetric to
mirroring, so each scene has exactly one translation, which can be learned and scored.
"""

import numpy as np

from ganattn.data.sampling import DOMAINS

TRAIN_COUNT = 1000  # images of each domain
TEST_COUNT = 64
PERIOD = 8  # of the textures, in 32nds of the image's side


def train_set(count: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """{"a", "b"}: (count, size, size, 3) uint8, unpaired: no scene is in both domains."""
    return {
        domain: np.stack([_render(size, [seed, stream, i], domain)[0] for i in range(count)])
        for stream, domain in enumerate(DOMAINS)
    }


def test_set(count: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """For each domain d: "d" and its translation "d_truth" (uint8), and "d_mask" (n, h, w) bool.

    No training set of the same seed has these scenes.
    """
    result = {}
    for stream, domain in enumerate(DOMAINS):
        other = DOMAINS[1 - stream]
        keys = [[seed, 2 + stream, i] for i in range(count)]
        images, masks = zip(*(_render(size, key, domain) for key in keys), strict=True)
        result[domain], result[f"{domain}_mask"] = np.stack(images), np.stack(masks)
        result[f"{domain}_truth"] = np.stack([_render(size, key, other)[0] for key in keys])
    return result


def pairs(count: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """{"a", "b"}: (count, size, size, 3) uint8, the same scene in both domains."""
    keys = [[seed, 4, i] for i in range(count)]
    return {d: np.stack([_render(size, key, d)[0] for key in keys]) for d in DOMAINS}


def scenes(count: int, height: int, width: int, seed: int) -> dict[str, np.ndarray]:
    """ "label", "instance" (count, height, width) int32 and "image" (..., 3) uint8, for synthesis.

    Class 0 is background, 1 and 2 are objects in the textures of domains a and b, 3 is a light
    floor or ceiling.
    """
    drawn = [_scene(height, width, np.random.default_rng([seed, 5, i])) for i in range(count)]
    label, instance, image = map(np.stack, zip(*drawn, strict=True))
    return {"label": label, "instance": instance, "image": image}


def _scene(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    image, label = _background(rng, y, x), np.zeros((height, width), np.int32)
    floor = (y if rng.random() < 0.5 else 1 - y) > rng.uniform(0.7, 0.9)
    label[floor], image[floor] = 3, (0.9, 0.9, 0.8)
    instance = label.copy()
    for number in range(3):
        kind, mask = int(rng.integers(2)), _mask(rng, y, x)
        label[mask], instance[mask] = 1 + kind, 10 + number
        image = np.where(mask[..., None], _texture(DOMAINS[kind], y, x), image)
    return label, instance, np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def _render(size: int, key: list[int], domain: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(key)
    y, x = np.mgrid[:size, :size] / size
    background, mask = _background(rng, y, x), _mask(rng, y, x)
    image = np.where(mask[..., None], _texture(domain, y, x), background)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8), mask


def _background(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A smooth dull gradient with a soft wave and fine noise."""
    low, high = rng.uniform(0.25, 0.75, (2, 1)) + rng.uniform(-0.06, 0.06, (2, 3))
    angle, waves, phase = rng.uniform(0, 2 * np.pi), rng.uniform(1, 3), rng.uniform(0, 2 * np.pi)
    along = 0.5 + 0.5 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    along = along + 0.06 * np.sin(2 * np.pi * waves * (x + y) + phase)
    smooth = low + (high - low) * along[..., None]
    return smooth + rng.normal(0, 0.02, (*x.shape, 1))


def _mask(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A disc or a turned square that covers about an eighth to a third of the image."""
    radius = rng.uniform(0.2, 0.32)
    center_y, center_x = rng.uniform(radius, 1 - radius, 2)
    dy, dx = y - center_y, x - center_x
    if rng.random() < 0.5:
        return np.hypot(dy, dx) < radius
    turn = rng.uniform(-0.4, 0.4)
    along, across = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    return np.maximum(np.abs(along), np.abs(across)) < 0.88 * radius


def _texture(domain: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    bright, dark, along = {
        "a": ((0.95, 0.55, 0.10), (0.55, 0.20, 0.05), y),
        "b": ((0.60, 0.85, 1.00), (0.05, 0.25, 0.75), x),
    }[domain]
    # Measured from the middle of the image, so that mirroring maps the bands onto themselves.
    band = np.abs(along + 0.5 / len(y) - 0.5) * 32 % PERIOD < PERIOD / 2
    return np.where(band[..., None], np.array(bright), np.array(dark))
