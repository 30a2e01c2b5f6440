"""CycleGAN (Zhu et al., ICCV 2017, arXiv 1703.10593): unpaired translation by cycle consistency.

    ganattn train --config configs/cyclegan.py:horse2zebra --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB, or with `--config.data.source=tfds` a name
such as cycle_gan/horse2zebra. Values are those of the authors' PyTorch code: 100 epochs at a
constant rate and 100 in which it falls; an epoch has as many steps as the larger domain has images,
so set `optimizer.epoch_steps` for a data set that is not a variant here, and divide it by the batch
size. `classic` follows the authors' code of 2020 to 2025, whose decay starts one epoch early.
`resnet6`, `unet256` and `unet128` are the authors' other values of netG, and `wgan_gp` is their
wgangp with the gradient penalty, which their models never call.

Expected: `quickstart` stopped after 400 steps leaves 0.165 of the procedural images' L1 distance
inside the mask, 0.152 with an identity loss (means of three seeds). A step at 256 pixels takes
1,891 GFLOP and 4.5 GB. The full schedule has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, epoch_schedule, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,classic"."""
    config = base()

    method = config.method
    method.name = "cyclegan"
    method.generator = "resnet"  # resnet | unet: with one of the next fields, the authors' netG
    method.num_residual_blocks = 9  # of "resnet": 9 is their resnet_9blocks, 6 resnet_6blocks
    method.num_downs = 8  # of "unet", halvings of the side: 8 is their unet_256, 7 unet_128
    method.width = 64  # channels of the generators' first layer (the authors' ngf)
    method.discriminator = "patch"  # patch (the authors' netD basic, n_layers) | pixel
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; defaults to width
    method.discriminator_layers = 3  # strided convolutions of "patch": 3 see 70x70 pixels
    method.norm = "instance"  # instance | batch | none, of both kinds of networks
    method.init = "normal"  # of weights: normal | xavier | kaiming | orthogonal (init_type)
    method.init_gain = 0.02  # standard deviation of "normal", factor of xavier and orthogonal
    method.dropout = False  # in the blocks of "resnet", the decoder of "unet"
    method.test_dropout = True  # whether dropout remains in translation, drawn by a seed
    method.test_statistics = "batch"  # of batch norm: batch (each image's own) | running
    method.image_size = 256  # pixels, a multiple of 4, with "unet" of 2^num_downs
    # least_squares | cross_entropy | wasserstein (the authors' gan_mode: lsgan, vanilla, wgangp)
    method.adversarial = "least_squares"
    method.gradient_penalty_weight = 0.0  # of WGAN-GP (10); the authors never call theirs
    method.lambda_a = 10.0  # weight of the cycle a to b to a
    method.lambda_b = 10.0  # weight of the cycle b to a to b
    method.lambda_identity = 0.5  # of the identity loss, relative to both; 0 skips its passes
    method.pool_size = 50  # earlier fakes of each domain that the discriminators may be shown
    method.pyramid = "none"  # in the generators, see spap_cyclegan.py: aspp | spap_c2f | spap_f2c
    method.pyramid_rates = (6, 12, 18)  # pixels between the taps of its atrous convolutions
    method.pyramid_reduction = 16  # channels over hidden channels of SPAP's attention
    method.pyramid_shared_attention = False  # one attention net for all fuses of SPAP
    method.pyramid_second_map = False  # equation 5 as printed: a fuse has a map for each feature
    method.pyramid_fuse_convolution = True  # a convolution after each fuse of SPAP
    method.pyramid_start_step = 0  # until then SPAP and the atrous ones keep initial values
    method.atrous_discriminator = False  # atrous convolutions beside the third layer of "patch"
    method.aspp_discriminator = False  # ASPP behind that layer instead
    method.atrous_rates = (3, 5, 7)  # pixels between the taps of either
    method.aspp_residual = False  # SPAP's equation 6 for ASPP, too, in both networks
    method.delay_aspp = False  # ASPP waits for pyramid_start_step, too
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    epoch_schedule(config, learning_rate=2e-4, epoch_steps=1_334)

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _classic(config):
    config.optimizer.scheduler_step = "start"


def _quickstart(config):
    small(config, width=16, num_residual_blocks=2, image_size=32)
    short(config, steps=800, every=200)
    config.evaluation.every = 200
    config.optimizer.learning_rate = 4e-4


def _tiny(config):
    small(config, width=4, num_residual_blocks=1, image_size=32, pool_size=3)
    short(config, steps=4, every=2)


VARIANTS = {
    "horse2zebra": dataset("horse2zebra", 1_334),
    "summer2winter_yosemite": dataset("summer2winter_yosemite", 1_231),
    "apple2orange": dataset("apple2orange", 1_019),
    "monet2photo": dataset("monet2photo", 6_287),
    "selfie2anime": dataset("selfie2anime", 3_400),
    "cat2dog": dataset("cat2dog", 1_264),
    "photo2portrait": dataset("photo2portrait", 6_452),
    "photo2vangogh": dataset("photo2vangogh", 6_287),
    "maps": dataset("maps", 1_096),
    "facades": dataset("facades", 400),
    "classic": _classic,
    "batch_norm": set_method(norm="batch"),
    "dropout": set_method(dropout=True),
    "eval": set_method(test_statistics="running", test_dropout=False),  # the authors' --eval
    "no_identity": set_method(lambda_identity=0.0),
    "no_pool": set_method(pool_size=0),
    "pixel": set_method(discriminator="pixel"),
    "resnet6": set_method(num_residual_blocks=6),
    "unet256": set_method(generator="unet"),
    "unet128": set_method(generator="unet", num_downs=7, image_size=128),
    "wgan_gp": set_method(adversarial="wasserstein", gradient_penalty_weight=10.0),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
