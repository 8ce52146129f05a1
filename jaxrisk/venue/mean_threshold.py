"""Backing by the mean threshold of an account, which contracts keep in whole basis points."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.rounding import floor_to


def mean_threshold(
    collateral: Float[Array, "asset account"],
    liquidation_threshold: Float[Array, "asset #account"],
    *,
    unit: Float[Array, ""] | None = None,
) -> Float[Array, " account"]:
    """Return the value-weighted mean threshold of accounts, 0 where there is no collateral.

    `sum C_a LT_a / sum C_a`, rounded down. Mixed collateral loses up to one unit of it, which is
    up to 1e-4 of backing in basis points: enough to make an account liquidatable whose exact
    health is a little above 1. It costs nothing where all collateral has one threshold.

    Source: Aave v3 GenericLogic `calculateUserAccountData` (average liquidation threshold).

    Args:
        collateral: value of each collateral, numeraire.
        liquidation_threshold: of each collateral, in [0, 1].
        unit: the mean is rounded down to multiples of it; `None` for real values.
    """
    total = jnp.sum(collateral, axis=0)
    weighted = jnp.sum(collateral * liquidation_threshold, axis=0)
    return floor_to(weighted / positive_or_one(total), unit)


def mean_threshold_backing(
    collateral: Float[Array, "asset account"],
    liquidation_threshold: Float[Array, "asset #account"],
    *,
    unit: Float[Array, ""] | None = None,
) -> Float[Array, " account"]:
    """Return the backing of accounts: all collateral times its mean threshold."""
    mean = mean_threshold(collateral, liquidation_threshold, unit=unit)
    return jnp.sum(collateral, axis=0) * mean
