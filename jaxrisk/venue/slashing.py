"""Staked coverage of a reserve's deficit: an offset first, then slashing, then a second step.

The first `offset` of a reserve's deficit is not the stakers' business. Anyone may slash for what
lies beyond it and beyond what has been slashed for already. The slashed stake leaves the stakers at
once, but the deficit only falls when the proceeds are brought in: until then it is pending. Three
amounts must be told apart in a risk figure: covered, pending, and what the stake was too small for.
"""

import dataclasses
from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


class SlashRefusal(IntEnum):
    """Why an action on the coverage does not go through; data, not an exception."""

    NONE = 0
    NO_NEW_DEFICIT = 1
    NO_STAKE = 2
    NOTHING_TO_COVER = 3
    OFFSET_TOO_LOW = 4


@pytree
class Coverage:
    """Deficits of reserves and the stake behind them; every leaf is `(reserve,)`.

    Attributes:
        deficit: deficit on the books of the pool, in the reserve's asset.
        offset: part of it that stakers do not cover.
        pending: part of it that has been slashed for and not yet brought in.
        stake: assets staked, in the staked asset.
        shares: shares of stakers in `stake`.
    """

    deficit: Float[Array, " reserve"]
    offset: Float[Array, " reserve"]
    pending: Float[Array, " reserve"]
    stake: Float[Array, " reserve"]
    shares: Float[Array, " reserve"]

    def new_deficit(self) -> Float[Array, " reserve"]:
        """Return the deficit beyond offset and pending: what a slash is for.

        Source: Umbrella `isReserveSlashable`.
        """
        return _excess(self.deficit, self.offset + self.pending)

    def share_worth(self, virtual: Float[Array, ""] | None = None) -> Float[Array, " reserve"]:
        """Return the staked assets a share stands for: `(stake + v) / (shares + v)`.

        Args:
            virtual: assets and shares added on both sides (one raw unit in the contract); `None`
                for none. Without any, an empty stake has a worth of 1.
        """
        stake, shares = self.stake, self.shares
        if virtual is not None:
            stake, shares = stake + virtual, shares + virtual
        worth = stake / positive_or_one(shares)
        return jnp.where(shares > 0, worth, jnp.ones_like(worth))


@pytree
class Slash:
    """The outcome of slashes; every leaf is `(reserve,)`, 0 where refused but for `uncovered`.

    Attributes:
        slashed: stake taken, in the staked asset.
        covered: deficit it covers, in the reserve's asset; pending from now on.
        fee: what is slashed on top of that, at the reserve's price, in the reserve's asset.
        uncovered: new deficit that the stake was too small for.
        refusal: a `SlashRefusal`.
    """

    slashed: Float[Array, " reserve"]
    covered: Float[Array, " reserve"]
    fee: Float[Array, " reserve"]
    uncovered: Float[Array, " reserve"]
    refusal: Int[Array, " reserve"]


def slash(
    coverage: Coverage,
    *,
    fee: Float[Array, "*reserve"],
    reserve_price: Float[Array, " reserve"],
    stake_price: Float[Array, " reserve"],
    minimum_stake: Float[Array, "*reserve"],
    unit: Float[Array, ""] | None = None,
) -> tuple[Slash, Coverage]:
    """Return what slashing takes and covers, and the coverage after it.

    With the new deficit N: `needed = N (1 + fee) p_reserve / p_stake`,
    `slashed = min(needed, stake - minimum_stake)`, `covered = N slashed / needed`.

    Source: Umbrella `slash`, `_slashAsset`; StakeToken `slash`.

    Args:
        coverage: deficits and stake.
        fee: slashed on top of the deficit, a fraction of it.
        reserve_price: of the reserve's asset.
        stake_price: of the staked asset.
        minimum_stake: what always stays staked, in the staked asset.
        unit: amounts are rounded down to multiples of it; `None` for real values.
    """
    wanted = coverage.new_deficit()
    available = _excess(coverage.stake, minimum_stake)
    with_fee = floor_to(wanted * (1.0 + fee), unit)
    needed = floor_to(with_fee * reserve_price / stake_price, unit)
    exhausted = needed >= available
    share = jnp.where(exhausted, available / positive_or_one(needed), jnp.ones_like(needed))
    refusal = jnp.where(available > 0, int(SlashRefusal.NONE), int(SlashRefusal.NO_STAKE))
    refusal = jnp.where(wanted > 0, refusal, int(SlashRefusal.NO_NEW_DEFICIT))
    done = refusal == SlashRefusal.NONE
    covered = _where(done, floor_to(wanted * share, unit))
    taken = Slash(
        slashed=_where(done, smaller(needed, available)),
        covered=covered,
        fee=_where(done, floor_to((with_fee - wanted) * share, unit)),
        uncovered=wanted - covered,
        refusal=refusal,
    )
    # The minimum itself, not a small difference of large numbers.
    left = jnp.where(exhausted, minimum_stake, coverage.stake - needed)
    after = dataclasses.replace(
        coverage,
        pending=coverage.pending + covered,
        stake=jnp.where(done, left, coverage.stake),
    )
    return taken, after


def cover_offset(
    coverage: Coverage, amount: Float[Array, " reserve"]
) -> tuple[Float[Array, " reserve"], Int[Array, " reserve"], Coverage]:
    """Return what is paid in for the offset, a `SlashRefusal`, and the coverage after it.

    At most the offset, and at most the deficit less what is pending, where an offset has been set
    ahead of a deficit.

    Source: Umbrella `coverDeficitOffset`.
    """
    limit = smaller(coverage.offset, _excess(coverage.deficit, coverage.pending))
    paid, refusal = _payment(amount, limit)
    after = dataclasses.replace(
        coverage, deficit=coverage.deficit - paid, offset=coverage.offset - paid
    )
    return paid, refusal, after


def cover_pending(
    coverage: Coverage, amount: Float[Array, " reserve"]
) -> tuple[Float[Array, " reserve"], Int[Array, " reserve"], Coverage]:
    """Return what is paid in of slashed proceeds, a `SlashRefusal`, and the coverage after it.

    Source: Umbrella `coverPendingDeficit`.
    """
    paid, refusal = _payment(amount, coverage.pending)
    after = dataclasses.replace(
        coverage, deficit=coverage.deficit - paid, pending=coverage.pending - paid
    )
    return paid, refusal, after


def set_offset(
    coverage: Coverage, offset: Float[Array, " reserve"]
) -> tuple[Int[Array, " reserve"], Coverage]:
    """Return a `SlashRefusal` and the coverage with another offset.

    Refused where it would make a deficit slashable that was not.

    Source: Umbrella `setDeficitOffset`.
    """
    refused = _excess(coverage.deficit, offset + coverage.pending) > 0
    refusal = jnp.where(refused, int(SlashRefusal.OFFSET_TOO_LOW), int(SlashRefusal.NONE))
    kept = jnp.where(refused, coverage.offset, offset)
    return refusal, dataclasses.replace(coverage, offset=kept)


def deposit(
    coverage: Coverage,
    amount: Float[Array, " reserve"],
    *,
    virtual: Float[Array, ""] | None = None,
    unit: Float[Array, ""] | None = None,
) -> tuple[Float[Array, " reserve"], Coverage]:
    """Return the shares given for staked assets, and the coverage after the deposit.

    After a slash that left the minimum, a newcomer gets nearly all shares for very little. Without
    a minimum a stake can be worth nothing; shares are then given one for one.

    Source: Umbrella StakeToken `deposit` (ERC-4626).

    Args:
        coverage: deficits and stake.
        amount: staked assets brought in.
        virtual: as in `Coverage.share_worth`.
        unit: shares are rounded down to multiples of it; `None` for real values.
    """
    shares = floor_to(amount / positive_or_one(coverage.share_worth(virtual)), unit)
    after = dataclasses.replace(
        coverage, stake=coverage.stake + amount, shares=coverage.shares + shares
    )
    return shares, after


def _payment(amount: Array, limit: Array) -> tuple[Array, Array]:
    paid = smaller(amount, limit)
    nothing: Bool[Array, " reserve"] = paid <= 0
    refusal = jnp.where(nothing, int(SlashRefusal.NOTHING_TO_COVER), int(SlashRefusal.NONE))
    return _where(~nothing, paid), refusal


def _excess(whole: Array, part: Array) -> Array:
    """Return `whole - part` where positive, 0 where that is a rounding error of `whole`."""
    rest = whole - part
    return _where(rest > 8.0 * jnp.finfo(whole.dtype).eps * whole, rest)


def _where(condition: Array, value: Array) -> Array:
    return jnp.where(condition, value, jnp.zeros_like(value))
