"""An auction without an oracle: a price that halves at a stated pace, and a kicker's bond."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree


@pytree
class HalfLifePrice:
    """A price that falls from a multiple of a reference, halving once every half-life.

    `price = reference * multiple * 2^-sum_k clip(t - begin_k, 0, duration_k) / half_life_k`, with
    phases one after the other. With a step, `t` is rounded down to it.

    Source: Ajna PoolHelper `_auctionPrice`, `_reserveAuctionPrice`.

    Attributes:
        multiple: price at the start, as a multiple of the reference.
        half_life: `(phase,)` time in which the price halves, years.
        duration: `(phase,)` how long each phase lasts, years; infinity for the last.
        step: years between changes of the price; `None` for a continuous fall.
    """

    multiple: Float[Array, ""]
    half_life: Float[Array, " phase"]
    duration: Float[Array, " phase"]
    step: Float[Array, ""] | None = None

    def at(
        self, reference: Float[Array, " auction"], years: Float[Array, " auction"]
    ) -> Float[Array, " auction"]:
        """Return the price `years` after the start."""
        if self.step is not None:
            # A hair above: a whole number of steps must not count as one less.
            steps = years / self.step
            years = jnp.floor(steps * (1.0 + 8.0 * jnp.finfo(years.dtype).eps)) * self.step
        halvings = jnp.zeros_like(years)
        left = years
        for phase in range(self.half_life.shape[0]):
            length = self.duration[phase]
            spent = jnp.where(left < length, left, length)
            halvings = halvings + spent / self.half_life[phase]
            left = left - jnp.where(left < length, left, length)
        return reference * self.multiple * jnp.exp2(-halvings)


@pytree
class KickerBond:
    """What whoever starts an auction must post, and wins or loses with its price.

    `share = clip(slope (neutral / threshold - 1), minimum, maximum)` of the debt is posted. A take
    at a price `p` pays the kicker `share * clip((neutral - p) / (neutral - threshold), -1, 1)` of
    the proceeds, negative where the price is above neutral: starting auctions of sound loans
    costs the bond. Where `threshold >= neutral`, it is all or nothing.

    Source: Ajna PoolHelper `_bondParams`, `_bpf`.

    Attributes:
        slope: bond share per unit of neutral price above threshold price.
        minimum: least share of the debt.
        maximum: largest share of the debt.
    """

    slope: Float[Array, ""]
    minimum: Float[Array, ""]
    maximum: Float[Array, ""]

    def share(self, neutral_ratio: Float[Array, " auction"]) -> Float[Array, " auction"]:
        """Return the bond as a share of the debt.

        Args:
            neutral_ratio: neutral price over threshold price.
        """
        return jnp.clip(self.slope * (neutral_ratio - 1.0), self.minimum, self.maximum)

    def reward(
        self,
        share: Float[Array, " auction"],
        price: Float[Array, " auction"],
        *,
        threshold: Float[Array, " auction"],
        neutral: Float[Array, " auction"],
    ) -> Float[Array, " auction"]:
        """Return the kicker's share of the proceeds at a price, negative for a penalty.

        Args:
            share: the bond's share of the debt.
            price: price of the take.
            threshold: debt per collateral of the loan when the auction began.
            neutral: price at which the kicker neither wins nor loses.
        """
        gap = neutral - threshold
        slope = jnp.clip((neutral - price) / positive_or_one(gap), -1.0, 1.0)
        return share * jnp.where(gap > 0, slope, jnp.sign(neutral - price))


class TakeRefusal(IntEnum):
    """Why a take does not go through."""

    NONE = 0
    NOT_STARTED = 1
    NO_PRICE = 2


@pytree
class Lot:
    """Loans under auction; every leaf is `(auction,)`.

    Attributes:
        collateral: collateral units left.
        debt: debt left, in units of the loan asset.
        bond: what the kicker still has at stake, in units of the loan asset.
        bond_share: the bond as a share of the debt when the auction began.
        threshold: debt per collateral when the auction began.
        neutral: price at which the kicker neither wins nor loses.
    """

    collateral: Float[Array, " auction"]
    debt: Float[Array, " auction"]
    bond: Float[Array, " auction"]
    bond_share: Float[Array, " auction"]
    threshold: Float[Array, " auction"]
    neutral: Float[Array, " auction"]


@pytree
class Take:
    """The outcome of takes; every leaf is `(auction,)`.

    `paid = repaid + fee + reward`; `paid` and the parts are in units of the loan asset.

    Attributes:
        repaid: debt repaid.
        seized: collateral units taken.
        paid: what the taker pays: `seized` at the auction price.
        fee: what reserves get of it.
        reward: what the kicker gets of it; negative where part of the bond is lost to reserves.
        refund: collateral given back in the take: none, what is left stays the borrower's.
        bad_debt: debt left without collateral, which reserves and then lenders bear.
        refusal: why the take does not go through, a `TakeRefusal`.
    """

    repaid: Float[Array, " auction"]
    seized: Float[Array, " auction"]
    paid: Float[Array, " auction"]
    fee: Float[Array, " auction"]
    reward: Float[Array, " auction"]
    refund: Float[Array, " auction"]
    bad_debt: Float[Array, " auction"]
    refusal: Int[Array, " auction"]


def take(
    bond: KickerBond,
    lot: Lot,
    price: Float[Array, " auction"],
    years: Float[Array, " auction"],
    amount: Float[Array, " auction"],
    *,
    judged: Float[Array, " auction"] | None = None,
) -> Take:
    """Return the purchase of up to `amount` collateral units at the auction price.

    The borrower is credited less than the price: `p (1 - (5 bond_share - reward) / 4)` a unit, and
    never gives more than repays the debt. The contract rounds to the smallest unit of the
    collateral in the pool's favour; amounts here are real.

    Args:
        bond: rule of the kicker's bond.
        lot: the loans.
        price: auction price now.
        years: time since the auction began; a take at its very start is refused.
        amount: collateral units asked for.
        judged: price that decides the kicker's reward where it is not the auction price: that of
            the bucket whose deposit pays.

    Source: Ajna TakerActions `_prepareTake`, `_calculateTakeFlowsAndBondChange`.
    """
    at = price if judged is None else judged
    share = bond.reward(lot.bond_share, at, threshold=lot.threshold, neutral=lot.neutral)
    credited = price * (1.0 - (5.0 * lot.bond_share - share) / 4.0)
    enough = lot.debt / positive_or_one(credited)
    seized = smaller(amount, lot.collateral)
    whole = (credited > 0) & (seized >= enough)
    seized = jnp.where(whole, enough, seized)
    repaid = jnp.where(whole, lot.debt, seized * credited)
    paid = seized * price
    reward = paid * share
    lost = -smaller(-reward, lot.bond)
    reward = jnp.where(reward < 0, lost, reward)
    refusal = jnp.where(price > 0, TakeRefusal.NONE, TakeRefusal.NO_PRICE)
    refusal = jnp.where(years > 0, refusal, TakeRefusal.NOT_STARTED)
    exhausted = seized >= lot.collateral
    return Take(
        repaid=repaid,
        seized=seized,
        paid=paid,
        fee=paid - repaid - reward,
        reward=reward,
        refund=jnp.zeros_like(paid),
        bad_debt=jnp.where(exhausted, lot.debt - repaid, jnp.zeros_like(repaid)),
        refusal=refusal,
    )
