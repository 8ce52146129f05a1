"""SPAN: the sixteen scenarios of a risk array.

A price scan range in thirds, each with volatility up and down, and two extreme moves of which a
share counts. Ranges are set by each clearing house and contract; there is no table of them.

Source: CME, SPAN technical specification; the extreme pair is twice the range at 35 % in the
classic description, three times at 33 % in present parameter notices.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.option_requirement import ScanRequirement
from jaxrisk.venue.presets.implied import SMILE, implied
from jaxrisk.venue.presets.listing import (
    CLOSING,
    POSTED,
    POSTED_OPTIONS,
    ClosingOptions,
    check_bounds,
    listed,
)
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.risk_array import ScanMargin
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.venue import Venue

_THIRDS = (0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3)


def span(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    scan_range: float,
    volatility_range: float,
    extreme: float = 3.0,
    covered: float = 0.33,
    short_minimum: float = 0.0,
    initial_multiple: float = 1.0,
    stickiness: float = 0.5,
    **options: Unpack[ClosingOptions],
) -> Venue:
    """Return a venue of options, futures and perpetuals under scanning risk.

    Args:
        accounts: collateral in the settlement currency and positions.
        assets: the system's assets, in order.
        scan_range: price scan range, as a fraction of the price.
        volatility_range: volatility scan range, as a fraction of volatility.
        extreme: the last two moves, as a multiple of the range.
        covered: share of their loss that counts.
        short_minimum: least margin of a short option, settlement currency.
        initial_multiple: initial over maintenance margin.
        stickiness: of the smile to the forward, in [0, 1].
        **options: of every venue of contracts, see `MarginOptions` and `Closing`; `overrides` give
            what `implied` reads.

    Raises:
        ValueError: an instrument is unknown, or a parameter out of range.
    """
    listing = listed("span", accounts, assets, options, ClosingOptions)
    check_bounds(
        listing.name,
        scan_range=(scan_range, 0.0, 1.0),
        volatility_range=(volatility_range, 0.0, 1.0),
        extreme=(extreme, 1.0, math.inf),
        covered=(covered, 0.0, 1.0),
        short_minimum=(short_minimum, 0.0, math.inf),
        initial_multiple=(initial_multiple, 1.0, math.inf),
    )
    if not scan_range * extreme < 1:
        raise ValueError(
            f"{listing.name}: scan_range {scan_range:g} times extreme {extreme:g}: expected below "
            "1, or the price of the last scenario is not positive"
        )
    number = listing.array
    smile = implied(listing, stickiness)
    return listing.closed_by(
        options,
        volatility=smile.volatility,
        requirement=ScanRequirement(
            grid=ScenarioGrid(
                scenarios=span_scenarios(
                    number(scan_range), listing.dtype, extreme=extreme, covered=covered
                ),
                # The range is the same at every expiry.
                volatility=VolatilityShock(
                    up=number(volatility_range),
                    down=number(volatility_range),
                    short_power=number(0.0),
                    long_power=number(0.0),
                    pivot=number(1.0),
                    floor=number(1.0 / 365.0),
                    minimum=number(0.0),
                ),
            ),
            margin=ScanMargin(minimum=number(short_minimum)),
            initial=number(initial_multiple),
            underlying=listing.underlying,
        ),
        moves=smile.moves,
    )


def span_scenarios(
    scan_range: Float[Array, ""],
    dtype: jnp.dtype | type,
    *,
    extreme: float = 3.0,
    covered: float = 0.33,
) -> Scenarios:
    """Return scenarios 1 to 16, in that order.

    Args:
        scan_range: price scan range, as a fraction of the price.
        dtype: of the coefficients.
        extreme: the last two moves, as a multiple of the range.
        covered: share of their gain or loss that counts.
    """
    row = lambda values: jnp.asarray(values, dtype)
    nothing = jnp.zeros(len(_THIRDS) + 2, dtype)
    return Scenarios(
        move=scan_range * row([*(k / 3.0 for k in _THIRDS), extreme, -extreme]),
        volatility=row([1.0, -1.0] * (len(_THIRDS) // 2) + [0.0, 0.0]),
        tilt=nothing,
        wings=nothing,
        weight=row([1.0] * len(_THIRDS) + [covered, covered]),
    )


def futures_array(scenarios: Scenarios, price: Float[Array, ""]) -> Float[Array, " scenario"]:
    """Return the risk array of a long future: moves of its price, times the share that counts."""
    return price * scenarios.move * scenarios.weight


PRESET = Preset(
    build=span,
    required=("settlement", "scan_range", "volatility_range"),
    terms=no_terms,
    optional=(
        "haircut",
        "extreme",
        "covered",
        "short_minimum",
        "initial_multiple",
        "stickiness",
        *POSTED,
        *CLOSING,
    ),
    asset_options=(*SMILE, *POSTED_OPTIONS),
    contracts=True,
)
