"""Binance COIN-M: inverse perpetuals and futures under marginal tiers of the coin.

Source: Binance, How to Calculate Liquidation Price of COIN-M Futures; Mark Price of COIN-Margined
Futures. Tiers: dev.binance.vision thread 6292, where the venue's calculator gives 33,599.40 for the
account that is tested here; tiers of larger positions are not in it.
"""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from jaxtyping import DTypeLike

from jaxrisk.market.contract import Contracts, perpetual
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.presets import binance_usdm
from jaxrisk.venue.presets.exchange import exchange_preset, marginal_tiers
from jaxrisk.venue.presets.listing import MarginOptions, check_bounds, listed
from jaxrisk.venue.venue import Venue

MARK_SECONDS = 30
"""Seconds over which the basis of the mark price is averaged; 150 before 18 September 2025."""

BTC_FACE = 100.0
"""Dollars a contract on BTC is worth."""

BTCUSD = (
    Bracket(0.0, 5.0, 0.004, 125.0),
    Bracket(5.0, 10.0, 0.005, 100.0),
    Bracket(10.0, 20.0, 0.01, 50.0),
    Bracket(20.0, 50.0, 0.025, 20.0),
    Bracket(50.0, 100.0, 0.05, 10.0),
    Bracket(100.0, 200.0, 0.1, 5.0),
    Bracket(200.0, np.inf, 0.125, 4.0),
)
"""Brackets in BTC, about 2021. The thread states rates alone: leverage is half of what they allow,
as in the linear tables of the venue, and the last bracket has no end here."""


def contract() -> Contracts:
    """Return the perpetual on BTC: 100 dollars a contract, settled in BTC."""
    return perpetual(BTC_FACE, inverse=True)


def margin(dtype: DTypeLike | None = None) -> MarginTiers:
    """Return the tiers of the perpetual on BTC."""
    return MarginTiers.from_brackets({"BTCUSD": BTCUSD}, dtype)


def funding(cap: float, *, hours: float = 8.0, dtype: DTypeLike | None = None) -> ClampedFunding:
    """Return the funding of a contract: the rule of linear ones."""
    return binance_usdm.funding(cap, hours=hours, dtype=dtype)


def binance_coinm(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    face: float = BTC_FACE,
    clearance_fee: float = 0.0,
    target: float = 1.1,
    funding_hours: float = 8.0,
    funding_cap: float = 1.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue of one coin, all positions of an account in cross margin.

    Args:
        accounts: collateral in the coin, and positions in contracts on it.
        assets: the system's assets, in order.
        face: dollars a contract is worth.
        clearance_fee: as in `binance_usdm`, and so are the others.
        target: of a liquidation.
        funding_hours: between payments.
        funding_cap: of an interval.
        **options: of every venue of contracts, see `MarginOptions`; the settlement currency is the
            coin.

    Raises:
        ValueError: a contract is no perpetual on the coin or has no tiers, or a parameter is out of
            range.
    """
    listing = listed("binance_coinm", accounts, assets, options)
    listing.check_perpetuals()
    check_bounds(listing.name, face=(face, 1e-9, np.inf))
    listing = listing.with_contracts([perpetual(face, inverse=True) for _ in listing.rows])
    return binance_usdm.liquidated_by_brackets(
        listing,
        marginal_tiers(listing, {"BTCUSD": BTCUSD}),
        clearance_fee=clearance_fee,
        target=target,
        funding_hours=funding_hours,
        funding_cap=funding_cap,
    )


PRESET = exchange_preset(
    binance_coinm, optional=("face", "clearance_fee", "target", "funding_hours", "funding_cap")
)
