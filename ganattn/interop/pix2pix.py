"""Names of the authors' PyTorch pix2pix (junyanz/pytorch-CycleGAN-and-pix2pix)."""

from functools import partial

from ganattn.interop.image_translation import (
    discriminator_fields,
    discriminator_rows,
    generator_fields,
    generator_rows,
)
from ganattn.interop.names import Kind

NETWORKS = {"G": "generator_a2b", "D": "discriminator_b"}
OPTIONS = ("dropout",)
KINDS = {
    "G": Kind(generator_rows, generator_fields),
    "D": Kind(discriminator_rows, partial(discriminator_fields, channels=6)),
}
