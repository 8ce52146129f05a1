"""Figures of accounts on margin at the opening, under the names that loans have."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.measure.owner import account_health
from jaxrisk.system.margin_book import maintenance, marks_at, opened, settlement_of, slot_of
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
    held, kept = opened(venue, [venue.accounts]), slot_of(venue).opening(venue.accounts)
    marks, money = marks_at(venue, kept, price), price[settlement_of(venue)]
    equity = held.equity(kept, marks)
    notional = jnp.sum(jnp.abs(held.size) * marks.notional[:, None], axis=0)
    lacking = jnp.where(notional > 0, jnp.full_like(equity, jnp.inf), jnp.zeros_like(equity))
    leverage = jnp.where(equity > 0, notional / jnp.where(equity > 0, equity, 1.0), lacking)
    none = jnp.zeros_like(equity)
    posted = jnp.sum(held.posted * marks.posted[:, None], axis=0)
    return {
        "collateral_usd": (held.collateral + posted) * money,
        "debt_usd": none,
        "equity_usd": equity * money,
        "notional_usd": notional * money,
        "maintenance_margin_usd": maintenance(venue, kept, held, marks) * money,
        "loan_to_value_frac": none,
        "health_factor": account_health(venue, price),
        "leverage": leverage,
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
