"""Gearbox v3: credit accounts that are sold whole.

health = sum LT_c C_c / D; the buyer pays (1 - premium) V for an account worth V; of that the pool
is due its debt, then the protocol a fee on V, and the borrower gets the rest; what the pool does
not get burns the treasury's shares of it and then lowers the price of all shares.

Source: Gearbox-protocol/core-v3 510fc654, contracts/libraries/CreditLogic.sol
`calcLiquidationPayments`, contracts/pool/PoolV3.sol `repayCreditAccount`.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.presets.asset_terms import (
    LENT,
    RATES,
    check_known,
    completed,
    kinked_rate,
    opening_cash,
    sides,
    single_debt,
    thresholds,
    within,
)
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual
from jaxrisk.venue.whole_account import WholeClose


def gearbox_v3(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    liquidation_premium: float,
    liquidation_fee: float,
    name: str = "gearbox_v3",
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
) -> Venue:
    """Return a Gearbox v3 pool whose credit accounts are `accounts`.

    No parameter table ships: thresholds, curve, premium and fee are inputs. The debt of an account
    holds interest and the protocol's share of it; quotas are not modelled. Whatever pairs keepers
    choose elsewhere, they take accounts whole here.

    Args:
        accounts: the book: any collateral, one debt asset.
        assets: the system's assets, in order.
        liquidation_premium: discount granted to the buyer of an account, in [0, 1).
        liquidation_fee: protocol's fee, as a fraction of the account's value.
        name: of the venue.
        overrides: parameters by asset: `liquidation_threshold` of each collateral; `base_rate`,
            `slope1`, `slope2`, `optimal_utilisation`, `reserve_factor`, `available_liquidity` of
            the debt.
        oracle: which price the pool sees; the market's mid where not given.
        reserve: value of the shares of the pool that the treasury opens with, numeraire; they pay
            after those it earns in a scenario, its share of interest.
        insurance: insurance that pays next, numeraire.

    Raises:
        ValueError: accounts owe more than one asset, a position lacks a parameter, or a value
            makes no sense.
    """
    single_debt(name, accounts, assets)
    premium = within("liquidation_premium", liquidation_premium, 0.0, 1.0, open_high=True)
    fee = within("liquidation_fee", liquidation_fee, 0.0, 1.0, open_high=True)
    collateral, debt = sides(accounts, assets)
    check_known(overrides, ("liquidation_threshold", "loan_to_value", *LENT))
    held = completed(
        collateral,
        {},
        overrides,
        needed=("liquidation_threshold",),
        optional=("loan_to_value",),
        role="collateral",
    )
    owed = completed(
        debt,
        {},
        overrides,
        needed=RATES,
        optional=("reserve_factor", "available_liquidity"),
        role="debt",
    )
    for asset, row in zip(collateral, held, strict=True):
        if row["liquidation_threshold"] > 1.0 - premium - fee:
            raise ValueError(
                f"{asset}: liquidation_threshold {row['liquidation_threshold']:g} is above "
                f"1 - liquidation_premium - liquidation_fee = {1.0 - premium - fee:g}: an account "
                "sold at its threshold could not repay all debt and the fee"
            )
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    weight = number([[row["liquidation_threshold"] for row in held]])
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=WholeClose(premium=number(premium), fee=number(fee), transfer_tax=number(0.0)),
        incentive=UniformBonus(bonus=number(1.0 / (1.0 - premium) - 1.0), fee_share=number(0.0)),
        recognition=AtZeroCollateral(),
        interest=kinked_rate(owed, dtype),
        pool=opening_pool(accounts, number(opening_cash(owed, accounts))),
        funds=number([reserve, insurance]),
        name=name,
        fund_names=("reserve", "insurance"),
        treasury_pays=True,
        residual=Residual.SOCIALISED,
        categories=("",),
    )


def _terms(overrides: Mapping[str, Mapping[str, float]], **options: float) -> Terms:
    del options
    return Terms(thresholds({}, overrides), {})


PRESET = Preset(
    build=gearbox_v3,
    required=("liquidation_premium", "liquidation_fee"),
    terms=_terms,
)
