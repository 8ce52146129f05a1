"""dYdX v4: an order book whose margin rises with open interest, with an insurance fund behind it.

Source: dydxprotocol/v4-chain @84d4664. Tiers: protocol/testing/genesis.sh (defaults for new
networks; markets are moved between tiers by governance). Liquidations: protocol/testing/mainnet/
genesis.json, clob.liquidations_config, and perpetuals.params.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.bankruptcy_price import BlockLimits, FillablePrice
from jaxrisk.venue.deleverage_ranking import DrawnOrder
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.margin_orders import SECONDS_A_YEAR, BlockOrders
from jaxrisk.venue.margin_tiers import Bracket
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets.exchange import HOURS_A_YEAR, exchange_preset, marginal_tiers
from jaxrisk.venue.presets.listing import MarginOptions, check_bounds, listed
from jaxrisk.venue.size_margin import OpenInterestMargin
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.withdrawal_gate import WithdrawalGate

MAXIMUM_FEE = 0.015
"""Largest liquidation fee, of the traded amount: `max_liquidation_fee_ppm`."""

FUNDING_CLAMP = 6.0
"""Largest eight-hour funding rate over the gap of margins: `funding_rate_clamp_factor_ppm`."""

GATE_BLOCKS = 50.0
"""Blocks for which withdrawals stop after a negative account or an outage of five minutes:
subaccounts/types/update.go."""


class Tier(NamedTuple):
    """Margin of a liquidity tier.

    Attributes:
        initial: initial margin rate.
        maintenance_share: maintenance over initial rate.
        lower: open interest at which the initial rate starts to rise, USDC.
        upper: open interest at which it reaches 1, USDC; zero for never.
    """

    initial: float
    maintenance_share: float
    lower: float
    upper: float


TIERS = {
    "large_cap": Tier(0.02, 0.6, 0.0, 0.0),
    "small_cap": Tier(0.1, 0.5, 20e6, 50e6),
    "long_tail": Tier(0.2, 0.5, 5e6, 10e6),
    "safety": Tier(1.0, 0.2, 2e6, 5e6),
    "isolated": Tier(0.05, 0.6, 0.5e6, 1e6),
    "mid_cap": Tier(0.05, 0.6, 40e6, 100e6),
}


def margin(tier: Tier, dtype: DTypeLike) -> OpenInterestMargin:
    """Return the margin of a tier, with coefficients of `dtype`."""
    number = lambda x: jnp.asarray(x, dtype)
    return OpenInterestMargin(
        base=number(tier.initial),
        maintenance_share=number(tier.maintenance_share),
        lower=number(tier.lower),
        upper=number(tier.upper),
    )


def fillable_price(dtype: DTypeLike) -> FillablePrice:
    """Return the price rule of mainnet: concessions up to 150 % of maintenance margin."""
    return FillablePrice(adjustment=jnp.asarray(1.0, dtype), spread=jnp.asarray(1.5, dtype))


def block_limits(dtype: DTypeLike) -> BlockLimits:
    """Return what mainnet liquidates in a block: 10 % of a position, 100,000 USDC of an account."""
    number = lambda x: jnp.asarray(x, dtype)
    return BlockLimits(
        portion=number(0.1), minimum=number(1e3), account=number(1e5), insurance=number(1e6)
    )


def withdrawal_gate(dtype: DTypeLike) -> WithdrawalGate:
    """Return the gate, in blocks."""
    return WithdrawalGate(duration=jnp.asarray(GATE_BLOCKS, dtype))


def funding_cap(tier: Tier, factor: float | Float[Array, ""] = FUNDING_CLAMP) -> Array:
    """Return the largest absolute funding rate of eight hours: `factor (initial - maintenance)`.

    Source: LiquidityTier `GetMaxAbsFundingClampPpm`.
    """
    return jnp.asarray(factor * tier.initial * (1.0 - tier.maintenance_share))


def dydx_v4(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    block_seconds: float = 1.0,
    order_seed: float = 0.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue, all positions of an account in cross margin.

    Args:
        accounts: collateral and positions in perpetuals.
        assets: the system's assets, in order.
        block_seconds: between two blocks.
        order_seed: of the order in which opposite accounts are deleveraged, a whole number.
        **options: of every venue of contracts, see `MarginOptions`; `symbols` name liquidity tiers.

    Raises:
        ValueError: a contract is no perpetual or has no tier, or a parameter is out of range.
    """
    listing = listed("dydx_v4", accounts, assets, options)
    listing.check_perpetuals()
    check_bounds(
        listing.name,
        block_seconds=(block_seconds, 1e-3, math.inf),
        order_seed=(order_seed, 0.0, 2.0**31),
    )
    shipped = {
        name: [Bracket(0.0, math.inf, tier.initial * tier.maintenance_share, 1.0 / tier.initial)]
        for name, tier in TIERS.items()
    }
    tiers = marginal_tiers(listing, shipped)
    gap = 1.0 / tiers.leverage[0] - tiers.rate[0]
    period = 8.0 / HOURS_A_YEAR
    return listing.venue(
        requirement=NotionalMargin(tiers=tiers),
        close=BlockOrders(
            limits=block_limits(listing.dtype),
            block=listing.array(block_seconds / SECONDS_A_YEAR),
            fee=listing.array(MAXIMUM_FEE),
        ),
        ranking=DrawnOrder(seed=jnp.asarray(int(order_seed))),
        funding=ClampedFunding(
            period=listing.array(period),
            interest=listing.array(0.0),
            clamp=listing.array(0.0),
            cap=FUNDING_CLAMP * gap / period,
        ),
    )


PRESET = exchange_preset(dydx_v4, optional=("block_seconds", "order_seed"))
