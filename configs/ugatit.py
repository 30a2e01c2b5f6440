"""U-GAT-IT (Kim et al., ICLR 2020, arXiv 1907.10830): unpaired translation with CAM and AdaLIN.

    ganattn train --config configs/ugatit.py:horse2zebra,light --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB, or with `--config.data.source=tfds` a name
such as cycle_gan/horse2zebra. The paper's five data sets share every value. `quickstart` trains a
small model on procedural pictures in a few minutes on two CPU cores; its measured scores are in the
README. Nobody has trained the full schedule of 1,000,000 steps with this code yet.
"""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,light"."""
    config = base()

    method = config.method = Config()
    method.name = "ugatit"
    method.width = 64  # channels of the first layer (the authors' ch)
    method.num_residual_blocks = 4  # in the encoder, and as many in the decoder
    method.light = False  # gamma and beta from pooled features: 10.6 M instead of 279 M weights
    method.image_size = 256  # pixels, a multiple of 4
    method.profile = "pytorch"  # whose code to follow: pytorch | tf
    method.decoder_norm = "adalin"  # adalin | adain | in | ln | gn
    method.cam_generator = True
    method.cam_discriminator = True
    method.discriminator_layers = (7, 5)  # global, local
    method.adversarial_weight = 1.0
    method.cycle_weight = 10.0
    method.identity_weight = 10.0
    method.cam_weight = 1000.0
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 1e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.weight_decay = 1e-4  # added to the gradient, of every parameter
    optimizer.decay_start_step = 500_000  # linear to 0 at total_steps; negative never decays
    optimizer.total_steps = 1_000_000  # length of the training
    optimizer.staircase = 1  # steps for which the decaying rate is held

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30  # the authors': at every size
    return choose(config, variant, VARIANTS)


def _data(name):
    def apply(config):
        config.data.path = f"data/{name}"

    return apply


def _method(**values):
    return lambda config: config.method.update(values)


def _tf(config):
    config.method.profile = "tf"
    config.optimizer.staircase = 10_000  # the TensorFlow code decays once an epoch


def _small(config, size):
    config.method.update(
        width=16,
        num_residual_blocks=2,
        light=True,
        image_size=size,
        discriminator_layers=(5, 4),  # all that 32 pixels have room for
    )
    config.data.source = "procedural"
    config.data.load_size = size
    config.data.flip = False


def _quickstart(config):
    _small(config, 32)
    config.data.batch_size = 8
    config.method.cam_weight = 10.0  # 1000 drowns the other terms in a run this short
    config.optimizer.learning_rate = 4e-4
    config.optimizer.total_steps = 800
    config.optimizer.decay_start_step = 400
    config.train.update(log_every=20, pictures_every=200, histograms_every=200)
    config.train.checkpoint_every = config.evaluation.every = 200


def _tiny(config):
    _small(config, 32)
    config.method.update(width=4, num_residual_blocks=1, discriminator_layers=(4, 3))
    config.data.batch_size = 8
    config.optimizer.total_steps = 4
    config.train.update(log_every=1, pictures_every=2, histograms_every=2, checkpoint_every=2)


VARIANTS = {
    "selfie2anime": _data("selfie2anime"),
    "horse2zebra": _data("horse2zebra"),
    "cat2dog": _data("cat2dog"),
    "photo2portrait": _data("photo2portrait"),
    "photo2vangogh": _data("photo2vangogh"),
    "light": _method(light=True),
    "tf": _tf,
    "bfloat16": _method(dtype="bfloat16"),
    "remat": _method(remat=True),
    "adain": _method(decoder_norm="adain"),
    "in": _method(decoder_norm="in"),
    "ln": _method(decoder_norm="ln"),
    "gn": _method(decoder_norm="gn"),
    "no_cam_generator": _method(cam_generator=False),
    "no_cam_discriminator": _method(cam_discriminator=False),
    "no_cam": _method(cam_generator=False, cam_discriminator=False),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
