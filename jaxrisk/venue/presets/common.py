"""What presets share: the arguments that every one takes, and the assembly of a venue."""

from typing import TypedDict

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import CloseRule
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.execution import Execution, KeeperCalls
from jaxrisk.venue.incentive import Incentive
from jaxrisk.venue.interest import Interest
from jaxrisk.venue.limits import Limit
from jaxrisk.venue.recognition import Recognition
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual


class Common(TypedDict, total=False):
    """Arguments that every preset takes and hands on; each may be left out.

    Where a venue never writes anything off, its funds never pay.

    Attributes:
        oracle: which price the venue sees; the market's mid where not given.
        reserve: what the protocol has put aside, pays first, numeraire.
        insurance: pays next, numeraire.
    """

    oracle: Oracle | None
    reserve: float
    insurance: float


def composed(
    accounts: Accounts,
    *,
    name: str,
    collateral: CollateralWeights,
    close: CloseRule,
    incentive: Incentive,
    recognition: Recognition,
    interest: Interest,
    cash: np.ndarray | Float[Array, " debt_asset"],
    residual: Residual,
    execution: Execution | None = None,
    categories: tuple[str, ...] = ("",),
    treasury_pays: bool = False,
    limits: tuple[Limit, ...] = (),
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
) -> Venue:
    """Return a venue of these rules, whose losses a reserve and then an insurance bear.

    Args:
        accounts: the book; its dtype is that of everything.
        name: of the venue.
        collateral: weights of collateral as backing.
        close: how much may be closed.
        incentive: bonus and protocol fee.
        recognition: when debt is bad.
        interest: how debts grow.
        cash: `(debt_asset,)` available liquidity at the opening, units.
        residual: who bears what the funds do not cover.
        execution: who takes the other side of a closed account; keepers who call where not given.
        categories: names of the risk categories, base first.
        treasury_pays: whether the protocol's own claims bear losses before the funds do.
        limits: caps and ceilings.
        oracle: as in `Common`.
        reserve: as in `Common`.
        insurance: as in `Common`.
    """
    dtype = accounts.collateral.dtype
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=collateral,
        close=close,
        incentive=incentive,
        recognition=recognition,
        interest=interest,
        pool=opening_pool(accounts, jnp.asarray(cash, dtype)),
        funds=jnp.asarray([reserve, insurance], dtype),
        execution=execution or KeeperCalls(),
        name=name,
        fund_names=("reserve", "insurance"),
        residual=residual,
        categories=categories,
        treasury_pays=treasury_pays,
        limits=limits,
    )
