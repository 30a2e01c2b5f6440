"""DAGAN (Tang, Bai and Sebe, ACM MM 2020, arXiv 2008.13015): SPADE with dual attention.

    ganattn train --config configs/dagan.py:facades --workdir runs/facades \\
        --config.data.path=data/facades

Everything but the attention is SPADE's, and so is the format of the data (see configs/spade.py).
"last" is the form of the authors' code, whose channel attention sees the last two levels;
"all_levels" is that of their figure. Their code adds no loss to SPADE's; `deepfashion` is
a data set of theirs alone.

Expected: 500 steps of `facades,no_perceptual` at 64 pixels with `method.width=16` take 7 minutes on
two CPU cores, and the feature matching loss falls from 1.56 to 1.24. The full schedule has not been
run with this code.
"""

from ganattn.config import Config, choose, find, load, set_method, variants


def get_config(variant: str = "") -> Config:
    """variant: comma-separated; keys of VARIANTS and of those of SPADE."""
    config = load(find("spade")).unlock()
    config.method.name = "dagan"
    config.method.attention = "last"
    return choose(config, variant, {**variants(find("spade")), **VARIANTS})


def _deepfashion(config):
    """A data set of the authors' code, which SPADE's lacks; of 286 pixels 256 remain."""
    config.method.update(crop_size=256, aspect_ratio=1.0, use_instances=False, num_classes=20)
    config.data.update(path="data/deepfashion", batch_size=32, load_size=286)
    epoch = 30_000 // 32
    config.optimizer.update(epoch_steps=epoch, decay_start_step=50 * epoch, total_steps=100 * epoch)


VARIANTS = {"all_levels": set_method(attention="all"), "deepfashion": _deepfashion}
