"""SPAP in SNDCGAN (Sun and Wu 2019, arXiv 1901.06322): pictures from noise, and the baselines.

    ganattn train --config configs/sndcgan.py:spap_c2f --workdir runs/faces \\
        --config.data.source=tfds --config.data.path=celeb_a_hq/128

`data.path` is a folder of pictures (or with train and test in it), a TFDS name, or with
`data.source=arrays` an .npz file with an array image. Rates, batch and length are the paper's; the
moments are those of the SNDCGAN that it builds on (Kurach et al.'s code). Not in the paper, and
chosen here: the attention's layers (see `layers.pyramid.SPAP`), that the discriminator's atrous
convolutions take part, frozen, before the start step, and that the variant aspp has them too.
Nobody has trained the full schedule with this code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "spap_f2c,hinge"; alone it is spap_c2f."""
    config = base()

    method = config.method = Config()
    method.name = "sndcgan"
    method.width = 64  # channels of the generator at full size
    method.discriminator_width = 64  # channels of the discriminator's first layer
    method.image_size = 128  # pixels, a multiple of 8
    method.latent_size = 128
    method.latent = "uniform"  # uniform | normal
    method.latent_bound = 0.0  # largest number: uniform 1; normal has none, or draws anew beyond it
    method.spectral_generator = True  # normalise the generator's weights, too
    method.pyramid = "spap_c2f"  # none | aspp | spap_c2f | spap_f2c, behind the map of half size
    method.pyramid_rates = (3, 5, 7)  # pixels between the taps of its atrous convolutions
    method.pyramid_start_step = 40_000  # steps for which pyramid and atrous ones stay as drawn
    method.atrous_discriminator = True  # atrous convolutions beside the second strided layer
    method.atrous_rates = (3, 5, 7)
    method.self_modulation = False  # the latent vector scales and shifts what is normalised
    method.self_attention = False  # SAGAN's block in both networks, at half size
    method.adversarial = "non_saturating"  # non_saturating | hinge
    method.discriminator_steps = 1  # updates of the discriminator for each of the generator
    method.ema_decay = 0.0  # of an average of the generator, for sampling; 0 keeps none
    method.ema_start_step = 0  # the average is a copy until then
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    optimizer = config.optimizer = Config()
    optimizer.generator_learning_rate = 1e-4
    optimizer.discriminator_learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.total_steps = 100_000

    config.data.layout = "single"
    config.data.held_out_percent = 10.0  # kept for testing where there is no test folder or split
    config.data.batch_size = 64 * method.get_ref("discriminator_steps")  # updates share a batch
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 0
    config.data.flip = False
    return choose(config, variant, VARIANTS)


def _method(**values):
    return lambda config: config.method.update(values)


def _sagan(config):
    _PLAIN(config)
    config.method.update(self_attention=True, adversarial="hinge")
    config.optimizer.update(discriminator_learning_rate=4e-4, beta1=0.0, beta2=0.9)


def _compare_gan(config):
    _PLAIN(config)
    config.method.spectral_generator = False
    config.optimizer.generator_learning_rate = 2e-4


def _small(config):
    config.method.update(width=16, discriminator_width=16, image_size=32, latent_size=32)
    config.data.source = "procedural"


def _quickstart(config):
    _small(config)
    config.method.update(pyramid_start_step=400, ema_decay=0.98)
    config.optimizer.update(generator_learning_rate=4e-4, discriminator_learning_rate=1e-3)
    config.optimizer.total_steps = 800
    config.data.batch_size = 32
    config.train.update(log_every=20, pictures_every=200, checkpoint_every=200)


def _tiny(config):
    config.method.update(width=2, discriminator_width=2, image_size=16, latent_size=4)
    config.method.update(pyramid_rates=(3,), atrous_rates=(3,), pyramid_start_step=1)
    config.method.update(ema_decay=0.5, ema_start_step=1)
    config.data.update(source="procedural", batch_size=8)
    config.optimizer.total_steps = 4
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


_PLAIN = _method(pyramid="none", atrous_discriminator=False)
VARIANTS = {
    "vanilla": _PLAIN,
    "aspp": _method(pyramid="aspp"),
    "spap_c2f": _method(pyramid="spap_c2f"),
    "spap_f2c": _method(pyramid="spap_f2c"),
    "selfmod": _method(pyramid="none", atrous_discriminator=False, self_modulation=True),
    "sagan": _sagan,
    "compare_gan": _compare_gan,  # Kurach et al.'s settings of the plain network
    "at_once": _method(pyramid_start_step=0),
    "plain_discriminator": _method(atrous_discriminator=False),
    "hinge": _method(adversarial="hinge"),
    "normal": _method(latent="normal"),
    "averaged": _method(ema_decay=0.9999, ema_start_step=40_000),
    "bfloat16": _method(dtype="bfloat16"),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
