"""U-GAT-IT (Kim et al., ICLR 2020, arXiv 1907.10830): unpaired translation with CAM and AdaLIN."""

from ganattn.config import Config, base, choose


def get_config(variant: str = "") -> Config:
    """variant: a data set of the paper, `light`, `quickstart`, `tf`, `bfloat16`, `remat`, ..."""
    config = base()
    config.data.path = "data/selfie2anime"

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
    method.dtype = "float32"  # of the computation; parameters and statistics stay float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    optimizer = config.optimizer = Config()
    optimizer.learning_rate = 1e-4
    optimizer.beta1 = 0.5
    optimizer.beta2 = 0.999
    optimizer.weight_decay = 1e-4
    optimizer.decay_start_step = 500_000  # linear to 0 at total_steps; negative never decays
    optimizer.total_steps = 1_000_000
    optimizer.staircase = 1  # steps for which the decaying rate is held

    return choose(config, variant, VARIANTS)


VARIANTS = {}
