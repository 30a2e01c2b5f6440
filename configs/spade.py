"""SPADE (Park et al., CVPR 2019, arXiv 1903.07291): images from label maps.

    ganattn train --config configs/spade.py:facades --workdir runs/facades \\
        --config.data.path=data/facades

`data.path` is a folder with train_label, train_img and, with instances, train_inst, whose files
have the same names; the layouts of Cityscapes and ADE20K are read as they are. The perceptual loss
needs torchvision's vgg19 checkpoint, the file `method.perceptual_weights`;
`method.perceptual_weight=0` trains without it. Values are those of the authors' PyTorch code: rates
of 1e-4 and 4e-4 (TTUR), constant for half of the epochs, then falling.

Expected: 500 steps of `facades,no_perceptual` at 64 pixels with `method.width=16` take 17 minutes
on two CPU cores, and the feature matching loss falls from 1.39 to 1.20. The full schedule has not
been run with this code.
"""

from ganattn.config import Config, base, choose, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "cityscapes,gaugan"."""
    config = base()

    method = config.method
    method.name = "spade"
    method.width = 64  # channels of the generator's last block (the authors' ngf)
    method.discriminator_width = 64  # channels of its first layer (the authors' ndf)
    method.discriminator_layers = 4  # of each scale, without the classifier (n_layers_D)
    method.discriminator_scales = 2  # copies on images of full size, half size, ... (num_D)
    method.num_classes = 35  # label ids are 0 to this number - 1
    method.condition_channels = 0  # take an image of that many channels in place of label ids
    method.use_dontcare = False  # one more class: what the label files call 255
    method.use_instances = True  # boundaries of instances are a channel of the input
    method.crop_size = 512  # pixels of the image's width
    method.aspect_ratio = 2.0  # width over height
    method.up_sampling = "normal"  # normal | more | most: 5, 6, 7 doublings of the first map
    method.attention = "none"  # none | last | all, see configs/dagan.py
    method.norm = "batch"  # under SPADE: batch (over all devices) | instance
    method.test_statistics = "running"  # of batch norm: running | batch
    method.use_vae = False  # GauGAN: an encoder turns an image into a style
    method.latent_size = 256  # numbers in a style
    method.test_style = "sampled"  # of an example image: sampled by the encoder's variance | mean
    method.feature_matching_weight = 10.0  # of the distance between discriminator features
    method.perceptual_weight = 10.0  # of the distance between VGG19 features; 0 needs no VGG19
    method.perceptual_weights = ""  # torchvision's vgg19 .pth file
    method.divergence_weight = 0.05  # of the style's divergence from a normal distribution
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer
    optimizer.learning_rate = 2e-4  # of both networks without ttur
    optimizer.ttur = True  # half of that rate for the generator, twice for the discriminator
    optimizer.beta1 = 0.0  # of Adam; the authors' without TTUR: 0.5
    optimizer.beta2 = 0.9  # and 0.999
    optimizer.epoch_steps = 2_975  # steps for which the decaying rate is held
    optimizer.decay_start_step = 100 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 200 * optimizer.get_ref("epoch_steps")  # length of the training

    config.data.layout = "semantic"
    config.data.crop_size = method.get_ref("crop_size")
    config.data.load_size = method.get_ref("crop_size") + 0
    config.data.aspect_ratio = method.get_ref("aspect_ratio")
    config.data.num_classes = method.get_ref("num_classes")
    config.data.condition_channels = method.get_ref("condition_channels")
    config.data.use_dontcare = method.get_ref("use_dontcare")
    config.data.use_instances = method.get_ref("use_instances")
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _dataset(name, images, batch, *, load=0, epochs=(100, 100), **fields):
    """images: of the training set; batch: of the authors' script."""

    def apply(config):
        config.method.update(fields)
        config.data.path = f"data/{name}"
        config.data.batch_size = batch
        config.data.load_size = config.method.crop_size + load
        config.optimizer.epoch_steps = images // batch
        config.optimizer.decay_start_step = epochs[0] * (images // batch)
        config.optimizer.total_steps = sum(epochs) * (images // batch)

    return apply


def _tiny(config):
    small(config, width=1, discriminator_width=2, num_classes=4, crop_size=32, aspect_ratio=1.0)
    short(config, steps=4, every=2)
    config.method.perceptual_weight = 0.0
    config.data.flip = True


_SQUARE = {"crop_size": 256, "aspect_ratio": 1.0, "use_instances": False}
_HALF = (50, 50)
VARIANTS = {
    "cityscapes": _dataset("cityscapes", 2_975, 8, up_sampling="more"),
    "ade20k": _dataset("ade20k", 20_210, 8, load=30, num_classes=150, use_dontcare=True, **_SQUARE),
    "coco": _dataset(
        "coco_stuff", 118_287, 32, load=30, epochs=_HALF, num_classes=182, use_dontcare=True,
        crop_size=256, aspect_ratio=1.0,
    ),
    "celebamask": _dataset(
        "celebamask", 28_000, 16, load=30, epochs=_HALF, num_classes=19,
        **{**_SQUARE, "crop_size": 512},
    ),
    "deepfashion": _dataset("deepfashion", 30_000, 32, epochs=_HALF, num_classes=20, **_SQUARE),
    "facades": _dataset("facades", 400, 4, load=30, epochs=_HALF, num_classes=13, **_SQUARE),
    "facades1024": _dataset(
        "facades", 400, 4, load=30, epochs=_HALF, num_classes=13, **{**_SQUARE, "crop_size": 1024}
    ),
    "gaugan": set_method(use_vae=True),
    "instance_norm": set_method(norm="instance"),
    "no_perceptual": set_method(perceptual_weight=0.0),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "tiny": _tiny,
}  # fmt: skip
