"""pix2pix (Isola et al., CVPR 2017, arXiv 1611.07004): translation learned from pairs.

    ganattn train --config configs/pix2pix.py:maps --workdir runs/maps \\
        --config.data.path=data/maps

Pictures of domain a are translated to domain b; the k-th picture of each belongs to the k-th of the
other. Values are those of the authors' PyTorch code: 100 epochs at a constant rate and 100 in which
it falls; set `optimizer.epoch_steps` to the number of pairs for a data set that is not a variant
here. `classic` follows their code of 2020 to 2025, whose decay is one epoch early. Nobody has
trained the full schedule with this code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "facades,classic"."""
    config = base()

    method = config.method = Config()
    method.name = "pix2pix"
    method.width = 64  # channels of the generator's first layer (the authors' ngf)
    method.num_downs = 8  # halvings of the side: 8 is the authors' unet_256, 7 their unet_128
    method.discriminator = "patch"  # patch | pixel
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; width until set
    method.discriminator_layers = 3  # strided convolutions of "patch": 3 see 70x70 pixels
    method.norm = "batch"  # batch | instance
    method.dropout = True  # in the decoder, while training
    method.test_statistics = "batch"  # of batch norm: batch (each picture's own) | running
    method.image_size = 256  # pixels, a multiple of 2^num_downs
    method.adversarial = "cross_entropy"  # least_squares | cross_entropy
    method.lambda_l1 = 100.0  # weight of the distance to the true target
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.epoch_steps = 400  # steps for which the decaying rate is held
    optimizer.decay_start_step = 100 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 200 * optimizer.get_ref("epoch_steps")  # length of the training
    optimizer.scheduler_step = "end"  # of an epoch: end (code of 2025) | start (2020 to 2025)

    config.data.layout = "aligned"  # or paired: trainA trainB with equal names
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _data(name, pairs):
    def apply(config):
        config.data.path = f"data/{name}"
        config.optimizer.epoch_steps = pairs

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _classic(config):
    config.optimizer.scheduler_step = "start"


def _tiny(config):
    config.method.update(width=4, num_downs=5, image_size=32)
    config.data.source = "procedural"
    config.data.load_size = 32
    config.data.flip = False
    config.data.batch_size = 8
    config.optimizer.update(epoch_steps=1, decay_start_step=2, total_steps=4)
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "facades": _data("facades", 400),
    "maps": _data("maps", 1_096),
    "cityscapes": _data("cityscapes", 2_975),
    "classic": _classic,
    "unet128": _method(num_downs=7, image_size=128),
    "instance_norm": _method(norm="instance"),
    "no_dropout": _method(dropout=False),
    "running_statistics": _method(test_statistics="running"),
    "pixel": _method(discriminator="pixel"),
    "bfloat16": _method(dtype="bfloat16"),
    "tiny": _tiny,
}
