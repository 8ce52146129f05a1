"""A generic venue of linear perpetuals: tiered margin, market orders, a fund, and who is behind it.

No exchange in particular: every number can be set, and what is not is a convention of the field. A
position closes by market order once equity is below its maintenance margin; the fund pays what an
account then lacks, and behind it stand the winners, all open positions, or nobody.
"""

import math
from collections.abc import Sequence
from typing import Unpack

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets.exchange import HOURS_A_YEAR, exchange_preset, marginal_tiers
from jaxrisk.venue.presets.listing import CLOSING, ClosingOptions, check_bounds, listed
from jaxrisk.venue.venue import Venue


def perpetuals(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    initial_multiple: float = 2.0,
    funding_hours: float = 8.0,
    funding_interest: float = 0.1095,
    funding_cap: float = 350.0,
    **options: Unpack[ClosingOptions],
) -> Venue:
    """Return a venue of linear perpetuals.

    Args:
        accounts: collateral in the settlement currency and positions; an entry price of NaN is the
            opening price.
        assets: the system's assets, in order.
        initial_multiple: initial over maintenance margin.
        funding_hours: hours over which a lasting premium is paid once.
        funding_interest: funding rate without a premium, per year.
        funding_cap: largest rate in either direction, per year.
        **options: of every venue of contracts, see `MarginOptions` and `Closing`; `overrides` give
            by underlying `maintenance_margin`, and for notional from `tier_2_from` on
            `tier_2_maintenance_margin`, likewise `tier_3_`.

    Raises:
        ValueError: an instrument is unknown or an option, or a parameter out of range.
    """
    listing = listed("perpetuals", accounts, assets, options, ClosingOptions)
    listing.check_perpetuals()
    if not funding_hours > 0:
        raise ValueError(
            f"{listing.name}: funding_hours {funding_hours:g}: expected a positive number"
        )
    check_bounds(
        listing.name,
        initial_multiple=(initial_multiple, 1.0, math.inf),
        funding_cap=(funding_cap, 0.0, math.inf),
    )
    return listing.closed_by(
        options,
        requirement=NotionalMargin(
            tiers=marginal_tiers(listing, initial_multiple=initial_multiple),
            multiple=listing.array(initial_multiple),
        ),
        funding=PremiumFunding(
            period=listing.each(funding_hours / HOURS_A_YEAR),
            interest=listing.each(funding_interest),
            cap=listing.each(funding_cap),
        ),
    )


PRESET = exchange_preset(
    perpetuals,
    optional=(
        "initial_multiple",
        "funding_hours",
        "funding_interest",
        "funding_cap",
        *CLOSING,
    ),
)
