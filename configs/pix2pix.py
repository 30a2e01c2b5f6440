"""pix2pix (Isola et al., CVPR 2017, arXiv 1611.07004): translation learned from pairs.

    ganattn train --config configs/pix2pix.py:maps --workdir runs/maps \\
        --config.data.path=data/maps

Images of domain a are translated to domain b; image k of one domain belongs to image k of the
other. Values are those of the authors' PyTorch code: 100 epochs at a constant rate and 100 in which
it falls; set `optimizer.epoch_steps` to the number of pairs for a data set that is not a variant
here. `classic` follows the authors' code of 2020 to 2025, whose decay starts one epoch early.
`unet128`, `resnet9` and `resnet6` are the authors' other values of netG; `wgan_gp` is their wgangp
with the gradient penalty, which their models never call.
Translation keeps dropout and normalizes each image by its own statistics, as the paper (section
3.3) and the authors' test code do; `eval` does neither, as that code with --eval.

Expected: 1,000 steps of `facades,unet128` with `method.width=32` take 13 minutes on two CPU cores,
and the L1 distance falls from 0.381 to 0.344. A step takes 88 GFLOP and 1.8 GB. The full schedule
has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, epoch_schedule, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "facades,classic"."""
    config = base()

    method = config.method
    method.name = "pix2pix"
    method.generator = "unet"  # unet | resnet: with one of the next fields, the authors' netG
    method.num_downs = 8  # of "unet", halvings of the side: 8 is their unet_256, 7 unet_128
    method.num_residual_blocks = 9  # of "resnet": 9 is their resnet_9blocks, 6 resnet_6blocks
    method.width = 64  # channels of the generator's first layer (the authors' ngf)
    method.discriminator = "patch"  # patch (the authors' netD basic, n_layers) | pixel
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; defaults to width
    method.discriminator_layers = 3  # strided convolutions of "patch": 3 see 70x70 pixels
    method.norm = "batch"  # batch | instance | none, of both networks
    method.init = "normal"  # of weights: normal | xavier | kaiming | orthogonal (init_type)
    method.init_gain = 0.02  # standard deviation of "normal", factor of xavier and orthogonal
    method.dropout = True  # in the decoder of "unet", the blocks of "resnet"
    method.test_dropout = True  # whether dropout remains in translation, drawn by a seed
    method.test_statistics = "batch"  # of batch norm: batch (each image's own) | running
    method.image_size = 256  # pixels, a multiple of 2^num_downs, with "resnet" of 4
    # cross_entropy | least_squares | wasserstein (the authors' gan_mode: vanilla, lsgan, wgangp)
    method.adversarial = "cross_entropy"
    method.gradient_penalty_weight = 0.0  # of WGAN-GP (10); the authors never call theirs
    method.lambda_l1 = 100.0  # weight of the L1 distance to the target
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # of "resnet": recompute its blocks in the backward pass

    epoch_schedule(config, learning_rate=2e-4, epoch_steps=400)

    config.data.layout = "aligned"  # or paired: trainA trainB with equal names
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _classic(config):
    config.optimizer.scheduler_step = "start"


def _tiny(config):
    small(config, width=4, num_downs=5, image_size=32)
    short(config, steps=4, every=2)


VARIANTS = {
    "facades": dataset("facades", 400),
    "maps": dataset("maps", 1_096),
    "cityscapes": dataset("cityscapes", 2_975),
    "classic": _classic,
    "unet128": set_method(num_downs=7, image_size=128),
    "resnet9": set_method(generator="resnet"),
    "resnet6": set_method(generator="resnet", num_residual_blocks=6),
    "wgan_gp": set_method(adversarial="wasserstein", gradient_penalty_weight=10.0),
    "instance_norm": set_method(norm="instance"),
    "no_dropout": set_method(dropout=False),
    "running_statistics": set_method(test_statistics="running"),
    "eval": set_method(test_statistics="running", test_dropout=False),  # the authors' --eval
    "pixel": set_method(discriminator="pixel"),
    "bfloat16": set_method(dtype="bfloat16"),
    "tiny": _tiny,
}
