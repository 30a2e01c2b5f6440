"""DAGAN (Tang, Bai and Sebe, ACM MM 2020, arXiv 2008.13015): SPADE with dual attention.

    ganattn train --config configs/dagan.py:facades --workdir runs/facades \\
        --config.data.path=data/facades

Everything but the attention is SPADE's, and so is the format of the data (see configs/spade.py).
"last" is the form of the authors' code, whose channel attention sees the last two levels;
"all_levels" is that of their figure. Their code adds no loss to SPADE's; `deepfashion` is theirs.

Expected: 500 steps of `facades,no_perceptual` at 64 pixels with `method.width=16` take 7 minutes on
two CPU cores, and the feature matching loss falls from 1.56 to 1.24. The full schedule has not been
run with this code.
"""

from ganattn.config import Config, find, load


def get_config(variant: str = "") -> Config:
    """variant: comma-separated; those of SPADE, and "all_levels"."""
    words = [word.strip() for word in variant.split(",")]
    config = load(find("spade"), ",".join(word for word in words if word != "all_levels"))
    with config.unlocked():
        config.method.name = "dagan"
        config.method.attention = "all" if "all_levels" in words else "last"
    return config
