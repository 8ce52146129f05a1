"""A generic venue of linear perpetuals: tiered margin, market orders, a fund, and who is behind it.

No exchange in particular: every number can be set, and what is not is a convention of the field. A
position closes by market order once equity is below its maintenance margin; the fund pays what an
account then lacks, and behind it stand the winners, all open positions, or nobody.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrisk.market.oracle import Oracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.notional_margin import NotionalMargin, deductions
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
from jaxrisk.venue.venue import Venue

_TIER = ("from", "maintenance_margin")
ASSET_OPTIONS = (
    "maintenance_margin",
    *(f"tier_{k}_{what}" for k in (2, 3) for what in _TIER),
)
_UNREACHED = 1e15
_HOURS_A_YEAR = 8760.0


def perpetuals(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    instruments: Sequence[str],
    prices: Mapping[str, float],
    settlement: str,
    name: str = "perpetuals",
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
    haircut: float = 0.0,
    initial_multiple: float = 2.0,
    funding_hours: float = 8.0,
    funding_interest: float = 0.1095,
    funding_cap: float = 350.0,
    **closing: Unpack[ClosingOptions],
) -> Venue:
    """Return a venue of linear perpetuals.

    Args:
        accounts: collateral in the settlement currency and positions; an entry price of NaN is the
            opening price.
        assets: the system's assets, in order.
        instruments: names of the contracts, in the order of the positions.
        prices: opening price of each asset, numeraire.
        settlement: the asset that contracts are quoted and settled in.
        name: of the venue.
        overrides: by underlying `maintenance_margin`, and for notional from `tier_2_from` on
            `tier_2_maintenance_margin`, likewise `tier_3_`.
        oracle: which prices the venue sees; the market's mid where not given.
        reserve: pays after the insurance fund, numeraire.
        insurance: the insurance fund, numeraire.
        haircut: share of the collateral that backs no positions.
        initial_multiple: initial over maintenance margin.
        funding_hours: hours over which a lasting premium is paid once.
        funding_interest: funding rate without a premium, per year.
        funding_cap: largest rate in either direction, per year.
        **closing: `trigger`, `target`, `largest`, `fee`, `behind`, see `Closing`.

    Raises:
        ValueError: an instrument is unknown or an option, or a parameter out of range.
    """
    rows = [instrument(each) for each in instruments]
    options = [each for each, row in zip(instruments, rows, strict=True) if row.is_option]
    if options:
        raise ValueError(f"{name}: {', '.join(options)}: an option; this venue has perpetuals only")
    if not funding_hours > 0:
        raise ValueError(f"{name}: funding_hours {funding_hours:g}: expected a positive number")
    check_bounds(
        name,
        initial_multiple=(initial_multiple, 1.0, math.inf),
        funding_cap=(funding_cap, 0.0, math.inf),
    )
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    each = lambda value: array([value] * len(rows))
    forward = settlement_prices(name, rows, prices, settlement)
    slot = execution(
        Closing.checked(name, **closing),
        contracts=contract_table(rows, dtype),
        opening_forward=array(forward),
        opening_volatility=each(1.0),
        requirement=_margin(name, rows, overrides or {}, initial_multiple, array),
        funding=PremiumFunding(
            period=each(funding_hours / _HOURS_A_YEAR),
            interest=each(funding_interest),
            cap=each(funding_cap),
        ),
        underlying=tuple(list(assets).index(row.underlying) for row in rows),
    )
    return margin_venue(
        accounts, slot, name=name, insurance=insurance, reserve=reserve, haircut=haircut,
        oracle=oracle,
    )  # fmt: skip


def _margin(
    name: str,
    rows: Sequence[Instrument],
    overrides: Mapping[str, Mapping[str, float]],
    multiple: float,
    array: Callable[[Any], Array],
) -> NotionalMargin:
    """Return the tiers of every contract, checked."""
    rates, cuts = [], []
    for row in rows:
        given = dict(overrides.get(row.underlying, {}))
        unknown = sorted(set(given) - set(ASSET_OPTIONS))
        if unknown:
            raise ValueError(
                f"{name}: {row.underlying}: no such parameter {', '.join(unknown)}; there are "
                f"{', '.join(ASSET_OPTIONS)}"
            )
        if "maintenance_margin" not in given:
            raise ValueError(f"{name}: {row.underlying}: maintenance_margin is missing")
        lower, own = [0.0], [given["maintenance_margin"]]
        for k in (2, 3):
            absent = [f"tier_{k}_{what}" for what in _TIER if f"tier_{k}_{what}" not in given]
            if len(absent) == 1:
                raise ValueError(f"{name}: {row.underlying}: {absent[0]} is missing for tier {k}")
            lower.append(given.get(f"tier_{k}_from", _UNREACHED * k))
            own.append(given.get(f"tier_{k}_maintenance_margin", own[-1]))
        try:
            cuts.append(deductions(lower, own))
        except ValueError as error:
            raise ValueError(f"{name}: {row.underlying}: {error}") from error
        rates.append(own)
    tiers, cut = np.array(rates).T, np.array(cuts).T
    both = lambda x: array(np.stack([multiple * x, x]))
    return NotionalMargin(rate=both(tiers), deduction=both(cut))


PRESET = Preset(
    build=perpetuals,
    required=("settlement",),
    terms=no_terms,
    optional=(
        "haircut",
        "initial_multiple",
        "funding_hours",
        "funding_interest",
        "funding_cap",
        *CLOSING,
    ),
    asset_options=ASSET_OPTIONS,
    contracts=True,
)
