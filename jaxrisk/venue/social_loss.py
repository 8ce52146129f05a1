"""Losses that nobody is left to pay, spread over those who are still there."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.venue.waterfall import ordered_payment

Markets = Float[Array, "*market"]


def loss_per_unit(loss: Markets, long: Markets, short: Markets) -> Markets:
    """Return what every open unit of a market pays, long or short: `loss / (long + short)`.

    It is added to the cumulated funding of longs and taken off that of shorts, so both sides pay
    when they settle. Infinite in a market without positions: there is nobody to pay.

    Source: Drift v2, math/liquidation.rs `calculate_funding_rate_deltas_to_resolve_bankruptcy`.

    Args:
        loss: numeraire, >= 0.
        long: units held long.
        short: units held short, >= 0.
    """
    units = long + short
    some = units > 0
    paid = loss / positive_or_one(units)
    nobody = jnp.where(loss > 0, jnp.full_like(paid, jnp.inf), jnp.zeros_like(paid))
    return jnp.where(some, paid, nobody)


def deposit_cut(loss: Markets, deposits: Markets) -> Markets:
    """Return the fraction that all deposits lose, at most all: `loss / deposits`.

    Source: Drift v2, math/liquidation.rs
    `calculate_cumulative_deposit_interest_delta_to_resolve_bankruptcy`.

    Args:
        loss: units of the asset, >= 0.
        deposits: units of the asset.
    """
    cut = loss / positive_or_one(deposits)
    return jnp.where(deposits > 0, jnp.clip(cut, 0.0, 1.0), jnp.zeros_like(cut))


def resolved(
    loss: Float[Array, ""],
    *,
    insurance: Float[Array, ""],
    claim: Float[Array, ""],
    fee_pool: Float[Array, ""],
) -> tuple[Float[Array, " layer"], Float[Array, ""]]:
    """Return what the insurance fund and the fee pool pay of a loss, and what is spread.

    The fund pays at most what the market may still claim of it, then the market's own fee pool.

    Source: Drift v2, controller/liquidation.rs `resolve_perp_bankruptcy`.

    Args:
        loss: of a bankrupt account, numeraire, >= 0.
        insurance: in the fund, numeraire.
        claim: what the market may still take of it, numeraire.
        fee_pool: of the market, numeraire.
    """
    return ordered_payment(loss, jnp.stack([jnp.minimum(insurance, claim), fee_pool]))
