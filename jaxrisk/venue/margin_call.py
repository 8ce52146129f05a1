"""Closing just as much of a position as brings its account back to a target, and what that costs.

A liquidator takes over part of the position at a price that pays a fee. Closing frees margin and
spends the fees, so the part that restores an account is
`(theta R - E) / (theta R - c N)`: what is missing over what closing everything would free, with `c`
all fees together.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

Positions = Float[Array, "*position"]


def restoring_share(
    equity: Positions, requirement: Positions, notional: Positions, *, target: Array, cost: Array
) -> Positions:
    """Return the share of a block whose closing restores its account, in [0, 1].

    `clip((theta R - E) / (theta R - c N), 0, 1)`, and 1 where closing costs more than it frees: no
    part restores the account then.

    Args:
        equity: of the account, beyond what its other positions require, numeraire.
        requirement: R, margin of the block, numeraire.
        notional: N, of the block, numeraire.
        target: theta, the multiple of R that is to be restored.
        cost: c, all fees and slippage of closing, as a fraction of notional.
    """
    wanted = target * requirement
    return smaller(_share(wanted - equity, wanted - cost * notional), jnp.ones_like(equity))


def _share(shortage: Array, freed: Array) -> Array:
    """Return shortage over what closing everything frees: it may exceed 1, whole if nothing is."""
    share = jnp.where(freed > 0, shortage / positive_or_one(freed), jnp.ones_like(freed))
    return jnp.where(shortage > 0, share, jnp.zeros_like(share))


@pytree
class GrowingFee:
    """A liquidator's fee that grows while nobody comes.

    Source: Drift v2, math/liquidation.rs `get_liquidation_fee`.

    Attributes:
        base: fraction of notional.
        growth: added per unit of time, counted from the account's last action.
        grace: time within which it stays at `base`.
        maximum: largest fee.
    """

    base: Positions
    growth: Positions
    grace: Positions
    maximum: Positions

    def at(self, idle: Positions) -> Positions:
        """Return the fee of accounts that last acted `idle` ago."""
        grown = smaller(self.base + self.growth * idle, self.maximum)
        return jnp.where(idle < self.grace, jnp.broadcast_to(self.base, grown.shape), grown)


@pytree
class FreedMarginThrottle:
    """How much of an account's shortage may be made up so far.

    A share `initial + elapsed / duration` of all that was missing from the start may have been
    freed. Shortages below `small` are made up at once.

    Source: Drift v2, math/liquidation.rs `calculate_max_pct_to_liquidate`.

    Attributes:
        initial: share at the start, in [0, 1].
        duration: time in which a full share is added; zero for at once.
        small: shortage below which there is no throttle, numeraire.
    """

    initial: Positions
    duration: Positions
    small: Positions

    def allowed(self, shortage: Positions, elapsed: Positions, freed: Positions) -> Positions:
        """Return the share of what is still missing that may be made up now, in [0, 1].

        Args:
            shortage: margin still missing, numeraire.
            elapsed: time since the account last acted.
            freed: margin freed by liquidations so far, numeraire.
        """
        ramp = jnp.where(
            self.duration > 0, elapsed / positive_or_one(self.duration), jnp.ones_like(elapsed)
        )
        share = jnp.clip(self.initial + ramp, 0.0, 1.0)
        room = (shortage + freed) * share - freed
        room = jnp.where(room > 0, room, jnp.zeros_like(room))
        part = smaller(room / positive_or_one(shortage), jnp.ones_like(room))
        return jnp.where(shortage < self.small, jnp.ones_like(part), part)


@pytree
class Called:
    """What a call on a position closes; every leaf is `(*position,)`.

    Attributes:
        size: units closed, >= 0.
        liquidator_fee: paid to who takes it over, numeraire.
        insurance_fee: paid to the insurance fund, numeraire.
    """

    size: Positions
    liquidator_fee: Positions
    insurance_fee: Positions


@pytree
class MarginCall:
    """A call closes what restores the account, and leaves the insurance fund what is to spare.

    With margin rate `r` (the maintenance rate and the buffer a liquidation restores), fee `c` and
    price `p` of the quote asset:

    - insurance fee `i = min(most, kept (r - c - own shortage / (N p)))`, never negative;
    - size `shortage / (P (p (r - c) - i))`, times what the throttle allows, at most the position;
      the whole of a position worth no more than `small`.

    Source: Drift v2, controller/liquidation.rs `liquidate_perp`; math/liquidation.rs
    `calculate_base_asset_amount_to_cover_margin_shortage`, `calculate_perp_if_fee`.

    Attributes:
        insurance_fee: largest fee of the insurance fund, fraction of notional.
        kept: part of what is to spare that it may take, so that no account is emptied by it.
        small: notional of positions that are closed whole, numeraire.
    """

    insurance_fee: Positions
    kept: Positions
    small: Positions

    def insurance_rate(
        self, shortage: Positions, notional: Positions, margin_rate: Positions, fee: Positions
    ) -> Positions:
        """Return the fee of the insurance fund as a fraction of notional.

        Args:
            shortage: margin missing that this position accounts for, numeraire.
            notional: of the whole position, numeraire of account.
            margin_rate: maintenance rate with buffer.
            fee: of the liquidator, fraction of notional.
        """
        spare = margin_rate - fee - shortage / positive_or_one(notional)
        spare = jnp.where((spare > 0) & (notional > 0), spare, jnp.zeros_like(spare))
        return smaller(self.insurance_fee, self.kept * spare)

    def call(
        self,
        size: Positions,
        price: Positions,
        *,
        quote_price: Positions,
        shortage: Positions,
        own_shortage: Positions,
        margin_rate: Positions,
        fee: Positions,
        allowed: Positions,
    ) -> Called:
        """Return how much is closed and what fees it pays.

        Args:
            size: of the position, units, >= 0.
            price: oracle's, quote asset per unit.
            quote_price: numeraire per unit of the quote asset.
            shortage: margin missing, numeraire.
            own_shortage: part of it in proportion to this position's requirement, numeraire.
            margin_rate: maintenance rate with the buffer that is restored.
            fee: of the liquidator, fraction of notional.
            allowed: see `FreedMarginThrottle.allowed`.
        """
        notional = size * price
        value = notional * quote_price
        insurance = self.insurance_rate(own_shortage, value, margin_rate, fee)
        freed = notional * (quote_price * (margin_rate - fee) - insurance)
        # The throttle cuts what is needed, which may be more than there is.
        needed = _share(shortage, freed) * jnp.where(freed > 0, allowed, jnp.ones_like(allowed))
        share = smaller(needed, jnp.ones_like(needed))
        share = jnp.where(notional <= self.small, jnp.ones_like(share), share)
        share = jnp.where((shortage > 0) & (allowed > 0), share, jnp.zeros_like(share))
        closed = share * size
        return Called(
            size=closed,
            liquidator_fee=closed * price * fee,
            insurance_fee=closed * price * insurance,
        )


def transfer_to_restore(
    shortage: Positions,
    *,
    price: Positions,
    asset_weight: Positions,
    liability_weight: Positions,
    asset_multiplier: Positions,
    liability_multiplier: Positions,
    insurance_fee: Positions,
) -> Positions:
    """Return how much of a liability must be taken over, with assets to match, in its units.

    `shortage / (p (w_l - w_a m_a / m_l - i w_l))`, infinite where no amount restores the account.

    Source: Drift v2, math/liquidation.rs `calculate_liability_transfer_to_cover_margin_shortage`.

    Args:
        shortage: margin missing, numeraire.
        price: numeraire per unit of the liability.
        asset_weight: of the asset handed over.
        liability_weight: of the liability taken over.
        asset_multiplier: 1 + the liquidator's premium on the asset.
        liability_multiplier: 1 - the liquidator's discount on the liability.
        insurance_fee: fraction of the liability.
    """
    spent = asset_weight * asset_multiplier / liability_multiplier
    freed = price * (liability_weight - spent - insurance_fee * liability_weight)
    none = (freed <= 0) | (asset_weight >= liability_weight)
    return jnp.where(none, jnp.full_like(freed, jnp.inf), shortage / positive_or_one(freed))


def spot_insurance_fee(
    shortage: Positions,
    value: Positions,
    *,
    asset_weight: Positions,
    liability_weight: Positions,
    asset_multiplier: Positions,
    liability_multiplier: Positions,
    maximum: Positions,
) -> Positions:
    """Return the insurance fund's fee on a liability taken over, as a fraction of it.

    `min(most, (w_l - w_a m_a / m_l - shortage / V) / w_l)`, never negative.

    Source: Drift v2, math/liquidation.rs `calculate_spot_if_fee`.

    Args:
        shortage: margin missing, numeraire.
        value: of the whole liability, numeraire.
        asset_weight: of the asset handed over.
        liability_weight: of the liability taken over.
        asset_multiplier: 1 + the liquidator's premium on the asset.
        liability_multiplier: 1 - the liquidator's discount on the liability.
        maximum: largest fee.
    """
    spent = asset_weight * asset_multiplier / positive_or_one(liability_multiplier)
    spare = liability_weight - spent - shortage / positive_or_one(value)
    usable = (spare > 0) & (value > 0) & (liability_multiplier > 0)
    usable = usable & (asset_weight < liability_weight)
    fee = jnp.where(usable, spare / positive_or_one(liability_weight), jnp.zeros_like(spare))
    return smaller(maximum, fee)
