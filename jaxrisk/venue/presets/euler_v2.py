"""Euler v2: a vault that lends one asset, with a discount that is the borrower's lack of health.

health = sum LTV_c C_c / D; repaid per collateral seized: max(health, 1 - maximum discount); any
amount up to everything; where no collateral is left the rest of the debt is taken from suppliers
at once, pro rata.

Source: euler-xyz/euler-vault-kit 5b98b420, Liquidation; parameters of the Prime cluster:
euler-xyz/evk-periphery 235e51db, script/production/mainnet/clusters/PrimeCluster.s.sol.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.health_discount import ShortfallDiscount
from jaxrisk.venue.presets.asset_terms import (
    Overrides,
    completed_sides,
    kinked_rate,
    opening_cash,
    single_debt,
    switched_on,
    thresholds,
    within,
)
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral, NeverRecognised
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

DEFAULT_DEPLOYMENT = "prime"

PRIME_WEIGHTS: dict[str, dict[str, float]] = {
    "WETH": {"wstETH": 0.96, "weETH": 0.94},
    "USDC": {"WETH": 0.86, "wstETH": 0.84, "WBTC": 0.86, "USDT": 0.96, "xAUt": 0.77},
    "USDT": {"USDC": 0.96},
    "WBTC": {"cbBTC": 0.92},
    "cbBTC": {"WBTC": 0.92},
}
"""Liquidation weight of collateral, by the asset that is lent against it."""

BORROW_MARGIN = 0.02
"""By which borrow weights are below liquidation weights."""


def _curve(at_kink: float, kink: float, at_full: float, fee: float) -> dict[str, float]:
    """Return a curve from the annual yields at the kink and at full utilisation."""
    low, high = math.log1p(at_kink), math.log1p(at_full)
    return {
        "base_rate": 0.0,
        "slope1": low,
        "slope2": high - low,
        "optimal_utilisation": kink,
        "reserve_factor": fee,
    }


PRIME_CURVES: dict[str, dict[str, float]] = {
    "WETH": _curve(0.023, 0.90, 0.40, 0.0),
    "USDC": _curve(0.065, 0.90, 0.13, 0.10),
    "USDT": _curve(0.065, 0.90, 0.13, 0.10),
    "WBTC": _curve(0.01, 0.85, 1.00, 0.10),
    "cbBTC": _curve(0.01, 0.85, 1.00, 0.10),
}
"""Rate curves; `reserve_factor` is the interest fee."""

DEPLOYMENTS = {"prime": (PRIME_WEIGHTS, PRIME_CURVES, 0.15)}
"""Weights, curves and the largest discount."""


def euler_v2(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "euler_v2",
    loan: str | None = None,
    deployment: str = DEFAULT_DEPLOYMENT,
    maximum_discount: float | None = None,
    minimum_socialised: float = 0.0,
    socialisation: str = "on",
    overrides: Overrides | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return an Euler v2 vault that lends one asset to `accounts`.

    The matrix of weights has one row a vault, so a cluster of vaults is one venue for each asset
    that is lent.

    Args:
        accounts: the book: any collateral, one debt asset.
        assets: the system's assets, in order.
        name: of the venue.
        loan: name of the asset lent, to check the book against.
        deployment: which shipped parameter table to start from.
        maximum_discount: largest discount of a liquidation, in [0, 1).
        minimum_socialised: value of a debt, numeraire, below which nothing is written off.
        socialisation: `"on"`, or `"off"` where the vault leaves bad debt on its books.
        overrides: parameters that replace or add to the table: by collateral
            `liquidation_threshold`, `loan_to_value` (the borrow weight), for the loan what `LENT`
            names; its `reserve_factor` is the interest fee.
        **common: as in `Common`.

    Raises:
        ValueError: accounts owe more than one asset, a position has no parameters, or a value
            makes no sense.
    """
    lent = single_debt(name, accounts, assets, loan)
    socialises = switched_on("socialisation", socialisation)
    _, curves, shipped = DEPLOYMENTS[deployment]
    discount = shipped if maximum_discount is None else maximum_discount
    discount = within("maximum_discount", discount, 0.0, 1.0, open_high=True)
    minimum = within("minimum_socialised", minimum_socialised, 0.0, math.inf)
    held, owed = completed_sides(
        accounts,
        assets,
        overrides,
        _weights(deployment, lent),
        curves,
        optional=("loan_to_value",),
        role=f"collateral of {lent}",
    )
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    weight = [row["liquidation_threshold"] for row in held]
    below = lambda row: max(row["liquidation_threshold"] - BORROW_MARGIN, 0.0)
    borrow = [row.get("loan_to_value", below(row)) for row in held]
    written_off = AtZeroCollateral(minimum=number(minimum) if minimum > 0 else None)
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(
            liquidation_threshold=number([weight]), loan_to_value=number([borrow])
        ),
        close=FullClose(),
        incentive=ShortfallDiscount(maximum_discount=number(discount)),
        recognition=written_off if socialises else NeverRecognised(),
        interest=kinked_rate(owed, dtype),
        cash=opening_cash(owed, accounts),
        residual=Residual.SOCIALISED if socialises else Residual.STANDING,
        **common,
    )


def _weights(deployment: str, loan: str) -> dict[str, dict[str, float]]:
    """Return the parameters of each collateral of a vault."""
    table = DEPLOYMENTS[deployment][0].get(loan, {})
    return {asset: {"liquidation_threshold": weight} for asset, weight in table.items()}


def _terms(
    overrides: Overrides,
    *,
    loan: str,
    deployment: str = DEFAULT_DEPLOYMENT,
    **options: float,
) -> Terms:
    del options
    return Terms(thresholds(_weights(deployment, loan), overrides), {})


PRESET = Preset(
    build=euler_v2,
    required=("loan",),
    terms=_terms,
    deployments=tuple(DEPLOYMENTS),
    optional=("maximum_discount", "minimum_socialised", "socialisation"),
)
