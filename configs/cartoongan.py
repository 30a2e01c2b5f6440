"""CartoonGAN (Chen et al., CVPR 2018): photos to cartoons with clear edges.

    ganattn train --config configs/cartoongan.py:photo2hayao --workdir runs/photo2hayao \\
        --config.data.path=data/photo2hayao --config.method.perceptual_weights=vgg19.pth

`data.path` is a folder with trainA (photos), trainB (cartoons) and, optionally, testA and testB;
the cartoons with smoothed edges are computed from trainB. The authors published generators and no
training code: the generator is theirs, the training that of znxlwm/pytorch-CartoonGAN, with 10
epochs of the photos for the initialization phase and then 100 of the smaller domain. Set
`method.pretrain_steps` and `optimizer.epoch_steps` for a data set that is not a variant here.
`znxlwm` takes that code's generator, too.

Expected: `quickstart`, with random features in place of VGG19's, leaves 0.139 of the procedural
images' L1 distance inside the mask (one seed), after 9 minutes on two busy CPU cores. The full
schedule has not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "photo2hayao,bfloat16"."""
    config = base()

    method = config.method
    method.name = "cartoongan"
    method.form = "official"  # of the generator: official (the published weights) | znxlwm
    method.width = 64  # channels of the generator's first layer
    method.num_residual_blocks = 8  # of the generator
    method.discriminator_width = 32  # channels of its first layer
    method.image_size = 256  # pixels, a multiple of 4
    method.pretrain_steps = 6_750  # initialization phase: content loss alone; 10 epochs of photos
    method.adversarial = "cross_entropy"  # least_squares | cross_entropy
    method.edge_weight = 1.0  # of the cartoons with smoothed edges; 0 trains without them
    method.perceptual_weight = 10.0  # of the content loss (omega); 0 needs no VGG19
    method.perceptual_weights = ""  # torchvision's vgg19 .pth file | random: for trials without it
    method.perceptual_width = 64  # channels of VGG19's first layer; others for random weights only
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer
    optimizer.learning_rate = 2e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.epoch_steps = 571  # batches of the smaller domain
    first, epoch = method.get_ref("pretrain_steps"), optimizer.get_ref("epoch_steps")
    # As with PyTorch 0.4; with later versions that code reduces the rate one epoch earlier.
    optimizer.first_decay_step = 50 * epoch + first  # the rate is multiplied by decay_factor
    optimizer.second_decay_step = 75 * epoch + first  # and again
    optimizer.decay_factor = 0.1
    optimizer.total_steps = 100 * epoch + first  # length of the training

    config.data.smooth_edges = True
    config.data.batch_size = 8
    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") + 0
    config.data.flip = False
    return choose(config, variant, VARIANTS)


def _cartoons(name, images, photos=5_402):
    """images: number of cartoons; photos: of training photos, the paper's by default."""
    batch = 8
    epoch_steps = min(images, photos) // batch
    return dataset(name, epoch_steps, pretrain_steps=10 * (photos // batch))


_SMALL = {
    "num_residual_blocks": 2, "image_size": 32, "perceptual_weights": "random",
}  # fmt: skip


def _quickstart(config):
    small(config, width=16, discriminator_width=16, perceptual_width=16, **_SMALL)
    short(config, steps=800, every=200)
    config.method.pretrain_steps = 200
    config.optimizer.update(first_decay_step=600, second_decay_step=700, learning_rate=4e-4)


def _tiny(config):
    small(config, width=4, discriminator_width=4, perceptual_width=2, **_SMALL)
    short(config, steps=4, every=2)
    config.method.update(num_residual_blocks=1, pretrain_steps=1)
    config.optimizer.update(first_decay_step=2, second_decay_step=3)


VARIANTS = {
    "photo2shinkai": _cartoons("photo2shinkai", 4_573),
    "photo2hosoda": _cartoons("photo2hosoda", 4_212),
    "photo2hayao": _cartoons("photo2hayao", 3_617),
    "photo2paprika": _cartoons("photo2paprika", 2_302),
    "selfie2anime": _cartoons("selfie2anime", 3_400, 3_400),
    "znxlwm": set_method(form="znxlwm"),
    "no_edges": set_method(edge_weight=0.0),
    "no_pretraining": set_method(pretrain_steps=0),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
