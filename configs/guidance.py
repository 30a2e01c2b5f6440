"""Attention-based spatial guidance (Lin et al., WACV 2021): critics tell generators where to look.

    ganattn train --config configs/guidance.py:horse2zebra --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB. The authors' code has two schemes: here
`in_iteration` is the default, because it trains and translates alike, needs no memory, and takes
random crops; `buffer` (their attn_cycle_gan) keeps one map for each training picture from one visit
to the next and needs `method.buffer_size_a` and `_b`, the numbers of training pictures. Every
option of the learning-rate schedule is CycleGAN's. Nobody has trained the full schedule with this
code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,trainable"."""
    config = base()

    method = config.method = Config()
    method.name = "guidance"
    method.width = 64  # channels of the generators' first layer (the authors' ngf)
    method.num_residual_blocks = 9
    method.discriminator = "posthoc_attn"  # posthoc_attn | trainable_attn
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; width until set
    method.blend = "rmult"  # rmult: x * (1 + map) | mult: x * map | alpha: a fourth channel | none
    method.guidance = "in_iteration"  # in_iteration | buffer: whose maps guide
    method.buffer_size_a = 0  # pictures of domain a whose maps are kept, for "buffer"
    method.buffer_size_b = 0  # pictures of domain b
    method.fusion_stage = "F0"  # where a map enters the generator: F0 (its input) to F4
    method.image_size = 256  # pixels, a multiple of 4 (trainable_attn: of 8)
    method.lambda_a = 10.0  # weight of the cycle a to b to a
    method.lambda_b = 10.0  # weight of the cycle b to a to b
    method.lambda_identity = 0.0  # of the identity loss, relative to both; 0 spares its passes
    method.reconstruction_weight = 0.0  # of reconstructions as fakes of the critics (theirs: 0.5)
    method.pool_size = 50  # earlier fakes of each domain that the critics may be shown
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.epoch_steps = 1_334  # steps for which the decaying rate is held
    optimizer.decay_start_step = 100 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 200 * optimizer.get_ref("epoch_steps")  # length of the training
    optimizer.scheduler_step = "end"  # of an epoch: end (the authors') | start

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _data(name, pictures_a, pictures_b):
    def apply(config):
        config.data.path = f"data/{name}"
        config.method.update(buffer_size_a=pictures_a, buffer_size_b=pictures_b)
        config.optimizer.epoch_steps = max(pictures_a, pictures_b)

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _buffer(config):
    config.method.guidance = "buffer"
    config.data.flip = False  # a kept map fits the picture only as it was


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
    config.method.update(
        width=4,
        num_residual_blocks=1,
        pool_size=3,
        lambda_identity=0.5,
        buffer_size_a=1_000,
        buffer_size_b=1_000,
    )
    config.optimizer.update(epoch_steps=1, decay_start_step=2, total_steps=4)
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "horse2zebra": _data("horse2zebra", 1_067, 1_334),
    "apple2orange": _data("apple2orange", 995, 1_019),
    "summer2winter_yosemite": _data("summer2winter_yosemite", 1_231, 962),
    "cityscapes": _data("cityscapes", 2_975, 2_975),
    "trainable": _method(discriminator="trainable_attn"),
    "alpha": _method(blend="alpha"),
    "mult": _method(blend="mult"),
    "unguided": _method(blend="none"),
    "buffer": _buffer,
    "f1": _method(fusion_stage="F1"),
    "f2": _method(fusion_stage="F2"),
    "f3": _method(fusion_stage="F3"),
    "f4": _method(fusion_stage="F4"),
    "reconstructions": _method(reconstruction_weight=0.5),
    "bfloat16": _method(dtype="bfloat16"),
    "remat": _method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
