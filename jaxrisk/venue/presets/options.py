"""A generic venue of European options and perpetuals, margined together by a grid of scenarios.

No exchange in particular. The grid has price moves up to a stated range in thirds, each with
volatility up, down and as it is, and two moves of twice the range of which a part counts.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.option_requirement import GridMargin
from jaxrisk.venue.presets.implied import SMILE, implied
from jaxrisk.venue.presets.listing import (
    CLOSING,
    POSTED,
    POSTED_OPTIONS,
    ClosingOptions,
    Listing,
    check_bounds,
    listed,
)
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.venue import Venue

_PIVOT, _FLOOR = 30.0 / 365.0, 1.0 / 365.0


def options(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    initial_multiple: float = 1.25,
    price_range: float = 0.15,
    tail_share: float = 0.4,
    volatility_up: float = 0.5,
    volatility_down: float = 0.3,
    short_margin: float = 0.01,
    stickiness: float = 0.5,
    **options: Unpack[ClosingOptions],
) -> Venue:
    """Return a venue of options and perpetuals on margin.

    Args:
        accounts: collateral in the settlement currency and positions; an entry price of NaN is the
            opening price, 0 says that the premium has been paid.
        assets: the system's assets, in order.
        initial_multiple: initial over maintenance margin.
        price_range: largest move of the grid, below one half.
        tail_share: part of the loss of a move of twice that range that counts.
        volatility_up: rise of volatilities at 30 days, as a fraction; shorter ones rise further.
        volatility_down: fall of them.
        short_margin: least margin of an option sold, as a share of its underlying.
        stickiness: of the smile to the forward, in [0, 1].
        **options: of every venue of contracts, see `MarginOptions` and `Closing`; `overrides` give
            by underlying what `implied` reads.

    Raises:
        ValueError: an instrument is unknown, or a parameter missing or out of range.
    """
    listing = listed("options", accounts, assets, options, ClosingOptions)
    if not 0 < price_range < 0.5:
        raise ValueError(f"{listing.name}: price_range {price_range:g}: expected inside (0, 0.5)")
    check_bounds(
        listing.name,
        initial_multiple=(initial_multiple, 1.0, math.inf),
        tail_share=(tail_share, 0.0, 1.0),
        volatility_up=(volatility_up, 0.0, math.inf),
        volatility_down=(volatility_down, 0.0, 1.0),
        short_margin=(short_margin, 0.0, 1.0),
    )
    smile = implied(listing, stickiness)
    return listing.closed_by(
        options,
        volatility=smile.volatility,
        requirement=GridMargin(
            grid=_grid(listing, price_range, tail_share, volatility_up, volatility_down),
            short=listing.each(short_margin),
            initial=listing.array(initial_multiple),
            underlying=listing.underlying,
        ),
        moves=smile.moves,
    )


def _grid(
    listing: Listing, price_range: float, tail_share: float, up: float, down: float
) -> ScenarioGrid:
    """Return the moves: thirds of the range with three levels of volatility, and two tails."""
    thirds = price_range * np.arange(-3, 4) / 3.0
    move, level = (x.ravel() for x in np.meshgrid(thirds, [-1.0, 0.0, 1.0], indexing="ij"))
    tails = np.array([-2.0, 2.0]) * price_range
    move, level = np.concatenate([move, tails]), np.concatenate([level, [0.0, 0.0]])
    weight = np.where(np.abs(move) > 1.5 * price_range, tail_share, 1.0)
    array = listing.array
    return ScenarioGrid(
        scenarios=Scenarios.checked(
            move=move, volatility=level, weight=weight, dtype=listing.dtype
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
        *POSTED,
        *CLOSING,
    ),
    asset_options=(*SMILE, *POSTED_OPTIONS),
    contracts=True,
)
