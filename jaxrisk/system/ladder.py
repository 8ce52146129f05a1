"""The ladder: a book of one collateral and one debt, sorted by the price that closes an account.

Accounts that are closed whole leave from one end of the sorted book, so how far it is closed is one
number, and what that many accounts held and owed are two sums kept for every rung. A round of calls
costs two searches whatever the number of accounts. It is the dense engine's round, not an
approximation of it; `jaxrisk.system.ladder_scope` says when the two mean the same.
"""

import dataclasses
from typing import Protocol, Self

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.market.impact import ImpactLaw
from jaxrisk.numerics.gate import larger, positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.numerics.rounds import bounded_rounds
from jaxrisk.numerics.sorted_search import SortedSearch
from jaxrisk.numerics.sums import total_up_to
from jaxrisk.venue.incentive import Incentive


@pytree
class Closed:
    """What closing some accounts moves, in units of debt.

    Attributes:
        seized: collateral taken, at the price of the close.
        repaid: debt repaid.
        written_off: debt left without collateral, which nobody repays.
    """

    seized: Float[Array, ""]
    repaid: Float[Array, ""]
    written_off: Float[Array, ""]


@pytree
class Reached:
    """How far a book is closed: what is closed of it is of less cover than all the rest.

    Attributes:
        held: units of collateral that stood behind what is closed, at the opening.
        owed: units of debt of it.
    """

    held: Float[Array, ""]
    owed: Float[Array, ""]


class SortedBook(Protocol):
    """A book of which a price closes all accounts on one side of it."""

    @property
    def incentive(self) -> Incentive:
        """What a close takes, and which part of it the protocol keeps."""
        ...

    def close(self, reached: Reached, log_price: Float[Array, ""]) -> tuple[Reached, Closed]:
        """Return how far the book is closed at a price, and what closing that much moves.

        Args:
            reached: how far it was closed before.
            log_price: log price of the collateral in units of debt.
        """
        ...


@pytree
class Ladder:
    """The sorted book with its sums.

    An account is called where `price * threshold * collateral < debt`; its whole debt is repaid
    against `credit` times as much collateral, or as much of it as all of the collateral pays for.

    Derivatives pass through amounts, the price and the incentive. Which accounts are closed is a
    step function of price and threshold: what its steps contribute is not in a derivative of this
    form; `jaxrisk.system.ladder_table` has a continuous one.

    Attributes:
        log_cover: log units of collateral per unit of debt, of accounts in increasing order;
            infinite without debt.
        sums: `(account + 1, 2)` units of collateral that the first accounts hold together, and of
            debt that they owe, from none on; side by side, for they are looked up together.
        threshold: liquidation threshold of all accounts.
        incentive: bonus of one collateral in one category; it does not depend on health.
    """

    log_cover: SortedSearch
    sums: Float[Array, "rung 2"]
    threshold: Float[Array, ""]
    incentive: Incentive

    @classmethod
    def of(
        cls,
        collateral: Float[Array, " account"],
        debt: Float[Array, " account"],
        threshold: Float[Array, ""],
        incentive: Incentive,
    ) -> Self:
        """Return the ladder of a book, in any order of its accounts.

        Args:
            collateral: units held.
            debt: units owed.
            threshold: liquidation threshold.
            incentive: bonus and fee.
        """
        both = (collateral > 0) & (debt > 0)
        log_cover = jnp.log(jnp.where(both, collateral / positive_or_one(debt), 1.0))
        log_cover = jnp.where(both, log_cover, jnp.where(debt > 0, -jnp.inf, jnp.inf))
        order = jnp.argsort(log_cover, stable=True)
        return cls(
            log_cover=SortedSearch.of(log_cover[order]),
            sums=total_up_to(jnp.stack([collateral, debt], axis=1)[order]),
            threshold=threshold,
            incentive=incentive,
        )

    def indexed(self, buckets: int | None = None) -> Self:
        """Return the same ladder with a faster search, made on the host from concrete numbers.

        Args:
            buckets: of the index; twice as many as accounts where `None`.
        """
        count = 2 * (self.sums.shape[0] - 1) if buckets is None else buckets
        return dataclasses.replace(self, log_cover=self.log_cover.indexed(count))

    @property
    def credit(self) -> Float[Array, ""]:
        """Collateral value taken per unit of debt value repaid."""
        return self.incentive.largest_credit(1, 1)[0, 0]

    @property
    def log_trigger(self) -> Float[Array, " account"]:
        """Log price in units of debt below which each account is called; decreasing."""
        return -self.log_cover.values - jnp.log(self.threshold)

    def close(self, reached: Reached, log_price: Float[Array, ""]) -> tuple[Reached, Closed]:
        """Return how many accounts are closed at a price, and what closing those left moves.

        Args:
            reached: how many were closed before.
            log_price: log price of the collateral in units of debt.
        """
        # Of those called, the ones with least cover do not pay for their debt and the bonus.
        called = self.log_cover.below(-log_price - jnp.log(self.threshold))
        poor = self.log_cover.below(jnp.log(self.credit) - log_price, equal=True)
        return closing(
            reached, self._first(called), self._first(poor), jnp.exp(log_price), self.credit
        )

    def _first(self, count: Int[Array, ""]) -> Reached:
        """Return what the first accounts hold and owe."""
        held, owed = self.sums.at[count].get(mode="promise_in_bounds")
        return Reached(held=held, owed=owed)


def closing(
    reached: Reached,
    called: Reached,
    poor: Reached,
    price: Float[Array, ""],
    credit: Float[Array, ""],
) -> tuple[Reached, Closed]:
    """Return how far a book is closed at a price, and what closing what is left moves.

    The sums rise together along the book, so how far it is closed is compared in them: no position
    is needed.

    Args:
        reached: how far it was closed before.
        called: how far the price calls accounts.
        poor: how far accounts cannot pay for their debt and the bonus.
        price: of the collateral, in units of debt.
        credit: collateral value taken per unit of debt value repaid.
    """
    held, owed = larger(reached.held, called.held), larger(reached.owed, called.owed)
    held_poor = smaller(larger(reached.held, poor.held), held)
    owed_poor = smaller(larger(reached.owed, poor.owed), owed)
    worth, paid = (held_poor - reached.held) * price, owed - owed_poor
    recovered = worth / credit
    closed = Closed(
        seized=worth + paid * credit,
        repaid=recovered + paid,
        written_off=owed_poor - reached.owed - recovered,
    )
    return Reached(held=held, owed=owed), closed


@pytree
class Transient:
    """Price drops of which a part fades.

    Attributes:
        permanent_share: part of a price drop that stays, in [0, 1].
        kept: part of the rest that is left after a step.
    """

    permanent_share: Float[Array, ""]
    kept: Float[Array, ""]


@pytree
class LadderMarket:
    """The market into which a ladder's collateral is sold.

    Attributes:
        price: opening price of the collateral, in the numeraire.
        debt_price: opening price of the debt, in the numeraire.
        law: impact law with one asset, the collateral.
        depth: of the collateral, in the numeraire; it does not react.
        transient: what becomes of price drops; `None` where they stay.
        minimum_return: profit per unit of debt below which keepers do not call; `None` for keepers
            who always do, whatever they lose by it.
    """

    price: Float[Array, ""]
    debt_price: Float[Array, ""]
    law: ImpactLaw
    depth: Float[Array, ""]
    transient: Transient | None = None
    minimum_return: Float[Array, ""] | None = None


@pytree
class LadderOutcome:
    """What is kept of a scenario, in the numeraire at the prices of each flow.

    Attributes:
        liquidated: collateral seized.
        repaid: debt repaid.
        bad_debt: debt written off.
        fee: what the protocol kept of what was seized.
        price: final mid of the collateral.
        rounds: mean number of rounds a step.
        unconverged: share of steps whose cascade was cut off.
        rationed: share of rounds in which keepers would have lost money on a part of the calls and
            left them; the ladder closes all of them, so then it says something else.
    """

    liquidated: Float[Array, "*scenario"]
    repaid: Float[Array, "*scenario"]
    bad_debt: Float[Array, "*scenario"]
    fee: Float[Array, "*scenario"]
    price: Float[Array, "*scenario"]
    rounds: Float[Array, "*scenario"]
    unconverged: Float[Array, "*scenario"]
    rationed: Float[Array, "*scenario"]


@pytree
class _State:
    """A scenario on a ladder: log price in units of debt, displacement, the rest as in the outcome.

    There is no displacement where price drops stay.
    """

    reached: Reached
    log_price: Float[Array, ""]
    displacement: Float[Array, ""] | None
    debt_price: Float[Array, ""]
    liquidated: Float[Array, ""]
    repaid: Float[Array, ""]
    bad_debt: Float[Array, ""]
    rounds: Float[Array, ""]
    unconverged: Float[Array, ""]
    rationed: Float[Array, ""]

    @property
    def log_mid(self) -> Float[Array, ""]:
        """Log of the price at which accounts are closed."""
        return self.log_price if self.displacement is None else self.log_price - self.displacement


@pytree
class LadderRules:
    """How a ladder is played; static, see `jaxrisk.system.system.StepRules`.

    Attributes:
        rounds: largest number of rounds a step.
        differentiable: use loops that reverse mode can pass through.
    """

    rounds: int = static(default=1)
    differentiable: bool = static(default=False)


def play_ladder(
    book: SortedBook,
    market: LadderMarket,
    log_returns: Float[Array, " step"],
    debt_log_returns: Float[Array, " step"] | None = None,
    *,
    rules: LadderRules,
) -> LadderOutcome:
    """Return the outcome of one scenario: prices move, then rounds of calls, in every step.

    Args:
        book: a ladder, or its table.
        market: where prices start and how they react.
        log_returns: of the collateral.
        debt_log_returns: of the debt; `None` where its price does not move.
        rules: how it is played.
    """
    zero = jnp.zeros_like(market.price)
    state = _State(
        reached=Reached(held=zero, owed=zero),
        log_price=jnp.log(market.price / market.debt_price),
        displacement=None if market.transient is None else zero,
        debt_price=market.debt_price,
        **dict.fromkeys(("liquidated", "repaid", "bad_debt"), zero),
        **dict.fromkeys(("rounds", "unconverged", "rationed"), zero),
    )

    def advance(state: _State, moves: tuple) -> tuple[_State, None]:
        return _step(book, market, rules, state, *moves), None

    steps = log_returns.shape[0]
    end, _ = lax.scan(advance, state, (log_returns, debt_log_returns))
    return LadderOutcome(
        liquidated=end.liquidated,
        repaid=end.repaid,
        bad_debt=end.bad_debt,
        # The protocol's part is the same of every call.
        fee=book.incentive.mean_fee(end.liquidated[None], end.repaid[None])[0],
        price=jnp.exp(end.log_mid) * end.debt_price,
        rounds=end.rounds / steps,
        unconverged=end.unconverged / steps,
        rationed=end.rationed / positive_or_one(end.rounds),
    )


def _step(
    book: SortedBook,
    market: LadderMarket,
    rules: LadderRules,
    state: _State,
    log_return: Float[Array, ""],
    debt_log_return: Float[Array, ""] | None,
) -> _State:
    """Return the state one step later."""
    debt_price, change = state.debt_price, log_return
    if debt_log_return is not None:
        debt_price = debt_price * jnp.exp(debt_log_return)
        change = log_return - debt_log_return
    displacement = state.displacement
    if market.transient is not None and displacement is not None:
        displacement = displacement * market.transient.kept
    state = dataclasses.replace(
        state,
        log_price=state.log_price + change,
        displacement=displacement,
        debt_price=debt_price,
    )
    state, unfinished = bounded_rounds(
        lambda s: _round(book, market, s),
        state,
        limit=rules.rounds,
        differentiable=rules.differentiable,
    )
    cut_off = unfinished.astype(state.unconverged.dtype)
    return dataclasses.replace(state, unconverged=state.unconverged + cut_off)


def _round(book: SortedBook, market: LadderMarket, state: _State) -> tuple[_State, Bool[Array, ""]]:
    """Return the state after one round of calls, and whether anything was sold in it."""
    reached, closed = book.close(state.reached, state.log_mid)
    debt_price = state.debt_price
    taken, given = closed.seized * debt_price, closed.repaid * debt_price
    volume = taken[None] - book.incentive.mean_fee(taken[None], given[None])
    depth = market.depth[None]
    drop = market.law.log_drop(volume, depth)[0]
    displacement, stays = state.displacement, drop
    if market.transient is not None and displacement is not None:
        stays = market.transient.permanent_share * drop
        displacement = displacement + (1.0 - market.transient.permanent_share) * drop
    rationed = state.rationed
    if market.minimum_return is not None:
        outlay = given * (1.0 + market.minimum_return)
        room = market.law.volume_within(1.0 - outlay / positive_or_one(volume), depth)
        rationed = rationed + (volume > room)[0].astype(rationed.dtype)
    state = _State(
        reached=reached,
        log_price=state.log_price - stays,
        displacement=displacement,
        debt_price=debt_price,
        liquidated=state.liquidated + taken,
        repaid=state.repaid + given,
        bad_debt=state.bad_debt + closed.written_off * debt_price,
        rounds=state.rounds + 1.0,
        unconverged=state.unconverged,
        rationed=rationed,
    )
    return state, volume[0] > 0
