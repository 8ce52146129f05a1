"""Layers that stand on each other through claims: their leverage, and which of them breaks first.

A layer is a group of accounts: those behind a claim, and on each venue those that hold claims. What
it is exposed to is seen through every claim it holds, down to the assets that are none. A snapshot:
prices jump, claims follow what is behind them, the venues come to see it, and nobody has reacted.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.measure.owner import account_equity, account_health
from jaxrisk.measure.solvency import BalanceSheet, account_balance_sheets
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.system.backing import AccountEquity
from jaxrisk.system.claim_prices import followed
from jaxrisk.system.system import System
from jaxrisk.venue.margin_accounts import MarginAccounts

# Falls at which a layer is looked at for a call, before the first that finds one is refined.
_FALLS = 200
_HALVINGS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """Accounts of one venue that stand on the same claims.

    Attributes:
        name: the claim that they are behind, or the venue on which they hold claims.
        venue: its index.
        accounts: their indices in the venue's book.
        holds: names of the claims they hold.
    """

    name: str
    venue: int
    accounts: tuple[int, ...]
    holds: tuple[str, ...]


def layers_of(system: System) -> tuple[Layer, ...]:
    """Return the layers of a system, each after those it stands on; none where nothing is a claim.

    Behind a claim on deposits stand all accounts of the venues that owe what was deposited.
    """
    claims = {claim.asset: system.assets[claim.asset] for claim in system.claims}
    found: list[Layer] = []
    for claim in system.claims:
        backing = claim.backing
        if isinstance(backing, AccountEquity):
            groups = [(backing.venue, (backing.account,))]
        else:
            owed = [(v, system.venues[v].accounts.debt[row]) for v, row in backing.places]
            groups = [(v, tuple(np.flatnonzero(np.asarray(d)).tolist())) for v, d in owed]
        found += [_layer(system, claims[claim.asset], v, own, claims) for v, own in groups if own]
    behind = [{a for f in found if f.venue == v for a in f.accounts} for v in _venues(system)]
    for v in _venues(system):
        held = np.asarray(system.venues[v].accounts.collateral)
        rows = [a in claims for a in system.venues[v].accounts.collateral_assets]
        holders = np.flatnonzero((held[rows] > 0).any(axis=0)).tolist()
        own = tuple(a for a in holders if a not in behind[v])
        if own:
            found.append(_layer(system, system.venues[v].name, v, own, claims))
    depth = dict.fromkeys([layer.name for layer in found], 0)
    for _ in found:
        for layer in found:
            depth[layer.name] = max([depth.get(name, 0) + 1 for name in layer.holds], default=0)
    return tuple(sorted(found, key=lambda layer: depth[layer.name]))


def _venues(system: System) -> range:
    return range(len(system.venues))


def _layer(
    system: System, name: str, venue: int, accounts: tuple[int, ...], claims: dict[int, str]
) -> Layer:
    book = system.venues[venue].accounts
    held = np.asarray(book.collateral)[:, list(accounts)].sum(axis=1)
    pairs = zip(book.collateral_assets, held, strict=True)
    holds = tuple(claims[a] for a, units in pairs if a in claims and units > 0)
    return Layer(name=name, venue=venue, accounts=accounts, holds=holds)


class Stack:
    """The layers of a system with claims, at the opening and at moved prices.

    Args:
        system: with claims.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.layers = layers_of(system)

    def market(self, log_move: Float[Array, " asset"]) -> Market:
        """Return the market after prices have moved and every claim has followed.

        Args:
            log_move: `(asset,)` change of each log price; those of claims are not read. Exchange
                rates of other pegged assets stay: what they move by alone is their basis.
        """
        market = self.system.market
        assert market.underlying is not None
        claims = [claim.asset for claim in self.system.claims]
        here = np.isin(np.arange(len(self.system.assets)), claims)
        log_move = jnp.where(here, select(log_move, market.underlying), log_move)
        moved = dataclasses.replace(market, price=market.price * jnp.exp(log_move))
        return followed(self.system, moved)

    def equity(self, log_move: Float[Array, " asset"]) -> Float[Array, " layer"]:
        """Return what each layer has less what it owes, numeraire, at moved prices."""
        return self._equity(self.market(log_move).mid)

    def balance_sheets(self, log_move: Float[Array, " asset"]) -> BalanceSheet:
        """Return what each layer holds and owes at moved prices; leaves `(layer,)`.

        Of accounts on margin the collateral alone: what contracts move is in `equity`.
        """
        price = self.market(log_move).mid
        sheets = [account_balance_sheets(v, price) for v in self.system.venues]
        return BalanceSheet(
            assets=self._summed([sheet.assets for sheet in sheets]),
            debt=self._summed([sheet.debt for sheet in sheets]),
        )

    def debt_to_equity_delta(self) -> Float[Array, "layer asset"]:
        """Return the derivative of debt-to-equity in each log price, through all claims.

        -L (L - 1) for a loop of leverage L; times the effective leverage of what it holds for a
        loop on shares of a loop. NaN where there is no positive equity.
        """
        still = jnp.zeros_like(self.system.market.price)
        delta = jax.jacfwd(lambda move: self.balance_sheets(move).debt_to_equity)(still)
        solvent = self.balance_sheets(still).equity > 0
        return jnp.where(solvent[:, None], delta, jnp.full_like(delta, jnp.nan))

    def exposure(self) -> Float[Array, "layer asset"]:
        """Return the change of each layer's equity by each log price, through all claims."""
        return jax.jacfwd(self.equity)(jnp.zeros_like(self.system.market.price))

    def direct_exposure(self) -> Float[Array, "layer asset"]:
        """Return the same with claims as assets of their own, not looked through."""
        x = jnp.log(self.system.market.mid)
        return jax.jacfwd(lambda log_price: self._equity(jnp.exp(log_price)))(x)

    def lowest_health(self, log_move: Float[Array, " asset"]) -> Float[Array, " layer"]:
        """Return the lowest health among each layer's accounts; one is called below 1."""
        market = self.market(log_move)
        health = [
            account_health(venue, opening_prices(venue.oracle, market))
            for venue in self.system.venues
        ]
        return jnp.stack([jnp.min(health[each.venue][list_of(each)]) for each in self.layers])

    def _equity(self, price: Float[Array, " asset"]) -> Float[Array, " layer"]:
        return self._summed([account_equity(v, price) for v in self.system.venues])

    def _summed(self, values: Sequence[Float[Array, " account"]]) -> Float[Array, " layer"]:
        """Return the sums over the accounts of each layer of values by venue."""
        return jnp.stack([jnp.sum(values[each.venue][list_of(each)]) for each in self.layers])


def list_of(layer: Layer) -> np.ndarray:
    """Return the accounts of a layer as an index."""
    return np.asarray(layer.accounts)


def effective_leverage(
    exposure: Float[Array, "layer asset"], equity: Float[Array, " layer"]
) -> Float[Array, " layer"]:
    """Return what each layer is long of over its equity; infinite where it has no equity.

    Assets that a layer holds and owes are netted.

    Args:
        exposure: of `Stack.exposure`, or `Stack.direct_exposure` for the leverage of a layer alone.
        equity: numeraire.
    """
    long = jnp.sum(jnp.where(exposure > 0, exposure, jnp.zeros_like(exposure)), axis=1)
    without = jnp.where(long > 0, jnp.full_like(long, jnp.inf), jnp.zeros_like(long))
    return jnp.where(equity > 0, long / positive_or_one(equity), without)


def first_calls(
    lowest_health: Callable[[Float[Array, " asset"]], Float[Array, " layer"]],
    moves: Bool[np.ndarray, " asset"],
) -> Float[Array, " layer"]:
    """Return the smallest joint fall at which an account of each layer is called, a fraction.

    0 where one can be called as it stands, NaN where no fall short of everything does it.

    Args:
        lowest_health: of each layer after log moves, as `Stack.lowest_health`.
        moves: `(asset,)` which assets fall together.
    """
    falls = jnp.linspace(0.0, 0.995, _FALLS)
    called = lambda fall: lowest_health(jnp.where(moves, jnp.log1p(-fall), 0.0)) < 1.0
    hit = jax.vmap(called)(falls)
    first = jnp.argmax(hit, axis=0)
    high, low = falls[first], falls[jnp.where(first > 0, first - 1, 0)]

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        hit = jnp.diagonal(jax.vmap(called)(middle))
        return jnp.where(hit, low, middle), jnp.where(hit, middle, high)

    _, found = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
    found = jnp.where(hit[0], jnp.zeros_like(found), found)
    return jnp.where(jnp.any(hit, axis=0), found, jnp.full_like(found, jnp.nan))


def layer_rows(system: System, joint: Bool[np.ndarray, " asset"]) -> list[dict[str, Any]]:
    """Return one row a layer, as plain numbers; none for a system without claims.

    `layer`, `venue`, `accounts`, `holds` (claims), `equity_usd`, `leverage` (long of over equity,
    claims as assets), `effective_leverage` (seen through claims), `debt_to_equity`,
    `debt_to_equity_delta` (by the joint log price, through claims; both NaN for margin accounts),
    `called_at_fall_frac` (smallest joint fall that calls one of its accounts; NaN where none does),
    `exposed_to` (most, through claims), `called_at_price_usd` (of that asset) and `breaks_first`.

    Args:
        system: the system.
        joint: `(asset,)` which assets fall together.
    """
    if not system.claims:
        return []
    stack = Stack(system)

    @jax.jit
    def figures() -> tuple[Array, ...]:
        still = jnp.zeros_like(system.market.price)
        equity, sheet = stack.equity(still), stack.balance_sheets(still)
        return (
            equity,
            effective_leverage(stack.direct_exposure(), equity),
            effective_leverage(stack.exposure(), equity),
            sheet.debt_to_equity,
            jnp.sum(jnp.where(joint, stack.debt_to_equity_delta(), 0.0), axis=1),
            first_calls(stack.lowest_health, joint),
            jnp.argmax(jnp.where(joint, stack.exposure(), -jnp.inf), axis=1),
        )

    columns = [np.array(column, np.float64) for column in figures()]
    on_margin = [isinstance(system.venues[e.venue].execution, MarginAccounts) for e in stack.layers]
    for column in columns[3:5]:
        column[on_margin] = np.nan
    names = (
        "equity_usd",
        "leverage",
        "effective_leverage",
        "debt_to_equity",
        "debt_to_equity_delta",
        "called_at_fall_frac",
    )
    falls, exposed = columns[-2], columns[-1].astype(int)
    price = np.asarray(system.market.mid, np.float64)[exposed]
    return [
        {
            "layer": layer.name,
            "venue": system.venues[layer.venue].name,
            "accounts": len(layer.accounts),
            "holds": list(layer.holds),
            **{name: float(column[i]) for name, column in zip(names, columns[:-1], strict=True)},
            "exposed_to": system.assets[exposed[i]],
            "called_at_price_usd": float(price[i] * (1.0 - falls[i])),
            "breaks_first": bool(falls[i] == np.nanmin(falls, initial=np.inf)),
        }
        for i, layer in enumerate(stack.layers)
    ]
