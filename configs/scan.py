"""SCAN (Li et al., ECCV 2018, arXiv 1807.08536): stacked cycle-consistent adversarial networks.

    ganattn train --config configs/scan.py:cityscapes --workdir runs/stage1 \\
        --config.data.path=data/cityscapes
    ganattn train --config configs/scan.py:cityscapes,stage2 --workdir runs/stage2 \\
        --from runs/stage1 --config.data.path=data/cityscapes

The first run trains stage 1 on images of 128 pixels. The second one copies its generators, which
stay as they are, and trains stage 2 on images of 256 pixels; it translates, resumes and is
evaluated by itself. The map of its fusion block is its attention (`translate --heatmaps`).
`data.path` is a folder with trainA trainB testA testB.

The authors released no code. Stated by the paper: the stack, with the input connected past stage 1
into the second generator, the layers of the fusion block, the losses, the sizes 128 and 256, and a
gradient penalty. The text leaves open, and this is chosen here:

- Generators: CycleGAN's with six residual blocks in both stages, width 64, instance normalization
  without scales, N(0, 0.02). They enlarge by sub-pixel convolutions; with `transposed` they are
  CycleGAN's, and stage 2 may start from a run of `cyclegan` with six blocks at 128 pixels.
- Fusion block: 3x3 convolutions of 64 channels with reflection padding, on the input, the enlarged
  result of stage 1 and that of stage 2. Its bias starts at 0, so that the map starts near 1/2.
- Sizes: stage 1 sees the means of 2x2 pixels of the input of stage 2; its result is enlarged by
  nearest-neighbor interpolation. Its own run reads images resized to 128 pixels.
- Losses: least squares and a pool of 50 images as in CycleGAN, both cycles with the weight 10, no
  identity loss. The penalty has the weight 10, at uniform mixes of real images and the fakes that
  the discriminator sees, on the gradient of the mean of an image's logits (with that of their sum
  small models hardly learn to translate).
- Schedule: that of CycleGAN in each stage: 100 epochs at a constant rate and 100 in which it falls.
- The discriminators of stage 2 are new, like its generators.

`no_skip` and `no_fusion` are the paper's ablations. Its other fusions (a weight for all pixels,
residual) and the images of 512 pixels of its figure 1 are not here.

Expected: stage 1 of `quickstart`, run for 300 steps in place of 800, leaves 0.27 of the procedural
images' L1 distance inside the mask, and 0.20 with `no_penalty` (one seed, mean of both directions).
The full schedules have not been run with this code.
"""

from ganattn.config import Config, base, choose, dataset, epoch_schedule, set_method, short, small


def get_config(variant: str = "") -> Config:
    """variant: comma-separated keys of VARIANTS, such as "cityscapes,stage2"."""
    config = base()

    method = config.method
    method.name = "scan"
    method.stage = 1  # 1 | 2; 2 needs the run of a first stage (--from)
    method.width = 64  # channels of the generators' first layer
    method.num_residual_blocks = 6  # of the generators of both stages
    method.upsampling = "sub_pixel"  # sub_pixel | transposed
    method.skip_connection = True  # stage 2: its generator sees the input beside stage 1's result
    method.fusion = "adaptive"  # stage 2: adaptive | none
    method.fusion_width = 64  # channels of the fusion block
    method.discriminator_width = method.get_ref("width") + 0  # of the first layer
    method.discriminator_layers = 3  # strided convolutions: 3 see 70x70 pixels
    method.image_size = method.get_ref("stage") * 128  # pixels, a multiple of 4 (stage 2: 8)
    method.adversarial = "least_squares"  # least_squares | cross_entropy
    method.lambda_a = 10.0  # weight of the cycle a to b to a
    method.lambda_b = 10.0  # weight of the cycle b to a to b
    method.gradient_penalty = 10.0  # weight of the discriminators' penalty; 0 skips it
    method.pool_size = 50  # earlier fakes of each domain that the discriminators may be shown
    method.dtype = "float32"  # of the computation (bfloat16); parameters and statistics: float32
    method.remat = False  # recompute residual blocks in the backward pass: less memory, more time

    epoch_schedule(config, learning_rate=2e-4, epoch_steps=2_975)

    config.data.crop_size = method.get_ref("image_size")
    config.data.load_size = method.get_ref("image_size") * 143 // 128
    config.data.interpolation = "bicubic"
    return choose(config, variant, VARIANTS)


def _small(config, **fields):
    small(config, fusion_width=fields["width"], **fields)
    config.method.image_size = config.method.get_ref("stage") * 32
    config.data.load_size = config.method.get_ref("image_size")


def _quickstart(config):
    _small(config, width=16, num_residual_blocks=2)
    short(config, steps=800, every=200)
    config.evaluation.every = 200
    config.optimizer.learning_rate = 4e-4


def _tiny(config):
    _small(config, width=4, num_residual_blocks=1, pool_size=3)
    short(config, steps=4, every=2)


VARIANTS = {
    "cityscapes": dataset("cityscapes", 2_975),
    "maps": dataset("maps", 1_096),
    "facades": dataset("facades", 400),
    "horse2zebra": dataset("horse2zebra", 1_334),
    "stage2": set_method(stage=2),
    "transposed": set_method(upsampling="transposed"),
    "no_skip": set_method(skip_connection=False),
    "no_fusion": set_method(fusion="none"),
    "no_penalty": set_method(gradient_penalty=0.0),
    "bfloat16": set_method(dtype="bfloat16"),
    "remat": set_method(remat=True),
    "quickstart": _quickstart,
    "tiny": _tiny,
}
