"""Holders outside of venues: nobody calls them, but they sell once they have lost too much.

No protocol: portfolios with stop orders, funds on a broker's or a desk's margin. Their lenders,
where there are any, are the venue's suppliers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.stop_orders import StopOrders
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual


def holders(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "holders",
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    stop_loss: float | None = None,
    margin: float | None = None,
    target: float | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return holders who sell at the market by themselves.

    Args:
        accounts: what they hold as collateral, and owe to lenders where they do.
        assets: the system's assets, in order.
        name: of the venue.
        overrides: none: there is nothing by asset.
        stop_loss: part of the opening value lost at which a holder sells all.
        margin: collateral over debt below which a lender's margin call makes a holder sell.
        target: collateral over debt that a margin call restores.
        **common: as in `Common`; the funds are the lenders'.

    Raises:
        ValueError: neither a stop nor a margin call is set, or a number is out of range.
    """
    del assets
    problems = _problems(stop_loss, margin, target)
    if overrides:
        problems.append(f"assets.{next(iter(overrides))}: holders take nothing by asset; drop it")
    if problems:
        raise ValueError("\n".join(f"{name}: {p}" for p in problems))
    dtype = accounts.collateral.dtype
    number = lambda x: None if x is None else jnp.asarray(x, dtype)
    held, owed = len(accounts.collateral_assets), len(accounts.debt_assets)
    weight = jnp.full((1, held), 1.0 if margin is None else 1.0 / margin, dtype)
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=AssetBonus(bonus=jnp.zeros((1, held), dtype), fee_share=jnp.zeros(held, dtype)),
        recognition=AtZeroCollateral(),
        interest=CurveInterest(
            curve=StabilityFee(per_second=jnp.zeros(owed, dtype)),
            reserve_factor=jnp.zeros(owed, dtype),
        ),
        cash=np.zeros(owed),
        residual=Residual.SOCIALISED,
        execution=StopOrders(loss=number(stop_loss), margin=number(margin), target=number(target)),
        **common,
    )


def _problems(stop_loss: float | None, margin: float | None, target: float | None) -> list[str]:
    problems = []
    if stop_loss is None and margin is None:
        problems.append("expected stop_loss, or margin and target, or both")
    if stop_loss is not None and not 0 < stop_loss < 1:
        problems.append(f"stop_loss {stop_loss:g}: expected a fraction in (0, 1)")
    if (margin is None) != (target is None):
        problems.append("margin and target go together")
    if margin is not None and not margin > 1:
        problems.append(f"margin {margin:g}: expected collateral over debt above 1")
    if margin is not None and target is not None and target < margin:
        problems.append(f"target {target:g}: expected at least margin ({margin:g})")
    return problems


def _terms(overrides: Mapping[str, Mapping[str, float]], **options: Any) -> Terms:
    """Return no thresholds: a book of holders is given, not generated."""
    del overrides, options
    return Terms({}, {})


PRESET = Preset(
    build=holders,
    required=(),
    terms=_terms,
    optional=("stop_loss", "margin", "target"),
    debts=False,
)
