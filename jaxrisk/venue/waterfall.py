"""Who pays for bad debt."""

from enum import Enum

import jax.numpy as jnp
from jaxtyping import Array, Float


class Residual(Enum):
    """Who bears what the funds do not cover.

    CARRIED: a deficit stays on the venue's books; suppliers are whole on paper and the last ones
        to leave are short (Aave v3.3+).
    SOCIALISED: suppliers' claims are cut at once, pro rata (Morpho Blue).
    DILUTED: the protocol's token is issued and sold for what is missing (Maker's debt auctions).
    BORROWERS: what depositors of a pool do not pay is handed to the other accounts, so nothing is
        ever written off (Liquity).
    LENDERS: lenders lose what reserves do not pay, those who stated the highest price first (Ajna).
    STANDING: nothing is ever recognised; debt without collateral stays on the books and accrues,
        suppliers are whole on paper and the last ones to leave are short (Aave v3.0 to v3.2).
    """

    CARRIED = "suppliers (deficit carried)"
    SOCIALISED = "suppliers (written down)"
    DILUTED = "token holders (dilution)"
    STANDING = "suppliers (debt left standing)"
    BORROWERS = "other borrowers (redistributed)"
    LENDERS = "lenders (highest price first)"


DEPOSITORS = "stability pool depositors"
"""Who bears a loss before the other borrowers do."""


def ordered_payment(
    loss: Float[Array, ""], capacity: Float[Array, " layer"]
) -> tuple[Float[Array, " layer"], Float[Array, ""]]:
    """Return what each layer pays, first layer first, and what is left unpaid.

    Layer by layer rather than by cumulated capacities: a large or unlimited fund behind must not
    blur what a small one in front pays.
    """
    paid, left = [], loss
    for layer in range(capacity.shape[0]):
        # At a tie the capacity decides: more of it would be used only if there is a loss.
        exceeded = (left > capacity[layer]) | ((left == capacity[layer]) & (left > 0))
        share = jnp.where(exceeded, capacity[layer], left)
        paid.append(share)
        left = left - share
    return jnp.stack(paid), left
