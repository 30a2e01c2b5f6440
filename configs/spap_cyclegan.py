"""SPAP in CycleGAN (Sun and Wu 2019, arXiv 1901.06322): pyramids of atrous convolutions.

    ganattn train --config configs/spap_cyclegan.py:cityscapes --workdir runs/cityscapes \\
        --config.data.path=data/cityscapes

The method is CycleGAN without its identity loss, which equation 4 does not have, with a pyramid
behind the generators' first transposed convolution and atrous convolutions in the discriminators'
third layer. The optimizer leaves SPAP and the atrous convolutions at their initial values for the
first 100 of 200 epochs: until then a SPAP generator is exactly the plain one. As the paper has it,
they train only while the learning rate falls.

The authors of SPAP released no code, and everything else follows that of CycleGAN: least squares
where equation 2 has logarithms, the weight 10 of the cycle loss, of which the text only says
lambda, the pool, and batches of one image. The text leaves open:

- Norms: SPAP has instance normalization as the generator, without spectral norms; the mean of the
  atrous convolutions precedes the discriminator's normalization.
- ASPP in translation: `aspp` has it in both networks, as section 4.4 says of images from noise. In
  the discriminator it follows the third layer, in both without a residual connection
  (`aspp_residual` adds one), and it trains from the first step. `frozen_aspp` has atrous
  convolutions in the discriminator instead, and both wait: until the start step the generator's
  features pass through ASPP's initial values.
- That the discriminators' atrous convolutions take part before the start with their initial values.
  The receptive field that they give is 142 pixels, not 236 (see `layers.pyramid.AtrousMean`).
- The attention's layers and the second map of equation 5: see `configs/sndcgan.py`, whose table of
  parameters decides them; for translation the paper prints no counts. The paper names horses and
  zebras among its data and gives no result for them.

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


def _frozen_aspp(config):
    config.method.update(pyramid="aspp", delay_aspp=True)
    config.method.update(atrous_discriminator=True, aspp_discriminator=False)


def _vanilla(config):
    _PLAIN(config)
    config.method.update(pyramid="none", pyramid_start_step=0)


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


_PLAIN = set_method(atrous_discriminator=False, aspp_discriminator=False)
VARIANTS = {
    "cityscapes": dataset("cityscapes", 2_975),
    "maps": dataset("maps", 1_096),
    "facades": dataset("facades", 400),
    "horse2zebra": dataset("horse2zebra", 1_334),
    "fine_to_coarse": set_method(pyramid="spap_f2c"),
    "aspp": set_method(pyramid="aspp", atrous_discriminator=False, aspp_discriminator=True),
    "frozen_aspp": _frozen_aspp,
    "aspp_residual": set_method(aspp_residual=True),
    "second_map": set_method(pyramid_second_map=True),
    "shared_attention": set_method(pyramid_shared_attention=True),
    "no_fuse_convolution": set_method(pyramid_fuse_convolution=False),
    "vanilla": _vanilla,
    "plain_discriminator": _PLAIN,
    "narrow": set_method(pyramid_rates=(3, 5, 7)),  # the paper's rates for faces of 128 pixels
    "at_once": set_method(pyramid_start_step=0),
    "identity": set_method(lambda_identity=0.5),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
