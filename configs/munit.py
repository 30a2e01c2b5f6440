"""MUNIT (Huang et al., ECCV 2018, arXiv 1804.04732): unpaired translation with a choice of styles.

    ganattn train --config configs/munit.py:summer2winter --workdir runs/summer2winter \\
        --config.data.path=data/summer2winter_yosemite

`data.path` is a folder with trainA trainB testA testB. Values are those of the authors' PyTorch
code. Their data are cropped from images whose shorter side is `load_size`; here an image is first
resized to a square of that side, which is the same for the square images of the 256 px sets.

Expected: `quickstart` trains a small model on procedural images in a few minutes on two CPU cores.
The full schedule of 1,000,000 steps has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "summer2winter,bfloat16"."""
    config = base()

    method = config.method
    method.name = "munit"
    method.width = 64  # channels of the encoders' first layer (the authors' dim)
    method.style_size = 8  # numbers in a style code
    method.mlp_width = 256  # of the hidden layers of the MLP that reads a style code
    method.num_downsamplings = 2  # halvings of the side, from the image to the content code
    method.num_residual_blocks = 4  # in the content encoder, and as many in the decoder
    method.discriminator_width = 64  # channels of the first layer (the authors' dim)
    method.discriminator_layers = 4  # strided convolutions of each scale
    method.num_scales = 3  # resolutions at which the discriminators see an image
    method.image_size = 256  # pixels, a multiple of 4
    method.adversarial = "least_squares"  # least_squares | cross_entropy
    method.adversarial_weight = 1.0  # weights of the losses: adversarial
    method.reconstruction_weight = 10.0  # reconstruction of images
    method.style_weight = 1.0  # reconstruction of drawn style codes
    method.content_weight = 1.0  # reconstruction of content codes
    method.cycle_weight = 0.0  # reconstruction of images by a cycle; 10 for pixel-aligned domains
    method.perceptual_weight = 0.0  # domain-invariant perceptual loss, for 512 px and more
    method.perceptual_weights = ""  # vgg16 .pth file in torchvision's layout, Caffe's weights
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer
    optimizer.learning_rate = 1e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.weight_decay = 1e-4  # added to the gradient, of every parameter
    optimizer.decay_every = 100_000  # steps between reductions of the rate
    optimizer.decay_factor = 0.5  # of the rate, at each reduction
    optimizer.total_steps = 1_000_000  # length of the training

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 0
    return choose(config, variant, VARIANTS)


_SMALL = {
    "num_residual_blocks": 2, "discriminator_layers": 3, "num_scales": 2, "image_size": 32,
    "cycle_weight": 10.0,
}  # fmt: skip


def _quickstart(config):
    small(config, width=16, mlp_width=64, discriminator_width=16, **_SMALL)
    short(config, steps=800, every=200)
    config.optimizer.update(learning_rate=4e-4, decay_every=400)


def _tiny(config):
    small(config, width=4, mlp_width=4, style_size=3, discriminator_width=4, **_SMALL)
    short(config, steps=4, every=2)
    config.method.num_residual_blocks = 1
    config.optimizer.decay_every = 2


VARIANTS = {
    "edges2shoes": dataset("edges2shoes"),
    "edges2handbags": dataset("edges2handbags"),
    "summer2winter": dataset("summer2winter_yosemite", cycle_weight=10.0),
    # Needs method.perceptual_weights, or perceptual_weight=0.
    "synthia2cityscape": dataset(
        "synthia2cityscape", image_size=512, cycle_weight=10.0, perceptual_weight=1.0
    ),
    "selfie2anime": dataset("selfie2anime"),
    "horse2zebra": dataset("horse2zebra"),
    "cat2dog": dataset("cat2dog"),
    "photo2portrait": dataset("photo2portrait"),
    "photo2vangogh": dataset("photo2vangogh"),
    "nsgan": set_method(adversarial="cross_entropy"),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
