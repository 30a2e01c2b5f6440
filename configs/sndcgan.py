"""SPAP in SNDCGAN (Sun and Wu 2019, arXiv 1901.06322): images from noise, and the baselines.

    ganattn train --config configs/sndcgan.py:spap_c2f --workdir runs/faces \\
        --config.data.source=tfds --config.data.path=celeb_a_hq/128

`data.path` is a folder of images (or with train and test in it), a TFDS name, or with
`data.source=arrays` an .npz file with an array image.

The authors of SPAP released no code. From their text: the places and rates of the convolutions,
spectral norms in both networks, learning rates, batch, length, and the start step. From
compare_gan, the code of Kurach et al. on whose SNDCGAN they build: its layers, the order of the
updates, the non-saturating loss (equation 1 is the saturating one), uniform noise (the text names
uniform and normal noise), and the moments 0.5 and 0.999 (the best ones in the table of its 2018
version are 0.5 and 0.9). compare_gan normalizes the discriminator's weights alone and trains both
networks with 2e-4: `compare_gan`. The text leaves open, or contradicts itself in:

- Table 1 gives 20.07 as the FID of ASPP, section 4.4 and figure 4 22.55.
- ASPP: "to both generator and discriminator", so that is `aspp`. Its place in the discriminator is
  inferred (see `networks.sndcgan`), and it has the rates of the atrous convolutions there. It has
  no residual connection, which the text lists as a part of SPAP (`aspp_residual` adds one), and
  trains from the first step: section 4.3 delays "SPAP and Atrous convolution". `frozen_aspp` treats
  it like SPAP instead: atrous convolutions in the discriminator, and until the start step the
  generator's features pass through its initial values.
- Before the start step the discriminator's atrous convolutions take part with their initial values,
  as the text delays their update alone. Their kernel is inferred (see `layers.pyramid.AtrousMean`).
- Equation 5 has a second attention map that is not defined. By default one map weighs both
  features; with `second_map` the attention net gives two.
- gamma starts at 0, as in SAGAN, which the text cites, and is not limited to [0, 1].
- The attention's layers, whether fuses share them, and the convolution after each fuse (figure 2
  has it, the text does not). The counts of table 1 decide in part; they include the vectors u and
  v, which PyTorch code of 2018 kept as parameters:

      variant or fields                                  parameters   with u and v   table 1
      vanilla                                            19,926,019     20,065,374   20.065M
      aspp                                               20,616,451     20,761,950   20.762M
      aspp,aspp_residual                                 20,616,452     20,761,951   20.762M
      spap_c2f                                           20,609,544     20,756,391   20.756M
      spap_f2c                                           20,609,544     20,756,391   20.756M
      second_map                                         20,609,580     20,756,431   20.756M
      shared_attention,pyramid_reduction=4               20,609,541     20,755,617   20.756M
      shared_attention                                   20,603,301     20,749,329   20.756M no
      pyramid_reduction=4                                20,634,504     20,781,543   20.756M no
      pyramid_reduction=8                                20,617,864     20,764,775   20.756M no
      pyramid_reduction=32                               20,605,384     20,752,199   20.756M no
      no_fuse_convolution                                20,542,472     20,688,295   20.756M no
      no_fuse_convolution,pyramid_reduction=2            20,600,712     20,746,983   20.756M no
      selfmod                                            19,742,851     19,885,022   none

  Of the three forms of SPAP that fit, the default has a net for each fuse, as "an attentive fuse
  component to two feature maps of different scale each time" suggests. Attention nets with other
  numbers of layers fit, too, and are not offered.

Expected: `quickstart` takes 4 minutes on two CPU cores; the Frechet distance over random features
falls from 117 to 8.4, and to 1.3 with `vanilla` in 2.3 minutes. The full schedule has not been run
with this code.
"""

from ganattn.config import Config, base, choose, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "spap_f2c,hinge"; alone it is spap_c2f."""
    config = base()

    method = config.method
    method.name = "sndcgan"
    method.width = 64  # channels of the generator at full size
    method.discriminator_width = 64  # channels of the discriminator's first layer
    method.image_size = 128  # pixels, a multiple of 8
    method.latent_size = 128  # numbers in a latent vector
    method.latent = "uniform"  # distribution of the numbers: uniform | normal
    method.latent_bound = 0.0  # of their size; 0: 1 (uniform) or none (normal, which is resampled)
    method.spectral_generator = True  # normalize the generator's weights, too
    method.pyramid = "spap_c2f"  # none | aspp | spap_c2f | spap_f2c, behind the map of half size
    method.pyramid_rates = (3, 5, 7)  # pixels between the taps of its atrous convolutions
    method.pyramid_reduction = 16  # channels over hidden channels of SPAP's attention
    method.pyramid_shared_attention = False  # one attention net for all fuses of SPAP
    method.pyramid_second_map = False  # equation 5 as printed: a fuse has a map for each feature
    method.pyramid_fuse_convolution = True  # a convolution after each fuse of SPAP
    method.pyramid_start_step = 40_000  # until then SPAP and the atrous ones keep initial values
    method.atrous_discriminator = True  # atrous convolutions beside the second strided layer
    method.aspp_discriminator = False  # ASPP behind that layer instead
    method.atrous_rates = (3, 5, 7)  # pixels between the taps of either
    method.aspp_residual = False  # equation 6 for ASPP, too, in both networks
    method.delay_aspp = False  # ASPP waits for pyramid_start_step, too
    method.self_modulation = False  # the latent vector scales and shifts the normalized features
    method.self_attention = False  # SAGAN's block in both networks, at half size
    method.adversarial = "non_saturating"  # non_saturating | hinge
    method.discriminator_steps = 1  # updates of the discriminator for each of the generator
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    optimizer = config.optimizer
    optimizer.generator_learning_rate = 1e-4
    optimizer.discriminator_learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.total_steps = 100_000  # length of the training

    config.data.layout = "single"
    config.data.held_out_percent = 10.0  # where there is no test folder or split
    config.data.batch_size = 64 * method.get_ref("discriminator_steps")  # updates share a batch
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 0
    config.data.flip = False
    return choose(config, variant, VARIANTS)


def _frozen_aspp(config):
    config.method.update(pyramid="aspp", delay_aspp=True)
    config.method.update(atrous_discriminator=True, aspp_discriminator=False)


def _selfmod(config):
    _PLAIN(config)
    config.method.self_modulation = True


def _sagan(config):
    _PLAIN(config)
    config.method.update(self_attention=True, adversarial="hinge")
    config.optimizer.update(discriminator_learning_rate=4e-4, beta1=0.0, beta2=0.9)


def _compare_gan(config):
    _PLAIN(config)
    config.method.spectral_generator = False
    config.optimizer.generator_learning_rate = 2e-4


def _quickstart(config):
    small(config, batch_size=32, width=16, discriminator_width=16, image_size=32, latent_size=32)
    short(config, steps=800, every=200)
    config.method.update(pyramid_start_step=400, ema_decay=0.98)
    config.optimizer.update(generator_learning_rate=4e-4, discriminator_learning_rate=1e-3)


def _tiny(config):
    small(config, size=16, width=2, discriminator_width=2, image_size=16, latent_size=4)
    short(config, steps=4, every=2)
    config.method.update(pyramid_rates=(3,), atrous_rates=(3,), pyramid_start_step=1)
    config.method.update(ema_decay=0.5, ema_start_step=1)


_PLAIN = set_method(pyramid="none", atrous_discriminator=False, aspp_discriminator=False)
VARIANTS = {
    "vanilla": _PLAIN,
    "aspp": set_method(pyramid="aspp", atrous_discriminator=False, aspp_discriminator=True),
    "frozen_aspp": _frozen_aspp,
    "aspp_residual": set_method(aspp_residual=True),
    "spap_c2f": set_method(pyramid="spap_c2f"),
    "spap_f2c": set_method(pyramid="spap_f2c"),
    "second_map": set_method(pyramid_second_map=True),
    "shared_attention": set_method(pyramid_shared_attention=True),
    "no_fuse_convolution": set_method(pyramid_fuse_convolution=False),
    "selfmod": _selfmod,
    "sagan": _sagan,
    "compare_gan": _compare_gan,  # Kurach et al.'s settings of the plain network
    "at_once": set_method(pyramid_start_step=0),
    "plain_discriminator": set_method(atrous_discriminator=False, aspp_discriminator=False),
    "hinge": set_method(adversarial="hinge"),
    "normal": set_method(latent="normal"),
    "averaged": set_method(ema_decay=0.9999, ema_start_step=40_000),
    "bfloat16": set_method(dtype="bfloat16"),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
