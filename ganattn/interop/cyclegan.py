"""Names of the authors' PyTorch CycleGAN (junyanz/pytorch-CycleGAN-and-pix2pix)."""

from ganattn.interop.image_translation import (
    discriminator_fields,
    discriminator_rows,
    generator_fields,
    generator_rows,
)
from ganattn.interop.names import Kind

# Their D_A discriminates between the outputs of G_A and real images, both of domain B.
NETWORKS = {
    "G_A": "generator_a2b",
    "G_B": "generator_b2a",
    "D_A": "discriminator_b",
    "D_B": "discriminator_a",
}
OPTIONS = ("dropout",)
KINDS = {
    "G": Kind(generator_rows, generator_fields),
    "D": Kind(discriminator_rows, discriminator_fields),
}
