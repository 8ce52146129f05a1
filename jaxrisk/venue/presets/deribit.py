"""Deribit: standard margin of futures and perpetuals, whose rates rise with size.

The model in force from 2022 to August 2026; the one that replaced it is not public in a form that
could be restated. Source: Deribit support, Linear Perpetual and Inverse Perpetual.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import DTypeLike

from jaxrisk.market.contract import Contracts, perpetual
from jaxrisk.venue.funding import DeadBandFunding
from jaxrisk.venue.size_margin import LinearSizeMargin

HOURS_PER_YEAR = 8760.0

BAND = 0.00025
"""Premium within which no funding is paid, in 8 h; 0.05 % in earlier years."""

LIQUIDATION_FEE = 0.0075
"""Fee on what is liquidated of BTC futures, paid to the insurance fund."""


class Rates(NamedTuple):
    """Margin of a small position, and what a unit of the underlying adds to both rates."""

    initial: float
    maintenance: float
    slope: float


RATES = {
    "BTC": Rates(0.02, 0.01, 5e-5),
    "ETH": Rates(0.02, 0.01, 4e-6),
    "SOL": Rates(0.04, 0.02, 5e-6),
}
"""BTC and ETH: inverse contracts and those against USDC; SOL: against USDC."""


def margin(
    underlyings: Sequence[str] = ("BTC",), dtype: DTypeLike | None = None
) -> LinearSizeMargin:
    """Return the margin of contracts on these underlyings, in this order.

    Raises:
        ValueError: an underlying is not among `RATES`.
    """
    if unknown := [name for name in underlyings if name not in RATES]:
        raise ValueError(f"underlying {', '.join(unknown)}: expected one of {', '.join(RATES)}")
    initial, maintenance, slope = zip(*(RATES[name] for name in underlyings), strict=True)
    number = lambda x: jnp.asarray(x, dtype or float)
    return LinearSizeMargin(initial=number(initial), base=number(maintenance), slope=number(slope))


def contract(*, linear: bool) -> Contracts:
    """Return the perpetual on BTC: of one BTC against USDC, or of 10 dollars settled in BTC."""
    return perpetual(1.0) if linear else perpetual(10.0, inverse=True)


def funding(cap: float, dtype: DTypeLike | None = None) -> DeadBandFunding:
    """Return the funding of a perpetual, paid continuously.

    Args:
        cap: largest rate of 8 h, which the venue sets by contract.
        dtype: of the coefficients; JAX's default float if not given.
    """
    number = lambda x: jnp.asarray(x, dtype or float)
    return DeadBandFunding(
        period=number(8.0 / HOURS_PER_YEAR),
        band=number(BAND),
        cap=number(cap * HOURS_PER_YEAR / 8.0),
    )
