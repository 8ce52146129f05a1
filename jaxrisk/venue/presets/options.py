"""A generic venue of European options and perpetuals, margined together by a grid of scenarios.

No exchange in particular. The grid has price moves up to a stated range in thirds, each with
volatility up, down and as it is, and two moves of twice the range of which a part counts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrisk.market.arbitrage import breaches
from jaxrisk.market.oracle import Oracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.margin_accounts import VolatilityMoves
from jaxrisk.venue.option_requirement import GridMargin
from jaxrisk.venue.presets.instruments import Instrument, instrument
from jaxrisk.venue.presets.margin_venue import (
    CLOSING,
    Closing,
    ClosingOptions,
    check_bounds,
    contract_table,
    execution,
    margin_venue,
    no_terms,
    settlement_prices,
)
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.venue import Venue

ASSET_OPTIONS = ("volatility", "realised", "skew", "beta", "power")
_DAYS_A_YEAR = 365.0
_PIVOT, _FLOOR = 30.0 / _DAYS_A_YEAR, 1.0 / _DAYS_A_YEAR
# Of a butterfly that pays at most 1: what prices in float32 are off by.
_ROUNDING = 1e-4


def options(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    instruments: Sequence[str],
    prices: Mapping[str, float],
    settlement: str,
    name: str = "options",
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
    haircut: float = 0.0,
    initial_multiple: float = 1.25,
    price_range: float = 0.15,
    tail_share: float = 0.4,
    volatility_up: float = 0.5,
    volatility_down: float = 0.3,
    short_margin: float = 0.01,
    stickiness: float = 0.5,
    **closing: Unpack[ClosingOptions],
) -> Venue:
    """Return a venue of options and perpetuals on margin.

    Args:
        accounts: collateral in the settlement currency and positions; an entry price of NaN is the
            opening price, 0 says that the premium has been paid.
        assets: the system's assets, in order.
        instruments: names of the contracts, in the order of the positions.
        prices: opening price of each asset, numeraire.
        settlement: the asset that contracts are quoted and settled in.
        name: of the venue.
        overrides: by underlying its opening `volatility` at the money, and how volatilities move:
            `skew`, `beta`, `power` as in `VolatilityMoves`, 0 where not given. `realised` is the
            volatility of the market at which they are as at the opening; `volatility` where not
            given.
        oracle: which prices the venue sees; the market's mid where not given.
        reserve: pays after the insurance fund, numeraire.
        insurance: the insurance fund, numeraire.
        haircut: share of the collateral that backs no positions.
        initial_multiple: initial over maintenance margin.
        price_range: largest move of the grid, below one half.
        tail_share: part of the loss of a move of twice that range that counts.
        volatility_up: rise of volatilities at 30 days, as a fraction; shorter ones rise further.
        volatility_down: fall of them.
        short_margin: least margin of an option sold, as a share of its underlying.
        stickiness: of the smile to the forward, in [0, 1].
        **closing: `trigger`, `target`, `largest`, `fee`, `behind`, see `Closing`.

    Raises:
        ValueError: an instrument is unknown, or a parameter missing or out of range.
    """
    rows = [instrument(each) for each in instruments]
    if not 0 < price_range < 0.5:
        raise ValueError(f"{name}: price_range {price_range:g}: expected inside (0, 0.5)")
    check_bounds(
        name,
        initial_multiple=(initial_multiple, 1.0, math.inf),
        tail_share=(tail_share, 0.0, 1.0),
        volatility_up=(volatility_up, 0.0, math.inf),
        volatility_down=(volatility_down, 0.0, 1.0),
        short_margin=(short_margin, 0.0, 1.0),
        stickiness=(stickiness, 0.0, 1.0),
    )
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    forward = np.asarray(settlement_prices(name, rows, prices, settlement))
    own = [
        _checked(name, row.underlying, (overrides or {}).get(row.underlying, {})) for row in rows
    ]
    of = lambda field: np.array([each.get(field, 0.0) for each in own])
    contracts = contract_table(rows, dtype)
    level = of("volatility")
    ratio = np.log(np.asarray(contracts.strike, np.float64) / forward)
    ratio = np.where([row.is_option for row in rows], ratio, 0.0)
    volatility = level + of("skew") * ratio
    if np.any(volatility <= 0.05):
        raise ValueError(f"{name}: the skew leaves a strike with a volatility below 0.05")
    _refuse_arbitrage(name, rows, ratio, volatility)
    slot = execution(
        Closing.checked(name, **closing),
        contracts=contracts,
        opening_forward=array(forward),
        opening_volatility=array(volatility),
        requirement=GridMargin(
            grid=_grid(price_range, tail_share, volatility_up, volatility_down, array),
            short=array([short_margin] * len(rows)),
            initial=array(initial_multiple),
            underlying=tuple(list(assets).index(row.underlying) for row in rows),
        ),
        moves=VolatilityMoves(
            beta=array(of("beta")),
            power=array(of("power")),
            skew=array(of("skew")),
            stickiness=array(stickiness),
            calm=array([each.get("realised", each["volatility"]) ** 2 for each in own]),
            floor=array(0.05),
        ),
        underlying=tuple(list(assets).index(row.underlying) for row in rows),
    )
    return margin_venue(
        accounts, slot, name=name, insurance=insurance, reserve=reserve, haircut=haircut,
        oracle=oracle,
    )  # fmt: skip


def _checked(name: str, asset: str, given: Mapping[str, float]) -> Mapping[str, float]:
    unknown = sorted(set(given) - set(ASSET_OPTIONS))
    if unknown:
        raise ValueError(
            f"{name}: {asset}: no such parameter {', '.join(unknown)}; there are "
            f"{', '.join(ASSET_OPTIONS)}"
        )
    if "volatility" not in given:
        raise ValueError(f"{name}: {asset}: volatility is missing; expected a positive number")
    problem = lambda key: f"{name}: assets.{asset}.options.{key} = {given[key]:g}"
    for key in ("volatility", "realised"):
        if not given.get(key, 1.0) > 0:
            raise ValueError(f"{problem(key)}: expected a positive number")
    if not given.get("power", 0.0) >= 0:
        raise ValueError(
            f"{problem('power')}: expected at least 0: implied volatilities would fall as realised "
            "volatility rises"
        )
    return given


def _refuse_arbitrage(
    name: str, rows: Sequence[Instrument], log_moneyness: np.ndarray, volatility: np.ndarray
) -> None:
    """Raise where the opening volatilities of listed strikes admit an arbitrage.

    Volatility is a function of log-moneyness alone, so there are no calendars.
    """
    listed: dict[tuple[str, float], dict[float, int]] = {}
    for i, row in enumerate(rows):
        if row.is_option:
            own = listed.setdefault((row.underlying, float(row.terms.expiry[0])), {})
            own[float(row.terms.strike[0])] = i
    problems = []
    for (asset, years), own in listed.items():
        at = [own[strike] for strike in sorted(own)]
        k, total = jnp.asarray(log_moneyness[at]), jnp.asarray(volatility[at] ** 2 * years)
        found = breaches(jnp.asarray([years]), k, total[None], tolerance=_ROUNDING)
        for breach in found[:1]:
            near = np.searchsorted(np.asarray(k), np.asarray(breach.strikes))
            strikes = ", ".join(f"{sorted(own)[n]:.10g}" for n in near)
            problems.append(
                f"{name}: assets.{asset}.options.skew: a {breach.kind} of the strikes {strikes} at "
                f"{years * _DAYS_A_YEAR:.6g} days is worth less than nothing; bring the skew "
                "nearer to 0"
            )
    if problems:
        raise ValueError("\n".join(problems))


def _grid(
    price_range: float,
    tail_share: float,
    up: float,
    down: float,
    array: Callable[[Any], Array],
) -> ScenarioGrid:
    """Return the moves: thirds of the range with three levels of volatility, and two tails."""
    thirds = price_range * np.arange(-3, 4) / 3.0
    move, level = (x.ravel() for x in np.meshgrid(thirds, [-1.0, 0.0, 1.0], indexing="ij"))
    tails = np.array([-2.0, 2.0]) * price_range
    move, level = np.concatenate([move, tails]), np.concatenate([level, [0.0, 0.0]])
    weight = np.where(np.abs(move) > 1.5 * price_range, tail_share, 1.0)
    return ScenarioGrid(
        scenarios=Scenarios.checked(
            move=move, volatility=level, weight=weight, dtype=array(0.0).dtype
        ),
        volatility=VolatilityShock(
            up=array(up),
            down=array(down),
            short_power=array(0.3),
            long_power=array(0.5),
            pivot=array(_PIVOT),
            floor=array(_FLOOR),
            minimum=array(0.0),
        ),
    )


PRESET = Preset(
    build=options,
    required=("settlement",),
    terms=no_terms,
    optional=(
        "haircut",
        "initial_multiple",
        "price_range",
        "tail_share",
        "volatility_up",
        "volatility_down",
        "short_margin",
        "stickiness",
        *CLOSING,
    ),
    asset_options=ASSET_OPTIONS,
    contracts=True,
)
