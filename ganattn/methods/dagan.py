"""DAGAN: SPADE with spatial and channel attention (Tang, Bai and Sebe, ACM MM 2020).

config.method.attention says which form: "last" is the authors' code, "all" their figure.
"""

from ganattn.methods.spade import SPADE


class DAGAN(SPADE):
    """SPADE whose generator ends in a spatial and a channel gate; the step is SPADE's."""
