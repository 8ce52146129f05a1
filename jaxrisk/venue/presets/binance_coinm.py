"""Binance COIN-M: inverse perpetuals and futures under marginal tiers of the coin.

Source: Binance, How to Calculate Liquidation Price of COIN-M Futures; Mark Price of COIN-Margined
Futures. Tiers: dev.binance.vision thread 6292, where the venue's calculator gives 33,599.40 for the
account that is tested here; tiers of larger positions are not in it.
"""

import numpy as np
from jaxtyping import DTypeLike

from jaxrisk.market.contract import Contracts, perpetual
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.presets import binance_usdm

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
