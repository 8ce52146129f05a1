"""Compound III (Comet): one base asset against many collaterals; whole accounts are absorbed.

An account is absorbed once sum CF_c C_c < D: the protocol pays off its debt, credits each
collateral at LF_c of its value, refunds what the credit exceeds the debt by, and sells what it took
at price (1 - SPF (1 - LF_c)) while its reserves are below their target.

Source: compound-finance/comet, contracts/Comet.sol `absorb`, `buyCollateral`, `getReserves`.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import Oracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import SpreadInterest
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.presets.asset_terms import Overrides, opening_cash, sides
from jaxrisk.venue.presets.common import composed
from jaxrisk.venue.presets.compound_v3_ethereum import (
    MARKETS,
    CollateralTerms,
    Curve,
    Market,
)
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.slope_rate import SlopeRate, TwoSlopeRates
from jaxrisk.venue.takeover import AbsorbedStock
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

DEFAULT_DEPLOYMENT = "ethereum_usdc"

_RATES = tuple(f"{side}_{part}" for side in ("borrow", "supply") for part in Curve._fields)


def compound_v3(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "compound_v3",
    deployment: str = DEFAULT_DEPLOYMENT,
    overrides: Overrides | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
    discount_share: float | None = None,
    target_reserves: float | None = None,
    **rates: float,
) -> Venue:
    """Return a Compound III market holding `accounts`.

    Args:
        accounts: the book; its one debt asset is the base asset.
        assets: the system's assets, in order.
        name: of the venue.
        deployment: which shipped market to start from.
        overrides: by collateral `loan_to_value`, `liquidation_threshold`, `liquidation_factor`; for
            the base asset `available_liquidity` (units). Without it the market stands at the kink
            of its borrow rate.
        oracle: as in `Common`.
        reserve: as in `Common`; interest and sales add to it.
        insurance: as in `Common`; the protocol itself has none.
        discount_share: share of the liquidation discount passed on to buyers, in [0, 1].
        target_reserves: reserves, base units, from which nothing is for sale.
        **rates: `borrow_` or `supply_` followed by `base`, `slope_below`, `slope_above`, `kink`.

    Raises:
        ValueError: the book has another base asset than the market, or several; a collateral has no
            parameters; a parameter is unknown, out of range or at odds with another.
    """
    market = _market(name, deployment, discount_share, target_reserves, rates)
    collateral, debts = sides(accounts, assets)
    if debts != [market.base]:
        raise ValueError(
            f"{name}: the book owes {', '.join(debts)}; deployment {deployment} lends "
            f"{market.base} alone; is it another deployment? ({', '.join(MARKETS)})"
        )
    if market.base in collateral:
        raise ValueError(f"{name}: {market.base} is the base asset and cannot be collateral")
    overrides = overrides or {}
    base = overrides.get(market.base, {})
    _check_base(name, market.base, base)
    table = {a: _collateral(a, market, overrides.get(a, {})) for a in (*collateral, *overrides)}
    held = [table[a] for a in collateral]
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(
            liquidation_threshold=array([[c.liquidation_threshold for c in held]]),
            loan_to_value=array([[c.loan_to_value for c in held]]),
        ),
        close=FullClose(),
        incentive=AssetBonus(
            bonus=array([[1.0 / c.liquidation_factor - 1.0 for c in held]]),
            fee_share=array([1.0 for _ in held]),
        ),
        recognition=NeverRecognised(),
        interest=SpreadInterest(
            rates=TwoSlopeRates(
                borrow=_curve(market.borrow, dtype), supply=_curve(market.supply, dtype)
            )
        ),
        cash=opening_cash([{"optimal_utilisation": market.borrow.kink, **base}], accounts),
        execution=AbsorbedStock(
            discount_share=array(market.discount_share),
            target_reserves=array(market.target_reserves),
        ),
        residual=Residual.CARRIED,
        treasury_pays=True,
        oracle=oracle,
        reserve=reserve,
        insurance=insurance,
    )


def _curve(curve: Curve, dtype: np.dtype) -> SlopeRate:
    base, below, above, kink = (jnp.asarray([x], dtype) for x in curve)
    return SlopeRate(base=base, slope_below=below, slope_above=above, kink=kink)


def _market(
    name: str,
    deployment: str,
    discount_share: float | None,
    target_reserves: float | None,
    rates: Mapping[str, float],
) -> Market:
    """Return the deployment's market with what the options replace, checked."""
    market = MARKETS[deployment]
    if discount_share is not None:
        market = market._replace(discount_share=discount_share)
    if target_reserves is not None:
        market = market._replace(target_reserves=target_reserves)
    for option, value in rates.items():
        side, _, part = option.partition("_")
        if option not in _RATES:
            raise ValueError(f"{name}: no such option {option}; rates are {', '.join(_RATES)}")
        curve = getattr(market, side)._replace(**{part: value})
        market = market._replace(**{side: curve})
    problems = []
    if not 0 <= market.discount_share <= 1:
        problems.append(f"discount_share {market.discount_share:g}: expected a fraction in [0, 1]")
    if not market.target_reserves >= 0:
        problems.append(f"target_reserves {market.target_reserves:g}: expected base units, >= 0")
    for side in ("borrow", "supply"):
        curve: Curve = getattr(market, side)
        if not 0 < curve.kink < 1:
            problems.append(f"{side}_kink {curve.kink:g}: expected a utilisation inside (0, 1)")
        problems += [
            f"{side}_{part} {value:g}: expected a rate of at least 0, 0.03 for 3 %"
            for part, value in zip(Curve._fields[:3], curve[:3], strict=True)
            if not value >= 0
        ]
    if problems:
        raise ValueError("; ".join(f"{name}: {p}" for p in problems))
    return market


def _check_base(name: str, base: str, override: Mapping[str, float]) -> None:
    unknown = sorted(set(override) - {"available_liquidity"})
    if unknown:
        raise ValueError(
            f"{name}: {base}: {', '.join(unknown)} cannot be set for the base asset; it takes "
            f"available_liquidity, and rates are options of the venue ({', '.join(_RATES)})"
        )


def _collateral(asset: str, market: Market, override: Mapping[str, float]) -> CollateralTerms:
    """Return the terms of one collateral, checked; of the base asset, which has none, zeros."""
    if asset == market.base:
        return CollateralTerms(0.0, 0.0, 1.0)
    fields = CollateralTerms._fields
    unknown = sorted(set(override) - set(fields))
    if unknown:
        hint = "; the bonus is 1 / options.liquidation_factor - 1" * (
            "liquidation_bonus" in unknown
        )
        raise ValueError(f"{asset}: no such parameter {', '.join(unknown)}{hint}")
    if asset in market.collateral:
        terms = market.collateral[asset]._replace(**override)
    else:
        missing = [field for field in fields if field not in override]
        if missing:
            raise ValueError(f"{asset}: not in the deployment; also give {', '.join(missing)}")
        terms = CollateralTerms(**override)
    if terms.liquidation_threshold < terms.loan_to_value:
        raise ValueError(
            f"{asset}: liquidation_threshold {terms.liquidation_threshold:g} is below loan_to_value"
            f" {terms.loan_to_value:g}; are the two swapped?"
        )
    if not terms.liquidation_threshold <= terms.liquidation_factor <= 1:
        raise ValueError(
            f"{asset}: liquidation_factor {terms.liquidation_factor:g}: expected a fraction from "
            f"liquidation_threshold ({terms.liquidation_threshold:g}) to 1; below it every "
            "absorption is a loss"
        )
    return terms


def _terms(
    overrides: Overrides,
    *,
    deployment: str = DEFAULT_DEPLOYMENT,
    **options: float,
) -> Terms:
    del options
    market = MARKETS[deployment]
    thresholds = {asset: c.liquidation_threshold for asset, c in market.collateral.items()}
    for asset, override in overrides.items():
        if "liquidation_threshold" in override:
            thresholds[asset] = override["liquidation_threshold"]
    return Terms(thresholds, {})


PRESET = Preset(
    build=compound_v3,
    required=(),
    terms=_terms,
    deployments=tuple(MARKETS),
    optional=("discount_share", "target_reserves", *_RATES),
    asset_options=("liquidation_factor",),
)
