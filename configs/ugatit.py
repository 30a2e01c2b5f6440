"""U-GAT-IT (Kim et al., ICLR 2020, arXiv 1907.10830): unpaired translation with CAM and AdaLIN.

    ganattn train --config configs/ugatit.py:horse2zebra,light --workdir runs/horse2zebra \\
        --config.data.path=data/horse2zebra

`data.path` is a folder with trainA trainB testA testB, or with `--config.data.source=tfds` a name
such as cycle_gan/horse2zebra. The paper's five data sets share every value. Values are those of
the authors' PyTorch code; `tf` follows their TensorFlow code, which made the paper's tables. Its
updates take images of their own, so `data.batch_size` is 2 for one image an update. For what paper
and code bases do differently see `ganattn.methods.ugatit.UGATIT`.

Expected: `quickstart` trains a small model on procedural images in a few minutes on two CPU cores;
after 400 of its steps 0.127 of the L1 distance inside the mask remains, and the attention covers
the objects with an IoU of 0.60 (means of three seeds). A step at 256 pixels takes 1,962 GFLOP and
15.2 GB (`light`: 1,936 and 7.8). The full schedule of 1,000,000 steps has not been run with this
code.
"""

from ganattn.config import Config, base, choose, dataset, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "horse2zebra,light"."""
    config = base()

    method = config.method
    method.name = "ugatit"
    method.width = 64  # channels of the first layer (the authors' ch)
    method.num_residual_blocks = 4  # in the encoder, and as many in the decoder
    method.light = False  # gamma and beta from pooled features: 10.6 M instead of 279 M weights
    method.image_size = 256  # pixels, a multiple of 4
    method.profile = "pytorch"  # networks and Adam as in the authors' code in: pytorch | tf
    method.smoothing = True  # with "tf": the decoder uses rho - 0.1, at least 0
    method.decoder_norm = "adalin"  # of the residual blocks: adalin | adain | in | ln | gn
    method.cam_generator = True  # class activation maps attend to regions in the generators
    method.cam_discriminator = True  # and in the discriminators
    method.discriminator_layers = (7, 5)  # depth of the global and of the local ones
    # least_squares | cross_entropy | hinge | wgan_gp | wgan_lp | dragan (the TensorFlow gan_type)
    method.adversarial = "least_squares"
    method.gradient_penalty_weight = 10.0  # of the last three, relative to the adversarial loss
    method.discriminator_steps = 1  # updates of the discriminators for each of the generators
    method.separate_examples = False  # the generators are updated on images of their own
    method.adversarial_weight = 1.0  # weights of the losses, equation 7: adversarial
    method.cycle_weight = 10.0  # L1 distance of cycled images
    method.identity_weight = 10.0  # L1 distance of images translated to their own domain
    method.cam_weight = 1000.0  # domain classifiers of the attention
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer
    optimizer.learning_rate = 1e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.weight_decay = 1e-4  # added to the gradient, of every parameter
    optimizer.decay_start_step = 500_000  # linear to 0 at total_steps; negative never decays
    optimizer.total_steps = 1_000_000  # length of the training
    optimizer.staircase = 1  # steps for which the decaying rate is held

    config.data.batch_size = 1 * method.get_ref("discriminator_steps")  # updates share a batch
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 30  # as the authors do at every size
    return choose(config, variant, VARIANTS)


def _tf(config):
    method = config.method
    method.profile = "tf"
    method.separate_examples = True  # each update pulls new images
    config.data.batch_size = 1 * method.get_ref("discriminator_steps") + 1
    size = method.get_ref("image_size")
    config.data.load_size = size + 15 + 15 * ((size // 256) * (256 // size))  # 30 more at 256 only
    config.optimizer.staircase = 10_000  # the TensorFlow code decays once an epoch


def _quickstart(config):
    small(config, width=16, num_residual_blocks=2, light=True, image_size=32)
    short(config, steps=800, every=200)
    config.evaluation.every = 200
    config.method.discriminator_layers = (5, 4)  # 32 pixels have no room for more
    config.method.cam_weight = 10.0  # 1000 drowns the other terms in a run this short
    config.optimizer.learning_rate = 4e-4


def _tiny(config):
    small(config, width=4, num_residual_blocks=1, light=True, image_size=32)
    short(config, steps=4, every=2)
    config.method.discriminator_layers = (4, 3)


VARIANTS = {
    "selfie2anime": dataset("selfie2anime"),
    "horse2zebra": dataset("horse2zebra"),
    "cat2dog": dataset("cat2dog"),
    "photo2portrait": dataset("photo2portrait"),
    "photo2vangogh": dataset("photo2vangogh"),
    "light": set_method(light=True),
    "tf": _tf,
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "adain": set_method(decoder_norm="adain"),
    "in": set_method(decoder_norm="in"),
    "ln": set_method(decoder_norm="ln"),
    "gn": set_method(decoder_norm="gn"),
    "no_cam_generator": set_method(cam_generator=False),
    "no_cam_discriminator": set_method(cam_discriminator=False),
    "no_cam": set_method(cam_generator=False, cam_discriminator=False),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
