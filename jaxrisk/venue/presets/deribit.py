"""Deribit: standard margin of futures by size, and portfolio margin of books settled in coins.

Source: docs.deribit.com, contract specifications (until August 2026, when the standard margin was
replaced) and the example of `private/pme/simulate` of June 2024, whose model parameters these are.
"""

import jax.numpy as jnp

from jaxrisk.venue.coin_margin import CoinTerms, RollCharge
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.size_margin import LinearSizeMargin

FUTURES: dict[str, tuple[float, float, float]] = {
    "BTC": (0.02, 0.01, 0.00005),
    "ETH": (0.02, 0.01, 0.000004),
    "SOL_USDC": (0.04, 0.02, 0.000005),
}
"""Initial and maintenance rate of a vanishing position, and what a unit held adds to both."""

_BUCKETS = 4


def futures_margin(contract: str, dtype: jnp.dtype | type) -> LinearSizeMargin:
    """Return the standard margin of a future or perpetual.

    Args:
        contract: one of `FUTURES`.
        dtype: of the coefficients.
    """
    initial, maintenance, slope = FUTURES[contract]
    return LinearSizeMargin(
        base=jnp.asarray([initial, maintenance], dtype), slope=jnp.asarray([slope, slope], dtype)
    )


def coin_terms(dtype: jnp.dtype | type) -> CoinTerms:
    """Return the portfolio margin of bitcoin: nine prices within 16 %, three volatilities each.

    The published parameters name no shortest time to expiry; the floor of a day is this library's.
    Extended moves and the charge on large deltas are left out: their formulas are not published.
    """
    number = lambda x: jnp.asarray(x, dtype)
    moves = [0.16 * k / _BUCKETS for k in range(-_BUCKETS, _BUCKETS + 1) for _ in range(3)]
    nothing = jnp.zeros(len(moves), dtype)
    return CoinTerms(
        grid=ScenarioGrid(
            scenarios=Scenarios(
                move=number(moves),
                volatility=number([1.0, 0.0, -1.0] * (len(moves) // 3)),
                tilt=nothing,
                wings=nothing,
                weight=nothing + 1.0,
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
