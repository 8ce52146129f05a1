"""Behaviour of a configuration: who holds which account and what they do, and when all stops."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.errors import ConfigError
from jaxrisk.run.behaviour_config import GIVERS, KEYS_OF, HaltsSection, OwnersSection, PolicySection
from jaxrisk.run.hints import expected_one_of
from jaxrisk.system.execution import play_of
from jaxrisk.system.halts import Breaker, Halts
from jaxrisk.system.owner_policy import Band, Deleverage, TopUp, Unwind, Withdraw
from jaxrisk.system.owners import Owners, VenueOwners
from jaxrisk.system.system import System
from jaxrisk.venue.venue import Venue

_KINDS = {
    "top_up": TopUp,
    "deleverage": Deleverage,
    "band": Band,
    "withdraw": Withdraw,
    "unwind": Unwind,
}


def with_owners(
    system: System,
    names: Sequence[Sequence[str]],
    owners: OwnersSection,
    policies: Mapping[str, PolicySection],
) -> System:
    """Return the system with owners who act, or as it is where no policy is set.

    Args:
        system: the system without them.
        names: by venue, the owner of each account; an account without one is its owner's only one.
        owners: their cash.
        policies: what they do.

    Raises:
        ConfigError: a policy does not fit its venue, an owner who is given cash has no account, or
            cash is given where no policy is set.
    """
    problems = _problems(system, names, owners, policies)
    if problems:
        raise ConfigError(problems)
    if not policies:
        return system
    own = [
        [name or f"\0{venue.name}\0{i}" for i, name in enumerate(row)]
        for venue, row in zip(system.venues, names, strict=True)
    ]
    number = {name: i for i, name in enumerate(dict.fromkeys(n for row in own for n in row))}
    index = [np.array([number[name] for name in row], np.int32) for row in own]
    venues = tuple(
        dataclasses.replace(v, accounts=dataclasses.replace(v.accounts, owner=jnp.asarray(row)))
        for v, row in zip(system.venues, index, strict=True)
    )
    dtype = system.market.price.dtype
    made = Owners(
        wallet=jnp.asarray(_wallets(system, index, number, owners), dtype),
        venues=tuple(_venue_owners(venue, policies, dtype) for venue in venues),
    )
    return dataclasses.replace(system, venues=venues, owners=made)


def build_halts(config: HaltsSection, venues: Sequence[str], dtype: np.dtype) -> Halts | None:
    """Return the circuit breakers of a configuration, `None` where it has none.

    Args:
        config: the breakers; moves are falls, as fractions.
        venues: names, in the order of the system's.
        dtype: of its numbers.
    """

    def breaker(move: float, steps: int) -> Breaker:
        return Breaker(move=jnp.asarray(-math.log1p(-move), dtype), steps=jnp.asarray(steps, dtype))

    of_venue = lambda own: None if own is None else breaker(own.move, own.steps)
    made = Halts(
        markets=None
        if config.market_move is None or config.market_steps is None
        else breaker(config.market_move, config.market_steps),
        venues=tuple(of_venue(config.venues.get(name)) for name in venues),
    )
    return None if made.markets is None and not config.venues else made


def _wallets(
    system: System,
    index: Sequence[np.ndarray],
    number: Mapping[str, int],
    owners: OwnersSection,
) -> np.ndarray:
    """Return the opening cash of each owner."""
    owed, mid = np.zeros(len(number)), np.asarray(system.market.mid, np.float64)
    for venue, row in zip(system.venues, index, strict=True):
        accounts = venue.accounts
        debt = mid[list(accounts.debt_assets)] @ np.asarray(accounts.debt, np.float64)
        np.add.at(owed, row, debt)
    wallet = owners.wallet_usd + owners.wallet_of_debt * owed
    for name, cash in owners.wallets.items():
        wallet[number[name]] = cash
    return wallet


def _venue_owners(
    venue: Venue, policies: Mapping[str, PolicySection], dtype: np.dtype
) -> VenueOwners:
    def of_kinds(category: str, *, giving: bool) -> tuple[Any, ...]:
        return tuple(
            _made(own, dtype)
            for own in policies.values()
            if (own.kind in GIVERS) == giving and _covers(own, venue.name, category)
        )

    givers = [of_kinds(category, giving=True) for category in venue.categories]
    return VenueOwners(
        policies=tuple(of_kinds(category, giving=False) for category in venue.categories),
        givers=tuple(own[0] if own else None for own in givers),
    )


def _made(section: PolicySection, dtype: np.dtype) -> Any:
    numbers = {key: jnp.asarray(getattr(section, key), dtype) for key in KEYS_OF[section.kind]}
    return _KINDS[section.kind](**numbers)


def _covers(section: PolicySection, venue: str, category: str) -> bool:
    return section.venue == venue and section.category in (None, category)


def _problems(
    system: System,
    names: Sequence[Sequence[str]],
    owners: OwnersSection,
    policies: Mapping[str, PolicySection],
) -> list[str]:
    known = {name for row in names for name in row if name}
    problems = [
        f"owners.wallets.{name}: no account has this owner; {expected_one_of(name, sorted(known))}"
        if known
        else f"owners.wallets.{name}: no account has an owner; fill the column owner of the book"
        for name in owners.wallets
        if name not in known
    ]
    if not policies and owners != OwnersSection():
        problems.append("owners: nobody uses this cash; set a policy with [policies.NAME]")
    by_name = {venue.name: venue for venue in system.venues}
    for label, own in policies.items():
        venue = by_name[own.venue]
        if not play_of(venue).owners_act:
            problems.append(
                f"policies.{label}.venue: owners on {venue.name} cannot act: its accounts are more "
                "than collateral and debt"
            )
        if own.category is not None and own.category not in venue.categories:
            text = expected_one_of(own.category, venue.categories)
            problems.append(f"policies.{label}.category: {text}")
    for venue in system.venues:
        for category in venue.categories:
            givers = [
                label
                for label, own in policies.items()
                if own.kind in GIVERS and _covers(own, venue.name, category)
            ]
            problems += [
                f"policies.{label}: accounts on {venue.name} give by {givers[0]} already"
                for label in givers[1:]
            ]
    return list(dict.fromkeys(problems))
