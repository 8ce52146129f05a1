"""crvUSD and LlamaLend: one collateral in price bands that are converted as the price falls.

A loan stands on 4 to 50 bands; outsiders convert its collateral while the price falls through them
and convert it back while it rises. health = converted (1 - liquidation discount) / debt - 1, and
above the bands the headroom; below zero keepers repay what the coin in the bands leaves of the debt
and take the rest. Nothing is written off. Mint markets take the rate of the peg and keep it;
lending markets one that depends on utilisation, for their suppliers.

Source: curvefi/curve-stablecoin at 63ac0686 (2024-08-22), AMM.vy, Controller.vy, mpolicies.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest, RateCurve
from jaxrisk.venue.band_amm import BandFee
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.band_grid import BandGrid
from jaxrisk.venue.band_oracle import LimitedOracle
from jaxrisk.venue.band_shares import FEWEST_BANDS, MOST_BANDS
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.exponential_rate import HyperbolicRate, LogLinearRate, PegRate
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.presets.crvusd_markets import DEPLOYMENTS, BandMarket
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual

YEAR_SECONDS = 365.0 * 86400.0
ORACLE_WINDOW_SECONDS = 120.0
"""`PREV_P_O_DELAY`."""
LARGEST_ORACLE_MOVE = 1.25
"""`MAX_P_O_CHG`: keeps the dynamic fee of one move below one half."""
FARTHEST_BAND = 1024
"""No loan ends farther from the active band: the clamp of `_calculate_debt_n1`."""
LARGEST_AMPLIFICATION = 10_000.0
"""`MAX_A` of the factory."""
MAXIMUM_PEG_RATE = 43959106799e-18 * YEAR_SECONDS
"""`MAX_RATE` of AggMonetaryPolicy: 300 % a year once compounded."""

DEFAULT_DEPLOYMENT = "mint_ethereum"

_RISK = ("amplification", "fee", "admin_share", "loan_discount", "liquidation_discount")
_RATES: dict[str, dict[str, float | None]] = {
    "peg": {
        # Governance moves the base rate; this is a level of its order, not a setting.
        "base_rate": 0.10,
        "sensitivity": 0.02,
        "target_reserve": 0.10,
        "maximum_rate": MAXIMUM_PEG_RATE,
        "peg_price": 1.0,
        "reserve_share": 0.0,
        "ceiling": None,
    },
    "log_linear": {"minimum_rate": None, "maximum_rate": None},
    "hyperbolic": {
        "base_rate": None,
        "target_utilisation": None,
        "lowest_multiple": None,
        "highest_multiple": None,
        "rate_shift": 0.0,
    },
}
_POOL = ("available_liquidity", "reserve_factor")


def limited_oracle(dtype: DTypeLike = float) -> LimitedOracle:
    """Return how the bands' oracle is limited."""
    return LimitedOracle(
        window=jnp.asarray(ORACLE_WINDOW_SECONDS / YEAR_SECONDS, dtype),
        maximum_factor=jnp.asarray(LARGEST_ORACLE_MOVE, dtype),
    )


def crvusd(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "crvusd",
    deployment: str = DEFAULT_DEPLOYMENT,
    bands: float = 10,
    base_price: float | None = None,
    policy: str | None = None,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
) -> Venue:
    """Return a market whose loans stand in price bands, none of them converted yet.

    Args:
        accounts: the book: exactly one collateral and one borrowed coin, and both in every account.
        assets: the system's assets, in order.
        name: of the venue.
        deployment: which shipped parameter table to start from.
        bands: how many bands each loan stands on, 4 to 50.
        base_price: upper price of band 0, in the borrowed coin; where not given, the riskiest
            loan's first band begins at the price at which it would be refused.
        policy: kind of borrow rate, `peg`, `log_linear` or `hyperbolic`; the table's where not
            given.
        overrides: for the collateral `amplification`, `fee`, `admin_share`, `loan_discount`,
            `liquidation_discount`; for the borrowed coin what its rate needs, and
            `available_liquidity`, `reserve_factor`.
        oracle: which price the market sees; the market's mid where not given.
        reserve: must be 0, as nothing is written off.
        insurance: must be 0, likewise.

    Raises:
        ValueError: another kind of book, a parameter that is missing, unknown or out of range, or
            a fund.
    """
    if len(accounts.collateral_assets) != 1 or len(accounts.debt_assets) != 1:
        raise ValueError(f"{name}: bands take one collateral and one borrowed coin")
    if reserve or insurance:
        raise ValueError(
            f"{name}: nothing is written off here, so a reserve or insurance would never pay; "
            "losses stay open as shortfall"
        )
    held, owed = assets[accounts.collateral_assets[0]], assets[accounts.debt_assets[0]]
    given = {asset: dict(terms) for asset, terms in (overrides or {}).items()}
    market = _market(held, deployment, given.get(held, {}), policy)
    terms = _loan_terms(owed, market, given.get(owed, {}))
    foreign = sorted(set(given) - {held, owed})
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: the market has {held} and {owed} only")
    _check_loans(name, accounts)
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    count = _bands(bands)
    weight = number([[_weight(market, count)]])
    credit = 1.0 / (1.0 - market.liquidation_discount)
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=UniformBonus(bonus=number(credit - 1.0), fee_share=number(0.0)),
        recognition=NeverRecognised(),
        interest=CurveInterest(
            curve=_curve(market, terms, number),
            reserve_factor=number([terms["reserve_factor"]]),
        ),
        pool=opening_pool(accounts, number([_cash(owed, market, terms, accounts)])),
        funds=number([0.0]),
        execution=BandConversion(
            grid=_grid(accounts, market, count, base_price, dtype),
            fee=BandFee(fee=number(market.fee), admin_share=number(market.admin_share)),
            oracle=limited_oracle(dtype),
            loan_discount=number(market.loan_discount),
            bands=count,
        ),
        name=name,
        fund_names=("reserve",),
        residual=Residual.STANDING,
        categories=("",),
    )


def _market(
    asset: str, deployment: str, override: Mapping[str, float], policy: str | None
) -> BandMarket:
    """Return the terms of a collateral, those given in place of the table's."""
    unknown = sorted(set(override) - set(_RISK))
    if unknown:
        raise ValueError(
            f"{asset}: no such parameter {', '.join(unknown)}; collateral takes {', '.join(_RISK)}"
        )
    table = DEPLOYMENTS[deployment]
    missing = [f for f in _RISK if f not in override and f != "admin_share"]
    if asset not in table and (missing or policy is None):
        absent = [*missing, *(["policy"] if policy is None else [])]
        raise ValueError(f"{asset}: not in {deployment}; also give {', '.join(absent)}")
    changes: dict[str, Any] = {**override, **({"policy": policy} if policy else {})}
    market = table[asset]._replace(**changes) if asset in table else BandMarket(**changes)
    _check_market(asset, market)
    return market


def _check_market(asset: str, market: BandMarket) -> None:
    """Raise `ValueError` naming a parameter out of range."""
    if market.policy not in _RATES:
        raise ValueError(f"policy = {market.policy!r}: expected one of {', '.join(_RATES)}")
    if not 2 <= market.amplification <= LARGEST_AMPLIFICATION:
        raise ValueError(
            f"{asset}: amplification = {market.amplification:g}: expected 2 to "
            f"{LARGEST_AMPLIFICATION:g} (100 makes bands 1 % wide)"
        )
    if not 0 <= market.fee < 1:
        raise ValueError(f"{asset}: fee = {market.fee:g}: expected a fraction in [0, 1)")
    if not 0 <= market.admin_share <= 1:
        raise ValueError(f"{asset}: admin_share = {market.admin_share:g}: expected 0 to 1")
    if not 0 < market.loan_discount < 1:
        raise ValueError(
            f"{asset}: loan_discount = {market.loan_discount:g}: expected a fraction in (0, 1)"
        )
    if not 0 < market.liquidation_discount < market.loan_discount:
        raise ValueError(
            f"{asset}: liquidation_discount = {market.liquidation_discount:g}: expected above 0 "
            f"and below loan_discount ({market.loan_discount:g}); are the two swapped?"
        )


def _loan_terms(asset: str, market: BandMarket, override: Mapping[str, float]) -> dict[str, Any]:
    """Return what the borrowed coin's rate and pool need: given, shipped, or the default."""
    names = (*_RATES[market.policy], *_POOL)
    unknown = sorted(set(override) - set(names))
    if unknown:
        raise ValueError(
            f"{asset}: no such parameter {', '.join(unknown)}; with a {market.policy} rate the "
            f"borrowed coin takes {', '.join(names)}"
        )
    shipped = {n: v for n, v in market._asdict().items() if n in names and v is not None}
    default = {"available_liquidity": None, "reserve_factor": float(market.policy == "peg")}
    terms = {**default, **_RATES[market.policy], **shipped, **override}
    optional = ("ceiling", "available_liquidity")
    missing = [n for n, value in terms.items() if value is None and n not in optional]
    if missing:
        raise ValueError(
            f"{asset}: a {market.policy} rate has no default for {', '.join(missing)}; give it"
        )
    _check_terms(asset, market.policy, terms)
    return terms


def _check_terms(asset: str, policy: str, terms: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming a rate parameter out of range."""
    positive = ("sensitivity", "target_reserve", "maximum_rate", "minimum_rate", "peg_price")
    for key in positive:
        if key in terms and not terms[key] > 0:
            raise ValueError(f"{asset}: {key} = {terms[key]:g}: expected above 0")
    for key in ("base_rate", "lowest_multiple", "rate_shift"):
        if key in terms and not terms[key] >= 0:
            raise ValueError(f"{asset}: {key} = {terms[key]:g}: expected 0 or more")
    if not 0 <= terms.get("reserve_share", 0.0) <= 1:
        raise ValueError(f"{asset}: reserve_share = {terms['reserve_share']:g}: expected 0 to 1")
    if policy == "log_linear" and terms["minimum_rate"] > terms["maximum_rate"]:
        raise ValueError(
            f"{asset}: minimum_rate = {terms['minimum_rate']:g}: expected at most maximum_rate "
            f"({terms['maximum_rate']:g}); are the two swapped?"
        )
    if policy == "hyperbolic":
        use, low, high = (
            terms[k] for k in ("target_utilisation", "lowest_multiple", "highest_multiple")
        )
        if not 0 < use < 1:
            raise ValueError(
                f"{asset}: target_utilisation = {use:g}: expected a fraction in (0, 1)"
            )
        if not low < 1 < high or not (high - 1.0) * use > (1.0 - use) * (1.0 - low):
            raise ValueError(
                f"{asset}: lowest_multiple = {low:g}, highest_multiple = {high:g}: expected below "
                "and above 1, with a rate that steepens beyond the target"
            )


def _bands(bands: float) -> int:
    if bands != round(bands) or not FEWEST_BANDS <= bands <= MOST_BANDS:
        raise ValueError(
            f"bands = {bands:g}: expected a whole number from {FEWEST_BANDS} to {MOST_BANDS}"
        )
    return int(bands)


def _weight(market: BandMarket, bands: int) -> float:
    """Return the debt a unit of collateral value may carry when a loan is opened."""
    a = market.amplification
    series = a * -math.expm1(bands * math.log1p(-1.0 / a))
    return (1.0 - market.loan_discount) / bands * math.sqrt((a - 1.0) / a) * series


def _curve(market: BandMarket, terms: Mapping[str, Any], number: Any) -> RateCurve:
    row = lambda key: number([terms[key]])
    if market.policy == "peg":
        return PegRate(
            base=row("base_rate"),
            sensitivity=row("sensitivity"),
            target=row("target_reserve"),
            maximum=row("maximum_rate"),
            price=row("peg_price"),
            reserve_share=row("reserve_share"),
        )
    if market.policy == "log_linear":
        return LogLinearRate(minimum=row("minimum_rate"), maximum=row("maximum_rate"))
    return HyperbolicRate(
        reference=row("base_rate"),
        target=row("target_utilisation"),
        lowest=row("lowest_multiple"),
        highest=row("highest_multiple"),
        shift=row("rate_shift"),
    )


def _cash(asset: str, market: BandMarket, terms: Mapping[str, Any], accounts: Accounts) -> float:
    """Return what may still be borrowed: stated, the rest of the ceiling, or as much as is owed."""
    debt = float(np.asarray(accounts.debt, np.float64).sum())
    if terms["available_liquidity"] is not None:
        return float(terms["available_liquidity"])
    ceiling = terms.get("ceiling")
    if ceiling is None:
        return debt
    if ceiling < debt:
        raise ValueError(f"{asset}: ceiling = {ceiling:g} is below the {debt:g} that the book owes")
    return ceiling - debt


def _check_loans(name: str, accounts: Accounts) -> None:
    held, owed = (np.asarray(x, np.float64)[0] for x in (accounts.collateral, accounts.debt))
    odd = np.flatnonzero(~((held > 0) & (owed > 0)))
    if len(odd):
        raise ValueError(
            f"{name}: {len(odd)} accounts lack collateral or debt, the first at position {odd[0]}; "
            "a loan in bands has both: drop them from the book"
        )


def _grid(
    accounts: Accounts, market: BandMarket, bands: int, base_price: float | None, dtype: DTypeLike
) -> BandGrid:
    """Return the grid that spans all loans; those beyond the farthest band stand at its end."""
    if base_price is not None and not base_price > 0:
        raise ValueError(f"base_price = {base_price:g}: expected a price above 0")
    held, owed = (np.asarray(x, np.float64)[0] for x in (accounts.collateral, accounts.debt))
    limit = owed / (held * _weight(market, bands))
    # A hair above the riskiest loan's price, so that rounding does not move its first band.
    base = base_price or float(limit.max()) * (1.0 + 1e-5)
    first = np.floor(np.log(base / limit) / -math.log1p(-1.0 / market.amplification))
    lowest = int(first.min())
    highest = min(int(first.max()), lowest + FARTHEST_BAND - bands)
    return BandGrid(
        amplification=jnp.asarray(market.amplification, dtype),
        base_price=jnp.asarray(base, dtype),
        first=jnp.asarray(lowest - 1, jnp.int32),
        count=highest - lowest + bands + 1,
    )


def _terms(
    overrides: Mapping[str, Mapping[str, float]],
    *,
    deployment: str = DEFAULT_DEPLOYMENT,
    bands: float = 10,
    base_price: float | None = None,
    policy: str | None = None,
) -> Terms:
    """Return, as threshold of each collateral, the weight at which its conversion begins."""
    del base_price
    count, thresholds = _bands(bands), {}
    for asset in (*DEPLOYMENTS[deployment], *overrides):
        own = {k: v for k, v in overrides.get(asset, {}).items() if k in _RISK}
        if asset in DEPLOYMENTS[deployment] or own:
            thresholds[asset] = _weight(_market(asset, deployment, own, policy), count)
    return Terms(thresholds, {})


PRESET = Preset(
    build=crvusd,
    required=(),
    terms=_terms,
    deployments=tuple(DEPLOYMENTS),
    optional=("bands", "base_price", "policy"),
    asset_options=tuple(
        dict.fromkeys(
            key
            for key in (*_RISK, *(key for terms in _RATES.values() for key in terms))
            if key != "base_rate"
        )
    ),
)
