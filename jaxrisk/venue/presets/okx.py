"""OKX: position tiers of contracts, the whole position at its tier's rate, discounts on collateral.

Source: OKX help centre. Position tiers: notice of 15 May 2023 (perpetuals against USDT, columns
"after"). Discount rates: notices of 18 July 2024 (BETH) and April 2025 (X). Price limits: rules of
2022. Margin ratio: adjusted equity over maintenance margin and liquidation fee.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from jaxrisk.market.contract import perpetual
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.deleverage_ranking import LeveragedProfit
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.haircut import Slice
from jaxrisk.venue.margin_orders import TierOrders
from jaxrisk.venue.margin_tiers import Bracket, SlabTiers
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.partial_close import TierStep
from jaxrisk.venue.presets.exchange import exchange_preset, slab_tiers
from jaxrisk.venue.presets.listing import MarginOptions, check_bounds, listed
from jaxrisk.venue.price_band import PriceBand
from jaxrisk.venue.venue import Venue

HOURS_PER_YEAR = 8760.0


class PositionTiers(NamedTuple):
    """Tiers of a contract: three stated ones, and all later ones by equal steps.

    Attributes:
        cap: contracts up to which the first three reach; the step after is that of the third.
        maintenance: their maintenance rates; each later one adds `ADDED`.
        initial: their least initial rates; each later one adds `ADDED`.
    """

    cap: tuple[float, float, float]
    maintenance: tuple[float, float, float]
    initial: tuple[float, float, float]


ADDED = 0.005
"""What each tier beyond the third adds to both rates."""

TIERS: dict[str, PositionTiers] = {
    "AAVE-USDT-SWAP": PositionTiers((1e3, 3e3, 8e3), (0.0065, 0.01, 0.015), (0.02, 0.025, 0.05)),
    "ADA-USDT-SWAP": PositionTiers((1.5e3, 3e3, 6e3), (0.005, 0.0075, 0.01), (1 / 75, 0.02, 0.025)),
    "ALGO-USDT-SWAP": PositionTiers((2.5e3, 6e3, 3e4), (0.0065, 0.01, 0.015), (0.02, 0.025, 0.05)),
}
"""Tiers in contracts from 19 May 2023; the first initial rate of ADA is published as 1.33 %."""

PRICE_LIMITS: dict[str, tuple[float, float]] = {
    "swap, tier 1": (0.02, 0.05),
    "swap, tier 2": (0.04, 0.08),
    "swap, tier 3": (0.06, 0.15),
    "swap, tier 4": (0.06, 0.2),
    "future, weekly": (0.04, 0.1),
    "future, quarterly": (0.06, 0.25),
}
"""Y and Z of the price limits, 2022; Z is 3 % in the last 30 minutes before delivery."""

DISCOUNTS: dict[str, tuple[Slice, ...]] = {
    "BETH": (Slice(0.0, 0.95), Slice(2e6, 0.85), Slice(4e6, 0.5), Slice(8e6, 0.0)),
}
"""Discount rates by value in dollars, July 2024; for `TieredHaircut.from_slices`."""

COIN_DISCOUNTS: dict[str, tuple[Slice, ...]] = {
    "X": (
        Slice(0.0, 0.85),
        Slice(120e6, 0.79),
        Slice(200e6, 0.76),
        *(Slice(250e6 + 120e6 * k, round(0.73 - 0.03 * k, 2)) for k in range(25)),
        Slice(250e6 + 120e6 * 25, 0.0),
    ),
}
"""Discount rates by units of the coin, April 2025, after the steps were widened to 3 %; what lies
beyond the last published bound counts nothing."""


def brackets(tiers: PositionTiers, count: int) -> list[Bracket]:
    """Return brackets of a contract, in contracts, the last without a limit.

    Args:
        tiers: of the contract.
        count: how many, at least 3; the venue's own table ends where leverage does.
    """
    more = np.arange(1, count - 2)
    caps = [*tiers.cap, *(tiers.cap[2] + more * tiers.cap[2])]
    rates = [*tiers.maintenance, *(tiers.maintenance[2] + ADDED * more)]
    initial = [*tiers.initial, *(tiers.initial[2] + ADDED * more)]
    caps[-1] = np.inf
    floors = [0.0, *caps[:-1]]
    return [
        Bracket(float(low), float(high), float(rate), 1.0 / float(least))
        for low, high, rate, least in zip(floors, caps, rates, initial, strict=True)
    ]


def margin(
    contracts: Sequence[str] = tuple(TIERS), count: int = 12, dtype: DTypeLike | None = None
) -> SlabTiers:
    """Return the tiers of contracts among `TIERS`, in this order.

    Args:
        contracts: names.
        count: tiers of each.
        dtype: of the coefficients; JAX's default float if not given.

    Raises:
        ValueError: a contract is not among them.
    """
    if unknown := [name for name in contracts if name not in TIERS]:
        raise ValueError(f"contract {', '.join(unknown)}: expected one of {', '.join(TIERS)}")
    tables = {name: brackets(TIERS[name], count) for name in contracts}
    return SlabTiers.from_brackets(tables, dtype, by_count=True)


def price_band(kinds: Sequence[str], dtype: DTypeLike | None = None) -> PriceBand:
    """Return the price limits of contracts, each of a kind among `PRICE_LIMITS`."""
    inner, outer = zip(*(PRICE_LIMITS[kind] for kind in kinds), strict=True)
    return PriceBand(
        inner=jnp.asarray(inner, dtype or float), outer=jnp.asarray(outer, dtype or float)
    )


def funding(cap: float, *, hours: float = 8.0, dtype: DTypeLike | None = None) -> ClampedFunding:
    """Return the funding of a contract: the average premium of the interval, within a cap.

    Args:
        cap: largest rate of an interval, which the venue sets by contract.
        hours: between payments.
        dtype: of the coefficients; JAX's default float if not given.
    """
    number = lambda x: jnp.asarray(x, dtype or float)
    interval = hours / HOURS_PER_YEAR
    return ClampedFunding(
        period=number(interval), interest=number(0.0), clamp=number(0.0), cap=number(cap / interval)
    )


def loan_price(
    base_assets: Float[Array, " account"],
    base_debt: Float[Array, " account"],
    quote_assets: Float[Array, " account"],
    quote_debt: Float[Array, " account"],
    *,
    rate: Float[Array, ""],
    fee: Float[Array, ""],
) -> Float[Array, " account"]:
    """Return the liquidation price of a spot loan in quick margin, NaN where there is none.

    `(d_q (1 + m)(1 + f) - a_q) / (a_b - d_b (1 + m)(1 + f))`.

    Source: OKX, Quick Margin Mode, estimated liquidation price.

    Args:
        base_assets: units of the base asset held.
        base_debt: units of it owed.
        quote_assets: units of the quote asset held.
        quote_debt: units of it owed.
        rate: maintenance margin of what is owed.
        fee: taker's, of notional.
    """
    grown = (1.0 + rate) * (1.0 + fee)
    net = base_assets - base_debt * grown
    price = (quote_debt * grown - quote_assets) / jnp.where(net == 0, jnp.ones_like(net), net)
    return jnp.where((net != 0) & (price > 0), price, jnp.full_like(price, jnp.nan))


def okx(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    funding_cap: float,
    liquidation_fee: float = 0.0,
    contract_value: float = 1.0,
    funding_hours: float = 8.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue, all positions of an account in cross margin.

    Args:
        accounts: collateral, and positions in contracts.
        assets: the system's assets, in order.
        funding_cap: largest rate of an interval, which the venue sets by contract.
        liquidation_fee: of notional: kept back, and to the insurance fund as far as equity is left.
        contract_value: units of the underlying in a contract.
        funding_hours: between payments.
        **options: of every venue of contracts, see `MarginOptions`.

    Raises:
        ValueError: a contract is no perpetual or has no tiers, or a parameter is out of range.
    """
    listing = listed("okx", accounts, assets, options)
    listing.check_perpetuals()
    check_bounds(
        listing.name,
        funding_cap=(funding_cap, 0.0, math.inf),
        liquidation_fee=(liquidation_fee, 0.0, 0.5),
        contract_value=(contract_value, 1e-12, math.inf),
        funding_hours=(funding_hours, 1e-3, math.inf),
    )
    listing = listing.with_contracts([perpetual(contract_value) for _ in listing.rows])
    shipped = {name: brackets(own, 12) for name, own in TIERS.items()}
    tiers = slab_tiers(listing, shipped, by_count=True)
    return listing.venue(
        requirement=NotionalMargin(tiers=tiers),
        close=TierOrders(rule=TierStep(tiers=tiers), fee=listing.array(liquidation_fee)),
        ranking=LeveragedProfit(),
        funding=funding(funding_cap, hours=funding_hours, dtype=listing.dtype),
    )


PRESET = exchange_preset(
    okx,
    required=("funding_cap",),
    optional=("liquidation_fee", "contract_value", "funding_hours"),
)
