"""Cohorts of a sorted book: accounts that calls have treated alike, whatever their number.

What a call does to an account of one collateral and one debt is linear in what it held and owed at
the opening, with coefficients that hang on prices alone. So accounts that were called by the same
calls are a range of the sorted book with three numbers, and in a round each range is cut where
accounts are called, pay, or are closed whole. Nothing is looked at account by account; the price is
a bounded number of ranges, which is noted where it does not suffice.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.ladder import Ladder


@pytree
class Cohorts:
    """Ranges of a sorted book, those of least cover first.

    An account that held `c` units and owed `d` at the opening has `kept * c - taken * d` and owes
    `owed * d`.

    Attributes:
        end: how many accounts come up to the end of each range; empty ones are last.
        kept: share of the opening collateral that is left before what calls took.
        taken: collateral that calls took, per opening unit of debt.
        owed: share of the opening debt that stands.
        overrun: 1 once there were more ranges than room: what follows is then not exact.
    """

    end: Int[Array, " cohort"]
    kept: Float[Array, " cohort"]
    taken: Float[Array, " cohort"]
    owed: Float[Array, " cohort"]
    overrun: Float[Array, ""]

    @classmethod
    def whole(cls, ladder: Ladder, room: int) -> "Cohorts":
        """Return the untouched book as one range.

        Args:
            ladder: the book.
            room: largest number of ranges.
        """
        ones = jnp.ones(room, ladder.sums.dtype)
        return cls(
            end=jnp.full(room, ladder.sums.shape[0] - 1, jnp.int32),
            kept=ones,
            taken=jnp.zeros_like(ones),
            owed=ones,
            overrun=jnp.zeros((), ones.dtype),
        )

    @property
    def start(self) -> Int[Array, " cohort"]:
        """How many accounts come before each range."""
        return jnp.concatenate([jnp.zeros_like(self.end[:1]), self.end[:-1]])

    def up_to(
        self, ladder: Ladder, level: Float[Array, ""], *, equal: bool
    ) -> Int[Array, " cohort"]:
        """Return how far accounts of each range hold less than `level` per unit owed.

        Args:
            ladder: the book.
            level: units of collateral per opening unit of debt.
            equal: count accounts that hold just as much.
        """
        # Where nothing is owed nobody is below any level.
        cover = (self.taken + self.owed * level) / positive_or_one(self.kept)
        standing = self.owed > 0
        count = ladder.log_cover.below(jnp.log(jnp.where(standing, cover, 1.0)), equal=equal)
        return jnp.where(standing, jnp.clip(count, self.start, self.end), self.start)


@pytree
class CallRule:
    """What a call does to an account of a ladder.

    Attributes:
        share: part of the debt that a call repays, in (0, 1].
        full_below_health: health factor at or below which it repays everything.
    """

    share: Float[Array, ""]
    full_below_health: Float[Array, ""]


@pytree
class Cut:
    """Cohorts cut by what the calls of a round do; leaves are `(cohort, 4)`.

    The four parts of a range are accounts that lose all they hold, then those closed whole, then
    those closed in part, then those not called.

    Attributes:
        end: of each part.
        held: units of collateral that the accounts of each part hold now.
        owed: opening units of debt that they owe now.
        closed: part of the debt that the calls repay; of those that lose everything, all of it
            goes.
    """

    end: Int[Array, "cohort part"]
    held: Float[Array, "cohort part"]
    owed: Float[Array, "cohort part"]
    closed: Float[Array, "cohort part"]


def cut(ladder: Ladder, rule: CallRule, cohorts: Cohorts, price: Float[Array, ""]) -> Cut:
    """Return the cohorts cut by what the calls of a round do at a price.

    Args:
        ladder: the book.
        rule: what a call does.
        cohorts: what stands.
        price: of the collateral, in opening units of debt.
    """
    backing, credit = 1.0 / (ladder.threshold * price), ladder.credit
    called = cohorts.up_to(ladder, backing, equal=False)
    weak = cohorts.up_to(ladder, rule.full_below_health * backing, equal=True)
    weak = jnp.minimum(weak, called)
    poor = cohorts.up_to(ladder, credit / price, equal=True)
    # A part of the debt may take all there is where the whole of it would take more.
    part = cohorts.up_to(ladder, rule.share * credit / price, equal=True)
    poor = jnp.where(poor < weak, poor, jnp.clip(part, weak, called))
    end = jnp.stack([poor, jnp.maximum(poor, weak), called, cohorts.end], axis=1)
    held, owed = _standing(ladder, cohorts, end)
    ones = jnp.ones_like(cohorts.kept)
    closed = jnp.stack([ones, ones, rule.share * ones, jnp.zeros_like(ones)], axis=1)
    return Cut(end=end, held=held, owed=owed, closed=closed)


def moved_by(
    ladder: Ladder, parts: Cut, price: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Return units seized, and opening units of debt repaid and written off, by a round's calls.

    Args:
        ladder: the book.
        parts: from `cut`.
        price: of the collateral, in opening units of debt.
    """
    paid = jnp.sum(parts.closed[:, 1:] * parts.owed[:, 1:])
    lost, due = jnp.sum(parts.held[:, 0]), jnp.sum(parts.owed[:, 0])
    recovered = lost * price / ladder.credit
    return lost + paid * ladder.credit / price, paid + recovered, due - recovered


def after(
    ladder: Ladder,
    cohorts: Cohorts,
    parts: Cut,
    price: Float[Array, ""],
    ration: Float[Array, ""],
) -> Cohorts:
    """Return the cohorts once a share of every call went through.

    Args:
        ladder: the book.
        cohorts: before.
        parts: from `cut`.
        price: of the collateral, in opening units of debt.
        ration: the share, in [0, 1].
    """
    done = ration * parts.closed
    loses = jnp.zeros_like(done).at[:, 0].set(ration)
    pays = jnp.where(loses > 0, jnp.zeros_like(done), done)
    kept, taken, owed = (x[:, None] for x in (cohorts.kept, cohorts.taken, cohorts.owed))
    return _compact(
        parts.end.reshape(-1),
        jnp.stack(
            [
                (kept * (1.0 - loses)).reshape(-1),
                (taken * (1.0 - loses) + pays * owed * (ladder.credit / price)).reshape(-1),
                (owed * (1.0 - done)).reshape(-1),
            ],
            axis=1,
        ),
        cohorts,
    )


def debt_standing(ladder: Ladder, cohorts: Cohorts) -> Float[Array, ""]:
    """Return the opening units of debt that still stand."""
    _, owed = _standing(ladder, cohorts, cohorts.end[:, None])
    return jnp.sum(owed)


def gap(ladder: Ladder, cohorts: Cohorts, price: Float[Array, ""]) -> Float[Array, ""]:
    """Return the opening units of debt beyond collateral, of accounts that still stand.

    Args:
        ladder: the book.
        cohorts: what stands.
        price: of the collateral, in opening units of debt.
    """
    short = cohorts.up_to(ladder, 1.0 / price, equal=False)
    held, owed = _standing(ladder, cohorts, jnp.stack([short, cohorts.end], axis=1))
    return jnp.sum(owed[:, 0] - held[:, 0] * price)


def _standing(
    ladder: Ladder, cohorts: Cohorts, end: Int[Array, "cohort part"]
) -> tuple[Float[Array, "cohort part"], Float[Array, "cohort part"]]:
    """Return what the accounts of each part hold and owe, parts of a range following each other."""
    upper = ladder.sums.at[end].get(mode="promise_in_bounds")
    first = ladder.sums.at[cohorts.start].get(mode="promise_in_bounds")
    opening = jnp.diff(upper, axis=1, prepend=first[:, None, :])
    kept, taken, owed = (x[:, None] for x in (cohorts.kept, cohorts.taken, cohorts.owed))
    held = kept * opening[..., 0] - taken * opening[..., 1]
    return held, owed * opening[..., 1]


def _compact(end: Int[Array, " part"], rows: Float[Array, "part 3"], before: Cohorts) -> Cohorts:
    """Return the parts as cohorts: empty ones left out, and debtless neighbours one."""
    room, count = before.end.shape[0], end.shape[0]
    start = jnp.concatenate([jnp.zeros_like(end[:1]), end[:-1]])
    there, gone = end > start, rows[:, 2] <= 0
    # The next part that is not empty, found from the end.
    index = jnp.where(there, jnp.arange(count), count)
    following = jnp.append(lax.cummin(index, reverse=True)[1:], count)
    joins = gone & jnp.append(gone, False)[following]
    keep = there & ~joins
    # The place of each that is kept, by halving: scattering them would take longer.
    so_far = jnp.cumsum(keep)
    place = jnp.searchsorted(so_far, jnp.arange(1, room + 1), side="left", method="compare_all")
    there, place = place < count, jnp.minimum(place, count - 1)
    standing = there & ~gone[place]
    chosen = jnp.where(standing[:, None], rows[place], 0.0)
    return Cohorts(
        end=jnp.where(there, end[place], end[-1]),
        kept=chosen[:, 0],
        taken=chosen[:, 1],
        owed=chosen[:, 2],
        overrun=jnp.maximum(before.overrun, (so_far[-1] > room).astype(rows.dtype)),
    )
