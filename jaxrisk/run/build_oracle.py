"""The oracle of a venue from its keys, and what it does in words."""

import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrisk.errors import ConfigError
from jaxrisk.market.oracle import (
    AverageOracle,
    DelayedOracle,
    DeviationOracle,
    ExchangeRateOracle,
    FixedOracle,
    Oracle,
    SpotOracle,
)
from jaxrisk.market.oracle_overlay import (
    CappedOracle,
    FaceValueOracle,
    GrowthCapOracle,
    LateRateOracle,
    LinearDiscountOracle,
    PrintOracle,
)
from jaxrisk.market.state import Market
from jaxrisk.run.config import RunSection, VenueSection

Row = Callable[[Mapping[str, float], float], Array]
"""From values by asset, and a value for all others, to a row over the assets."""

_HOURS_A_YEAR = 8760.0


def build_oracle(name: str, section: VenueSection, run: RunSection, market: Market) -> Oracle:
    """Return the oracle of the venue `name`.

    Raises:
        ConfigError: an asset has no source for what the oracle is to see of it, or a false price
            comes after the end of the run.
    """
    problems = _without_source(name, section, market) + _late_prints(name, section, run)
    if problems:
        raise ConfigError(problems)
    number = lambda value: jnp.asarray(value, market.price.dtype)
    by_asset = lambda table, rest: number([table.get(asset, rest) for asset in market.assets])
    oracle = _source(section, run, market)
    if section.oracle_rate_delay_hours is not None:
        oracle = LateRateOracle(others=oracle, steps=_steps(section.oracle_rate_delay_hours, run))
    oracle = _with_prints(oracle, section, run, market, by_asset)
    if section.oracle_growth_cap is not None:
        growth = section.oracle_growth_cap * run.step_hours / _HOURS_A_YEAR
        oracle = GrowthCapOracle(
            others=oracle,
            growth=jnp.full_like(market.price, growth),
            opening=jnp.exp(market.log_ratio),
        )
    for asset, own in section.oracle_discounts.items():
        assert market.underlying is not None
        index = market.assets.index(asset)
        oracle = LinearDiscountOracle(
            others=oracle,
            discount=number(own.rate),
            maturity_years=number(own.maturity_days * 24.0 / _HOURS_A_YEAR),
            step_years=number(run.step_hours / _HOURS_A_YEAR),
            asset=index,
            underlying=market.underlying[index],
        )
    if section.oracle_ceilings:
        oracle = CappedOracle(others=oracle, ceiling=by_asset(section.oracle_ceilings, np.inf))
    for asset, price in section.oracle_prices.items():
        index = market.assets.index(asset)
        oracle = FaceValueOracle(others=oracle, face_value=number(price), asset=index)
    return oracle


def _source(section: VenueSection, run: RunSection, market: Market) -> Oracle:
    """Return the oracle that reads the market."""
    if section.oracle == "exchange_rate":
        return ExchangeRateOracle()
    if section.oracle == "fixed":
        return FixedOracle()
    if section.oracle == "deviation":
        assert section.oracle_deviation is not None
        heartbeat = section.oracle_heartbeat_hours
        return DeviationOracle(
            deviation=jnp.full_like(market.price, section.oracle_deviation),
            heartbeat=None
            if heartbeat is None
            else jnp.asarray(max(1.0, heartbeat / run.step_hours), market.price.dtype),
        )
    if section.oracle == "delayed":
        assert section.oracle_delay_hours is not None
        return DelayedOracle(steps=_steps(section.oracle_delay_hours, run))
    if section.oracle == "average":
        assert section.oracle_window_hours is not None
        return AverageOracle(steps=_steps(section.oracle_window_hours, run))
    return SpotOracle()


def _steps(hours: float, run: RunSection) -> int:
    """Return hours in whole steps; a time longer than the run reads the first price throughout."""
    return max(1, min(math.ceil(hours / run.step_hours), run.steps))


def _with_prints(
    oracle: Oracle, section: VenueSection, run: RunSection, market: Market, by_asset: Row
) -> Oracle:
    """Return the oracle with its false prices, in whole steps.

    A false price of an underlying is one of every pegged asset that is seen through it.
    """
    prints = dict(section.oracle_prints)
    if section.oracle == "exchange_rate" and market.underlying is not None:
        for asset, followed in zip(market.assets, market.underlying, strict=True):
            if market.assets[followed] in prints:
                prints.setdefault(asset, prints[market.assets[followed]])
    if not prints:
        return oracle
    first = {a: math.floor(own.hour / run.step_hours) + 1.0 for a, own in prints.items()}
    last = {
        asset: max(first[asset], float(math.ceil((own.hour + own.hours) / run.step_hours)))
        for asset, own in prints.items()
    }
    return PrintOracle(
        others=oracle,
        factor=by_asset({asset: 1.0 + own.change for asset, own in prints.items()}, 1.0),
        first=by_asset(first, np.inf),
        last=by_asset(last, 0.0),
    )


def _without_source(name: str, section: VenueSection, market: Market) -> list[str]:
    """Return what the oracle is to see and nothing says how."""
    pegged = [
        asset
        for index, asset in enumerate(market.assets)
        if market.underlying is not None and market.underlying[index] != index
    ]
    problems = []
    if section.oracle == "exchange_rate" and not pegged:
        problems.append(
            f"venues.{name}.oracle: oracle without a source: exchange_rate reads the ratio of "
            'pegged assets and no asset has a peg; give assets.NAME.peg, or use "spot"'
        )
    if section.oracle_rate_delay_hours is not None and not pegged:
        problems.append(
            f"venues.{name}.oracle_rate_delay_hours: oracle without a source: no asset has a peg, "
            "so there is no ratio that could be late; give assets.NAME.peg, or drop it"
        )
    if section.oracle_growth_cap is not None and not pegged:
        problems.append(
            f"venues.{name}.oracle_growth_cap: oracle without a source: it caps ratios of pegged "
            "assets and no asset has a peg; give assets.NAME.peg, or drop it"
        )
    problems += [
        f"venues.{name}.oracle_discounts.{asset}: oracle without a source: {asset} has no peg, so "
        f"there is nothing to discount; give assets.{asset}.peg, what it pays at maturity"
        for asset in section.oracle_discounts
        if asset not in pegged
    ]
    return problems


def _late_prints(name: str, section: VenueSection, run: RunSection) -> list[str]:
    length = run.steps * run.step_hours
    return [
        f"venues.{name}.oracle_prints.{asset}.hour: {own.hour:g} is not before the end of the run "
        f"({length:g} hours)"
        for asset, own in section.oracle_prints.items()
        if own.hour >= length
    ]


def oracle_text(section: VenueSection) -> str:
    """Return what a venue's oracle sees, in words."""
    text = {
        "delayed": f"delayed by {section.oracle_delay_hours or 0:g} h, in whole steps",
        "deviation": f"publishes on moves of {section.oracle_deviation or 0:.2%}",
        "average": f"mean of {section.oracle_window_hours or 0:g} h",
        "fixed": "hard-coded at the opening prices",
    }.get(section.oracle, section.oracle.replace("_", " "))
    if section.oracle_heartbeat_hours is not None:
        text += f" and after {section.oracle_heartbeat_hours:g} h at the latest"
    if section.oracle_rate_delay_hours is not None:
        text += f", ratios {section.oracle_rate_delay_hours:g} h late"
    if section.oracle_growth_cap is not None:
        text += f", ratios grow by at most {section.oracle_growth_cap:.1%} a year"
    for asset, discount in section.oracle_discounts.items():
        text += f", {asset} {discount.rate:.1%} a year below its peg until maturity"
    for asset, price in section.oracle_ceilings.items():
        text += f", {asset} at most {price:g} USD"
    for asset, price in section.oracle_prices.items():
        text += f", {asset} hard-coded at {price:g} USD"
    for asset, own in section.oracle_prints.items():
        text += f", {asset} {own.change:+.0%} for {own.hours:g} h from hour {own.hour:g}"
    return text
