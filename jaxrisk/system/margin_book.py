"""A book of contracts at one moment: what units are worth, what accounts hold and have."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.margin_accounts import (
    DEFICIT,
    GAINERS,
    POSITIONS,
    WINNERS,
    Behind,
    MarginAccounts,
    MarginState,
)
from jaxrisk.venue.posted_collateral import PostedCollateral
from jaxrisk.venue.requirement import MAINTENANCE
from jaxrisk.venue.venue import Venue

# Amounts below this many roundings of what an account holds are none.
_ROUNDINGS = 256

Rows = Float[Array, " contract"]
PerAccount = Float[Array, " account"]
PerPosition = Float[Array, "contract account"]


@pytree
class Marks:
    """Contracts at given prices of the assets; every leaf of its own is `(contract,)`.

    Attributes:
        quotes: forwards and volatilities, in the settlement currency.
        price: as quoted.
        value: worth of a unit, settlement currency.
        slope: change of that by a unit of the numeraire on the price of the underlying.
        delta: units of the underlying that a unit moves like.
        notional: worth of what a unit of the contract is about, settlement currency.
        posted: `(asset,)` worth of a unit of each collateral beyond the settlement currency.
    """

    quotes: Quotes
    price: Rows
    value: Rows
    slope: Rows
    delta: Rows
    notional: Rows
    posted: Float[Array, " asset"]


@pytree
class Opened:
    """The positions at time 0, tranche after tranche.

    Attributes:
        size: `(contract, account)` signed.
        entry: `(contract, account)` price at which they were entered, as quoted.
        entered: `(contract, account)` worth of a unit at that price, settlement currency.
        collateral: `(account,)` settlement currency.
        weight: share of it that counts as backing.
        begun: `(account,)` profit of all positions at time 0, settlement currency.
        posted: `(asset, account)` units of other assets.
        rule: what those count for and when they are sold; `None` where there are none.
    """

    size: PerPosition
    entry: PerPosition
    entered: PerPosition
    collateral: Float[Array, " account"]
    weight: Float[Array, ""]
    begun: Float[Array, " account"]
    posted: Float[Array, "asset account"]
    rule: PostedCollateral | None

    def equity(
        self, kept: MarginState, marks: Marks, *, backing: bool = False
    ) -> Float[Array, " account"]:
        """Return collateral, cash and unrealised profit, settlement currency.

        Args:
            kept: what still stands.
            marks: contracts and collateral at some prices.
            backing: count collateral as far as it backs positions.
        """
        held = self.collateral * self.weight if backing else self.collateral
        total = held + kept.cash + jnp.sum(self.profit(kept, marks.value), axis=0)
        if self.rule is None:
            return total
        units = self.posted * kept.posted
        if backing:
            return total + self.rule.counted(units, marks.posted)
        return total + jnp.sum(units * marks.posted[:, None], axis=0)

    def dust(self, kept: MarginState) -> Float[Array, " account"]:
        """Return what is no more than rounding: in proportion to what was added up."""
        size = jnp.sum(jnp.abs(self.size * self.entered), axis=0)
        total = self.collateral + jnp.abs(kept.cash) + size
        return _ROUNDINGS * jnp.finfo(total.dtype).eps * total

    def profit(self, kept: MarginState, value: Rows) -> PerPosition:
        """Return the unrealised profit of each position, settlement currency."""
        return self.size * kept.fraction * (value[:, None] - self.entered)


def slot_of(venue: Venue) -> MarginAccounts:
    """Return the venue's kind of execution, which is played here."""
    assert isinstance(venue.execution, MarginAccounts)
    return venue.execution


def settlement_of(venue: Venue) -> int:
    """Return the index of the settlement currency in the system's asset axis."""
    return venue.accounts.debt_assets[0]


def posted_assets(venue: Venue) -> tuple[int, ...]:
    """Return indices, in the system's asset axis, of collateral beyond the settlement currency."""
    return venue.accounts.collateral_assets[1:]


def opened(venue: Venue, accounts: Sequence[Accounts]) -> Opened:
    """Return the positions of accounts of the venue, one part after the other.

    Args:
        venue: the venue.
        accounts: its accounts, whole or cut into tranches.
    """
    held = [part.positions for part in accounts if part.positions is not None]
    joined = lambda parts: jnp.concatenate(parts, axis=-1)
    size, entry = joined([p.size for p in held]), joined([p.entry for p in held])
    entered = settlement_value(slot_of(venue).contracts, entry)
    mark = slot_of(venue).opening_mark()[:, None]
    return Opened(
        size=size,
        entry=entry,
        entered=entered,
        collateral=joined([part.collateral[0] for part in accounts]),
        weight=venue.collateral.liquidation_threshold[0, 0],
        begun=jnp.sum(size * (mark - entered), axis=0),
        posted=joined([part.collateral[1:] for part in accounts]),
        rule=slot_of(venue).posted,
    )


def maintenance(
    venue: Venue, kept: MarginState, held: Opened, marks: Marks
) -> Float[Array, " account"]:
    """Return the maintenance margin of each account, settlement currency."""
    slot, size = slot_of(venue), held.size * kept.fraction
    return slot.requirement.required(size, slot.contracts, marks.quotes)[MAINTENANCE]


def marks_at(venue: Venue, kept: MarginState, price: Float[Array, " asset"]) -> Marks:
    """Return what contracts are worth at prices of the assets.

    Contracts are quoted in their settlement currency; those settled in their underlying, in the
    numeraire.
    """
    slot, settlement = slot_of(venue), price[settlement_of(venue)]
    contracts = slot.contracts
    unit = jnp.where(settled_in_underlying(contracts), jnp.ones_like(contracts.strike), settlement)
    quotes = Quotes(
        forward=select(price, slot.underlying) / unit,
        volatility=kept.volatility,
        settlement=jnp.ones_like(unit),
        time=kept.time,
    )

    def worth(forward: Rows) -> Rows:
        moved = dataclasses.replace(quotes, forward=forward)
        return settlement_value(contracts, mark_price(contracts, moved))

    value, steepness = jax.jvp(worth, (quotes.forward,), (jnp.ones_like(unit),))
    slope = steepness / unit
    about = jnp.where(contracts.coin_quoted > 0, jnp.ones_like(unit), quotes.forward)
    return Marks(
        quotes=quotes,
        price=mark_price(contracts, quotes),
        value=value,
        slope=slope,
        delta=slope * settlement,
        notional=jnp.where(contracts.option == 0, jnp.abs(value), contracts.multiplier * about),
        posted=price[np.asarray(posted_assets(venue), int)] / settlement,
    )


@pytree
class MarginFigures:
    """Accounts of contracts before anything has happened; every leaf is `(account,)`, numeraire.

    Attributes:
        collateral: at full worth.
        equity: that, and the profit of positions.
        backing: equity as far as it backs positions.
        notional: of all positions, longs and shorts added up.
        maintenance: maintenance margin.
        called: backing below which an account is called.
    """

    collateral: PerAccount
    equity: PerAccount
    backing: PerAccount
    notional: PerAccount
    maintenance: PerAccount
    called: PerAccount

    @property
    def health(self) -> PerAccount:
        """Backing over the margin at which an account is called; infinite where none is needed."""
        ratio = self.backing / positive_or_one(self.called)
        return jnp.where(self.called > 0, ratio, jnp.full_like(ratio, jnp.inf))


def figures(venue: Venue, price: Float[Array, " asset"]) -> MarginFigures:
    """Return what the accounts of the book have and need at prices of the assets.

    Implied volatilities are where the venue's rule has them after that move, at the variance at
    which they are as at the opening.
    """
    slot, held = slot_of(venue), opened(venue, [venue.accounts])
    kept = slot.opening(venue.accounts)
    if slot.moves is not None:
        forward = marks_at(venue, kept, price).quotes.forward
        moved = slot.moves.now(
            slot.opening_volatility, jnp.log(forward / slot.opening_forward), slot.moves.calm
        )
        kept = dataclasses.replace(kept, volatility=moved)
    marks, money = marks_at(venue, kept, price), price[settlement_of(venue)]
    needed = maintenance(venue, kept, held, marks)
    notional = jnp.sum(jnp.abs(held.size) * marks.notional[:, None], axis=0)
    posted = jnp.sum(held.posted * marks.posted[:, None], axis=0)
    return MarginFigures(
        collateral=(held.collateral + posted) * money,
        equity=held.equity(kept, marks) * money,
        backing=held.equity(kept, marks, backing=True) * money,
        notional=notional * money,
        maintenance=needed * money,
        called=slot.close.threshold(needed, notional) * money,
    )


def bearers(venue: Venue) -> tuple[tuple[str, str], ...]:
    """Return who stands behind the venue's funds, each with the property of `Outcome` it is in."""
    others = GAINERS if slot_of(venue).behind is Behind.GAINERS else POSITIONS
    return (WINNERS, "deleveraged"), (others, "socialised"), (DEFICIT, "supplier_loss")


def settled_in_underlying(contracts: Contracts) -> Array:
    """Return which contracts pay in the asset that they are about."""
    return (contracts.inverse > 0) | (contracts.coin_quoted > 0)


def on_assets(values: Rows, underlying: tuple[int, ...], size: int) -> Float[Array, " asset"]:
    """Return sums of `values` by underlying, on the system's asset axis."""
    return jnp.zeros(size, values.dtype).at[np.asarray(underlying, int)].add(values)
