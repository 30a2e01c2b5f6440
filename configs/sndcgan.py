"""SPAP in SNDCGAN (Sun and Wu 2019, arXiv 1901.06322): images from noise, and the baselines.

    ganattn train --config configs/sndcgan.py:spap_c2f --workdir runs/faces \\
        --config.data.source=tfds --config.data.path=celeb_a_hq/128

`data.path` is a folder of images (or with train and test in it), a TFDS name, or with
`data.source=arrays` an .npz file with an array image. Rates, batch and length are the paper's; the
moments are those of the SNDCGAN that it builds on (Kurach et al.'s code). Not in the paper, and
chosen here: the attention's layers (see `layers.pyramid.SPAP`), that the discriminator's atrous
convolutions take part, frozen, before the start step, and that the variant aspp has them too.

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
    method.pyramid_start_step = 40_000  # until then they keep their initial values
    method.atrous_discriminator = True  # atrous convolutions beside the second strided layer
    method.atrous_rates = (3, 5, 7)  # pixels between their taps
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


_PLAIN = set_method(pyramid="none", atrous_discriminator=False)
VARIANTS = {
    "vanilla": _PLAIN,
    "aspp": set_method(pyramid="aspp"),
    "spap_c2f": set_method(pyramid="spap_c2f"),
    "spap_f2c": set_method(pyramid="spap_f2c"),
    "selfmod": set_method(pyramid="none", atrous_discriminator=False, self_modulation=True),
    "sagan": _sagan,
    "compare_gan": _compare_gan,  # Kurach et al.'s settings of the plain network
    "at_once": set_method(pyramid_start_step=0),
    "plain_discriminator": set_method(atrous_discriminator=False),
    "hinge": set_method(adversarial="hinge"),
    "normal": set_method(latent="normal"),
    "averaged": set_method(ema_decay=0.9999, ema_start_step=40_000),
    "bfloat16": set_method(dtype="bfloat16"),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
