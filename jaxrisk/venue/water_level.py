"""Liquidation by level: the riskiest accounts of a vault are drawn down together."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.levels import drained_level
from jaxrisk.numerics.pytree import pytree

PARTIALS = 2.0**30
"""Parts into which the contract divides a tick."""


class LevelRefusal(IntEnum):
    """Why a call on a vault does not go through.

    EMPTY: the vault has no debt outside of what it has absorbed.
    TOO_SMALL: the offer is below the least amount or the least share of the vault's debt.
    NOTHING: no account is above the liquidation threshold, or the level is there already.
    EMPTIED: absorbing leaves no account, and the offer exceeds what is taken of the absorbed pool.
    """

    NONE = 0
    EMPTY = 1
    TOO_SMALL = 2
    NOTHING = 3
    EMPTIED = 4


@pytree
class Ticks:
    """The grid on which a vault keeps ratios of debt to collateral: `origin (1 + spacing)^tick`.

    Stated by its spacing, not by the ratio of two ticks: the logarithm is then known to all digits,
    and ticks are in the ten thousands.

    Source: Fluid TickMath.

    Attributes:
        spacing: relative step between two ticks.
        origin: ratio at tick 0, in the units of amounts.
    """

    spacing: Float[Array, ""]
    origin: Float[Array, ""]

    def ratio(self, tick: Float[Array, "*account"]) -> Float[Array, "*account"]:
        """Return debt per collateral at a tick."""
        return self.origin * jnp.exp(tick * jnp.log1p(self.spacing))

    def floor(self, ratio: Float[Array, ""]) -> Float[Array, ""]:
        """Return the ratio of the highest tick at or below `ratio`."""
        return self.ratio(jnp.floor(jnp.log(ratio / self.origin) / jnp.log1p(self.spacing)))


@pytree
class LevelBook:
    """A vault of one collateral and one debt.

    Attributes:
        debt: `(account,)` debt units.
        collateral: `(account,)` collateral units.
        absorbed_debt: debt taken over from accounts above the absorption threshold.
        absorbed_collateral: the collateral taken over with it.
    """

    debt: Float[Array, " account"]
    collateral: Float[Array, " account"]
    absorbed_debt: Float[Array, ""]
    absorbed_collateral: Float[Array, ""]


@pytree
class LevelCall:
    """The outcome of one call on a vault; where refused, `book` is as it was and nothing moves.

    Attributes:
        repaid: debt units the liquidator repays, of accounts and of the absorbed pool.
        seized: collateral units the liquidator takes for them.
        fee: protocol's part of `seized`: none.
        refund: collateral given back to borrowers in the call: none, what is left stays theirs.
        bad_debt: debt units absorbed in the call beyond what their collateral is worth.
        account_repaid: `(account,)` debt repaid for each account.
        account_seized: `(account,)` collateral taken from each.
        absorbed: `(account,)` whether the vault has taken the account over in the call.
        level: debt per collateral to which the riskiest accounts were drawn down.
        book: the vault after the call.
        refusal: why the call is refused, a `LevelRefusal`.
    """

    repaid: Float[Array, ""]
    seized: Float[Array, ""]
    fee: Float[Array, ""]
    refund: Float[Array, ""]
    bad_debt: Float[Array, ""]
    account_repaid: Float[Array, " account"]
    account_seized: Float[Array, " account"]
    absorbed: Bool[Array, " account"]
    level: Float[Array, ""]
    book: LevelBook
    refusal: Int[Array, ""]


@pytree
class WaterLevel:
    """All accounts above a level of debt per collateral are drawn down to it together.

    With `c = (1 + penalty) / price` collateral per debt repaid, an account of debt `D` and
    collateral `Q` is at the level `r` after repaying `x(r) = max(D - r Q, 0) / (1 - c r)`. The
    level falls, riskiest accounts first, until the liquidator's offer is used up or the liquidation
    threshold is reached: `r >= threshold * price`. Before that, accounts above the absorption
    threshold are taken over by the vault whole; their debt is sold at their pooled ratio to
    whoever asks for it. `(1 + penalty) * absorption_threshold < 1` is assumed: drawing an account
    down must make it sounder.

    Thresholds are rounded down to a tick, as positions are kept by ticks.

    Source: Fluid vault (T1) `_liquidate`, `absorb`.

    Attributes:
        liquidation_threshold: debt value per collateral value at which drawing down ends.
        absorption_threshold: above this, accounts are taken over whole.
        penalty: collateral value handed over beyond the debt repaid, as a fraction of it.
        ticks: grid of ratios; `None` for thresholds not rounded.
        minimum_amount: least offer, in debt units.
        minimum_share: least offer as a share of the vault's debt.
    """

    liquidation_threshold: Float[Array, ""]
    absorption_threshold: Float[Array, ""]
    penalty: Float[Array, ""]
    ticks: Ticks | None
    minimum_amount: Float[Array, ""]
    minimum_share: Float[Array, ""]

    def call(
        self,
        book: LevelBook,
        price: Float[Array, ""],
        amount: Float[Array, ""],
        take_absorbed: Bool[Array, ""],
    ) -> LevelCall:
        """Return the call of a liquidator who offers to repay `amount`.

        Args:
            book: the vault.
            price: debt units per collateral unit.
            amount: debt units offered; 0 only absorbs.
            take_absorbed: whether to buy of the absorbed pool first.
        """
        floor = self._rounded(self.liquidation_threshold * price)
        absorbed = self._above(book, self._rounded(self.absorption_threshold * price))
        new_debt, new_collateral = _total(book.debt, absorbed), _total(book.collateral, absorbed)
        pool_debt = book.absorbed_debt + new_debt
        pool_collateral = book.absorbed_collateral + new_collateral
        from_pool = jnp.where(take_absorbed, smaller(amount, pool_debt), jnp.zeros_like(amount))
        share = jnp.where(
            from_pool < pool_debt, from_pool / positive_or_one(pool_debt), jnp.ones_like(amount)
        )
        pool_seized = jnp.where(from_pool > 0, share * pool_collateral, jnp.zeros_like(amount))
        standing = LevelBook(
            debt=jnp.where(absorbed, jnp.zeros_like(book.debt), book.debt),
            collateral=jnp.where(absorbed, jnp.zeros_like(book.collateral), book.collateral),
            absorbed_debt=pool_debt - from_pool,
            absorbed_collateral=pool_collateral - pool_seized,
        )
        credit = (1.0 + self.penalty) / price
        wanted = amount - from_pool
        level, repaid = drawn_down(standing, wanted, credit=credit, floor=floor)
        repaid = jnp.where(wanted > 0, repaid, jnp.zeros_like(repaid))
        refusal = self._refusal(book, standing, amount, from_pool, floor)
        refusal = jnp.where((amount == 0) & jnp.any(absorbed), LevelRefusal.NONE, refusal)
        refusal = jnp.where(jnp.any(book.debt > 0), refusal, LevelRefusal.EMPTY)
        done = refusal == LevelRefusal.NONE
        moved = lambda x: jnp.where(done, x, jnp.zeros_like(x))
        account_repaid, account_seized = moved(repaid), moved(credit * repaid)
        after = LevelBook(
            debt=standing.debt - account_repaid,
            collateral=standing.collateral - account_seized,
            absorbed_debt=standing.absorbed_debt,
            absorbed_collateral=standing.absorbed_collateral,
        )
        shortfall = new_debt - price * new_collateral
        zero = jnp.zeros_like(amount)
        return LevelCall(
            repaid=moved(from_pool) + jnp.sum(account_repaid),
            seized=moved(pool_seized) + jnp.sum(account_seized),
            fee=zero,
            refund=zero,
            bad_debt=moved(jnp.where(shortfall > 0, shortfall, zero)),
            account_repaid=account_repaid,
            account_seized=account_seized,
            absorbed=absorbed & done,
            level=level,
            book=_either(done, after, book),
            refusal=refusal,
        )

    def _rounded(self, ratio: Array) -> Array:
        return ratio if self.ticks is None else self.ticks.floor(ratio)

    def _above(self, book: LevelBook, ratio: Array) -> Array:
        return (book.debt > 0) & (_ratios(book) > ratio * (1.0 + _noise(ratio)))

    def _refusal(
        self, book: LevelBook, standing: LevelBook, amount: Array, from_pool: Array, floor: Array
    ) -> Array:
        """Return the contract's reasons, those it finds first last."""
        top = jnp.max(_ratios(standing))
        empty = ~jnp.any(standing.debt > 0)
        part = jnp.zeros_like(floor)
        if self.ticks is not None:
            # The contract reads the top of an emptied vault as tick 0.
            top = jnp.where(empty, self.ticks.origin, top)
            # A call that reaches the floor leaves the level one part of a tick above it.
            part = self.ticks.spacing / PARTIALS
        above = top > floor * (1.0 + _noise(floor))
        at_floor = top <= floor * (1.0 + _noise(floor) + 1.5 * part)
        wants_more = amount > from_pool
        refusal = jnp.where((from_pool <= 0) & ~above, LevelRefusal.NOTHING, LevelRefusal.NONE)
        at_floor = above & at_floor & ~empty & wants_more
        refusal = jnp.where(at_floor, LevelRefusal.NOTHING, refusal)
        refusal = jnp.where(above & empty & wants_more, LevelRefusal.EMPTIED, refusal)
        total = jnp.sum(book.debt) + book.absorbed_debt
        small = (amount < self.minimum_amount) | (amount < self.minimum_share * total)
        return jnp.where(small, LevelRefusal.TOO_SMALL, refusal)


def drawn_down(
    book: LevelBook,
    amount: Float[Array, ""],
    *,
    credit: Float[Array, ""],
    floor: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, " account"]]:
    """Return the level that repaying `amount` draws accounts down to, and what each repays.

    The level solves `sum_i max(D_i - r Q_i, 0) = (1 - c r) amount`, or is the floor.

    Args:
        book: accounts; the absorbed pool is not touched.
        amount: debt units to repay.
        credit: c, collateral units taken per debt unit repaid.
        floor: level at which drawing down ends.
    """
    ratios = _ratios(book)
    amount = smaller(amount, jnp.sum(book.debt))
    level = drained_level(book.debt, book.collateral, amount, credit=credit)
    level = jnp.where(level > floor, level, floor)
    excess = book.debt - level * book.collateral
    # An account that stands at the level, as those of the tick do, is not touched by rounding.
    above = (ratios > level * (1.0 + _noise(level))) & (excess > 0)
    return level, jnp.where(above, excess, jnp.zeros_like(excess)) / positive_or_one(
        1.0 - credit * level
    )


def _ratios(book: LevelBook) -> Array:
    ratio = book.debt / positive_or_one(book.collateral)
    return jnp.where(book.debt > 0, ratio, jnp.zeros_like(ratio))


def _noise(x: Array) -> float:
    """Return what two equal ratios may differ by after rounding: far less than a part of a tick."""
    return 16.0 * float(jnp.finfo(x.dtype).eps)


def _total(values: Array, chosen: Array) -> Array:
    return jnp.sum(jnp.where(chosen, values, jnp.zeros_like(values)))


def _either(done: Array, after: LevelBook, before: LevelBook) -> LevelBook:
    pick = lambda new, old: jnp.where(done, new, old)
    return LevelBook(
        debt=pick(after.debt, before.debt),
        collateral=pick(after.collateral, before.collateral),
        absorbed_debt=pick(after.absorbed_debt, before.absorbed_debt),
        absorbed_collateral=pick(after.absorbed_collateral, before.absorbed_collateral),
    )
