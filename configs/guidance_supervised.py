"""Attention-based spatial guidance with pairs (Lin et al., WACV 2021), on a U-Net for 128 pixels.

    ganattn train --config configs/guidance_supervised.py:cityscapes --workdir runs/cityscapes \\
        --config.data.path=data/cityscapes

Images of domain a are translated to domain b; image k of one domain belongs to image k of the
other. Values are those of the paper's supplement and the authors' code (pix2pix_attn, for which
their README has no command), read as their train_attn.py reads: in order and never mirrored. This
follows their test code too: dropout remains, and the map that guides a new image is a constant one,
enlarged.

Expected: a step takes 22.5 GFLOP and 1.4 GB. The full schedule has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, epoch_schedule, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "cityscapes,trainable"."""
    config = base()

    method = config.method
    method.name = "guidance_supervised"
    method.width = 64  # channels of the generator's first layer (the authors' ngf)
    method.num_downs = 7  # halvings of the side: 7 is the authors' unet_128, 8 their unet_256
    method.dropout = True  # in the decoder
    method.test_dropout = True  # whether dropout remains in translation, drawn by a seed
    method.upsampler_width = 64  # channels of the network that enlarges maps
    method.discriminator = "posthoc_attn"  # posthoc_attn | trainable_attn
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; defaults to width
    method.buffer_size = 2_975  # training pairs: each has a map that is stored between its visits
    method.test_guidance = "constant"  # of new images: constant | discriminator, in a second pass
    method.test_statistics = "batch"  # of its batch norm: batch (each image's own) | running
    method.image_size = 128  # pixels, a multiple of 2^num_downs
    method.lambda_l1 = 100.0  # weight of the L1 distance to the target
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    epoch_schedule(config, learning_rate=2e-4, epoch_steps=2_975)

    config.data.layout = "aligned"  # or paired: trainA trainB with equal names
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 15  # 143 for 128 pixels
    config.data.interpolation = "bicubic"
    config.data.flip = False  # a stored map fits the image only in its original orientation
    config.data.shuffle = False  # the authors' serial_batches, which train_attn.py sets
    return choose(config, variant, VARIANTS)


def _tiny(config):
    small(config, width=4, num_downs=5, upsampler_width=4, buffer_size=1_000, image_size=32)
    short(config, steps=4, every=2)


VARIANTS = {
    "cityscapes": dataset("cityscapes", 2_975, buffer_size=2_975),
    "trainable": set_method(discriminator="trainable_attn"),
    "no_dropout": set_method(dropout=False),
    "eval": set_method(test_statistics="running", test_dropout=False),  # the authors' --eval
    "discriminator_guided": set_method(test_guidance="discriminator"),
    "bfloat16": set_method(dtype="bfloat16"),
    "tiny": _tiny,
}
