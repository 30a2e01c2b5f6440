"""What the code base of CycleGAN and pix2pix shares: networks, losses, Adam and its schedules.

Source: junyanz/pytorch-CycleGAN-and-pix2pix.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import optax
from jax import Array
from ml_collections import ConfigDict

from ganattn import losses
from ganattn.config import check
from ganattn.layers.initialization import INITS, WeightInit
from ganattn.layers.normalization import NORMS
from ganattn.methods.base import DTYPES, apply_passes
from ganattn.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from ganattn.networks.resnet import ResNetGenerator
from ganattn.networks.unet import UNetGenerator
from ganattn.optimizers import Delay, adam, epoch_schedule
from ganattn.parallel import Examples
from ganattn.state import Tree

# config.method.test_statistics -> `statistics` of `BatchNorm`. The authors' test code translates
# one image at a time with networks in training mode: "batch". With --eval it is "running".
TEST_STATISTICS = {"batch": "image", "running": "running"}
# config.method.test_guidance: what guides the generator for an image that has no map in a buffer,
# a constant map as in the authors' test code, or the discriminator's map of a first translation.
TEST_GUIDANCE = ("constant", "discriminator")
GENERATORS = ("resnet", "unet")


def create_generator(method: ConfigDict, pyramid: nn.Module | None = None) -> Any:
    """The generator that config.method describes; pyramid: of the residual one."""
    options = _options(method)
    if _is_unet(method):
        return UNetGenerator(method.width, method.num_downs, **options)
    blocks, remat = method.num_residual_blocks, method.remat
    return ResNetGenerator(method.width, blocks, pyramid=pyramid, remat=remat, **options)


def create_discriminator(method: ConfigDict) -> nn.Module:
    """The discriminator that config.method describes."""
    width, options = method.discriminator_width, _options(method)
    if method.discriminator == "pixel":
        return PixelDiscriminator(width, **options)
    return PatchDiscriminator(width, method.discriminator_layers, **options)


def _is_unet(method: ConfigDict) -> bool:
    """Configs without the field are of a time when each method had one kind of generator."""
    kind = "resnet" if "num_residual_blocks" in method else "unet"
    return bool(method.get("generator", kind) == "unet")


def _options(method: ConfigDict) -> dict[str, Any]:
    init = WeightInit(method.get("init", "normal"), method.get("init_gain", 0.02))
    return {"norm": method.norm, "dtype": DTYPES[method.dtype], "weight_init": init}


def create_optimizer(
    optimizer: ConfigDict, delay: Delay | None = None
) -> optax.GradientTransformation:
    """The Adam chain that config.optimizer describes; delay: see `optimizers.adam`."""
    schedule = epoch_schedule(
        optimizer.get("schedule", "linear"),
        optimizer.learning_rate,
        optimizer.decay_start_step,
        optimizer.total_steps,
        optimizer.epoch_steps,
        optimizer.scheduler_step,
        optimizer.get("decay_epochs", 50),
    )
    return adam(schedule, optimizer.beta1, optimizer.beta2, weight_decay=0.0, delay=delay)


def translation_keys(examples: Examples, rng: Array | None, images: Array) -> Array:
    """Dropout keys for `generate`: (n,), one an image; without `rng` one fixed key, (), for all."""
    return jax.random.key(0) if rng is None else examples.keys(rng, len(images))


def real_and_fake(adversarial: str, real: Array, fake: Array) -> Array:
    """A discriminator's loss on its logits of real and of fake images.

    adversarial: a key of `losses.TRANSLATION`. Source: CycleGAN and pix2pix eq. 1.
    """
    loss = losses.TRANSLATION[adversarial]
    return loss(real, True) + loss(fake, False)


def penalty_shares(
    draws: Mapping[str, Array], name: str, examples: Examples, key: Array, like: Array
) -> Array:
    """Shares (n,) of the real images in what `gradient_penalty` mixes: draws[name] or drawn."""
    if name in draws:
        return draws[name].astype(like.dtype)
    keys = examples.keys(key, len(like))
    return jax.vmap(lambda k: jax.random.uniform(k, (), like.dtype))(keys)


def gradient_penalty(
    network: nn.Module, trained: Tree, statistics: Tree, real: Array, fake: Array, shares: Array
) -> tuple[Array, Tree]:
    """The penalty of a discriminator on mixed images, and its statistics after that pass.

    real, fake: what the discriminator takes (n, h, w, c). shares: (n,) of the real one in each
    mixed image. Source: Gulrajani et al. 2017, algorithm 1, in the form of the authors'
    cal_gradient_penalty.
    """
    share = shares[:, None, None, None]

    def total(images):
        (output,), new = apply_passes(network, trained, statistics, [(images,)], joint=False)
        return output.logits.sum(), new

    gradients, new = jax.grad(total, has_aux=True)(share * real + (1 - share) * fake)
    return losses.gradient_penalty(gradients, epsilon=1e-16), new


def check_config(config: ConfigDict, multiple: int | None = None) -> int:
    """Returns what divides the sides of images; ConfigError for values outside their range.

    multiple: that divisor; None: that of the generator which config.method names.
    """
    method = config.method
    check(config, "method.generator", choices=GENERATORS)
    check(config, "method.norm", choices=(*NORMS, "none"))
    check(config, "method.discriminator", choices=("patch", "pixel"))
    check(config, "method.adversarial", choices=losses.TRANSLATION)
    check(config, "method.test_statistics", choices=TEST_STATISTICS)
    check(config, "method.init", choices=INITS)
    check(config, "method.init_gain", least=0)
    check(config, "method.num_downs", least=2)
    check(config, "method.num_residual_blocks", least=0)
    check(config, "method.discriminator_layers", least=1)
    check(config, "method.pool_size", least=0)
    check(config, "method.gradient_penalty_weight", least=0)
    if multiple is None:
        multiple = 1 << method.num_downs if _is_unet(method) else 4
    strided = 0 if method.discriminator == "pixel" else method.discriminator_layers
    check(config, "method.image_size", multiple_of=multiple, least=max(8, 3 << strided))
    return multiple
