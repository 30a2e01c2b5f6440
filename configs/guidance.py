"""Attention-based spatial guidance (Lin et al., WACV 2021): discriminators guide the generators.

    ganattn train --config configs/guidance.py:horse2zebra --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB. The variants of the authors' README
(voidstrike/ASGIT), whose script train_attn.py takes single images in their order and never mirrors
them:

    pha_rhp    --netD posthoc_attn     --model attn_cycle_gan     --concat rmult   (the default)
    pha_alpha  --netD posthoc_attn_v2  --model attn_cycle_gan_v2  --concat alpha
    tam_rhp    --netD trainable_attn     --model attn_cycle_gan     --concat rmult
    tam_alpha  --netD trainable_attn_v2  --model attn_cycle_gan_v2  --concat alpha

At 256 pixels these commands run only with --mask_size 256 (the README's update), those of
trainable_attn with --s1 64 --s2 32, and the last one with --concat for --concate. A name with _v2
has the same meaning as the one without it, as the update says: unscaled maps, which the networks
_v2 return, do not fit the images.

attn_cycle_gan is the scheme `buffer`: it stores one attention map for each training image from one
visit to the next. `method.buffer_size_a` and `_b` are at least the numbers of training images.
attn_cycle_gan_v2 is the scheme `in_iteration`, which needs no memory and allows mirrored images:
`in_iteration,shuffled` is the command with train_v2.py. `decomposed` is decompose_attn. `f1` to
`f4` are attn_cycle_gan_v3 with the generators resnet_9blocks_1 to _4 of the repository in which the
code was developed (voidstrike/pytorch-CycleGAN-and-pix2pix): the buffer, of unscaled maps that a
learned network enlarges. With `bilinear` added, maps are scaled to [0, 1] and interpolated, as they
are at F0.

Translation follows the authors' test code: `buffer` runs a generator under a constant map
(`discriminator_guided` under the map that the discriminator gives for a first translation), and
trainable attention maps an image by its own statistics (`eval`: by the averages of training).

The options of the learning-rate schedule are those of CycleGAN.

Expected: `in_iteration,quickstart` stopped after 400 steps leaves 0.224 of the procedural images'
L1 distance inside the mask, and the attention covers the objects with an IoU of 0.56; 0.185 and
0.55 with `alpha` added (means of three seeds). A step of `in_iteration` at 256 pixels takes 1,297
GFLOP and 3.5 GB. The full schedule has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, epoch_schedule, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,trainable"."""
    config = base()

    method = config.method
    method.name = "guidance"
    method.width = 64  # channels of the generators' first layer (the authors' ngf)
    method.num_residual_blocks = 9  # of the generators
    method.discriminator = "posthoc_attn"  # posthoc_attn | trainable_attn
    method.discriminator_width = method.get_ref("width") + 0  # the authors' ndf; defaults to width
    method.blend = "rmult"  # rmult: x * (1 + map) | mult: x * map | alpha: a fourth channel | none
    method.guidance = "buffer"  # buffer | in_iteration | decomposed: the origin of the maps
    method.buffer_size_a = 3_000  # images of domain a whose maps are stored, for "buffer"
    method.buffer_size_b = 3_000  # images of domain b
    method.test_guidance = "constant"  # of new images with "buffer": constant | discriminator
    method.test_statistics = "batch"  # of trainable_attn: batch (each image's own) | running
    method.fusion_stage = "F0"  # where a map enters the generator: F0 (its input) to F4
    method.upsampler = "bilinear"  # bilinear | learned (of F1 to F4): how maps are enlarged
    method.upsampler_width = 64  # channels of the learned one
    method.image_size = 256  # pixels, a multiple of 4 (trainable_attn and f1 to f4: of 8)
    method.lambda_a = 10.0  # weight of the cycle a to b to a
    method.lambda_b = 10.0  # weight of the cycle b to a to b
    method.lambda_identity = 0.0  # of the identity loss, relative to both; 0 skips its passes
    method.reconstruction_weight = 0.0  # of cycled images as fakes for the discriminators; or 0.5
    method.pool_size = 50  # earlier fakes of each domain that the discriminators may be shown
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    epoch_schedule(config, learning_rate=2e-4, epoch_steps=1_334)

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    config.data.interpolation = "bicubic"
    config.data.flip = False  # a stored map fits the image only in its original orientation
    config.data.shuffle = False  # the authors' serial_batches
    return choose(config, variant, VARIANTS)


def _shuffled(config):
    config.data.update(flip=True, shuffle=True)


def _readme(discriminator, guidance, blend):
    return set_method(discriminator=discriminator, guidance=guidance, blend=blend)


def _fusion(stage):
    return set_method(fusion_stage=stage, upsampler="learned", guidance="buffer")


def _quickstart(config):
    small(config, width=16, num_residual_blocks=2, image_size=32)
    short(config, steps=800, every=200)
    config.evaluation.every = 200
    config.data.shuffle = True
    config.optimizer.learning_rate = 4e-4


def _tiny(config):
    small(config, width=4, num_residual_blocks=1, image_size=32, pool_size=3, lambda_identity=0.5)
    short(config, steps=4, every=2)
    config.method.update(buffer_size_a=1_000, buffer_size_b=1_000, upsampler_width=4)


VARIANTS = {
    "horse2zebra": dataset("horse2zebra", 1_334, buffer_size_a=1_067, buffer_size_b=1_334),
    "apple2orange": dataset("apple2orange", 1_019, buffer_size_a=995, buffer_size_b=1_019),
    "summer2winter_yosemite": dataset(
        "summer2winter_yosemite", 1_231, buffer_size_a=1_231, buffer_size_b=962
    ),
    "cityscapes": dataset("cityscapes", 2_975, buffer_size_a=2_975, buffer_size_b=2_975),
    "pha_rhp": _readme("posthoc_attn", "buffer", "rmult"),
    "pha_alpha": _readme("posthoc_attn", "in_iteration", "alpha"),
    "tam_rhp": _readme("trainable_attn", "buffer", "rmult"),
    "tam_alpha": _readme("trainable_attn", "in_iteration", "alpha"),
    "trainable": set_method(discriminator="trainable_attn"),
    "alpha": set_method(blend="alpha"),
    "mult": set_method(blend="mult"),
    "unguided": set_method(blend="none"),
    "buffer": set_method(guidance="buffer"),
    "in_iteration": set_method(guidance="in_iteration"),
    "decomposed": set_method(guidance="decomposed"),
    "shuffled": _shuffled,
    "f1": _fusion("F1"),
    "f2": _fusion("F2"),
    "f3": _fusion("F3"),
    "f4": _fusion("F4"),
    "bilinear": set_method(upsampler="bilinear"),
    "discriminator_guided": set_method(test_guidance="discriminator"),
    "eval": set_method(test_statistics="running"),  # the authors' --eval
    "reconstructions": set_method(reconstruction_weight=0.5),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
