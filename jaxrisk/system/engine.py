"""Which engine plays a venue: every account in every round (dense), or sorted sums (ladder)."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxrisk.system.backing import issuers_on
from jaxrisk.system.cohorts import CallRule
from jaxrisk.system.ladder import Ladder
from jaxrisk.system.ladder_calls import LadderCalls
from jaxrisk.system.policy import Keeper
from jaxrisk.system.system import System
from jaxrisk.venue.close import FractionClose, FullClose
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.incentive import AssetBonus, Incentive, SeizureFeeBonus, UniformBonus
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue

Engine = Literal["auto", "dense", "ladder"]

APPLIES = "one collateral, one debt, and calls that repay a fixed share"
"""What is said of a venue that a ladder may play."""

# Room for cohorts, and from how many accounts on it is faster than looking at all of them. A crowd
# of keepers that leaves a part of the calls, and calls for a part of the debt, make many cohorts.
_ROOMS = ((8, 0), (64, 10_000))

# Below so many accounts looking at each of them is as fast.
PAYS_FROM = 2_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Which engine plays a venue, and why.

    Attributes:
        venue: its name.
        engine: `dense` or `ladder`.
        reason: in words.
    """

    venue: str
    engine: str
    reason: str


def ladder_applies(venue: Venue, keeper: Keeper) -> tuple[bool, str]:
    """Return whether a ladder means the same as the dense engine on a venue, and why (not).

    Where it does, whole runs are equal to rounding. What a call moves must be linear in what an
    account holds and owes, and which accounts are called must follow from their cover alone.

    Args:
        venue: with concrete numbers, for it looks at them.
        keeper: who calls.
    """
    accounts = venue.accounts
    reasons = {
        "accounts are not called by keepers": not isinstance(venue.execution, KeeperCalls),
        "accounts hold several collaterals or owe several debts": (
            len(accounts.collateral_assets) != 1 or len(accounts.debt_assets) != 1
        ),
        "accounts pay rates of their own": accounts.rate is not None,
        "a call closes more or less than a fixed share of the debt": _share(venue) is None,
        "the bonus is not one number": not isinstance(
            venue.incentive, UniformBonus | SeizureFeeBonus | AssetBonus
        ),
        "debt without collateral is not written off at once": (
            not isinstance(venue.recognition, AtZeroCollateral)
            or venue.recognition.minimum is not None
        ),
        "calls cost keepers something": keeper.cost is not None,
        "keepers need time to call": keeper.latency is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            return False, reason
    return True, APPLIES


def choices(system: System, engine: Engine) -> tuple[Choice, ...]:
    """Return which engine plays each venue of a system.

    Args:
        system: with concrete numbers.
        engine: `auto` takes the ladder where it applies and the book is large enough for it.

    Raises:
        ValueError: a ladder is asked for where it does not apply; the message says why.
    """
    made = []
    for v, venue in enumerate(system.venues):
        applies, reason = ladder_applies(venue, system.keeper)
        if applies and system.owners is not None:
            applies, reason = False, "owners of accounts act"
        if applies and issuers_on(system.claims, v):
            applies, reason = False, "a claim stands on the equity of an account"
        if engine == "ladder" and not applies:
            raise ValueError(f"venue {venue.name}: no ladder, for {reason}")
        if engine == "dense":
            reason = "as asked for"
        elif engine == "auto" and applies and venue.accounts.count < PAYS_FROM:
            applies, reason = False, f"fewer than {PAYS_FROM} accounts"
        chosen = "ladder" if applies and engine != "dense" else "dense"
        made.append(Choice(venue=venue.name, engine=chosen, reason=reason))
    return tuple(made)


def rooms(system: System) -> tuple[int, ...]:
    """Return the rooms for cohorts to try one after the other, before looking at all accounts."""
    largest = max(venue.accounts.count for venue in system.venues)
    return tuple(room for room, least in _ROOMS if largest >= least)


def on_ladders(system: System, chosen: Sequence[Choice], room: int) -> System:
    """Return the system with the chosen venues on ladders; it plays the same to rounding.

    Args:
        system: with concrete numbers.
        chosen: from `choices`.
        room: cohorts that each ladder has room for.
    """
    venues = tuple(
        dataclasses.replace(venue, execution=_sorted(venue, room))
        if choice.engine == "ladder"
        else venue
        for venue, choice in zip(system.venues, chosen, strict=True)
    )
    return dataclasses.replace(system, venues=venues)


def _sorted(venue: Venue, room: int) -> LadderCalls:
    """Return the venue's book as ladders, one a risk category."""
    accounts, ladders = venue.accounts, []
    category = np.asarray(accounts.category)
    for row in np.unique(category):
        members = np.flatnonzero(category == row)
        ladder = Ladder.of(
            jnp.asarray(np.asarray(accounts.collateral[0])[members]),
            jnp.asarray(np.asarray(accounts.debt[0])[members]),
            venue.collateral.liquidation_threshold[row, 0],
            in_category(venue.incentive, int(row)),
        )
        ladders.append(ladder.indexed())
    rule = _share(venue)
    assert rule is not None
    return LadderCalls(ladders=tuple(ladders), rule=rule, room=room)


def in_category(incentive: Incentive, category: int) -> Incentive:
    """Return the incentive of one risk category."""
    if isinstance(incentive, AssetBonus):
        return dataclasses.replace(incentive, bonus=incentive.bonus[category : category + 1])
    return incentive


def _share(venue: Venue) -> CallRule | None:
    """Return what a call closes, `None` where that is not one share of any account's debt."""
    close, one = venue.close, jnp.ones((), venue.accounts.debt.dtype)
    if isinstance(close, FullClose):
        return CallRule(share=one, full_below_health=jnp.zeros_like(one))
    if not isinstance(close, FractionClose):
        return None
    if close.small_position is not None or close.minimum_leftover is not None:
        return None
    return CallRule(share=close.fraction, full_below_health=close.full_below_health)
