"""Attention-based spatial guidance with pairs (Lin et al., WACV 2021), on a U-Net for 128 pixels.

    ganattn train --config configs/guidance_supervised.py:cityscapes --workdir runs/cityscapes \\
        --config.data.path=data/cityscapes

Pictures of domain a are translated to domain b; the k-th picture of each belongs to the k-th of the
other. Values are those of the paper's supplement and the authors' code. Nobody has trained the full
schedule with this code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "cityscapes,trainable"."""
    config = base()

    method = config.method = Config()
    method.name = "guidance_supervised"
    method.width = 64  # channels of the generator's first layer (the authors' ngf)
    method.num_downs = 7  # halvings of the side: 7 is the authors' unet_128, 8 their unet_256
    method.dropout = True  # in the decoder, while training
    method.upsampler_width = 64  # channels of the network that enlarges maps
    method.discriminator = "posthoc_attn"  # posthoc_attn | trainable_attn
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; width until set
    method.buffer_size = 2_975  # training pairs: each has a map that is kept between its visits
    method.image_size = 128  # pixels, a multiple of 2^num_downs
    method.lambda_l1 = 100.0  # weight of the distance to the true target
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.epoch_steps = 2_975  # steps for which the decaying rate is held
    optimizer.decay_start_step = 100 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 200 * optimizer.get_ref("epoch_steps")  # length of the training
    optimizer.scheduler_step = "end"  # of an epoch: end (the authors') | start

    config.data.layout = "aligned"  # or paired: trainA trainB with equal names
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 15  # 143 for 128 pixels
    config.data.interpolation = "bicubic"
    config.data.flip = False  # a kept map fits the picture only as it was
    return choose(config, variant, VARIANTS)


def _data(name, pairs):
    def apply(config):
        config.data.path = f"data/{name}"
        config.method.buffer_size = pairs
        config.optimizer.epoch_steps = pairs

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _tiny(config):
    config.method.update(
        width=4,
        num_downs=5,
        upsampler_width=4,
        buffer_size=1_000,
        image_size=32,
    )
    config.data.source = "procedural"
    config.data.load_size = 32
    config.data.batch_size = 8
    config.optimizer.update(epoch_steps=1, decay_start_step=2, total_steps=4)
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "cityscapes": _data("cityscapes", 2_975),
    "trainable": _method(discriminator="trainable_attn"),
    "no_dropout": _method(dropout=False),
    "bfloat16": _method(dtype="bfloat16"),
    "tiny": _tiny,
}
