"""AGGAN (Mejjati et al., NeurIPS 2018, arXiv 1806.02311): translates only what it attends to.

    ganattn train --config configs/aggan.py:horse2zebra --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB, or with `--config.data.source=tfds` a name
such as cycle_gan/horse2zebra. Values are those of the authors' TensorFlow code: 50 epochs at a
constant rate and 50 in which it falls; after 30 the attention is fixed, and the discriminators see
the attended pixels alone. An epoch has as many steps as the larger domain has images, so set
`optimizer.epoch_steps` for a data set that is not a variant here, and divide it by the batch size.

Differences from the authors' data: they show the images of a domain in a fixed order, pair the two
domains' images for the whole training, crop and mirror both images of a pair alike, and crop test
images at random, too. Here each domain is shuffled and augmented by itself, and test images are
complete. The horse2zebra weights that the authors offer translate zebras to horses from a to b, as
`zebra2horse` does.

Expected: `quickstart` trains a small model on procedural images in a few minutes on two CPU cores.
The full schedule has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,bfloat16"."""
    config = base()

    optimizer = config.optimizer
    optimizer.learning_rate = 1e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.epoch_steps = 1_334  # steps for which the decaying rate is held
    optimizer.decay_start_step = 50 * optimizer.get_ref("epoch_steps")  # negative never decays
    optimizer.total_steps = 100 * optimizer.get_ref("epoch_steps")  # length of the training

    method = config.method
    method.name = "aggan"
    method.width = 32  # channels of the generators' first layer (the authors' ngf)
    method.num_residual_blocks = 9  # of the generators
    method.attention_width = 32  # channels of the attention networks' first layer (ngf, too)
    method.decoder_kernels = (1, 1, 1)  # of the attention networks' decoder; the paper's: (3, 3, 7)
    method.discriminator_width = 64  # channels of the first layer (the authors' ndf)
    method.image_size = 256  # pixels, a multiple of 4
    method.lambda_a = 10.0  # weight of the cycle a to b to a
    method.lambda_b = 10.0  # weight of the cycle b to a to b
    method.switch_step = 30 * optimizer.get_ref("epoch_steps")  # attention is fixed from here on
    method.threshold = 0.1  # from then on discriminators see pixels whose attention is this or more
    method.pool_size = 50  # earlier fakes of each domain that the discriminators may be shown
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30
    return choose(config, variant, VARIANTS)


def _summer2winter(config):
    dataset("summer2winter_yosemite", 1_231)(config)
    config.optimizer.update(
        learning_rate=2e-4, decay_start_step=100 * 1_231, total_steps=200 * 1_231
    )


def _zebra2horse(config):
    dataset("horse2zebra", 1_334)(config)
    config.data.swap = True


def _quickstart(config):
    small(config, width=8, attention_width=8, num_residual_blocks=2, image_size=32)
    short(config, steps=800, every=200)
    config.evaluation.every = 200
    config.method.update(discriminator_width=16, switch_step=240)
    config.optimizer.learning_rate = 4e-4


def _tiny(config):
    small(config, width=4, attention_width=4, num_residual_blocks=1, image_size=32, pool_size=3)
    short(config, steps=4, every=2)
    config.method.update(discriminator_width=4, switch_step=2)


VARIANTS = {
    "horse2zebra": dataset("horse2zebra", 1_334),
    "zebra2horse": _zebra2horse,
    "apple2orange": dataset("apple2orange", 1_019),
    "lion2tiger": dataset("lion2tiger", 916),
    "summer2winter_yosemite": _summer2winter,
    "selfie2anime": dataset("selfie2anime", 3_400),
    "cat2dog": dataset("cat2dog", 1_264),
    "photo2portrait": dataset("photo2portrait", 6_452),
    "photo2vangogh": dataset("photo2vangogh", 6_287),
    "paper": set_method(decoder_kernels=(3, 3, 7)),
    "no_pool": set_method(pool_size=0),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
