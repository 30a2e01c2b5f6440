"""DAGAN (Tang, Bai and Sebe, ACM MM 2020, arXiv 2008.13015): SPADE with dual attention.

    ganattn train --config configs/dagan.py:facades --workdir runs/facades \\
        --config.data.path=data/facades

Everything but the attention is SPADE's (configs/spade.py says what the data must be). "last" is
the form of the authors' code, whose channel attention sees the last two levels; "all_levels" that
of their figure. Nobody has trained the full schedule with this code yet.
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
