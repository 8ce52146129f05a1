"""Deribit: standard margin of futures by size, and portfolio margin of books settled in coins.

Source: docs.deribit.com, contract specifications (until August 2026, when the standard margin was
replaced) and the example of `private/pme/simulate` of June 2024, whose model parameters these are.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import DTypeLike

from jaxrisk.market.contract import Contracts, perpetual
from jaxrisk.venue.coin_margin import CoinTerms, RollCharge
from jaxrisk.venue.funding import DeadBandFunding
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.size_margin import LinearSizeMargin

FUTURES: dict[str, tuple[float, float, float]] = {
    "BTC": (0.02, 0.01, 0.00005),
    "ETH": (0.02, 0.01, 0.000004),
    "SOL_USDC": (0.04, 0.02, 0.000005),
}
"""Initial and maintenance rate of a vanishing position, and what a unit held adds to both."""

HOURS_PER_YEAR = 8760.0

BAND = 0.00025
"""Premium within which no funding is paid, in 8 h; 0.05 % in earlier years."""

_BUCKETS = 4


def futures_margin(contract: str, dtype: jnp.dtype | type) -> LinearSizeMargin:
    """Return the standard margin of a future or perpetual.

    Args:
        contract: one of `FUTURES`.
        dtype: of the coefficients.

    Raises:
        ValueError: the contract is not among them.
    """
    _check_known([contract])
    initial, maintenance, slope = FUTURES[contract]
    return LinearSizeMargin(
        base=jnp.asarray([initial, maintenance], dtype), slope=jnp.asarray([slope, slope], dtype)
    )


def margin(contracts: Sequence[str] = ("BTC",), dtype: DTypeLike | None = None) -> LinearSizeMargin:
    """Return the standard margin of a book in contracts among `FUTURES`, in this order.

    Raises:
        ValueError: a contract is not among them.
    """
    _check_known(contracts)
    rates = jnp.asarray([FUTURES[name] for name in contracts], dtype or float).T[:, :, None]
    return LinearSizeMargin(base=rates[:2], slope=jnp.stack([rates[2], rates[2]]))


def _check_known(contracts: Sequence[str]) -> None:
    if unknown := [name for name in contracts if name not in FUTURES]:
        raise ValueError(f"contract {', '.join(unknown)}: expected one of {', '.join(FUTURES)}")


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


def coin_terms(dtype: jnp.dtype | type) -> CoinTerms:
    """Return the portfolio margin of bitcoin: nine prices within 16 %, three volatilities each.

    The published parameters name no shortest time to expiry; the floor of a day is this library's.
    Extended moves and the charge on large deltas are left out: their formulas are not published.
    """
    number = lambda x: jnp.asarray(x, dtype)
    moves = [0.16 * k / _BUCKETS for k in range(-_BUCKETS, _BUCKETS + 1) for _ in range(3)]
    return CoinTerms(
        grid=ScenarioGrid(
            scenarios=Scenarios.checked(
                move=moves, volatility=[1.0, 0.0, -1.0] * (len(moves) // 3), dtype=dtype
            ),
            volatility=VolatilityShock(
                up=number(0.5),
                down=number(0.25),
                short_power=number(0.3),
                long_power=number(0.13),
                pivot=number(30.0 / 365.0),
                floor=number(1.0 / 365.0),
                minimum=number(0.5),
            ),
        ),
        roll=RollCharge(per_year=number(0.075), least=number(0.01)),
        maintenance=number(0.8),
    )
