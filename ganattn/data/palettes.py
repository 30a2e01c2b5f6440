"""Colors for label ids."""

import colorsys

import numpy as np

# CMP Facades, ids 1 to 12 (0 is unused), as pix2pix's copy of the set is painted.
FACADES = (
    (0, 0, 0), (0, 0, 170), (0, 0, 255), (0, 85, 255), (0, 170, 255), (0, 255, 255), (85, 255, 170),
    (170, 255, 85), (255, 255, 0), (255, 170, 0), (255, 85, 0), (255, 0, 0), (170, 0, 0),
)  # fmt: skip
IDS = 256


def palette(name: str) -> np.ndarray:
    """(ids, 3) uint8: "facades", or "spectrum" for 256 ids whose neighbours differ in hue."""
    if name == "facades":
        return np.array(FACADES, np.uint8)
    golden = (5**0.5 - 1) / 2  # steps around the circle of hues that never come close again
    colors = [colorsys.hsv_to_rgb(i * golden % 1, 0.8, 0.4 + 0.6 * (i % 3) / 2) for i in range(IDS)]
    return np.rint(255 * np.array([(0.0, 0.0, 0.0), *colors[1:]])).astype(np.uint8)


PALETTES = ("", "facades", "spectrum")
