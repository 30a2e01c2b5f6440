"""SPAP in CycleGAN (Sun and Wu 2019, arXiv 1901.06322): pyramids of atrous convolutions.

    ganattn train --config configs/spap_cyclegan.py:cityscapes --workdir runs/cityscapes \\
        --config.data.path=data/cityscapes

The method is CycleGAN without its identity loss, with a pyramid behind the generators' first
transposed convolution and atrous convolutions in the discriminators' third layer, all of which the
optimiser leaves as they were drawn for the first 100 of 200 epochs: a SPAP generator is exactly the
plain one until then. Not in the paper, and chosen here: the layers of the attention (see
`layers.pyramid.SPAP`), and that the discriminators' atrous convolutions take part from the start.
Nobody has trained the full schedule with this code yet.
"""

from ganattn.config import Config, choose, find, load


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "maps,fine_to_coarse"."""
    config = load(find("cyclegan")).unlock()
    config.method.pyramid = "spap_c2f"
    config.method.pyramid_start_step = 100 * config.optimizer.get_ref("epoch_steps")
    config.method.atrous_discriminator = True
    config.method.lambda_identity = 0.0
    return choose(config, variant, VARIANTS)


def _data(name, pictures):
    def apply(config):
        config.data.path = f"data/{name}"
        config.optimizer.epoch_steps = pictures  # of the larger domain

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _small(config):
    config.method.update(width=16, num_residual_blocks=2, image_size=32)
    config.data.source = "procedural"
    config.data.load_size = 32
    config.data.flip = False
    config.data.batch_size = 8


def _quickstart(config):
    _small(config)
    config.optimizer.update(learning_rate=4e-4, epoch_steps=1)
    config.optimizer.update(decay_start_step=400, total_steps=800)
    config.method.pyramid_start_step = 400
    config.train.update(log_every=20, pictures_every=200, checkpoint_every=200)
    config.evaluation.every = 200


def _tiny(config):
    _small(config)
    config.method.update(
        width=4,
        num_residual_blocks=1,
        pool_size=3,
        pyramid_start_step=1,
    )
    config.optimizer.update(epoch_steps=1, decay_start_step=2, total_steps=4)
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "cityscapes": _data("cityscapes", 2_975),
    "maps": _data("maps", 1_096),
    "facades": _data("facades", 400),
    "horse2zebra": _data("horse2zebra", 1_334),
    "fine_to_coarse": _method(pyramid="spap_f2c"),
    "aspp": _method(pyramid="aspp"),
    "vanilla": _method(pyramid="none", atrous_discriminator=False, pyramid_start_step=0),
    "plain_discriminator": _method(atrous_discriminator=False),
    "narrow": _method(pyramid_rates=(3, 5, 7)),  # the paper's rates for faces of 128 pixels
    "at_once": _method(pyramid_start_step=0),
    "identity": _method(lambda_identity=0.5),
    "bfloat16": _method(dtype="bfloat16"),
    "remat": _method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
