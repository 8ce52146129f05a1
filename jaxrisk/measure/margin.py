"""Figures of accounts on margin at the opening, under the names that loans have."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.system.margin_book import figures
from jaxrisk.venue.venue import Venue


def account_margin(
    venue: Venue, price: Float[Array, " asset"]
) -> dict[str, Float[Array, " account"]]:
    """Return figures of every account of a venue of contracts, each `(account,)`.

    `collateral_usd`, `debt_usd` (0), `equity_usd`, `notional_usd`, `maintenance_margin_usd`,
    `health_factor` (equity over the margin at which the account is called), `leverage` (notional
    over equity, infinite where there is none), `loan_to_value_frac` and `debt_to_equity` (0),
    `distance_to_liquidation_frac` (NaN: contracts may be called on either side) and `toxic` (0).

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
    """
    found = figures(venue, price)
    notional, equity = found.notional, found.equity
    lacking = jnp.where(notional > 0, jnp.full_like(equity, jnp.inf), jnp.zeros_like(equity))
    none = jnp.zeros_like(equity)
    return {
        "collateral_usd": found.collateral,
        "debt_usd": none,
        "equity_usd": equity,
        "notional_usd": notional,
        "maintenance_margin_usd": found.maintenance,
        "loan_to_value_frac": none,
        "health_factor": found.health,
        "leverage": jnp.where(equity > 0, notional / positive_or_one(equity), lacking),
        "debt_to_equity": none,
        "distance_to_liquidation_frac": jnp.full_like(none, jnp.nan),
        "toxic": none,
    }


def margin_columns(venue: Venue, market: Market) -> dict[str, np.ndarray]:
    """Return `account_margin` at seen prices on the host, `toxic` boolean."""
    figures = account_margin(venue, opening_prices(venue.oracle, market))
    columns: dict[str, np.ndarray] = {
        name: np.asarray(values, np.float64) for name, values in figures.items()
    }
    columns["toxic"] = columns["toxic"] > 0
    return columns
