"""Synthetix v3 perps: one pool against all traders, everything scaled by the skew of a market.

Rules: Synthetixio/synthetix-v3 @23585f7, markets/perps-market. Parameters:
Synthetixio/synthetix-deployments @bb0c6bc, tomls/omnibus-base-mainnet-andromeda/perps: global.toml
and markets (BTC last changed on 2025-06-29 by 9be20fe).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.keeper_reward import KeeperReward
from jaxrisk.venue.liquidation_window import LiquidationWindow
from jaxrisk.venue.size_margin import SkewShareMargin
from jaxrisk.venue.skew_price import SkewPrice
from jaxrisk.venue.velocity_funding import VelocityFunding

DAYS_PER_YEAR = 365.0


class PerpTerms(NamedTuple):
    """Parameters of one market, or of several as arrays.

    Attributes:
        skew_scale: skew at which the premium is 100 %, units of the contract.
        maximum_funding_velocity: change of the daily funding rate a day at full skew.
        maker_fee: fraction of notional that reduces the skew.
        taker_fee: fraction of notional that adds to it.
        initial_margin_slope: initial margin rate added by a position of the skew scale.
        minimum_initial_margin: initial margin rate of a vanishing position.
        maintenance_share: maintenance over initial rate.
        minimum_position_margin: added to both margins of a position, numeraire.
        flag_reward: keeper's share of notional.
        window_multiplier: liquidated in a second over what the fees are on the skew scale.
        window_seconds: length of a liquidation window.
        calm_premium: premium below which a further window is allowed.
    """

    skew_scale: ArrayLike
    maximum_funding_velocity: ArrayLike
    maker_fee: ArrayLike
    taker_fee: ArrayLike
    initial_margin_slope: ArrayLike
    minimum_initial_margin: ArrayLike
    maintenance_share: ArrayLike
    minimum_position_margin: ArrayLike
    flag_reward: ArrayLike
    window_multiplier: ArrayLike
    window_seconds: ArrayLike
    calm_premium: ArrayLike


@pytree
class PerpMarket:
    """The rules of a market, as slots.

    Attributes:
        margin: requirement of positions.
        funding: how the funding rate moves.
        price: fill price and fees.
        window: how much may be liquidated.
        flag_reward: keeper's share of notional.
    """

    margin: SkewShareMargin
    funding: VelocityFunding
    price: SkewPrice
    window: LiquidationWindow
    flag_reward: Float[Array, "*market"]


def perp_market(terms: PerpTerms, dtype: jnp.dtype | type) -> PerpMarket:
    """Return the rules of a market, rates per year.

    The window's limit is `(maker fee + taker fee) x skew scale x multiplier x seconds`.

    Args:
        terms: parameters.
        dtype: of the coefficients.
    """
    given = {name: jnp.asarray(value, dtype) for name, value in terms._asdict().items()}
    fees = given["maker_fee"] + given["taker_fee"]
    return PerpMarket(
        margin=SkewShareMargin(
            slope=given["initial_margin_slope"],
            scale=given["skew_scale"],
            floor=given["minimum_initial_margin"],
            maintenance_share=given["maintenance_share"],
            fixed=given["minimum_position_margin"],
        ),
        funding=VelocityFunding(
            scale=given["skew_scale"], velocity=given["maximum_funding_velocity"] * DAYS_PER_YEAR**2
        ),
        price=SkewPrice(
            scale=given["skew_scale"], maker_fee=given["maker_fee"], taker_fee=given["taker_fee"]
        ),
        window=LiquidationWindow(
            limit=fees * given["skew_scale"] * given["window_multiplier"] * given["window_seconds"],
            duration=given["window_seconds"],
            calm_premium=given["calm_premium"],
        ),
        flag_reward=given["flag_reward"],
    )


def keeper_reward(dtype: jnp.dtype | type) -> KeeperReward:
    """Return the bounds of keepers' rewards on Base: 1 to 30 USD, 30 % profit, 30 % of margin."""
    number = lambda x: jnp.asarray(x, dtype)
    return KeeperReward(
        minimum=number(1.0), profit=number(0.3), maximum=number(30.0), margin_share=number(0.3)
    )


COLLATERAL_REWARD = 0.0003
"""Keeper's share of an account's collateral, where more than that of its positions' notional."""


def _terms(
    skew_scale: float, velocity: float, maker: float, taker: float, slope: float, share: float
) -> PerpTerms:
    """Return terms with what all markets on Base have in common."""
    return PerpTerms(
        skew_scale=skew_scale,
        maximum_funding_velocity=velocity,
        maker_fee=maker,
        taker_fee=taker,
        initial_margin_slope=slope,
        minimum_initial_margin=0.02,
        maintenance_share=share,
        minimum_position_margin=15.0,
        flag_reward=0.0003,
        window_multiplier=1.5,
        window_seconds=30.0,
        calm_premium=0.0005,
    )


MARKETS = {
    "BTC": _terms(12_500.0, 9.0, 0.000001, 0.0005, 1.54, 0.28),
    "ETH": _terms(300_000.0, 9.0, 0.000001, 0.0005, 1.16, 0.28),
    "SOL": _terms(1_635_000.0, 36.0, 0.0002, 0.0008, 3.592, 0.391),
    "DOGE": _terms(885_716_000.0, 36.0, 0.0002, 0.001, 6.9, 0.3),
}
"""Base, June 2025: markets/btc.toml, eth.toml, sol.toml, doge.toml. Open interest is capped at zero
there since: positions can only be closed."""
