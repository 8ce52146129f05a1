"""Who owns what in the bands: deposits and withdrawals as shares of every band."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.band_grid import BandGrid, Bands


class DepositRefusal(IntEnum):
    """Why a deposit does not go through."""

    NONE = 0
    BELOW_ACTIVE = 1
    HOLDS_BORROWED = 2
    TOO_FEW_BANDS = 3
    TOO_MANY_BANDS = 4
    ALREADY_THERE = 5
    NOTHING = 6


FEWEST_BANDS, MOST_BANDS = 4, 50


@pytree
class Shares:
    """What accounts own of the bands.

    The contracts add a thousand unowned shares to every band, worth about one smallest unit, so
    that its value a share cannot be inflated. In real amounts they are nothing.

    Attributes:
        count: `(band, account)` shares.
        first: `(account,)` number of the first band of an account.
        last: `(account,)` number of its last band.
    """

    count: Float[Array, "band account"]
    first: Int[Array, " account"]
    last: Int[Array, " account"]

    def fraction(self) -> Float[Array, "band account"]:
        """Return the part of every band that each account owns."""
        total = jnp.sum(self.count, axis=1, keepdims=True)
        return self.count / positive_or_one(total)


@pytree
class Holdings:
    """What accounts own, in coins; every leaf is `(account,)`.

    Attributes:
        borrowed: of the borrowed coin.
        collateral: of collateral.
    """

    borrowed: Float[Array, " account"]
    collateral: Float[Array, " account"]


def holdings(
    bands: Bands,
    shares: Shares,
    *,
    borrowed_unit: Float[Array, ""] | None = None,
    collateral_unit: Float[Array, ""] | None = None,
) -> Holdings:
    """Return what every account's shares stand for now, in whole units where these are given.

    Source: crvUSD AMM `get_sum_xy`.
    """
    part = shares.fraction()
    return Holdings(
        borrowed=floor_to(jnp.sum(part * bands.borrowed[:, None], axis=0), borrowed_unit),
        collateral=floor_to(jnp.sum(part * bands.collateral[:, None], axis=0), collateral_unit),
    )


def spanned(
    grid: BandGrid, first: Int[Array, " account"], last: Int[Array, " account"]
) -> Bool[Array, "band account"]:
    """Return which bands lie in each account's range."""
    number = grid.numbers()[:, None]
    return (number >= first[None, :]) & (number <= last[None, :])


def deposit(
    grid: BandGrid,
    bands: Bands,
    shares: Shares,
    account: Int[Array, ""],
    amount: Float[Array, ""],
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[Bands, Shares, Int[Array, ""]]:
    """Return bands and shares after one account spreads collateral evenly over a range of bands.

    A band gives `shares = total shares * deposit / collateral in it`, and as many shares as coins
    where it was empty. The range must lie above the active band in number, which steps back over
    bands without borrowed coin to make room.

    Args:
        grid: where the bands lie.
        bands: what they hold.
        shares: who owns them.
        account: position of the depositor on the account axis; it must own nothing yet.
        amount: collateral.
        first: number of the first band.
        last: number of the last band.

    Returns:
        Bands, shares, and a `DepositRefusal` number. A refused deposit changes nothing.

    Source: crvUSD AMM `deposit_range`.
    """
    number = grid.numbers()
    width = last - first + 1
    is_account = jnp.arange(shares.count.shape[1], dtype=account.dtype) == account
    inside = (number >= first) & (number <= last)
    each = amount / positive_or_one(width.astype(amount.dtype))
    put = jnp.where(inside, each, jnp.zeros_like(bands.collateral))
    active = smaller(bands.active, first - 1)
    own = jnp.sum(jnp.where(is_account[None, :], shares.count, jnp.zeros_like(shares.count)))
    refusal = _deposit_refusal(grid, bands, own, amount, first, last)
    goes = refusal == DepositRefusal.NONE
    put = jnp.where(goes, put, jnp.zeros_like(put))
    total = jnp.sum(shares.count, axis=1)
    rate = jnp.where(total > 0, total / positive_or_one(bands.collateral), jnp.ones_like(total))
    issued = jnp.where(is_account[None, :], (put * rate)[:, None], jnp.zeros_like(shares.count))
    chosen = goes & is_account
    return (
        Bands(
            borrowed=bands.borrowed,
            collateral=bands.collateral + put,
            active=jnp.where(goes, active, bands.active),
            lowest=jnp.where(goes, smaller(bands.lowest, first), bands.lowest),
            highest=jnp.where(goes, jnp.maximum(bands.highest, last), bands.highest),
        ),
        Shares(
            count=shares.count + issued,
            first=jnp.where(chosen, first, shares.first),
            last=jnp.where(chosen, last, shares.last),
        ),
        refusal,
    )


def _deposit_refusal(
    grid: BandGrid,
    bands: Bands,
    own: Float[Array, ""],
    amount: Float[Array, ""],
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> Int[Array, ""]:
    """Return why a deposit is refused; `own` is what the account has already."""
    number, width = grid.numbers(), last - first + 1
    holds = bands.borrowed > 0
    inside = (number >= first) & (number <= last)
    in_the_way = jnp.any(holds & (number >= first) & (number <= bands.active))
    refusal = jnp.where(own > 0, DepositRefusal.ALREADY_THERE, DepositRefusal.NONE)
    refusal = jnp.where(jnp.any(inside & holds), DepositRefusal.HOLDS_BORROWED, refusal)
    refusal = jnp.where(in_the_way, DepositRefusal.BELOW_ACTIVE, refusal)
    refusal = jnp.where(width > MOST_BANDS, DepositRefusal.TOO_MANY_BANDS, refusal)
    refusal = jnp.where(width < FEWEST_BANDS, DepositRefusal.TOO_FEW_BANDS, refusal)
    return jnp.where(amount > 0, refusal, DepositRefusal.NOTHING)


def withdraw(
    grid: BandGrid, bands: Bands, shares: Shares, portion: Float[Array, " account"]
) -> tuple[Bands, Shares, Holdings]:
    """Return bands and shares after accounts take out a portion of theirs, and what they take.

    Withdrawals of several accounts at once do not disturb each other: a share of a band is worth
    the same before and after. Only the range of bands in use (`lowest`, `highest`) depends on the
    order in which emptied bands are noticed; it is that of one account at a time where only one
    portion is positive.

    Args:
        grid: where the bands lie.
        bands: what they hold.
        shares: who owns them.
        portion: fraction of each account's shares, in [0, 1].

    Source: crvUSD AMM `withdraw`.
    """
    taken = shares.fraction() * portion[None, :]
    borrowed, collateral = taken * bands.borrowed[:, None], taken * bands.collateral[:, None]
    left = shares.count * (1.0 - portion)[None, :]
    owned = jnp.any(left > 0, axis=1)
    # The last owner takes all: what rounding leaves behind is nobody's.
    remaining = lambda held, gone: jnp.where(
        owned, jnp.maximum(held - jnp.sum(gone, axis=1), 0.0), jnp.zeros_like(held)
    )
    after_borrowed = remaining(bands.borrowed, borrowed)
    after_collateral = remaining(bands.collateral, collateral)
    acts = portion > 0
    touched = spanned(grid, shares.first, shares.last) & acts[None, :]
    lowest, highest = _range_in_use(
        grid, bands, touched, (after_borrowed > 0) | (after_collateral > 0)
    )
    after = Bands(
        borrowed=after_borrowed,
        collateral=after_collateral,
        active=bands.active,
        lowest=lowest,
        highest=highest,
    )
    out = Holdings(borrowed=jnp.sum(borrowed, axis=0), collateral=jnp.sum(collateral, axis=0))
    return after, Shares(count=left, first=shares.first, last=shares.last), out


def _range_in_use(
    grid: BandGrid,
    bands: Bands,
    touched: Bool[Array, "band account"],
    held: Bool[Array, " band"],
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Return the lowest and highest band in use, moved past bands that a withdrawal emptied."""
    number = grid.numbers()
    inside = jnp.any(touched, axis=1)
    far = grid.count + jnp.abs(grid.first) + 1
    # The lowest band moves up through bands of the range as long as they are empty.
    stops = (number >= bands.lowest) & (held | ~inside)
    stop = jnp.min(jnp.where(stops, number, grid.first + grid.count))
    lowest = jnp.where(jnp.any(inside & (number == bands.lowest)), stop, bands.lowest)
    # The highest band falls to the last one of the range that still holds something, or before it.
    top = jnp.max(jnp.where(inside, number, -far))
    bottom = jnp.min(jnp.where(inside, number, far))
    last_held = jnp.max(jnp.where(inside & held, number, bottom - 1))
    moves = jnp.any(inside) & (bands.highest <= top)
    return lowest, jnp.where(moves, last_held, bands.highest)
