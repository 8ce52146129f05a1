"""What venues of contracts on margin have in common: one currency, custody, a fund."""

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.margin_accounts import MarginAccounts, opening_profit
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.venue import Venue, changed_pool
from jaxrisk.venue.waterfall import Residual


def margin_venue(
    accounts: Accounts,
    execution: MarginAccounts,
    *,
    name: str,
    insurance: float = 0.0,
    reserve: float = 0.0,
    haircut: float = 0.0,
    oracle: Oracle | None = None,
) -> Venue:
    """Return a venue whose accounts hold `execution`'s contracts on margin.

    Args:
        accounts: with positions, and one asset as collateral, the settlement currency; no debt.
        execution: contracts and rules.
        name: of the venue.
        insurance: the insurance fund, numeraire; liquidation fees go to it and it pays first.
        reserve: pays after it, numeraire.
        haircut: share of the collateral that backs no positions.
        oracle: which prices the venue sees; the market's mid where not given.

    Raises:
        ValueError: the book has no positions, another collateral, or debt.
    """
    if accounts.positions is None:
        raise ValueError(f"{name}: the book has no positions in contracts")
    if accounts.collateral_assets != accounts.debt_assets or len(accounts.debt_assets) != 1:
        raise ValueError(f"{name}: collateral must be one asset, the settlement currency")
    if np.any(np.asarray(accounts.debt) != 0):
        raise ValueError(f"{name}: accounts on margin have no debt of their own")
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    weight, none = array([[1.0 - haircut]]), array([[0.0]])
    profit = opening_profit(execution, accounts)
    supplied = jnp.sum(accounts.collateral, axis=1)
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=AssetBonus(bonus=none, fee_share=none[0]),
        recognition=NeverRecognised(),
        interest=CurveInterest(curve=StabilityFee(per_second=none[0]), reserve_factor=array([1.0])),
        pool=changed_pool(cash=supplied + profit, supplied=supplied, unrealised=profit),
        funds=array([insurance, reserve]),
        execution=execution,
        name=name,
        fund_names=("insurance", "reserve"),
        residual=Residual.CARRIED,
        categories=("",),
    )
