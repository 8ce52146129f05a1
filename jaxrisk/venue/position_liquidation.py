"""Liquidation of leveraged positions by takeover of a share of one of them at the mark price."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


class PositionRefusal(IntEnum):
    """Why a call on a position does not go through; data, not an exception.

    HEALTHY: the account has the margin it needs.
    NOTHING: it has no position in the market called.
    WRONG_SIDE: the caller asked for a position of the other sign.
    FUND_TOO_SMALL: the account would owe more than the insurance fund holds.
    """

    NONE = 0
    HEALTHY = 1
    NOTHING = 2
    WRONG_SIDE = 3
    FUND_TOO_SMALL = 4


@pytree
class LinearBook:
    """Accounts with positions in linear contracts, margined together.

    Attributes:
        size: `(contract, account)` signed sizes, positive for longs.
        open_notional: `(contract, account)` what the positions brought when opened, numeraire:
            negative for longs.
        funding_due: `(contract, account)` funding not yet paid, positive where the account owes.
        cash: `(account,)` deposits and realised profit, numeraire.
    """

    size: Float[Array, "contract account"]
    open_notional: Float[Array, "contract account"]
    funding_due: Float[Array, "contract account"]
    cash: Float[Array, " account"]


@pytree
class PositionCall:
    """The outcome of a call; where refused, nothing moves. All `(account,)` but the book.

    Attributes:
        closed: size taken over by the caller, signed.
        notional: its value at the mark price, signed.
        penalty: charged to the account.
        to_fund: part of the penalty that the insurance fund gets.
        to_caller: part that the caller gets.
        bad_debt: what the fund pays because the account's last position is closed below zero.
        equity_after: of the account.
        fund_after: what the fund holds after the call, as if it were the only one.
        book: the accounts after it.
        refusal: `PositionRefusal` numbers.
    """

    closed: Float[Array, " account"]
    notional: Float[Array, " account"]
    penalty: Float[Array, " account"]
    to_fund: Float[Array, " account"]
    to_caller: Float[Array, " account"]
    bad_debt: Float[Array, " account"]
    equity_after: Float[Array, " account"]
    fund_after: Float[Array, " account"]
    book: LinearBook
    refusal: Int[Array, " account"]


def equity(
    book: LinearBook, mark: Float[Array, " contract"], unit: Float[Array, ""] | None = None
) -> Float[Array, " account"]:
    """Return cash and unrealised profit less funding due, numeraire.

    Args:
        book: accounts.
        mark: price of each contract.
        unit: what values are rounded down to; `None` for not at all.
    """
    profit = book.size * mark[:, None] + book.open_notional - book.funding_due
    return floor_to(book.cash + jnp.sum(profit, axis=0), unit)


def maintenance_margin(
    book: LinearBook, mark: Float[Array, " contract"], ratio: Float[Array, ""]
) -> Float[Array, " account"]:
    """Return the margin accounts need: a share of the value of all positions, long or short."""
    return ratio * jnp.sum(jnp.abs(book.size) * mark[:, None], axis=0)


@pytree
class ShareLiquidation:
    """A caller takes over a share of one position at its mark price and is paid a penalty.

    An account is called once its equity is below `maintenance` of the value of its positions. As
    long as it has `weak` of that margin, a call closes at most `share` of the value of all its
    positions, else any part; a position worth at most `small` is closed whole. The penalty is
    shared between the caller and the insurance fund; an account below zero pays the caller alone.

    What the account then owes must fit into the fund, or the call is refused: bad debt that nobody
    could pay is not taken on, and the position stays. It is settled when the last position closes.

    Source: Perpetual Protocol v2 ClearingHouse `_liquidate`, AccountBalance
    `getLiquidatablePositionSize`, Vault `settleBadDebt`.

    Attributes:
        maintenance: margin needed, as a fraction of the value of positions.
        penalty: as a fraction of what is closed.
        fund_share: part of the penalty that goes to the insurance fund.
        weak: fraction of the margin below which any part may be closed.
        share: part of the value of all positions that one call closes otherwise.
        small: value at or below which a position is closed whole.
        share_unit: what the share of a position is rounded down to; `None` for not at all.
        cash_unit: what equity is rounded down to; `None` for not at all.
    """

    maintenance: Float[Array, ""]
    penalty: Float[Array, ""]
    fund_share: Float[Array, ""]
    weak: Float[Array, ""]
    share: Float[Array, ""]
    small: Float[Array, ""]
    share_unit: Float[Array, ""] | None = None
    cash_unit: Float[Array, ""] | None = None

    def call(
        self,
        book: LinearBook,
        mark: Float[Array, " contract"],
        contract: Int[Array, " account"],
        requested: Float[Array, " account"],
        fund: Float[Array, ""],
    ) -> PositionCall:
        """Return a call on one position of every account, each as if it were the only one.

        Args:
            book: accounts, before funding is paid.
            mark: price of each contract.
            contract: which position is called.
            requested: signed size asked for, 0 for as much as is allowed.
            fund: what the insurance fund holds, numeraire.
        """
        picked = jnp.arange(mark.shape[0])[:, None] == contract[None, :]
        size, price = jnp.sum(jnp.where(picked, book.size, 0.0), axis=0), mark[contract]
        value = equity(book, mark, self.cash_unit)
        required = maintenance_margin(book, mark, self.maintenance)
        allowed = self._share(book, mark, jnp.abs(size) * price, value, required) * jnp.abs(size)
        asked = jnp.abs(requested)
        amount = jnp.where((asked == 0) | (asked > allowed), allowed, asked)
        penalty = self.penalty * amount * price
        to_fund = jnp.where(value < 0, jnp.zeros_like(penalty), self.fund_share * penalty)
        after = floor_to(value - penalty, self.cash_unit)
        unpayable = (after < 0) & (fund + to_fund + after < 0)
        refusal = _refusal(value - required, size, requested, unpayable)
        done = refusal == PositionRefusal.NONE
        moved = lambda x: jnp.where(done, x, jnp.zeros_like(x))
        closed, penalty, to_fund = moved(jnp.sign(size) * amount), moved(penalty), moved(to_fund)
        # A share of one takes all of it, to the last digit.
        share = jnp.where(picked, (jnp.abs(closed) / positive_or_one(jnp.abs(size)))[None, :], 0.0)
        standing = book.size * (1.0 - share)
        last = jnp.all(standing == 0, axis=0)
        bad_debt = moved(jnp.where(last & (after < 0), -after, jnp.zeros_like(after)))
        settled = jnp.where(picked & done[None, :], book.funding_due, 0.0)
        realised = jnp.sum(book.open_notional * share - settled, axis=0) + closed * price
        return PositionCall(
            closed=closed,
            notional=closed * price,
            penalty=penalty,
            to_fund=to_fund,
            to_caller=penalty - to_fund,
            bad_debt=bad_debt,
            equity_after=jnp.where(done, after, value) + bad_debt,
            fund_after=fund + to_fund - bad_debt,
            book=LinearBook(
                size=standing,
                open_notional=book.open_notional * (1.0 - share),
                funding_due=book.funding_due - settled,
                cash=book.cash + realised - penalty + bad_debt,
            ),
            refusal=refusal,
        )

    def _share(
        self, book: LinearBook, mark: Array, value: Array, held: Array, required: Array
    ) -> Array:
        """Return how much of a position worth `value` one call may close."""
        total = jnp.sum(jnp.abs(book.size) * mark[:, None], axis=0)
        part = smaller(self.share * total / positive_or_one(value), jnp.ones_like(value))
        part = floor_to(part, self.share_unit)
        whole = (held < self.weak * required) | (value <= self.small)
        return jnp.where(whole, jnp.ones_like(part), part)


def _refusal(surplus: Array, size: Array, requested: Array, unpayable: Array) -> Array:
    """Return the reasons for which calls do not go through, those found first last."""
    refusal = jnp.where(unpayable, PositionRefusal.FUND_TOO_SMALL, PositionRefusal.NONE)
    refusal = jnp.where(size * requested < 0, PositionRefusal.WRONG_SIDE, refusal)
    refusal = jnp.where(size == 0, PositionRefusal.NOTHING, refusal)
    return jnp.where(surplus >= 0, PositionRefusal.HEALTHY, refusal)
