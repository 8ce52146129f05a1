"""Funding that one side of open interest pays the other, at a rate that adapts to the imbalance."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

Markets = Float[Array, "*market"]


@pytree
class FundingRate:
    """What a rule of funding says for an interval; every leaf is `(*market,)`.

    Attributes:
        charged: rate that the paying side pays on its open interest, >= 0, per unit of time.
        longs_pay: whether longs pay shorts.
        saved: signed rate the next interval starts from; longs pay while it is positive.
    """

    charged: Markets
    longs_pay: Bool[Array, "*market"]
    saved: Markets


def imbalance(long: Markets, short: Markets, exponent: Markets) -> Markets:
    """Return `|long - short|^exponent / (long + short)`, zero where the two differ by less than 1.

    Source: GMX v2, MarketUtils `getNextFundingFactorPerSecond`; Precision `applyExponentFactor`.

    Args:
        long: open interest of longs, numeraire.
        short: open interest of shorts, numeraire.
        exponent: of the difference.
    """
    difference = jnp.abs(long - short)
    counts = difference >= 1.0
    safe = jnp.where(counts, difference, jnp.ones_like(difference))
    power = jnp.where(counts, safe**exponent, jnp.zeros_like(safe))
    return power / positive_or_one(long + short)


@pytree
class AdaptiveFunding:
    """A signed rate that rises against a lasting imbalance and falls once it is small.

    With `x = imbalance(long, short)`, over a time `t`:

    - skew on the side that pays, `x > stable_above`: the rate moves by `increase x t` towards it;
    - skew on the side that pays, `x < decay_below`: its magnitude falls by `decrease t`, not past
      zero: `unit` remains, of the same sign;
    - skew on the other side, or no rate yet: it moves by `increase x t` towards the skew.

    The saved magnitude is capped by `maximum`; what is charged is also at least `minimum` (longs
    pay it where the rate is zero). Without open interest on either side there is no funding, and
    the rate starts again from zero.

    Times and rates are in any one unit; presets use years.

    Source: GMX v2, MarketUtils `getNextFundingFactorPerSecond`, `getNextFundingAmountPerSize`;
    Calc `boundMagnitude`.

    Attributes:
        increase: change of the rate per unit of time at `x = 1`, per unit of time.
        decrease: fall of the rate per unit of time, per unit of time.
        stable_above: imbalance above which the rate rises.
        decay_below: imbalance below which it falls.
        minimum: least rate charged, per unit of time.
        maximum: largest rate, per unit of time.
        exponent: of the imbalance.
        unit: smallest rate there is.
    """

    increase: Markets
    decrease: Markets
    stable_above: Markets
    decay_below: Markets
    minimum: Markets
    maximum: Markets
    exponent: Markets
    unit: Markets

    def advance(
        self, rate: Markets, long: Markets, short: Markets, elapsed: Markets
    ) -> FundingRate:
        """Return the rate charged over an interval, which is that of its end.

        Args:
            rate: saved rate at the start.
            long: open interest of longs over the interval, numeraire.
            short: open interest of shorts, numeraire.
            elapsed: units of time, >= 0.
        """
        x = imbalance(long, short, self.exponent)
        along = ((rate > 0) & (long > short)) | ((rate < 0) & (short > long))
        rises = ~along | (x > self.stable_above)
        falls = along & ~rises & (x < self.decay_below)
        step = self.increase * x * elapsed
        risen = rate + jnp.where(long < short, -step, step)
        size, fall = jnp.abs(rate), self.decrease * elapsed
        fallen = jnp.sign(rate) * jnp.where(size <= fall, self.unit, size - fall)
        moved = jnp.where(rises, risen, jnp.where(falls, fallen, rate))
        saved = jnp.clip(moved, -self.maximum, self.maximum)
        charged = smaller(jnp.maximum(jnp.abs(saved), self.minimum), self.maximum)
        longs_pay = (saved > 0) | ((saved == 0) & (charged > 0))
        return _if_both(long, short, charged=charged, longs_pay=longs_pay, saved=saved)


@pytree
class ProportionalFunding:
    """A rate proportional to the imbalance of the moment, without memory.

    `min(factor x imbalance(long, short), maximum)`, paid by the larger side.

    Source: GMX v2, MarketUtils `getNextFundingFactorPerSecond` (no increase factor set).

    Attributes:
        factor: rate at an imbalance of 1, per unit of time.
        maximum: largest rate, per unit of time.
        exponent: of the imbalance.
    """

    factor: Markets
    maximum: Markets
    exponent: Markets

    def advance(
        self, rate: Markets, long: Markets, short: Markets, elapsed: Markets
    ) -> FundingRate:
        """Return the rate charged over an interval; `rate` and `elapsed` play no part."""
        del rate, elapsed
        charged = smaller(self.factor * imbalance(long, short, self.exponent), self.maximum)
        # Without any difference the contract names longs, who pay nothing.
        longs_pay = long >= short
        return _if_both(
            long, short, charged=charged, longs_pay=longs_pay, saved=jnp.zeros_like(charged)
        )


def _if_both(
    long: Markets, short: Markets, *, charged: Markets, longs_pay: Array, saved: Markets
) -> FundingRate:
    both = (long > 0) & (short > 0)
    none = jnp.zeros_like(charged)
    return FundingRate(
        charged=jnp.where(both, charged, none),
        longs_pay=longs_pay & both,
        saved=jnp.where(both, saved, none),
    )


@pytree
class FundingPayment:
    """Funding of an interval, per unit of open interest, in units of each collateral.

    Attributes:
        fee: `(2, collateral, *market)` paid by longs and by shorts who hold the collateral.
        claim: `(2, collateral, *market)` received by longs and by shorts, whatever they hold.
    """

    fee: Float[Array, "2 collateral *market"]
    claim: Float[Array, "2 collateral *market"]


def funding_payment(
    rate: FundingRate,
    open_interest: Float[Array, "2 collateral *market"],
    price: Float[Array, "collateral *market"],
    elapsed: Markets,
) -> FundingPayment:
    """Return who pays and gets what: payers in the collateral they hold, receivers pro rata.

    The paying side pays `charged x elapsed` of its open interest. Each collateral is split among
    all of the other side, so a receiver is paid in what payers happen to hold.

    Source: GMX v2, MarketUtils `getNextFundingAmountPerSize`, `getFundingAmountPerSizeDelta`.

    Args:
        rate: of the interval.
        open_interest: of longs (row 0) and shorts (row 1) by the collateral they hold, numeraire.
        price: numeraire per unit of each collateral.
        elapsed: units of time.
    """
    side = jnp.sum(open_interest, axis=1)
    per_payer = rate.charged * elapsed
    pays = jnp.stack([rate.longs_pay, ~rate.longs_pay])[:, None]
    held = open_interest > 0
    # Every payer pays the same fraction, so per unit of open interest only prices differ.
    fee = jnp.where(pays & held, per_payer / price, jnp.zeros_like(open_interest))
    paid_to = jnp.sum(fee * open_interest, axis=0)
    claim = paid_to[None] / positive_or_one(side)[:, None]
    receives = ~pays & (side > 0)[:, None]
    return FundingPayment(fee=fee, claim=jnp.where(receives, claim, jnp.zeros_like(claim)))
