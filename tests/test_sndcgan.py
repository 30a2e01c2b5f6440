"""SNDCGAN's networks: the counts of the paper, and what each part changes."""

import jax
import jax.numpy as jnp
import pytest

from ganattn import methods
from ganattn.config import find, load
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
        ({"pyramid": ASPP(RATES, spectral=True)}, 5_983_745 + 2_754_048),
        ({"self_attention": True}, 5_983_745 + 20_481),
    ],
)
def test_discriminators_have_the_papers_parameters(options, trained):
    assert size(shapes(SNDCGANDiscriminator(**options), 128, 128, 3)["params"]) == trained


def table_of_counts():
    """[choice, parameters, with u and v, table 1, "no" or nothing] of the config's docstring."""
    text = find("sndcgan").read_text().partition("variant or fields")[2]
    lines = text.partition("\n\n")[0].splitlines()[1:]
    return [[*line.split(), ""][:5] for line in lines]


def test_the_configs_table_of_counts():
    table = table_of_counts()
    assert len(table) == 14
    for choice, parameters, with_vectors, printed, differs in table:
        words = choice.split(",")
        config = load(find("sndcgan"), ",".join(w for w in words if "=" not in w)).unlock()
        fields = dict(word.split("=") for word in words if "=" in word)
        config.method.update({name: int(value) for name, value in fields.items()})
        variables = methods.create(config).shapes("generator")
        trained = size(variables["params"])
        total = trained + size(variables["spectral"])
        assert (f"{trained:,}", f"{total:,}") == (parameters, with_vectors), choice
        assert printed == "none" or (f"{total / 1e6:.3f}M" == printed) == (differs != "no"), choice
    fitting = [row[0] for row in table if row[3:] == ["20.756M", ""]]
    assert fitting == [
        "spap_c2f",
        "spap_f2c",
        "second_map",
        "shared_attention,pyramid_reduction=4",
    ]


def test_self_attention_has_the_authors_parameters():
    assert size(shapes(SelfAttention(), 8, 8, 128)["params"]) == 20_481
