"""Perpetual Protocol v2 (Curie): positions in virtual pools, taken over by callers.

Nobody is deleveraged: while the insurance fund cannot pay what an account would owe, the account
cannot be liquidated.

Source: perpetual-protocol/perp-curie-contract d520bd8, contracts/ClearingHouseConfig.sol
`initialize`, contracts/AccountBalance.sol, contracts/Exchange.sol.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.position_liquidation import ShareLiquidation
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR

MAINTENANCE_MARGIN = 0.0625
LIQUIDATION_PENALTY = 0.025
MAXIMUM_FUNDING_RATE = 0.1
FUNDING_PERIOD = 86_400.0 / SECONDS_PER_YEAR
SHARE_UNIT = 1e-6
CASH_UNIT = 1e-6


def share_liquidation(
    dtype: jnp.dtype | type,
    *,
    maintenance: float | Float[Array, ""] = MAINTENANCE_MARGIN,
    penalty: float | Float[Array, ""] = LIQUIDATION_PENALTY,
    as_contract: bool = False,
) -> ShareLiquidation:
    """Return the rule of liquidation: half of the account's positions, or all below half margin.

    Args:
        dtype: of the coefficients.
        maintenance: margin needed, as a fraction of the value of positions.
        penalty: as a fraction of what is closed; half goes to the fund.
        as_contract: round shares and values as the contract does, for replays.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return ShareLiquidation(
        maintenance=number(maintenance),
        penalty=number(penalty),
        fund_share=number(0.5),
        weak=number(0.5),
        share=number(0.5),
        small=number(100.0),
        share_unit=number(SHARE_UNIT) if as_contract else None,
        cash_unit=number(CASH_UNIT) if as_contract else None,
    )


def premium_funding(
    dtype: jnp.dtype | type, *, maximum_rate: float | Float[Array, ""] = MAXIMUM_FUNDING_RATE
) -> PremiumFunding:
    """Return the rule of funding: the premium a day, at most a share of the index.

    The premium is that of averages over time, `(mark - index) / index`.

    Args:
        dtype: of the coefficients.
        maximum_rate: cap a day, as a fraction of the index.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return PremiumFunding(
        period=number(FUNDING_PERIOD),
        interest=number(0.0),
        cap=number(maximum_rate) / FUNDING_PERIOD,
    )
