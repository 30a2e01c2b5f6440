"""DRIT (Lee et al., ECCV 2018, arXiv 1808.00948): translation by content and attributes.

    ganattn train --config configs/drit.py:cat2dog --workdir runs/cat2dog \\
        --config.data.path=data/cat2dog

`data.path` is a folder with trainA trainB testA testB. Values are those of the authors' PyTorch
code, which has the mode seeking of DRIT++ by default; "no_ms" is the paper. A step is an iteration
of their loop, which updates the content discriminator alone in two of three.

`quickstart` is a small model on procedural images. Neither it nor the full schedule of 1,200 epochs
has been run to its end with this code.
"""

from ganattn.config import Config, base, choose, dataset, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "cat2dog,bfloat16"."""
    config = base()

    method = config.method
    method.name = "drit"
    method.width = 64  # channels of the encoders' first layer
    method.attribute_size = 8  # numbers in an attribute
    method.concat = True  # concatenate attributes to features; False transforms features by them
    method.num_residual_blocks = 3  # of each domain, in the content encoder and in the decoder
    method.discriminator_width = 64  # channels of the first layer
    method.discriminator_layers = 4  # strided convolutions of each scale
    method.num_scales = 3  # resolutions at which the discriminators see an image (dis_scale)
    method.content_discriminator_layers = 3  # strided convolutions
    method.content_discriminator_kernel = 7  # size of their kernels
    method.d_iter = 3  # one of so many steps is full, the others train the content discriminator
    method.image_size = 216  # pixels, a multiple of 4; 212 is the smallest with these layers
    method.adversarial_weight = 1.0  # weights of the losses: adversarial, of images
    method.content_adversarial_weight = 1.0  # adversarial, of contents
    method.cross_cycle_weight = 10.0  # cross-cycle consistency
    method.reconstruction_weight = 10.0  # reconstruction of images from their own codes
    method.latent_weight = 10.0  # regression of drawn attributes
    method.divergence_weight = 0.01  # divergence of attributes from N(0, 1)
    method.content_weight = 0.01  # mean square of contents
    method.mode_seeking_weight = 1.0  # difference of translations with two attributes; 0: no_ms
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32

    optimizer = config.optimizer
    optimizer.learning_rate = 1e-4
    optimizer.content_learning_rate = 4e-5  # of the content discriminator
    optimizer.content_clip_norm = 5.0  # of the content discriminator's gradient
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.weight_decay = 1e-4  # added to the gradient, of every parameter
    optimizer.epoch_steps = 632  # batches of the larger domain; cat2dog's by default
    optimizer.decay_start_step = 600 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 1_200 * optimizer.get_ref("epoch_steps")  # length of the training
    optimizer.scheduler_lag = 1  # epochs by which the rate is late: 1 in PyTorch 0.4, later 0

    config.data.batch_size = 2  # an even number for each device: half of it is only seen as real
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = 256
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


_SMALL = {
    "num_residual_blocks": 1, "discriminator_layers": 3, "num_scales": 2, "image_size": 32,
    "content_discriminator_layers": 1, "content_discriminator_kernel": 3,
}  # fmt: skip


def _quickstart(config):
    small(config, width=16, discriminator_width=16, **_SMALL)
    short(config, steps=1_200, every=300)
    config.optimizer.update(learning_rate=4e-4, content_learning_rate=1.6e-4, epoch_steps=120)


def _tiny(config):
    small(config, width=2, attribute_size=2, discriminator_width=2, **_SMALL)
    config.method.update(num_residual_blocks=0, discriminator_layers=1)
    short(config, steps=4, every=2)
    # Eight pairs; the first step updates the content discriminator alone.
    config.data.batch_size = 16
    config.optimizer.epoch_steps = 3


VARIANTS = {
    # Epochs are of batches of 2 of the larger domain.
    "cat2dog": dataset("cat2dog", 632, concat=False),
    "photo2portrait": dataset("photo2portrait", 3_226, concat=False),
    "summer2winter": dataset("summer2winter_yosemite", 616),
    "monet2photo": dataset("monet2photo", 3_144),
    "edges2shoes": dataset("edges2shoes", 24_913),
    "selfie2anime": dataset("selfie2anime", 1_700),
    "horse2zebra": dataset("horse2zebra", 667),
    "photo2vangogh": dataset("photo2vangogh", 3_144),
    "transform": set_method(concat=False),
    "single_scale": set_method(num_scales=1, discriminator_layers=6),
    "no_ms": set_method(mode_seeking_weight=0.0),
    "bfloat16": set_method(dtype="bfloat16"),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
