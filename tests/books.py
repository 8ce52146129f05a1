"""Books of one collateral and one debt, for figures known in closed form."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets.morpho_blue import morpho_blue
from jaxrisk.venue.venue import Venue

ASSETS = ("ether", "dollar")
PRICE = (2000.0, 1.0)


def pair_venue(
    collateral: Sequence[float],
    debt: Sequence[float],
    *,
    threshold: float = 0.8,
    pair: tuple[int, int] = (0, 1),
) -> Venue:
    """Return an isolated market whose accounts hold and owe these values at `PRICE`.

    Args:
        collateral: value of each account's collateral.
        debt: value of each account's debt.
        threshold: liquidation threshold.
        pair: index of the collateral and of the debt asset.
    """
    held, owed = pair
    accounts = Accounts(
        collateral=jnp.asarray(np.asarray(collateral)[None] / PRICE[held]),
        debt=jnp.asarray(np.asarray(debt)[None] / PRICE[owed]),
        category=jnp.zeros(len(collateral), jnp.int32),
        collateral_assets=(held,),
        debt_assets=(owed,),
    )
    return morpho_blue(accounts, ASSETS, liquidation_loan_to_value=threshold)


def loops(leverage: Sequence[float], *, threshold: float = 0.8) -> Venue:
    """Return loops of equity 1: long ether at each leverage L, owing L − 1 dollars."""
    multiple = np.asarray(leverage)
    return pair_venue(list(multiple), list(multiple - 1.0), threshold=threshold)
