"""`generate` follows the authors' test code: tests/golden/translation has what that gives."""

import jax
import numpy as np
import pytest
from reference import arrays_under, close, nhwc, quick_jit

from ganattn import Translator, interop, methods
from ganattn.config import find, load
from ganattn.errors import ConfigError

BUFFER = {"guidance": "buffer", "buffer_size_a": 2, "buffer_size_b": 2}
CASES = {
    "guidance_buffer_rmult": ("guidance", BUFFER),
    "guidance_buffer_mult": ("guidance", BUFFER | {"blend": "mult"}),
    "guidance_buffer_alpha": ("guidance", BUFFER),
    "guidance_trainable": ("guidance", {}),
    "guidance_posthoc": ("guidance", {}),
    "guidance_supervised": ("guidance_supervised", {}),
    "pix2pix": ("pix2pix", {}),
    "cyclegan": ("cyclegan", {"dropout": True}),
}
EVALUATED = ("guidance_trainable", "guidance_supervised", "pix2pix", "cyclegan")


def method_of(system, variant="", **fields):
    config = load(find(system), variant)
    with config.unlocked():
        config.method.update(fields)
    return methods.create(config), config


@pytest.mark.parametrize(
    ("case", "variant"), [(c, "") for c in CASES] + [(c, "eval") for c in EVALUATED]
)
def test_translations_equal_the_authors(case, variant, golden_folder, monkeypatch, x64):
    """For a batch, because their test code translates one image at a time."""
    file, (system, fields) = np.load(golden_folder / "translation" / f"{case}.npz"), CASES[case]
    names = {name.split("/")[1] for name in file.files if name.startswith("init/")}
    networks = {name: arrays_under(file, f"init/{name}/", np.float64) for name in names}
    variables = interop.from_authors(system, networks)
    fields = interop.method_fields(system, networks) | fields
    image_size = file["real_A"].shape[-1]
    method, _ = method_of(system, variant, image_size=image_size, **fields)
    for direction in method.directions:
        target, source = direction.target.upper(), direction.source.upper()
        masks = [nhwc(file[n])[0] for n in file.files if n.startswith(f"dropout_{target}/")]
        drawn = {mask.shape: mask for mask in masks}
        monkeypatch.setattr(jax.random, "bernoulli", lambda _, p, shape, d=drawn: d.pop(shape))
        image = nhwc(file[f"real_{source}"]).astype(float)
        inputs = {"image": np.concatenate([image, image[:, ::-1]])}
        used = {name: variables[name] for name in method.networks_for(direction)}
        generate = quick_jit(lambda v, x, d=direction: method.generate(v, x, d))
        expected = nhwc(file[f"{variant}{'/' * bool(variant)}fake_{target}"])
        stride = image_size // expected.shape[1]
        close(generate(used, inputs).images[:1, ::stride, ::stride], expected, 1e-12)
        assert bool(drawn) == bool(variant and masks)
