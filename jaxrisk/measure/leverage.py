"""How leveraged each account is, and how far prices may fall before it can be liquidated.

A snapshot at the prices the venue sees: the figures of one account are those its venue acts on.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.measure.margin import margin_columns
from jaxrisk.measure.solvency import BalanceSheet
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.system.execution import play_of
from jaxrisk.venue.health import health_factor, redeemable_debt, toxic, value_accounts
from jaxrisk.venue.liquidation_price import liquidation_price
from jaxrisk.venue.venue import Venue


def distance_to_liquidation(
    venue: Venue, price: Float[Array, " asset"], moves: Bool[Array, " asset"]
) -> Float[Array, " account"]:
    """Return the joint fall of the assets that move at which health is 1, as a fraction.

    With all moving prices multiplied by x, backing and debt are linear in x:
    B_0 + B_1 x = D_0 + D_1 x, so the fall is 1 − x* = 1 − (D_0 − B_0) / (B_1 − D_1).

    Negative where the account can be liquidated already and prices would have to rise. NaN where
    no fall of these assets short of everything brings about liquidation: nothing is owed, the
    fixed assets back all debt, both sides move alike, or the account gains from a fall.

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
        moves: `(asset,)` which assets fall together; pegged ones are to be listed too.
    """
    falling = moves.astype(price.dtype)
    threshold = venue.collateral.liquidation_threshold
    moving = value_accounts(venue.accounts, threshold, price * falling)
    fixed = value_accounts(venue.accounts, threshold, price * (1.0 - falling))
    slope = moving.backing - moving.debt
    crossing = (fixed.debt - fixed.backing) / jnp.where(slope > 0, slope, jnp.ones_like(slope))
    exists = (slope > 0) & (crossing > 0)
    return jnp.where(exists, 1.0 - crossing, jnp.full_like(crossing, jnp.nan))


def toxic_threshold(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return the loan to value above which a partial liquidation lowers an account's health.

    1 / (1 + bonus), weighted by value over the account's collateral; NaN where it has none. Each
    close then takes more collateral, in proportion, than debt, until debt is left alone.

    Source: Warmuz, Chaudhary and Pinna, arXiv 2212.07306.

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
    """
    value = value_accounts(venue.accounts, venue.collateral.liquidation_threshold, price)
    return _over(redeemable_debt(venue, price), value.collateral)


def toxic_gap(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return how far all collateral falls from where it is called to where calls are toxic.

    1 - LT (1 + bonus), as a fraction of the price at which health is 1: the time that liquidators
    have, in terms of price. NaN without collateral; negative where an account is toxic
    before it is called.

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
    """
    value = value_accounts(venue.accounts, venue.collateral.liquidation_threshold, price)
    return 1.0 - _over(value.backing, redeemable_debt(venue, price))


def account_leverage(
    venue: Venue, price: Float[Array, " asset"], moves: Bool[Array, " asset"]
) -> dict[str, Float[Array, " account"]]:
    """Return the leverage figures of every account, each `(account,)`, under their column names.

    `collateral_usd`, `debt_usd`, `loan_to_value_frac` (D/A), `health_factor`, `leverage` (A/E),
    `debt_to_equity` (D/E), `distance_to_liquidation_frac`, `toxic` (1 or 0). Loan to value is 0
    where nothing is owed and infinite for debt without collateral; leverage and debt-to-equity are
    infinite where something is owed and no equity is left.

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
        moves: `(asset,)` which assets fall together in the distance to liquidation.
    """
    value = value_accounts(venue.accounts, venue.collateral.liquidation_threshold, price)
    sheet = BalanceSheet(assets=value.collateral, debt=value.debt)
    backed = jnp.where(value.debt > 0, value.collateral, jnp.ones_like(value.collateral))
    return {
        "collateral_usd": value.collateral,
        "debt_usd": value.debt,
        "loan_to_value_frac": value.debt / backed,
        "health_factor": health_factor(venue, price),
        "leverage": sheet.leverage,
        "debt_to_equity": sheet.debt_to_equity,
        "distance_to_liquidation_frac": distance_to_liquidation(venue, price, moves),
        "toxic": toxic(venue, price),
    }


def account_columns(
    venue: Venue, market: Market, moves: Bool[np.ndarray, " asset"]
) -> dict[str, np.ndarray]:
    """Return `account_leverage` at seen prices on the host, with liquidation prices.

    Float64 columns in account order, `toxic` boolean, plus one `liquidation_price_<asset>_usd` for
    each asset that has such a price for some account (NaN for the others). Accounts on margin have
    the figures of `account_margin`.

    Args:
        venue: the venue and its book.
        market: the market at rest.
        moves: `(asset,)` which assets fall together in the distance to liquidation.
    """
    if play_of(venue).margin is not None:
        return margin_columns(venue, market)
    figures, prices = _figures(venue, market, jnp.asarray(moves))
    columns: dict[str, np.ndarray] = {
        name: np.asarray(values, np.float64) for name, values in figures.items()
    }
    columns["toxic"] = columns["toxic"] > 0
    for name, row in zip(market.assets, np.asarray(prices, np.float64), strict=True):
        if np.isfinite(row).any():
            columns[f"liquidation_price_{name}_usd"] = row
    return columns


@jax.jit
def _figures(
    venue: Venue, market: Market, moves: Bool[Array, " asset"]
) -> tuple[dict[str, Array], Array]:
    price = opening_prices(venue.oracle, market)
    return account_leverage(venue, price, moves), liquidation_price(venue, price)


def _over(part: Float[Array, " account"], whole: Float[Array, " account"]) -> Array:
    """Return part over whole, NaN where the whole is not positive."""
    ratio = part / positive_or_one(whole)
    return jnp.where(whole > 0, ratio, jnp.full_like(ratio, jnp.nan))
