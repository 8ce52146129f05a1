"""Sky (Maker): vaults of one collateral each owe a stablecoin; unsafe ones are auctioned.

A vault is unsafe once collateral / liquidation ratio < debt. It is seized as far as the ceilings on
running auctions allow, and its collateral sold in a Dutch auction that is to raise the debt and a
penalty. What auctions fail to raise is paid by the surplus, then by issuing governance tokens, or
carried as negative surplus where those auctions are off.

Source: makerdao/dss, src/{dog,clip,abaci,vow}.sol.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.auction import AuctionTerms
from jaxrisk.venue.auction_price import LinearDecrease, PriceCurve, StairstepDecrease
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.limits import Limit
from jaxrisk.venue.presets.asset_terms import Overrides, sides
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.presets.sky_ethereum import (
    DEBT_CEILINGS,
    GLOBAL_CEILING,
    VAULT_TYPES,
    VaultType,
)
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR, StabilityFee
from jaxrisk.venue.takeover import AuctionedLots
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

DEPLOYMENTS = {"ethereum_2026_05": VAULT_TYPES}
DEFAULT_DEPLOYMENT = "ethereum_2026_05"
MOST_COHORTS = 10_000
"""More steps than that no auction lasts: five days of minutes are 7,200."""
RESIDUALS = {"carried": Residual.CARRIED, "dilution": Residual.DILUTED}

_ASSET_OPTIONS = (*VaultType._fields[1:], "linear_duration")
_MEANT = {
    "liquidation_threshold": "options.liquidation_ratio, its inverse (1.45 for 145 %)",
    "loan_to_value": "options.liquidation_ratio, its inverse (1.45 for 145 %)",
    "liquidation_bonus": "options.penalty",
    "available_liquidity": "nothing: the stablecoin is issued, not lent out",
}


def sky(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    stability_fee: float,
    name: str = "sky",
    deployment: str = DEFAULT_DEPLOYMENT,
    overrides: Overrides | None = None,
    global_ceiling: float = GLOBAL_CEILING,
    debt_auctions: str = "carried",
    cohorts: float = 4,
    **common: Unpack[Common],
) -> Venue:
    """Return a book of vaults.

    Args:
        accounts: the book: one debt asset, the stablecoin, and one collateral an account. The base
            category is the first vault type of each collateral, the others have categories of
            their own.
        assets: the system's assets, in order.
        stability_fee: what debt costs a year, 0.05 for 5 %; one fee for all vaults.
        name: of the venue.
        deployment: which shipped table of vault types to start from.
        overrides: by collateral, parameters that replace those of its first vault type (named as in
            `VaultType`); `linear_duration` (seconds) for a price that falls by the same amount
            every second in place of cuts.
        global_ceiling: most that all auctions together may have outstanding, in the stablecoin.
        debt_auctions: who bears what surplus does not cover: "carried" (negative surplus, as
            deployed) or "dilution" (governance tokens are issued and sold for it).
        cohorts: how many steps of auctions are told apart; at least as many as one can last, and 2.
        **common: as in `Common`. The deployed oracle is delayed by an hour; the reserve is the
            surplus at the opening, and fees and penalties add to it; there is no insurance.

    Raises:
        ValueError: several debt assets, an account with several collaterals, a collateral without a
            vault type, or a parameter that is unknown, out of range or at odds with another.
    """
    _check_book(name, accounts, assets)
    types = _with_overrides(name, DEPLOYMENTS[deployment], overrides or {})
    _check_options(name, stability_fee, debt_auctions, cohorts)
    collateral, _ = sides(accounts, assets)
    by_category = _by_category(types)
    in_use = _in_use(accounts)
    absent = [a for c, a in ((c, collateral[r]) for c, r in in_use) if a not in by_category[c]]
    if absent:
        raise ValueError(
            f"{name}: {', '.join(sorted(set(absent)))}: no vault type for this collateral in its "
            f"category; there are {', '.join(types)}"
        )
    rows = [by_category[category][collateral[row]] for category, row in in_use]
    _check_ceiling(name, global_ceiling, rows)
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    grid = lambda value: array([[value(c, a) for a in collateral] for c in by_category])
    weight = grid(lambda c, a: 1.0 / c[a].liquidation_ratio if a in c else 0.0)
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=AssetBonus(
            bonus=grid(lambda c, a: c[a].penalty if a in c else 0.0),
            fee_share=array([1.0 for _ in collateral]),
        ),
        recognition=NeverRecognised(),
        interest=CurveInterest(
            curve=StabilityFee(
                per_second=array([np.expm1(np.log1p(stability_fee) / SECONDS_PER_YEAR)])
            ),
            reserve_factor=array([1.0]),
        ),
        cash=np.zeros(1),
        execution=AuctionedLots(
            terms=_auctions(rows, array),
            curve=_curve(name, rows, overrides or {}, array),
            global_ceiling=array(global_ceiling),
            types=in_use,
            cohorts=int(cohorts),
        ),
        residual=RESIDUALS[debt_auctions],
        categories=("", *_further(types)),
        treasury_pays=True,
        limits=_limits(types, collateral, in_use, lambda units: jnp.asarray(units, dtype)),
        **common,
    )


def _limits(
    types: Mapping[str, VaultType],
    collateral: Sequence[str],
    in_use: Sequence[tuple[int, int]],
    array: Callable[[float], Array],
) -> tuple[Limit, ...]:
    """Return the debt ceilings of the vault types in the book, as far as they are known."""
    keys = [_first(types), *({types[key].asset: key} for key in _further(types))]
    limits = []
    for category, row in in_use:
        key = keys[category][collateral[row]]
        if key not in DEBT_CEILINGS:
            continue
        most, gap = DEBT_CEILINGS[key]
        limits.append(
            Limit(
                name=f"debt ceiling of {key}",
                most=array(most),
                gap=None if gap is None else array(gap),
                is_debt=True,
                row=0,
                category=category,
                against=row,
            )
        )
    return tuple(limits)


def _first(types: Mapping[str, VaultType]) -> dict[str, str]:
    """Return the first vault type of each collateral, which is what the base category means."""
    first: dict[str, str] = {}
    for name, terms in types.items():
        first.setdefault(terms.asset, name)
    return first


def _further(types: Mapping[str, VaultType]) -> list[str]:
    return [name for name in types if name not in _first(types).values()]


def _by_category(types: Mapping[str, VaultType]) -> list[dict[str, VaultType]]:
    """Return for each category the vault type of each collateral it admits."""
    base = {asset: types[name] for asset, name in _first(types).items()}
    return [base, *({types[name].asset: types[name]} for name in _further(types))]


def _in_use(accounts: Accounts) -> tuple[tuple[int, int], ...]:
    """Return the category and collateral row of every vault type in the book."""
    category, units = np.asarray(accounts.category), np.asarray(accounts.collateral)
    pairs = {(int(c), int(r)) for r in range(len(units)) for c in category[units[r] > 0]}
    return tuple(sorted(pairs))


def _auctions(rows: list[VaultType], array: Callable[[Sequence[float]], Array]) -> AuctionTerms:
    """Return the terms of the auctions of each vault type; callers are not rewarded."""
    own = lambda field: array([getattr(row, field) for row in rows])
    none = array([0.0 for _ in rows])
    return AuctionTerms(
        penalty=own("penalty"),
        minimum_debt=own("minimum_debt"),
        ceiling=own("ceiling"),
        opening_factor=own("opening_factor"),
        maximum_duration=own("maximum_duration"),
        price_floor=own("price_floor"),
        reward=none,
        reward_share=none,
        minimum_target=own("minimum_debt") * (1.0 + own("penalty")),
    )


def _curve(
    name: str,
    rows: list[VaultType],
    overrides: Overrides,
    array: Callable[[Sequence[float]], Array],
) -> PriceCurve:
    """Return how asking prices fall: in cuts, or by the same amount every second."""
    linear = [overrides.get(row.asset, {}).get("linear_duration") for row in rows]
    given = [duration for duration in linear if duration is not None and duration > 0]
    if len(given) == len(rows):
        return LinearDecrease(duration=array(given))
    if any(duration is not None for duration in linear):
        collateral = ", ".join(sorted({row.asset for row in rows}))
        raise ValueError(
            f"{name}: linear_duration: expected seconds above 0, for every collateral of the "
            f"book or for none ({collateral})"
        )
    return StairstepDecrease(cut=array([r.cut for r in rows]), step=array([r.step for r in rows]))


def _check_book(name: str, accounts: Accounts, assets: Sequence[str]) -> None:
    if len(accounts.debt_assets) != 1:
        debts = ", ".join(assets[i] for i in accounts.debt_assets)
        raise ValueError(f"{name}: the book owes {debts}; vaults owe one asset, the stablecoin")
    if accounts.debt_assets[0] in accounts.collateral_assets:
        coin = assets[accounts.debt_assets[0]]
        raise ValueError(f"{name}: {coin} is what vaults owe and cannot be their collateral")
    if not (np.asarray(accounts.collateral) > 0).any():
        raise ValueError(f"{name}: no account of the book holds any collateral; add what they hold")
    several = int(((np.asarray(accounts.collateral) > 0).sum(axis=0) > 1).sum())
    if several:
        raise ValueError(
            f"{name}: {several} accounts hold several collaterals; a vault holds one: give each "
            "collateral an account of its own, with its part of the debt"
        )


def _with_overrides(
    name: str, types: Mapping[str, VaultType], overrides: Overrides
) -> dict[str, VaultType]:
    """Return the vault types with what the overrides replace in the first of each collateral."""
    table, first, problems = dict(types), _first(types), []
    for asset, override in overrides.items():
        known = {key: value for key, value in override.items() if key in _ASSET_OPTIONS}
        for key in sorted(set(override) - set(known)):
            meant = _MEANT.get(key, f"one of options.{{{', '.join(_ASSET_OPTIONS)}}}")
            problems.append(f"{asset}: {key} is no parameter of a vault type; meant is {meant}")
        known.pop("linear_duration", None)
        if asset in first:
            table[first[asset]] = table[first[asset]]._replace(**known)
        elif known:
            missing = [f for f in VaultType._fields[1:] if f not in known]
            if missing:
                text = f"{asset}: no vault type of the deployment; also give {', '.join(missing)}"
                problems.append(text)
            else:
                table[asset] = VaultType(asset=asset, **known)
    problems += [p for key, terms in table.items() for p in _type_problems(key, terms)]
    if problems:
        raise ValueError("; ".join(f"{name}: {p}" for p in problems))
    return table


def _type_problems(key: str, terms: VaultType) -> list[str]:
    """Return what is out of range or at odds in one vault type."""
    place = f"{terms.asset} ({key})"
    ranges = {
        "liquidation_ratio": (terms.liquidation_ratio > 1, "above 1 (1.45 for 145 %)"),
        "minimum_debt": (terms.minimum_debt >= 0, "an amount of the stablecoin, >= 0"),
        "penalty": (0 <= terms.penalty < 1, "a fraction in [0, 1) (0.13 for 13 %)"),
        "opening_factor": (terms.opening_factor > 0, "a factor above 0 (1.1 for 110 %)"),
        "maximum_duration": (terms.maximum_duration > 0, "seconds above 0; no auction would sell"),
        "price_floor": (0 <= terms.price_floor < 1, "a fraction in [0, 1) (0.45 for 45 %)"),
        "step": (terms.step > 0, "seconds above 0"),
        "cut": (0 < terms.cut < 1, "what a cut leaves, inside (0, 1) (0.99 for 1 % a step)"),
        "ceiling": (
            terms.ceiling >= terms.minimum_debt * (1.0 + terms.penalty),
            f"at least minimum_debt with its penalty ({terms.minimum_debt * (1 + terms.penalty):g})"
            "; no auction could start",
        ),
    }
    problems = [
        f"{place}: {field} {getattr(terms, field):g}: expected {text}"
        for field, (fine, text) in ranges.items()
        if not fine
    ]
    if not problems and terms.liquidation_ratio < 1.0 + terms.penalty:
        problems.append(
            f"{place}: penalty {terms.penalty:g} exceeds what a vault at its liquidation ratio "
            f"({terms.liquidation_ratio:g}) is worth beyond its debt: no auction could raise it"
        )
    return problems


def _check_ceiling(name: str, ceiling: float, rows: Sequence[VaultType]) -> None:
    """Refuse a ceiling on all auctions that leaves room for no vault type of the book."""
    least = min((row.minimum_debt * (1.0 + row.penalty) for row in rows), default=0.0)
    if ceiling < least:
        raise ValueError(
            f"{name}: global_ceiling {ceiling:g}: expected at least the smallest minimum_debt of "
            f"the book with its penalty ({least:g}); no auction could start"
        )


def _check_options(name: str, stability_fee: float, debt_auctions: str, cohorts: float) -> None:
    checks = (
        (0 <= stability_fee < 10, f"stability_fee {stability_fee:g}: expected a rate a year, 0.05 "
         "for 5 %"),
        (debt_auctions in RESIDUALS, f"debt_auctions {debt_auctions!r}: expected one of "
         + ", ".join(RESIDUALS)),
        (2 <= cohorts <= MOST_COHORTS and cohorts % 1 == 0, f"cohorts {cohorts:g}: expected a "
         f"whole number from 2 to {MOST_COHORTS}"),
    )  # fmt: skip
    problems = [text for fine, text in checks if not fine]
    if problems:
        raise ValueError("; ".join(f"{name}: {p}" for p in problems))


def _terms(
    overrides: Overrides,
    *,
    deployment: str = DEFAULT_DEPLOYMENT,
    **options: float | str,
) -> Terms:
    del options
    types = dict(DEPLOYMENTS[deployment])
    first = _first(types)
    ratios = {asset: types[key].liquidation_ratio for asset, key in first.items()}
    for asset, override in overrides.items():
        ratios[asset] = override.get("liquidation_ratio", ratios.get(asset, 0.0))
    return Terms(
        {asset: 1.0 / ratio for asset, ratio in ratios.items() if ratio > 0},
        {key: 1.0 / types[key].liquidation_ratio for key in _further(types)},
    )


PRESET = Preset(
    build=sky,
    required=("stability_fee",),
    terms=_terms,
    deployments=tuple(DEPLOYMENTS),
    optional=("global_ceiling", "debt_auctions", "cohorts"),
    asset_options=_ASSET_OPTIONS,
)
