"""SNDCGAN's networks: the counts of the paper, and what each part changes."""

import jax
import jax.numpy as jnp
import pytest

from ganattn.layers.attention import SelfAttention
from ganattn.layers.pyramid import ASPP, SPAP, AtrousMean
from ganattn.networks.sndcgan import SNDCGANDiscriminator, SNDCGANGenerator

RATES = (3, 5, 7)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(module, *shape):
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))


@pytest.mark.parametrize(
    ("options", "trained", "printed"),
    [
        ({}, 19_926_019, "20.065M"),
        ({"pyramid": ASPP(RATES, spectral=True)}, 20_616_451, "20.762M"),
        ({"pyramid": SPAP(RATES, spectral=True)}, 20_609_544, "20.756M"),
        ({"pyramid": SPAP(RATES, True, order="fine_to_coarse")}, 20_609_544, "20.756M"),
        ({"self_modulated": True}, 19_742_851, None),
        ({"self_attention": True}, 19_926_019 + 20_481, None),
    ],
)
def test_generators_have_the_papers_parameters(options, trained, printed):
    made = shapes(SNDCGANGenerator(**options), 128)
    assert size(made["params"]) == trained
    # The paper counts the power iteration's vectors: parameters in PyTorch code of 2018.
    if printed:
        assert f"{(trained + size(made['spectral'])) / 1e6:.3f}M" == printed
    plain = shapes(SNDCGANGenerator(**{**options, "spectral": False}), 128)
    assert size(plain["params"]) == trained


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({}, 5_983_745),
        ({"pyramid": AtrousMean(RATES, spectral=True)}, 7_557_377),
        ({"self_attention": True}, 5_983_745 + 20_481),
    ],
)
def test_discriminators_have_the_papers_parameters(options, trained):
    assert size(shapes(SNDCGANDiscriminator(**options), 128, 128, 3)["params"]) == trained


def test_self_attention_has_the_authors_parameters():
    assert size(shapes(SelfAttention(), 8, 8, 128)["params"]) == 20_481
