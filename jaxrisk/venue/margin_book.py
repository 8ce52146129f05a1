"""Accounts of futures and perpetuals under margin: what they are worth and what is asked of them.

Amounts are in one settlement currency, that of all contracts in a book: dollars of linear
contracts, the coin of inverse ones.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from jaxrisk.market.contract import Contracts, profit_between
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.haircut import TieredHaircut
from jaxrisk.venue.requirement import Exposure, Lines, MarginState

Positions = Float[Array, "position account"]


class Requirement(Protocol):
    """What a rule of maintenance margin answers."""

    def of(self, rows: Sequence[int]) -> Self:
        """Return the rule of the contracts at `rows`, one for each."""
        ...

    def charge(self, held: Exposure) -> tuple[Positions, Int[Array, "position account"]]:
        """Return maintenance margin of positions, and what binds."""
        ...

    def lines(self, held: Exposure) -> Lines:
        """Return maintenance margin as a function of price."""
        ...


@pytree
class MarginBook:
    """Positions of accounts, each in cross or in isolated margin.

    A row is a position in one contract; two rows in the same contract are the legs of a hedged
    account, which holds long and short at once.

    Attributes:
        contracts: their terms, `(contract,)`; not options.
        requirement: rule of maintenance margin, over contracts.
        size: contracts held, negative where sold.
        entry: mean price at which they were entered.
        wallet: `(account,)` balance that backs all positions in cross margin.
        margin: balance set apart for a position in isolated margin, 0 in cross margin.
        isolated: whether a position is in isolated margin.
        reserved: set aside whatever the price: loss of orders, a fee to close at a known price.
        fee: `(contract,)` share of notional kept back for closing, at the price reached.
        collateral: `(contract, account)` units of the underlying of a linear contract, behind
            positions in cross margin, negative where owed; `None` for none.
        haircut: what `collateral` counts for, over contracts.
        rows: contract of each row.
    """

    contracts: Contracts
    requirement: Requirement
    size: Positions
    entry: Positions
    wallet: Float[Array, " account"]
    margin: Positions
    isolated: Bool[Array, "position account"]
    reserved: Positions
    fee: Float[Array, " contract"]
    collateral: Float[Array, "contract account"] | None = None
    haircut: TieredHaircut | None = None
    rows: tuple[int, ...] = static()

    @classmethod
    def from_positions(
        cls,
        contracts: Contracts,
        requirement: Requirement,
        *,
        size: ArrayLike,
        entry: ArrayLike,
        wallet: ArrayLike | None = None,
        margin: ArrayLike | None = None,
        reserved: ArrayLike = 0.0,
        fee: ArrayLike = 0.0,
        collateral: ArrayLike | None = None,
        haircut: TieredHaircut | None = None,
        rows: Sequence[int] | None = None,
    ) -> Self:
        """Return a book after checking it.

        Args:
            contracts: their terms; their dtype is that of the book.
            requirement: rule of maintenance margin, over contracts.
            size: `(position, account)` contracts held, negative where sold.
            entry: `(position, account)` mean entry prices; positive where there is a position.
            wallet: `(account,)` balance behind positions in cross margin; none if left out.
            margin: `(position, account)` balance of positions in isolated margin, NaN for those in
                cross margin; all are cross if left out.
            reserved: set aside for a position whatever the price, at least 0.
            fee: share of notional kept back for closing, in [0, 1), by contract.
            collateral: `(contract, account)` units of the underlying, behind cross margin.
            haircut: what they count for, over contracts.
            rows: contract of each position; one position a contract if left out.

        Raises:
            ValueError: with every problem found: an unknown contract, more than two positions in
                one, an option, shapes that do not fit, numbers that are not finite or out of range.
        """
        size = jnp.asarray(size, contracts.multiplier.dtype)
        count = contracts.multiplier.shape[0]
        rows = tuple(range(count)) if rows is None else tuple(rows)
        wallet = jnp.zeros(size.shape[-1:], size.dtype) if wallet is None else wallet
        given = {"size": size, "entry": entry, "margin": margin, "reserved": reserved}
        problems = _shape_problems(given, (len(rows), *np.shape(wallet)))
        problems += _contract_problems(contracts, rows)
        if collateral is not None:
            units = {"collateral": collateral}
            problems += _shape_problems(units, (count, *np.shape(wallet)), "(contract, account)")
            problems += _collateral_problems(contracts, haircut)
        if problems:
            raise ValueError("\n".join(problems))
        fill = lambda x, shape: jnp.broadcast_to(jnp.asarray(x, size.dtype), shape)
        separate = fill(jnp.nan if margin is None else margin, size.shape)
        book = cls(
            contracts=contracts,
            requirement=requirement,
            size=size,
            entry=jnp.asarray(entry, size.dtype),
            wallet=jnp.asarray(wallet, size.dtype),
            margin=jnp.where(jnp.isnan(separate), jnp.zeros_like(separate), separate),
            isolated=~jnp.isnan(separate),
            reserved=fill(reserved, size.shape),
            fee=fill(fee, (count,)),
            collateral=None if collateral is None else jnp.asarray(collateral, size.dtype),
            haircut=haircut,
            rows=rows,
        )
        problems = _number_problems(book)
        if problems:
            raise ValueError("\n".join(problems))
        return book

    @property
    def inverse(self) -> Bool[Array, "position 1"]:
        """Whether the contract of a position pays by the inverse of its price."""
        return (self.contracts.inverse[np.asarray(self.rows)] > 0)[:, None]

    @property
    def partners(self) -> tuple[int, ...]:
        """Of each position the other one in the same contract, itself where there is none."""
        others = [[j for j, row in enumerate(self.rows) if row == mine] for mine in self.rows]
        return tuple(next((j for j in same if j != i), i) for i, same in enumerate(others))

    @property
    def hedged(self) -> bool:
        """Whether there are two positions in a contract."""
        return len(set(self.rows)) < len(self.rows)

    @property
    def shared(self) -> Bool[Array, "position account"]:
        """Whether a position stands in cross margin beside another one in the same contract."""
        other = np.asarray(self.partners)
        alone = jnp.asarray(other == np.arange(len(other)))[:, None]
        return ~(self.isolated | self.isolated[other] | alone)

    @property
    def face(self) -> Positions:
        """Contracts times multiplier, signed: see `Exposure.face`."""
        return self.size * self.contracts.multiplier[np.asarray(self.rows)][:, None]

    def at(self, price: Float[Array, " contract"]) -> Float[Array, "position 1"]:
        """Return the price of each position's contract."""
        return price[np.asarray(self.rows)][:, None]

    def profit(self, price: Float[Array, " contract"]) -> Positions:
        """Return unrealised profit of each position."""
        return profit_between(
            positive_or_one(self.entry),
            self.at(price),
            self.size,
            self.contracts.multiplier[np.asarray(self.rows)][:, None],
            inverse=self.contracts.inverse[np.asarray(self.rows)][:, None],
        )

    def exposure(self, price: Float[Array, " contract"]) -> Exposure:
        """Return what margin rules look at."""
        face, mark = jnp.abs(self.face), self.at(price)
        notional = face * jnp.where(self.inverse, 1.0 / mark, mark)
        return Exposure(
            count=jnp.abs(self.size), face=face, notional=notional, inverse=self.inverse
        )

    def maintenance(
        self, price: Float[Array, " contract"]
    ) -> tuple[Positions, Int[Array, "position account"]]:
        """Return maintenance margin of each position with its fee to close, and what binds."""
        held = self.exposure(price)
        amount, binding = self.requirement.of(self.rows).charge(held)
        return amount + self.fee[np.asarray(self.rows)][:, None] * held.notional, binding

    def backing(
        self, price: Float[Array, " contract"], *, full: bool = False
    ) -> Float[Array, "contract account"]:
        """Return what collateral in underlyings counts for, or its full price.

        Args:
            price: of contracts, which stands for that of the underlying.
            full: without haircut.
        """
        if self.collateral is None or self.haircut is None:
            return jnp.zeros((price.shape[0], *self.wallet.shape), self.wallet.dtype)
        if full:
            return self.collateral * price[:, None]
        return self.haircut.value(self.collateral, price)[0]

    def cross(self, amount: Positions) -> Positions:
        """Return an amount of each position, zero where it is in isolated margin."""
        return jnp.where(self.isolated, jnp.zeros_like(amount), amount)

    def state(
        self, price: Float[Array, " contract"], leverage: Positions | None = None
    ) -> MarginState:
        """Return value and surplus of accounts over all positions in cross margin.

        Args:
            price: mark prices.
            leverage: that accounts chose for each position; initial margin is notional over it, and
                never below maintenance. Left out, initial margin is maintenance.
        """
        maintenance, binding = self.maintenance(price)
        initial = maintenance
        if leverage is not None:
            initial = jnp.maximum(self.exposure(price).notional / leverage, maintenance)
        total = lambda amount: jnp.sum(self.cross(amount), axis=0)
        value = self.wallet + jnp.sum(self.backing(price), axis=0) + total(self.profit(price))
        free = value - total(self.reserved)
        return MarginState(
            surplus=jnp.stack([free - total(initial), free - total(maintenance)]),
            value=value,
            binding=binding,
        )


def _shape_problems(
    given: Mapping[str, ArrayLike | None],
    shape: tuple[int, ...],
    axes: str = "(position, account)",
) -> list[str]:
    """Return which arrays are not of a shape; numbers stand for all positions."""
    found = []
    for name, array in given.items():
        got = np.shape(array) if array is not None else ()
        if got != shape and (got or name not in ("margin", "reserved")):
            found.append(f"{name}: shape {got}, expected {shape} {axes}")
    return found


def _contract_problems(contracts: Contracts, rows: tuple[int, ...]) -> list[str]:
    """Return which contracts there are not, or are of the wrong kind."""
    count = contracts.multiplier.shape[0]
    found = [f"contract {row}: unknown, there are {count}" for row in rows if not 0 <= row < count]
    found += [
        f"contract {row}: {rows.count(row)} positions, expected at most 2 (long and short)"
        for row in sorted(set(rows))
        if rows.count(row) > 2
    ]
    if bool(jnp.any(contracts.option != 0)):
        found.append("an option: its margin is not one of these rules")
    return found


def _collateral_problems(contracts: Contracts, haircut: TieredHaircut | None) -> list[str]:
    """Return why collateral in underlyings cannot be valued."""
    if haircut is None:
        return ["haircut: missing; it says what collateral counts for"]
    found = []
    if haircut.liability.shape != contracts.multiplier.shape:
        found.append(f"haircut: of {haircut.liability.shape[0]} assets, expected one a contract")
    if bool(jnp.any(contracts.inverse > 0)):
        found.append("collateral: an inverse contract is settled in its underlying; use wallet")
    return found


def _number_problems(book: MarginBook) -> list[str]:
    """Return which numbers are out of range."""
    held = book.size != 0
    priced = (book.entry > 0) & jnp.isfinite(book.entry)
    checks = {
        "size: not finite": jnp.isfinite(book.size),
        "entry: expected a positive price where there is a position": priced | ~held,
        "wallet: not finite": jnp.isfinite(book.wallet),
        "margin: not finite": jnp.isfinite(book.margin),
        "reserved: expected at least 0": (book.reserved >= 0) & jnp.isfinite(book.reserved),
        "fee: expected a fraction in [0, 1)": (book.fee >= 0) & (book.fee < 1),
        "collateral: not finite": jnp.isfinite(
            jnp.zeros(1) if book.collateral is None else book.collateral
        ),
    }
    return [text for text, fine in checks.items() if not bool(jnp.all(fine))]
