"""Liquidation calls that restore an account to a target health factor.

There is no close factor: the repayment is solved so that health after the call is the target. Two
dust rules override it. A debt that would be left below a minimum is repaid whole, and a collateral
that would be left below it is taken whole, even where that passes the target.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to
from jaxrisk.venue.position import Position
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.settlement import Refusal


@pytree
class TargetHealthClose:
    """Coefficients of the rule; one for all accounts or one an account.

    Attributes:
        target_health: health factor that a call restores, at least 1.
        minimum_leftover: numeraire value that must remain on both sides of a partial call.
    """

    target_health: Float[Array, "*account"]
    minimum_leftover: Float[Array, "*account"]
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the repayment that `target_call` makes of an unlimited offer.

        For a called side of several assets, taken in proportion, the weight of the collateral is
        their mean by value, as `position.credit` is the mean by what they pay for.
        """
        del width
        affordable, held = position.affordable, position.collateral
        called = position.backing if position.called_backing is None else position.called_backing
        weight = called / positive_or_one(held)
        pair = TargetPosition(
            pair=position, collateral_weight=weight, premium=jnp.zeros_like(position.debt)
        )
        repay = smaller(debt_to_target(self, pair), position.debt)
        dust = (repay < position.debt) & (position.debt - repay < self.minimum_leftover)
        repay = jnp.where(dust, position.debt, repay)
        left = held - repay * (held / positive_or_one(affordable))
        dust = (left < self.minimum_leftover) & (repay < position.debt)
        return jnp.where(dust, affordable, repay)


@pytree
class TargetPosition:
    """One collateral and one debt of accounts under call; every leaf is `(account,)`.

    Claims on either side are held in shares, so amounts move in whole shares.

    Attributes:
        pair: values of the pair and of the account; `credit` is 1 + the bonus at present health.
        collateral_weight: threshold of the called collateral, its part in the backing.
        premium: part of `pair.debt` that is premium; it is repaid before the rest.
        collateral_share: value of the smallest share of the collateral; `None` for real amounts.
        debt_share: value of the smallest share of the debt; `None` for real amounts.
    """

    pair: Position
    collateral_weight: Float[Array, "*account"]
    premium: Float[Array, " account"]
    collateral_share: Float[Array, " account"] | None = None
    debt_share: Float[Array, " account"] | None = None


@pytree
class TargetCall:
    """The outcome of calls, in the numeraire; every leaf is `(account,)`, 0 where refused.

    Attributes:
        repaid: debt value repaid, the premium included.
        premium_repaid: part of `repaid` that was premium.
        seized: collateral value taken, the protocol's fee included.
        fee: part of `seized` kept by the protocol.
        refund: collateral value returned to the borrower beyond what stays: none in this rule.
        bad_debt: debt of the account, in all assets, that is left without any collateral.
        exhausts: whether the account is left without any collateral.
        refusal: a `Refusal`: `NONE`, `HEALTHY`, or `DUST` where the offer is below what the dust
            rules require.
    """

    repaid: Float[Array, " account"]
    premium_repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    refund: Float[Array, " account"]
    bad_debt: Float[Array, " account"]
    exhausts: Bool[Array, " account"]
    refusal: Int[Array, " account"]


@pytree
class _Amounts:
    """What one call would move: premium and other debt repaid, collateral taken."""

    premium: Float[Array, " account"]
    drawn: Float[Array, " account"]
    seized: Float[Array, " account"]


def debt_to_target(close: TargetHealthClose, position: TargetPosition) -> Float[Array, " account"]:
    """Return the debt value whose repayment restores the target, `(account,)`.

    Repaying x takes x c of a collateral with weight k, so health becomes
    `(B - x c k) / (D - x) = T`, hence `x = (T D - B) / (T - c k)`. Infinite where no repayment
    reaches the target (`c k >= T`), 0 where health is above it.

    Source: Aave v4 LiquidationLogic `_calculateDebtToTargetHealthFactor`.
    """
    pair = position.pair
    missing = close.target_health * pair.total_debt - pair.backing
    gained = close.target_health - pair.credit * position.collateral_weight
    reachable = jnp.where(missing > 0, missing / positive_or_one(gained), jnp.zeros_like(missing))
    return jnp.where(gained > 0, reachable, jnp.full_like(missing, jnp.inf))


def target_call(
    close: TargetHealthClose, position: TargetPosition, repay: Float[Array, " account"]
) -> TargetCall:
    """Return the call of a liquidator who offers to repay up to `repay`.

    `x = min(repay, debt to target, debt)`; all the debt where less than the minimum would be left
    of it; `s = x c`; all the collateral, and `x = C / c`, where `s > C` or where less than the
    minimum would be left of the collateral while debt remains. Refused where that takes more than
    `repay`. The fee is `fee_share` of the bonus, `s (c - 1) / c`.

    Source: Aave v4 LiquidationLogic `_calculateLiquidationAmounts`, `_evaluateDeficit`.
    """
    pair = position.pair
    amounts = _restoring(close, position, repay)
    amounts = _without_collateral_dust(close, position, amounts)
    cost = ceil_to(amounts.drawn, pair.debt_unit) + ceil_to(amounts.premium, pair.debt_unit)
    # An offer of exactly the cost is enough: a few roundings are allowed for.
    dust = cost - repay > 8.0 * jnp.finfo(cost.dtype).eps * cost
    refusal = jnp.where(dust, int(Refusal.DUST), int(Refusal.NONE))
    refusal = jnp.where(pair.backing >= pair.total_debt, int(Refusal.HEALTHY), refusal)
    done = refusal == Refusal.NONE
    kept = lambda amount: jnp.where(done, amount, jnp.zeros_like(amount))
    whole = (amounts.drawn >= pair.debt - position.premium) & (amounts.premium >= position.premium)
    repaid = kept(jnp.where(whole, pair.debt, amounts.drawn + amounts.premium))
    bonus_share = (pair.credit - 1.0) / pair.credit
    fee = jnp.zeros_like(repaid)
    if pair.fee_share is not None:
        fee = ceil_to(amounts.seized * pair.fee_share * bonus_share, position.collateral_share)
    exhausts = done & (amounts.seized >= pair.total_collateral)
    return TargetCall(
        repaid=repaid,
        premium_repaid=kept(amounts.premium),
        seized=kept(amounts.seized),
        fee=kept(fee),
        refund=jnp.zeros_like(repaid),
        bad_debt=AtZeroCollateral().write_off(exhausts, pair.total_debt - repaid),
        exhausts=exhausts,
        refusal=refusal,
    )


def _restoring(close: TargetHealthClose, position: TargetPosition, repay: Array) -> _Amounts:
    """Return the amounts that restore the target, or all the debt where dust would be left."""
    pair, premium = position.pair, position.premium
    drawn = pair.debt - premium
    target = debt_to_target(close, position)
    wanted = smaller(target, repay)
    premium_first = smaller(wanted, premium)
    by_target = ceil_to(target - premium, position.debt_share)
    by_offer = floor_to(repay - ceil_to(premium, pair.debt_unit), position.debt_share)
    then = smaller(smaller(by_target, by_offer), drawn)
    then = jnp.where((wanted >= premium) & (then > 0), then, jnp.zeros_like(then))
    left = (drawn - then) + (premium - premium_first)
    dust = (then < drawn) & (floor_to(left, pair.debt_unit) < close.minimum_leftover)
    premium_first = jnp.where(dust, premium, premium_first)
    then = jnp.where(dust, drawn, then)
    return _Amounts(
        premium=premium_first, drawn=then, seized=_seized_for(position, premium_first + then)
    )


def _without_collateral_dust(
    close: TargetHealthClose, position: TargetPosition, amounts: _Amounts
) -> _Amounts:
    """Return the amounts, or those that take all collateral where too much or too little is."""
    pair, premium = position.pair, position.premium
    drawn = pair.debt - premium
    left = floor_to(pair.collateral - amounts.seized, pair.collateral_unit)
    dust = (amounts.seized < pair.collateral) & (left < close.minimum_leftover)
    all_of_it = (amounts.seized > pair.collateral) | (dust & (amounts.drawn < drawn))
    paid_for = ceil_to(pair.collateral, pair.collateral_unit) / pair.credit
    only_premium = paid_for <= premium
    premium_paid = jnp.where(
        only_premium, smaller(ceil_to(paid_for, pair.debt_unit), premium), premium
    )
    rest = ceil_to(paid_for - premium_paid, position.debt_share)
    rest = jnp.where(only_premium, jnp.zeros_like(rest), rest)
    # Rounding up may ask for more than is owed; then the collateral for all that is owed.
    beyond = rest > drawn
    rest = jnp.where(beyond, drawn, rest)
    seized = smaller(_seized_for(position, premium_paid + rest), pair.collateral)
    seized = jnp.where(beyond, seized, pair.collateral)
    pick = lambda whole, part: jnp.where(all_of_it, whole, part)
    return _Amounts(
        premium=pick(premium_paid, amounts.premium),
        drawn=pick(rest, amounts.drawn),
        seized=pick(seized, amounts.seized),
    )


def _seized_for(position: TargetPosition, repaid: Array) -> Array:
    amount = floor_to(repaid * position.pair.credit, position.pair.collateral_unit)
    return floor_to(amount, position.collateral_share)
