"""CycleGAN (Zhu et al., ICCV 2017, arXiv 1703.10593): unpaired translation by cycle consistency.

    ganattn train --config configs/cyclegan.py:horse2zebra --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB, or with `--config.data.source=tfds` a name
such as cycle_gan/horse2zebra. Values are those of the authors' PyTorch code: 100 epochs at a
constant rate and 100 in which it falls; an epoch has as many steps as the larger domain has
pictures, so set `optimizer.epoch_steps` for a data set that is not a variant here, and divide it by
the batch size. `classic` follows their code of 2020 to 2025, whose decay is one epoch early.
Nobody has trained the full schedule with this code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,classic"."""
    config = base()

    method = config.method = Config()
    method.name = "cyclegan"
    method.width = 64  # channels of the generators' first layer (the authors' ngf)
    method.num_residual_blocks = 9
    method.discriminator = "patch"  # patch | pixel
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; width until set
    method.discriminator_layers = 3  # strided convolutions of "patch": 3 see 70x70 pixels
    method.norm = "instance"  # instance | batch
    method.dropout = False  # in the residual blocks, while training
    method.test_statistics = "batch"  # of batch norm: batch (each picture's own) | running
    method.image_size = 256  # pixels, a multiple of 4
    method.adversarial = "least_squares"  # least_squares | cross_entropy
    method.lambda_a = 10.0  # weight of the cycle a to b to a
    method.lambda_b = 10.0  # weight of the cycle b to a to b
    method.lambda_identity = 0.5  # of the identity loss, relative to both; 0 spares its passes
    method.pool_size = 50  # earlier fakes of each domain that the discriminators may be shown
    method.pyramid = "none"  # in the generators, see spap_cyclegan.py: aspp | spap_c2f | spap_f2c
    method.pyramid_rates = (6, 12, 18)  # pixels between the taps of its atrous convolutions
    method.pyramid_start_step = 0  # steps for which pyramid and atrous convolutions stay as drawn
    method.atrous_discriminator = False  # atrous convolutions beside the third layer of "patch"
    method.atrous_rates = (3, 5, 7)
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.epoch_steps = 1_334  # steps for which the decaying rate is held
    optimizer.decay_start_step = 100 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 200 * optimizer.get_ref("epoch_steps")  # length of the training
    optimizer.scheduler_step = "end"  # of an epoch: end (code of 2025) | start (2020 to 2025)

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _data(name, pictures):
    def apply(config):
        config.data.path = f"data/{name}"
        config.optimizer.epoch_steps = pictures  # of the larger domain

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _classic(config):
    config.optimizer.scheduler_step = "start"


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
    config.train.update(log_every=20, pictures_every=200, checkpoint_every=200)
    config.evaluation.every = 200


def _tiny(config):
    _small(config)
    config.method.update(width=4, num_residual_blocks=1, pool_size=3)
    config.optimizer.update(epoch_steps=1, decay_start_step=2, total_steps=4)
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "horse2zebra": _data("horse2zebra", 1_334),
    "summer2winter_yosemite": _data("summer2winter_yosemite", 1_231),
    "apple2orange": _data("apple2orange", 1_019),
    "monet2photo": _data("monet2photo", 6_287),
    "selfie2anime": _data("selfie2anime", 3_400),
    "cat2dog": _data("cat2dog", 1_264),
    "photo2portrait": _data("photo2portrait", 6_452),
    "photo2vangogh": _data("photo2vangogh", 6_287),
    "maps": _data("maps", 1_096),
    "facades": _data("facades", 400),
    "classic": _classic,
    "batch_norm": _method(norm="batch"),
    "dropout": _method(dropout=True),
    "no_identity": _method(lambda_identity=0.0),
    "no_pool": _method(pool_size=0),
    "pixel": _method(discriminator="pixel"),
    "bfloat16": _method(dtype="bfloat16"),
    "remat": _method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
