"""Many scenarios: shard over devices, map over chunks, vmap, scan the step.

A scenario's result depends on the inputs, the seed and its id alone, so any id can be replayed and
a run can be cut into parts in any way.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.keys import scenario_key, step_key
from jaxrisk.numerics.mapping import over_scenarios
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.backing import issuers_on
from jaxrisk.system.book import NO_TRANCHES, Layout, Tranche, lay_out, tranches
from jaxrisk.system.called import DECIDED
from jaxrisk.system.calls import value_behind
from jaxrisk.system.engine import Choice, Engine, choices, on_ladders, rooms
from jaxrisk.system.execution import play_of
from jaxrisk.system.ladder_calls import LadderCalls
from jaxrisk.system.step import step
from jaxrisk.system.system import (
    Flow,
    State,
    StepRules,
    System,
    VenueState,
    opening_state,
)
from jaxrisk.venue.venue import Pool, Venue, imbalance

# Above this many accounts a book is cut by health so that tranches out of reach can be skipped.
_CUT_FROM = 4096
_HEALTH_GROUPS = 2
_LANES = 16
# Scenarios that are played again at a time.
_AGAIN = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How scenarios are played; static.

    Attributes:
        steps: number of steps.
        rounds: largest number of cascade rounds in a step.
        chunk: scenarios simulated side by side on an accelerator.
        lanes: scenarios simulated side by side on a CPU, where that pays: see `lanes_for`. Sums
            round a little differently with another number, so a run and its replays share it.
        health_groups: into how many groups by health books are cut; `None` chooses by size.
        differentiable: use loops that reverse mode can pass through; backwards, steps are played
            again.
    """

    steps: int
    rounds: int = 3
    chunk: int = 1
    lanes: int = 1
    health_groups: int | None = None
    differentiable: bool = False

    @property
    def side_by_side(self) -> int:
        """Scenarios simulated side by side on the backend in use."""
        return self.lanes if jax.default_backend() == "cpu" else self.chunk


@pytree
class Outcome:
    """What scenarios ended with; every leaf has a leading scenario axis once simulated.

    Amounts are in the numeraire; `(venue,)` axes follow `System.venues`.

    Attributes:
        flows: `(flow, venue)` cumulated flows, entries as in `Flow`; the properties name them.
        paid: `(venue, layer)` bad debt paid by each fund, in paying order.
        shortfall: `(venue,)` debt beyond collateral of accounts still open at the end, and claims
            beyond the worth of what was taken over for them and is not sold yet, at the market's
            mid: bad debt that nobody has recognised yet.
        unsold: `(venue,)` what the protocol has taken over and not sold yet, at the market's mid.
        price: `(asset,)` final mid.
        rounds: mean number of cascade rounds a step.
        unconverged: share of steps whose cascade was cut off.
        conservation_error: largest imbalance of a balance sheet at the end, over its size.
        owner_flows: `(owner_flow, venue)` cumulated trades of owners, entries as in `OwnerFlow`;
            `None` where owners do nothing.
        rate: `(asset,)` final exchange rates; `None` where no asset is a claim on a venue.
        overrun: 1 where a ladder had more cohorts than room, so that the scenario is not exact.
    """

    flows: Float[Array, "*scenario flow venue"]
    paid: Float[Array, "*scenario venue layer"]
    shortfall: Float[Array, "*scenario venue"]
    unsold: Float[Array, "*scenario venue"]
    price: Float[Array, "*scenario asset"]
    rounds: Float[Array, "*scenario"]
    unconverged: Float[Array, "*scenario"]
    conservation_error: Float[Array, "*scenario"]
    overrun: Float[Array, "*scenario"]
    owner_flows: Float[Array, "*scenario owner_flow venue"] | None = None
    rate: Float[Array, "*scenario asset"] | None = None

    @property
    def liquidated(self) -> Float[Array, "*scenario venue"]:
        """Collateral seized."""
        return self._flow(Flow.LIQUIDATED)

    @property
    def repaid(self) -> Float[Array, "*scenario venue"]:
        """Debt repaid by keepers, or out of what was taken over."""
        return self._flow(Flow.REPAID)

    @property
    def bad_debt(self) -> Float[Array, "*scenario venue"]:
        """Debt written off."""
        return self._flow(Flow.BAD_DEBT)

    @property
    def borrower_loss(self) -> Float[Array, "*scenario venue"]:
        """What accounts lose to keepers: seized beyond debt repaid and refunds, and conversion."""
        taken = self.liquidated - self.repaid - self._flow(Flow.REFUND)
        return taken + self.conversion_loss

    @property
    def converted(self) -> Float[Array, "*scenario venue"]:
        """Collateral that outsiders bought out of bands."""
        return self._flow(Flow.CONVERTED)

    @property
    def conversion_loss(self) -> Float[Array, "*scenario venue"]:
        """What accounts lost to the trades that convert their collateral and back."""
        return self._flow(Flow.CONVERSION_LOSS)

    @property
    def keeper_profit(self) -> Float[Array, "*scenario venue"]:
        """Proceeds less what keepers paid and their costs."""
        paid = self._flow(Flow.KEEPER_PAID) + self._flow(Flow.KEEPER_COST)
        return self._flow(Flow.PROCEEDS) - paid

    @property
    def protocol_fee(self) -> Float[Array, "*scenario venue"]:
        """Liquidation fees kept by the protocol, and its gains on what it took over."""
        return self._flow(Flow.FEE)

    @property
    def supplier_loss(self) -> Float[Array, "*scenario venue"]:
        """Bad debt no fund covered: written down or carried as a deficit."""
        return self._flow(Flow.RESIDUAL)

    @property
    def treasury_loss(self) -> Float[Array, "*scenario venue"]:
        """Bad debt the protocol's own claims bore, before any fund."""
        return self._flow(Flow.TREASURY_PAID)

    @property
    def slash_fee(self) -> Float[Array, "*scenario venue"]:
        """What stakers lost beyond the bad debt they paid, to the protocol."""
        return self._flow(Flow.SLASH_FEE)

    @property
    def dilution(self) -> Float[Array, "*scenario venue"]:
        """Bad debt no fund covered, met by issuing the protocol's token."""
        return self._flow(Flow.DILUTION)

    @property
    def redeemed(self) -> Float[Array, "*scenario venue"]:
        """Debt redeemed at face value, part of what was repaid."""
        return self._flow(Flow.REDEEMED)

    @property
    def depositor_gain(self) -> Float[Array, "*scenario venue"]:
        """Collateral that depositors of a pool got beyond the debt they paid, before selling it."""
        return self._flow(Flow.DEPOSITOR_GAIN)

    @property
    def depositor_loss(self) -> Float[Array, "*scenario venue"]:
        """Bad debt that depositors of a pool took, not netted with gains of other calls."""
        return self._flow(Flow.DEPOSITOR_LOSS)

    @property
    def redistributed_loss(self) -> Float[Array, "*scenario venue"]:
        """Bad debt that was handed to other borrowers, not netted with gains of other calls."""
        return self._flow(Flow.BORROWER_LOSS)

    @property
    def deleveraged(self) -> Float[Array, "*scenario venue"]:
        """Bad debt that accounts in profit gave up theirs for."""
        return self._flow(Flow.DELEVERAGED)

    @property
    def socialised(self) -> Float[Array, "*scenario venue"]:
        """Bad debt spread over open positions."""
        return self._flow(Flow.SOCIALISED)

    @property
    def funding(self) -> Float[Array, "*scenario venue"]:
        """Funding that accounts paid to outsiders."""
        return self._flow(Flow.FUNDING)

    @property
    def interest(self) -> Float[Array, "*scenario venue"]:
        """Interest accrued by borrowers."""
        return self._flow(Flow.INTEREST)

    def _flow(self, entry: Flow) -> Float[Array, "*scenario venue"]:
        return self.flows[..., entry, :]


def simulate(
    system: System,
    key: Key[Array, ""],
    *,
    scenarios: int | Sequence[int] | np.ndarray,
    steps: int,
    step_years: float,
    rounds: int = 3,
    chunk: int = 1,
    engine: Engine = "auto",
) -> Outcome:
    """Return the outcome of scenarios, leading axis scenario.

    Args:
        system: markets, venues, accounts, keepers.
        key: from `root_key`; a scenario's draws depend on it and on the scenario's id.
        scenarios: how many (ids from 0), or which ids.
        steps: number of steps.
        step_years: length of a step, in years.
        rounds: largest number of cascade rounds in a step.
        chunk: scenarios simulated side by side on an accelerator, see `Plan`.
        engine: which venues are played account by account (`dense`) and which on sorted sums
            (`ladder`); `auto` chooses, and `jaxrisk.system.engine.choices` says what and why.

    Raises:
        ValueError: a ladder is asked for where it does not apply; the message says why.
    """
    ids = np.arange(scenarios) if isinstance(scenarios, int) else np.asarray(scenarios)
    plan = Plan(steps=steps, rounds=rounds, chunk=chunk, lanes=lanes_for(system, rounds))
    rules = step_rules(system, plan, step_years)
    return player(system, plan, rules, key, choices(system, engine))(ids)


def player(
    system: System,
    plan: Plan,
    rules: StepRules,
    key: Key[Array, ""],
    chosen: Sequence[Choice],
) -> Callable[[np.ndarray], Outcome]:
    """Return the function from scenario ids to their outcomes; equal numbers of ids share a shape.

    Scenarios that overrun a ladder are played again with more room, at last account by account.

    Args:
        system: with concrete numbers.
        plan: how scenarios are played.
        rules: from `step_rules`.
        key: from `root_key`.
        chosen: an engine for each venue.
    """
    run = simulator(plan)
    bind = lambda own: functools.partial(run, own, cut_books(own, layouts(own, plan)), rules, key)
    forms = [lambda: system]
    if any(choice.engine == "ladder" for choice in chosen):
        sorted_in = lambda room: lambda: on_ladders(system, chosen, room)
        forms = [*(sorted_in(room) for room in rooms(system)), *forms]
    # What is not needed is neither sorted nor compiled.
    players = [functools.cache(lambda form=form: bind(form())) for form in forms]

    def play(ids: np.ndarray) -> Outcome:
        outcome = players[0]()(ids)
        for again in players[1:]:
            left = np.flatnonzero(np.asarray(outcome.overrun) > 0)
            for first in range(0, len(left), _AGAIN):
                own = left[first : first + _AGAIN]
                outcome = _replaced(outcome, own, again()(np.resize(ids[own], _AGAIN)))
        return outcome

    return play


def _replaced(outcome: Outcome, places: np.ndarray, by: Outcome) -> Outcome:
    return jax.tree.map(lambda a, b: a.at[places].set(b[: len(places)]), outcome, by)


def step_rules(
    system: System, plan: Plan, step_years: float, width: float | None = None
) -> StepRules:
    """Return the rules of a step in the system's floating-point type."""
    dtype = system.market.price.dtype
    return StepRules(
        step_years=jnp.asarray(step_years, dtype),
        width=None if width is None else jnp.asarray(width, dtype),
        rounds=plan.rounds,
        differentiable=plan.differentiable,
        one_by_one=plan.side_by_side == 1,
    )


Books = tuple[tuple[Tranche, ...], ...]
Simulator = Callable[[System, Books, StepRules, Key[Array, ""], np.ndarray], Outcome]


@functools.lru_cache(maxsize=16)
def simulator(plan: Plan) -> Simulator:
    """Return the function `(system, books, rules, key, ids) -> Outcome` over all local devices.

    One function a plan, so that equal shapes are compiled once. The number of ids need not divide
    by what is played side by side: the last ones are padded and dropped.
    """
    run = over_scenarios(functools.partial(playing, plan), plan.side_by_side)

    def simulate_ids(
        system: System, books: Books, rules: StepRules, key: Key[Array, ""], ids: np.ndarray
    ) -> Outcome:
        return run((system, books, rules, key), ids)

    return simulate_ids


def playing(
    plan: Plan, system: System, books: Books, rules: StepRules, key: Key[Array, ""]
) -> Callable[[Int[Array, ""]], Outcome]:
    """Return the function from a scenario's id to its outcome."""

    def play(scenario: Int[Array, ""]) -> Outcome:
        state = final_state(plan, system, books, rules, key, scenario)
        return outcome(system, books, state, plan.steps)

    return play


def lanes_for(system: System, rounds: int) -> int:
    """Return how many scenarios a CPU plays best side by side.

    One after another keeps the book in cache and lets a cascade stop early. A small book that is
    played in one round has neither to gain: there each operation costs more than its accounts do.
    """
    largest = max(venue.accounts.count for venue in system.venues)
    return _LANES if rounds == 1 and largest < _CUT_FROM else 1


def layouts(system: System, plan: Plan) -> tuple[Layout, ...]:
    """Return how each venue's book is cut into tranches; needs concrete numbers."""

    def groups(accounts: int) -> int:
        if plan.health_groups is not None:
            return plan.health_groups
        # Skipping saves little backwards, where it doubles what is compiled.
        one_by_one = jax.default_backend() == "cpu" and not plan.differentiable
        return _HEALTH_GROUPS if accounts >= _CUT_FROM and one_by_one else 1

    return tuple(
        NO_TRANCHES
        if isinstance(venue.execution, LadderCalls)
        else lay_out(
            venue, system.market, groups(venue.accounts.count), issuers_on(system.claims, v)
        )
        for v, venue in enumerate(system.venues)
    )


def cut_books(system: System, layout: tuple[Layout, ...]) -> Books:
    """Return each venue's book in tranches; derivatives flow through positions."""
    return tuple(tranches(v, cut) for v, cut in zip(system.venues, layout, strict=True))


def final_state(
    plan: Plan,
    system: System,
    books: Books,
    rules: StepRules,
    key: Key[Array, ""],
    scenario: Int[Array, ""],
) -> State:
    """Return the state after all steps of one scenario."""
    draws = scenario_noise(plan, system, key, scenario)

    def advance(state: State, noise: Any) -> tuple[State, None]:
        return step(system, books, rules, state, noise), None

    start = opening_state(system, books)
    if not plan.differentiable:
        return lax.scan(advance, start, draws, length=plan.steps)[0]
    # Storing what a step computes is memory bound; playing it again is faster and smaller. Kept are
    # the states between segments, within one the states between its steps, and what was decided.
    keep = jax.checkpoint_policies.save_only_these_names(DECIDED)
    advance = jax.checkpoint(advance, prevent_cse=False, policy=keep)
    length = _segment(plan.steps)
    play = lambda state, own: lax.scan(advance, state, own, length=length)
    segments = jax.tree.map(lambda x: x.reshape(-1, length, *x.shape[1:]), draws)
    play = jax.checkpoint(play, prevent_cse=False, policy=keep)
    return lax.scan(play, start, segments, length=plan.steps // length)[0]


def _segment(steps: int) -> int:
    """Return the largest divisor of the number of steps that is not above its square root."""
    return max(k for k in range(1, math.isqrt(steps) + 1) if steps % k == 0)


def scenario_noise(
    plan: Plan, system: System, key: Key[Array, ""], scenario: Int[Array, ""]
) -> Any:
    """Return all draws of one scenario, leading axis step: the same numbers as drawn one by one."""
    own = scenario_key(key, scenario)
    draw = lambda t: system.paths.noise(step_key(own, t), scenario, t)
    return jax.vmap(draw)(jnp.arange(plan.steps, dtype=jnp.uint32))


def outcome(system: System, books: Books, state: State, steps: int) -> Outcome:
    """Return the few numbers kept of a scenario."""
    flows = jnp.stack([venue.flows for venue in state.venues], axis=1)
    every = list(zip(system.venues, books, state.venues, strict=True))
    errors = jnp.stack([conservation_error(*one) for one in every])
    notes = [play_of(venue).overrun for venue in system.venues]
    overruns = [
        note(venue.execution)
        for note, venue in zip(notes, state.venues, strict=True)
        if note is not None
    ]
    layers = max(venue.funds.shape[0] for venue in system.venues)
    paid = [jnp.pad(v.paid, (0, layers - v.paid.shape[0])) for v in state.venues]
    gaps, unsold = zip(
        *(
            _unsold(venue, venue_state, state.market.mid)
            for venue, venue_state in zip(system.venues, state.venues, strict=True)
        ),
        strict=True,
    )
    return Outcome(
        flows=flows,
        paid=jnp.stack(paid),
        shortfall=jnp.stack(
            [open_shortfall(*one, state.market.mid) for one in every],
        )
        + jnp.stack(gaps),
        unsold=jnp.stack(unsold),
        price=state.market.mid,
        rounds=state.rounds / steps,
        unconverged=state.unconverged / steps,
        conservation_error=jnp.max(errors),
        owner_flows=None if state.owners is None else state.owners.flows,
        rate=jnp.exp(state.market.log_ratio) if system.claims else None,
        overrun=jnp.max(jnp.stack([jnp.zeros_like(state.rounds), *overruns])),
    )


def conservation_error(
    venue: Venue, book: tuple[Tranche, ...], state: VenueState
) -> Float[Array, ""]:
    """Return the largest imbalance of the venue's balance sheet, relative to its size.

    Debt is recomputed from the accounts themselves, so the error also shows a loan booked on one
    side only.
    """
    error = imbalance(state.pool) + debt_units(venue, book, state) - state.pool[Pool.DEBT]
    size = jnp.sum(jnp.abs(state.pool), axis=0)
    return jnp.max(jnp.abs(error) / positive_or_one(size))


def open_shortfall(
    venue: Venue, book: tuple[Tranche, ...], state: VenueState, mid: Float[Array, " asset"]
) -> Float[Array, ""]:
    """Return the debt beyond collateral of accounts that still stand, summed over accounts."""
    play = play_of(venue)
    if play.shortfall is not None:
        return play.shortfall(venue, book, state, mid)
    owed = select(mid, venue.accounts.debt_assets) * jnp.exp(state.log_index)
    debts = [
        value_behind(tranche.accounts.debt, left, owed)
        for tranche, left in zip(book, state.debt, strict=True)
    ]
    gap = jnp.concatenate(debts) - play.standing(venue, book, state, mid)
    return jnp.sum(jnp.where(gap > 0, gap, jnp.zeros_like(gap)))


def _unsold(
    venue: Venue, state: VenueState, mid: Float[Array, " asset"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return claims beyond the worth of what was taken over for them, and that worth."""
    valued = play_of(venue).unsold
    if valued is None:
        return jnp.zeros((), mid.dtype), jnp.zeros((), mid.dtype)
    return valued(venue, state.execution, mid)


def debt_units(
    venue: Venue, book: tuple[Tranche, ...], state: VenueState
) -> Float[Array, " debt_asset"]:
    """Return the units owed by all accounts, interest included."""
    return play_of(venue).owed(venue, book, state) * jnp.exp(state.log_index)
