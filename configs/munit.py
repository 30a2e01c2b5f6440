"""MUNIT (Huang et al., ECCV 2018, arXiv 1804.04732): unpaired translation with a choice of styles.

    ganattn train --config configs/munit.py:summer2winter --workdir runs/summer2winter \\
        --config.data.path=data/summer2winter_yosemite

`data.path` is a folder with trainA trainB testA testB. Values are those of the authors' PyTorch
code. Their data are cropped from images whose shorter side is `load_size`; here an image is first
resized to a square of that side, which is the same for the square images of the 256 px sets.
`quickstart` trains a small model on procedural images in a few minutes on two CPU cores. Nobody has
trained the full schedule of 1,000,000 steps with this code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "summer2winter,bfloat16"."""
    config = base()

    method = config.method = Config()
    method.name = "munit"
    method.width = 64  # channels of the encoders' first layer (the authors' dim)
    method.style_size = 8  # of a style code
    method.mlp_width = 256  # hidden layers of the MLP that reads it
    method.num_downsamplings = 2  # of the content code
    method.num_residual_blocks = 4  # in the content encoder, and as many in the decoder
    method.discriminator_width = 64
    method.discriminator_layers = 4  # strided convolutions of each scale
    method.num_scales = 3
    method.image_size = 256  # pixels, a multiple of 4
    method.adversarial = "least_squares"  # least_squares | cross_entropy
    method.adversarial_weight = 1.0
    method.reconstruction_weight = 10.0  # of images
    method.style_weight = 1.0  # reconstruction of drawn style codes
    method.content_weight = 1.0  # reconstruction of content codes
    method.cycle_weight = 0.0  # explicit cycle; for pixel-aligned domains 10
    method.perceptual_weight = 0.0  # domain-invariant perceptual loss, for 512 px and more
    method.perceptual_weights = ""  # vgg16 .pth file in torchvision's layout, Caffe's weights
    method.ema_decay = 0.0  # of an average of the generators, for inference; 0 keeps none
    method.ema_start_step = 0  # the average is a copy until then
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 1e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.weight_decay = 1e-4  # added to the gradient, of every parameter
    optimizer.decay_every = 100_000  # steps between reductions of the rate
    optimizer.decay_factor = 0.5
    optimizer.total_steps = 1_000_000  # length of the training
    optimizer.accumulate_steps = 1  # parts of a batch whose gradients are computed in turn

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 0
    return choose(config, variant, VARIANTS)


def _data(name, **values):
    def apply(config):
        config.data.path = f"data/{name}"
        config.method.update(values)

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _small(config):
    config.method.update(
        width=16,
        mlp_width=64,
        num_residual_blocks=2,
        discriminator_width=16,
        discriminator_layers=3,
        num_scales=2,
        image_size=32,
    )
    config.data.source = "procedural"
    config.data.load_size = 32
    config.data.flip = False
    config.data.batch_size = 8


def _quickstart(config):
    _small(config)
    config.method.cycle_weight = 10.0
    config.optimizer.update(learning_rate=4e-4, total_steps=800, decay_every=400)
    config.train.update(log_every=20, pictures_every=200, histograms_every=200)
    config.train.checkpoint_every = 200


def _tiny(config):
    _small(config)
    config.method.update(width=4, mlp_width=4, style_size=3, num_residual_blocks=1)
    config.method.update(discriminator_width=4, cycle_weight=10.0)
    config.optimizer.update(total_steps=4, decay_every=2)
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "edges2shoes": _data("edges2shoes"),
    "edges2handbags": _data("edges2handbags"),
    "summer2winter": _data("summer2winter_yosemite", cycle_weight=10.0),
    # Needs method.perceptual_weights, or perceptual_weight=0.
    "synthia2cityscape": _data(
        "synthia2cityscape", image_size=512, cycle_weight=10.0, perceptual_weight=1.0
    ),
    "nsgan": _method(adversarial="cross_entropy"),
    "bfloat16": _method(dtype="bfloat16"),
    "remat": _method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
