"""Puts claims into a system: what may be a claim there, how many are out, and at which price.

On the host, once, before anything is simulated.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.fixed_point import FixedPoint, fixed_point
from jaxrisk.system import keeper_calls
from jaxrisk.system.backing import AccountEquity, Deposits
from jaxrisk.system.claim_order import circular_promises, closed_ownership
from jaxrisk.system.claim_prices import Claim, Exit, moved_rate, opening_books
from jaxrisk.system.execution import play_of
from jaxrisk.system.system import System, opening_state
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.margin_accounts import MarginAccounts
from jaxrisk.venue.venue import Pool

_ROUNDS = 10_000
# Holdings are decimals of a table: what is held may exceed what is out by a rounding.
_ROUNDING = 1e-9


def with_claims(
    system: System, claims: Sequence[Claim], issued: Sequence[float | None] | None = None
) -> System:
    """Return the system in which some assets are claims on its venues.

    Args:
        system: in its market each of these assets is pegged to what its rate is quoted in.
        claims: the amounts behind `Deposits` are those behind all units together.
        issued: units outstanding of each; their prices are then what is behind them at the opening,
            on cycles the solution of all of them together. Where `None`, the asset's price stands
            and as many units are out as it takes.

    Raises:
        ValueError: an asset that is no claim or two claims at once; a venue or account that nothing
            can be a claim on; nothing behind a claim; more of one held than is out; a cycle of
            claims without a single solution, by name. Every problem is listed, those of amounts
            once the rest is right.
    """
    given = list(issued) if issued is not None else [None] * len(claims)
    _raise(_scope_problems(system, claims))
    depth = _depth(system, claims)
    order = sorted(range(len(claims)), key=lambda i: depth[i])
    claims, given = [claims[i] for i in order], [given[i] for i in order]
    found = _opening_worth(system, claims, given)
    names = [system.assets[claim.asset] for claim in claims]
    total, price = np.asarray(found.value, np.float64), np.asarray(system.market.mid, np.float64)
    out = np.array(
        [
            t / price[claim.asset] if units is None else units
            for claim, t, units in zip(claims, total, given, strict=True)
        ]
    )
    _raise(_cycle_problems(system, claims, out))
    _raise([f"{n}: nothing is behind it" for n, t in zip(names, total, strict=True) if not t > 0])
    _raise([] if bool(found.converged) else [f"{', '.join(names)}: no prices solve this cycle"])
    _raise(_excess_problems(system, claims, out))
    number = lambda x: jnp.asarray(x, system.market.price.dtype)
    everywhere = np.zeros(len(system.assets))
    everywhere[[claim.asset for claim in claims]] = out
    market = _priced(system.market, claims, found.value / number(out))
    return dataclasses.replace(
        system,
        market=dataclasses.replace(market, issued=number(everywhere)),
        claims=tuple(
            dataclasses.replace(claim, backing=claim.backing.shared(number(units)))
            for claim, units in zip(claims, out, strict=True)
        ),
    )


def without_claim(system: System, asset: int) -> System:
    """Return the system in which a claim is a plain asset whose rate stays as it is."""
    claims = tuple(claim for claim in system.claims if claim.asset != asset)
    issued = system.market.issued
    if issued is not None:
        issued = issued * (1.0 - np.eye(len(system.assets))[asset]) if claims else None
    return dataclasses.replace(
        system, claims=claims, market=dataclasses.replace(system.market, issued=issued)
    )


def _opening_worth(
    system: System, claims: Sequence[Claim], given: Sequence[float | None]
) -> FixedPoint:
    """Return what is behind each claim, all units together, where that solves all of them."""
    return _solved(dataclasses.replace(system, claims=tuple(claims)), tuple(given))


@functools.partial(jax.jit, static_argnames="given")
def _solved(system: System, given: tuple[float | None, ...]) -> FixedPoint:
    claims, stated, books = system.claims, system.market.mid, opening_books(system)
    states = opening_state(system, books).venues
    pairs, one = tuple(zip(claims, given, strict=True)), jnp.ones_like(stated[0])

    def worth(totals: Float[Array, " claim"]) -> Float[Array, " claim"]:
        prices = [
            stated[claim.asset] if units is None else total / units
            for (claim, units), total in zip(pairs, totals, strict=True)
        ]
        market = _priced(system.market, claims, jnp.stack(prices))
        return jnp.stack([c.backing.worth(system, books, states, market, one) for c in claims])

    start = [stated[claim.asset] * (units or 1.0) for claim, units in pairs]
    return fixed_point(worth, jnp.stack(start), limit=_ROUNDS)


def _priced(market: Market, claims: Sequence[Claim], price: Float[Array, " claim"]) -> Market:
    """Return the market with claims at these prices, their rates moved along."""
    for i, claim in enumerate(claims):
        rise = jnp.where(price[i] > 0, price[i] / market.mid[claim.asset], 1.0)
        market = moved_rate(market, claim.asset, jnp.log(rise))
    return market


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise ValueError("\n".join(problems))


def _scope_problems(system: System, claims: Sequence[Claim]) -> list[str]:
    """Return what these claims cannot be about."""
    names, underlying = system.assets, system.market.underlying
    assets = [claim.asset for claim in claims]
    problems = [
        f"{names[a]}: it is {assets.count(a)} claims at once"
        for a in sorted(set(assets))
        if assets.count(a) > 1
    ]
    for claim in claims:
        name, backing = names[claim.asset], claim.backing
        if underlying is None or underlying[claim.asset] == claim.asset:
            problems.append(f"{name}: peg it to the asset that its rate is quoted in")
        if isinstance(backing, AccountEquity):
            problems += [f"{name}: {p}" for p in _account_problems(system, backing, claim.exit)]
        else:
            problems += [f"{name}: {p}" for p in _deposit_problems(system, backing)]
    return problems


def _account_problems(system: System, backing: AccountEquity, way: Exit) -> list[str]:
    venue = system.venues[backing.venue]
    if not 0 <= backing.account < venue.accounts.count:
        return [f"{venue.name} has no account {backing.account}"]
    if play_of(venue).standing is not keeper_calls.standing:
        return [f"what accounts have on {venue.name} cannot be behind a claim yet"]
    if way is Exit.REDEEMED and not isinstance(venue.execution, KeeperCalls):
        return [f"accounts of {venue.name} cannot be unwound by redemptions; sell the claim"]
    return []


def _deposit_problems(system: System, backing: Deposits) -> list[str]:
    problems = []
    for amount, (v, row) in zip(np.asarray(backing.units), backing.places, strict=True):
        venue = system.venues[v]
        supplied = float(venue.pool[Pool.SUPPLIED, row])
        if isinstance(venue.execution, MarginAccounts):
            problems.append(f"{venue.name} takes margin and no deposits")
        elif amount > supplied * (1.0 + _ROUNDING):
            asset = system.assets[venue.accounts.debt_assets[row]]
            problems.append(
                f"{amount:g} {asset} of deposits on {venue.name}, where {supplied:g} are supplied"
            )
    return problems


def _excess_problems(
    system: System, claims: Sequence[Claim], issued: Float[np.ndarray, " claim"]
) -> list[str]:
    """Return where more is collateral than is out, on all venues together."""
    held = np.zeros(len(system.assets))
    for venue in system.venues:
        accounts = venue.accounts
        units = np.asarray(accounts.collateral, np.float64).sum(axis=1)
        np.add.at(held, list(accounts.collateral_assets), units)
    return [
        f"{system.assets[claim.asset]}: {held[claim.asset]:g} are collateral and only {n:g} are out"
        for claim, n in zip(claims, issued, strict=True)
        if held[claim.asset] > n * (1.0 + _ROUNDING)
    ]


def _cycle_problems(
    system: System, claims: Sequence[Claim], issued: Float[np.ndarray, " claim"]
) -> list[str]:
    """Return cycles of claims without a single worth."""
    names = [system.assets[claim.asset] for claim in claims]
    behind, owed = _behind(system, claims)
    owned = np.where(issued > 0, behind / np.where(issued > 0, issued, 1.0), 0.0)
    way = lambda cycle: " -> ".join([names[c] for c in cycle])
    problems = [
        f"{way(cycle)}: {names[cycle[1]]} is owed by an account whose equity it depends on, so "
        "there may be no solution; owe something else"
        for cycle in circular_promises(behind > 0, owed > 0)
    ]
    problems += [
        f"{way(cycle)}: these claims are wholly behind each other and have no single worth; let "
        "somebody else hold part of one"
        for cycle in closed_ownership(owned)
    ]
    return problems


def _behind(
    system: System, claims: Sequence[Claim]
) -> tuple[Float[np.ndarray, "claim claim"], Float[np.ndarray, "claim claim"]]:
    """Return how many units of each claim are behind every other (rows), and owed there."""
    held, owed = np.zeros((2, len(claims), len(system.assets)))
    for i, backing in enumerate(claim.backing for claim in claims):
        if isinstance(backing, AccountEquity):
            book, j = system.venues[backing.venue].accounts, backing.account
            np.add.at(held[i], list(book.collateral_assets), np.asarray(book.collateral)[:, j])
            np.add.at(owed[i], list(book.debt_assets), np.asarray(book.debt)[:, j])
        else:
            for amount, (v, row) in zip(np.asarray(backing.units), backing.places, strict=True):
                held[i, system.venues[v].accounts.debt_assets[row]] += amount
            held[i, backing.idle_asset] += float(backing.idle)
    assets = [claim.asset for claim in claims]
    return held[:, assets], owed[:, assets]


def _depth(system: System, claims: Sequence[Claim]) -> list[int]:
    """Return how many claims each stands on, one on the other; on a cycle as many as there are."""
    held, owed = _behind(system, claims)
    on = (held > 0) | (owed > 0)
    depth = np.zeros(len(claims), np.int64)
    for _ in claims:
        depth = np.where(on, depth[None, :] + 1, 0).max(axis=1, initial=0)
    return depth.tolist()
