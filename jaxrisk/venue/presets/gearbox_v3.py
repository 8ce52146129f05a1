"""Gearbox v3: credit accounts that are sold whole.

health = sum LT_c C_c / D; the buyer pays (1 - premium) V for an account worth V; of that the pool
is due its debt, then the protocol a fee on V, and the borrower gets the rest; what the pool does
not get burns the treasury's shares of it and then lowers the price of all shares.

Source: Gearbox-protocol/core-v3 510fc654, contracts/libraries/CreditLogic.sol
`calcLiquidationPayments`, contracts/pool/PoolV3.sol `repayCreditAccount`.
"""

from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.presets.asset_terms import (
    Overrides,
    completed_sides,
    kinked_rate,
    opening_cash,
    sides,
    single_debt,
    thresholds,
    within,
)
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual
from jaxrisk.venue.whole_account import WholeClose


def gearbox_v3(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    liquidation_premium: float,
    liquidation_fee: float,
    name: str = "gearbox_v3",
    overrides: Overrides | None = None,
    **common: Unpack[Common],
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
        overrides: by collateral its `liquidation_threshold`, for the debt what `LENT` names.
        **common: as in `Common`; the reserve is the value of the shares of the pool that the
            treasury opens with, and pays after those it earns: its share of interest.

    Raises:
        ValueError: accounts owe more than one asset, a position lacks a parameter, or a value
            makes no sense.
    """
    single_debt(name, accounts, assets)
    premium = within("liquidation_premium", liquidation_premium, 0.0, 1.0, open_high=True)
    fee = within("liquidation_fee", liquidation_fee, 0.0, 1.0, open_high=True)
    held, owed = completed_sides(accounts, assets, overrides)
    for asset, row in zip(sides(accounts, assets)[0], held, strict=True):
        if row["liquidation_threshold"] > 1.0 - premium - fee:
            raise ValueError(
                f"{asset}: liquidation_threshold {row['liquidation_threshold']:g} is above "
                f"1 - liquidation_premium - liquidation_fee = {1.0 - premium - fee:g}: an account "
                "sold at its threshold could not repay all debt and the fee"
            )
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    weight = number([[row["liquidation_threshold"] for row in held]])
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=WholeClose(premium=number(premium), fee=number(fee), transfer_tax=number(0.0)),
        incentive=UniformBonus(bonus=number(1.0 / (1.0 - premium) - 1.0), fee_share=number(0.0)),
        recognition=AtZeroCollateral(),
        interest=kinked_rate(owed, dtype),
        cash=opening_cash(owed, accounts),
        treasury_pays=True,
        residual=Residual.SOCIALISED,
        **common,
    )


def _terms(overrides: Overrides, **options: float) -> Terms:
    del options
    return Terms(thresholds({}, overrides), {})


PRESET = Preset(
    build=gearbox_v3,
    required=("liquidation_premium", "liquidation_fee"),
    terms=_terms,
)
