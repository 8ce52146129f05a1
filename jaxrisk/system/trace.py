"""Scenarios with their whole path kept: for fans of quantiles, account losses and replays."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxrisk.numerics.mapping import over_scenarios
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Layout
from jaxrisk.system.simulate import Plan, cut_books, layouts, scenario_noise
from jaxrisk.system.step import step
from jaxrisk.system.system import (
    AccountLedger,
    Flow,
    State,
    StepRules,
    System,
    opening_state,
)


@pytree
class AccountTrace:
    """What happened to each account of one venue, in the order of its book.

    Leaves are `(account,)`, or `(step, account)` cumulated where steps are kept; numeraire.
    """

    seized: Float[Array, "*step account"]
    repaid: Float[Array, "*step account"]
    written_off: Float[Array, "*step account"]
    converted: Float[Array, "*step account"]


@pytree
class Trace:
    """The path of one scenario; losses are cumulated.

    Attributes:
        mid: `(step, asset)` market price after each step.
        liquidated: `(step, venue)` collateral seized so far.
        bad_debt: `(step, venue)` debt written off so far.
        supplier_loss: `(step, venue)` bad debt that no fund covered so far.
        accounts: one entry a venue.
    """

    mid: Float[Array, "step asset"]
    liquidated: Float[Array, "step venue"]
    bad_debt: Float[Array, "step venue"]
    supplier_loss: Float[Array, "step venue"]
    accounts: tuple[AccountTrace, ...]


def tracer(
    plan: Plan, *, keep_steps: bool
) -> Callable[[System, StepRules, Key[Array, ""], np.ndarray], Trace]:
    """Return a function `(system, rules, key, ids) -> Trace`, leading axis scenario.

    Args:
        plan: how scenarios are played; the same plan as the run's gives the same numbers.
        keep_steps: keep account losses after every step instead of only at the end.
    """

    def bind(
        system: System, layout: tuple[Layout, ...], rules: StepRules, key: Key[Array, ""]
    ) -> Callable[[Int[Array, ""]], Trace]:
        books = cut_books(system, layout)

        def note(state: State) -> tuple:
            flows = jnp.stack([venue.flows for venue in state.venues], axis=1)
            row = (flows[Flow.LIQUIDATED], flows[Flow.BAD_DEBT], flows[Flow.RESIDUAL])
            ledgers = _ledgers(state) if keep_steps else ()
            return (state.market.mid, *row, ledgers)

        def advance(state: State, noise: tuple) -> tuple[State, tuple]:
            state = step(system, books, rules, state, noise)
            return state, note(state)

        def play(scenario: Int[Array, ""]) -> Trace:
            draws = scenario_noise(plan, system, key, scenario)
            opening = opening_state(system, books, with_ledgers=True)
            state, rows = lax.scan(advance, opening, draws, length=plan.steps)
            mid, liquidated, bad_debt, residual, ledgers = rows
            if not keep_steps:
                ledgers = _ledgers(state)
            return Trace(
                mid=mid,
                liquidated=liquidated,
                bad_debt=bad_debt,
                supplier_loss=residual,
                accounts=tuple(
                    _in_book_order(tranches, cut)
                    for tranches, cut in zip(ledgers, layout, strict=True)
                ),
            )

        return play

    run = over_scenarios(bind, plan.side_by_side)

    def trace(system: System, rules: StepRules, key: Key[Array, ""], ids: np.ndarray) -> Trace:
        return run((system, layouts(system, plan), rules, key), ids)

    return trace


def _ledgers(state: State) -> tuple[tuple[AccountLedger, ...], ...]:
    return tuple(venue.ledgers or () for venue in state.venues)


def _in_book_order(ledgers: tuple, layout: Layout) -> AccountTrace:
    """Return tranche ledgers joined and put back into the order of the venue's book."""
    back = jnp.argsort(jnp.concatenate(layout.members))
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=-1)[..., back], *ledgers)
    return AccountTrace(
        seized=joined.seized,
        repaid=joined.repaid,
        written_off=joined.written_off,
        converted=joined.converted,
    )
