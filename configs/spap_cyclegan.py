"""SPAP in CycleGAN (Sun and Wu 2019, arXiv 1901.06322): pyramids of atrous convolutions.

    ganattn train --config configs/spap_cyclegan.py:cityscapes --workdir runs/cityscapes \\
        --config.data.path=data/cityscapes

The method is CycleGAN without its identity loss, with a pyramid behind the generators' first
transposed convolution and atrous convolutions in the discriminators' third layer. The optimizer
leaves all of these at their initial values for the first 100 of 200 epochs: until then a SPAP
generator is exactly the plain one. Not in the paper, and chosen here: the layers of the attention
(see `layers.pyramid.SPAP`), and that the discriminators' atrous convolutions take part from the
start.

Expected: `quickstart` stopped after 400 steps leaves 0.160 of the procedural images' L1 distance
inside the mask, 0.162 with `fine_to_coarse` (means of three seeds). A step at 256 pixels takes
1,608 GFLOP and 5.4 GB (`at_once`). The full schedule has not been run with this code.
"""

from ganattn.config import Config, choose, dataset, find, load, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "maps,fine_to_coarse"."""
    config = load(find("cyclegan")).unlock()
    config.method.pyramid = "spap_c2f"
    config.method.pyramid_start_step = 100 * config.optimizer.get_ref("epoch_steps")
    config.method.atrous_discriminator = True
    config.method.lambda_identity = 0.0
    return choose(config, variant, VARIANTS)


def _quickstart(config):
    small(config, width=16, num_residual_blocks=2, image_size=32)
    short(config, steps=800, every=200)
    config.evaluation.every = 200
    config.optimizer.learning_rate = 4e-4
    config.method.pyramid_start_step = 400


def _tiny(config):
    small(config, width=4, num_residual_blocks=1, image_size=32, pool_size=3)
    short(config, steps=4, every=2)
    config.method.pyramid_start_step = 1


VARIANTS = {
    "cityscapes": dataset("cityscapes", 2_975),
    "maps": dataset("maps", 1_096),
    "facades": dataset("facades", 400),
    "horse2zebra": dataset("horse2zebra", 1_334),
    "fine_to_coarse": set_method(pyramid="spap_f2c"),
    "aspp": set_method(pyramid="aspp"),
    "vanilla": set_method(pyramid="none", atrous_discriminator=False, pyramid_start_step=0),
    "plain_discriminator": set_method(atrous_discriminator=False),
    "narrow": set_method(pyramid_rates=(3, 5, 7)),  # the paper's rates for faces of 128 pixels
    "at_once": set_method(pyramid_start_step=0),
    "identity": set_method(lambda_identity=0.5),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
