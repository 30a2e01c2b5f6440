"""UNIT (Liu et al., NIPS 2017, arXiv 1703.00848): unpaired translation by a shared latent space.

    ganattn train --config configs/unit.py:horse2zebra --workdir runs/unit_horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB. Values are those of the authors' later
PyTorch code (mingyuliutw/UNIT since 2018, the same as in NVlabs/MUNIT), which is the one that
U-GAT-IT compares with. Their data are cropped from images whose shorter side is `load_size`; here
an image is first resized to a square of that side, which is the same for square images.

Expected: `quickstart` trains a small model on procedural images in a few minutes on two CPU cores.
The full schedule of 1,000,000 steps has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,bfloat16"."""
    config = base()

    method = config.method
    method.name = "unit"
    method.width = 64  # channels of the encoders' first layer (the authors' dim)
    method.num_downsamplings = 2  # halvings of the side, from the image to the code
    method.num_residual_blocks = 4  # in the encoder, and as many in the decoder
    method.discriminator_width = 64  # channels of the first layer (the authors' dim)
    method.discriminator_layers = 4  # strided convolutions of each scale
    method.num_scales = 3  # resolutions at which the discriminators see an image
    method.image_size = 256  # pixels, a multiple of 4
    method.adversarial = "least_squares"  # least_squares | cross_entropy
    method.adversarial_weight = 1.0  # weights of the losses: adversarial (the authors' gan_w)
    method.reconstruction_weight = 10.0  # reconstruction of images (recon_x_w)
    method.kl_weight = 0.01  # divergence of the codes of images from N(0, 1) (recon_kl_w)
    method.cycle_weight = 10.0  # reconstruction of images by a cycle (recon_x_cyc_w)
    method.cycle_kl_weight = 0.01  # divergence of the codes of translations (recon_kl_cyc_w)
    method.perceptual_weight = 0.0  # domain-invariant perceptual loss, 1 for street scenes (vgg_w)
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
}  # fmt: skip


def _quickstart(config):
    small(config, width=16, discriminator_width=16, **_SMALL)
    short(config, steps=800, every=200)
    config.optimizer.update(learning_rate=4e-4, decay_every=400)


def _tiny(config):
    small(config, width=4, discriminator_width=4, **_SMALL)
    short(config, steps=4, every=2)
    config.method.num_residual_blocks = 1
    config.optimizer.decay_every = 2


VARIANTS = {
    "edges2shoes": dataset("edges2shoes"),
    "edges2handbags": dataset("edges2handbags"),
    "summer2winter": dataset("summer2winter_yosemite"),
    # Needs method.perceptual_weights, or perceptual_weight=0.
    "gta2city": dataset("gta2city", image_size=512, perceptual_weight=1.0),
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
