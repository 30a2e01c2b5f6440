"""Feedback adversarial learning (Huh et al., CVPR 2019): pairs, and a generator in rounds.

    ganattn train --config configs/fal.py:cityscapes --workdir runs/fal \\
        --config.data.path=data/cityscapes

Images of domain a are translated to domain b; image k of one domain belongs to image k of the
other. Values are those of the code of Lin et al. (voidstrike/ASGIT, `--model fal`), which demands
the number of rounds and has no default for it. Its networks take 256 pixels; here the middle one of
the convolutions that compute the modulation follows `image_size`, a multiple of 64.

Expected: `tiny` trains in a minute on two CPU cores. The full schedule has not been run with this
code.
"""

from ganattn.config import Config, base, choose, dataset, epoch_schedule, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "cityscapes,size128"."""
    config = base()

    method = config.method
    method.name = "fal"
    method.num_rounds = 3  # of generation (the authors' lat_k)
    method.width = 64  # channels of the generator's first layer (the authors' ngf)
    method.num_residual_blocks = 9  # four of them in the encoder
    method.modulation = "global"  # global: one scale a channel | spatial: one a pixel, as the paper
    method.feedback_gradient = True  # gradients go through responses into earlier rounds
    method.discriminator = "patch"  # patch | pixel
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; defaults to width
    method.discriminator_layers = 3  # strided convolutions of "patch": 3 see 70x70 pixels
    method.norm = "batch"  # batch | instance
    method.dropout = True  # in the residual blocks
    method.test_dropout = True  # whether dropout remains in translation, drawn by a seed
    method.test_statistics = "batch"  # of batch norm: batch (each image's own) | running
    method.image_size = 256  # pixels, a multiple of 64 (spatial: of 4)
    method.adversarial = "cross_entropy"  # least_squares | cross_entropy
    method.lambda_l1 = 100.0  # weight of the L1 distance to the target
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    epoch_schedule(config, learning_rate=2e-4, epoch_steps=2_975)
    config.optimizer.decoder_updates = 2  # Adam steps of the decoder, which the authors list twice

    config.data.layout = "aligned"  # or paired: trainA trainB with equal names
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _single_update(config):
    config.optimizer.decoder_updates = 1


_SMALL = {"num_residual_blocks": 5, "num_rounds": 2, "image_size": 64}


def _quickstart(config):
    small(config, 64, width=16, **_SMALL)
    short(config, steps=800, every=200)


def _tiny(config):
    small(config, 64, width=2, **_SMALL)
    config.method.discriminator_layers = 2
    short(config, steps=4, every=2)


VARIANTS = {
    "cityscapes": dataset("cityscapes", 2_975),
    "maps": dataset("maps", 1_096),
    "facades": dataset("facades", 400),
    "size128": set_method(image_size=128),
    "spatial": set_method(modulation="spatial"),
    "instance_norm": set_method(norm="instance"),
    "no_dropout": set_method(dropout=False),
    "stop_feedback": set_method(feedback_gradient=False),
    "single_update": _single_update,
    "running_statistics": set_method(test_statistics="running"),
    "bfloat16": set_method(dtype="bfloat16"),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
