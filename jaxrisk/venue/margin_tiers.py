"""Maintenance margin in tiers of a position's notional.

Two readings of the same table of brackets are in use. In *marginal* tiers each slice of a position
pays the rate of its own bracket, so the requirement is continuous, and convex where rates rise: it
is the largest of lines `r_k N - d_k`. In *slab* tiers the whole position pays the rate of the
bracket it is in, and the requirement jumps at each bound.

Tables are `(tier, contract)`, positions `(contract, account)`, or any rows to which `of` took the
table. Contracts of fewer tiers repeat their last one behind a bound that is never reached.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.requirement import Exposure, Lines

Table = Float[Array, "tier contract"]
Positions = Float[Array, "contract account"]

TOLERANCE = 1e-9
"""Relative difference at which a stated deduction is not the one that follows from the rates."""


class Bracket(NamedTuple):
    """One row of a venue's table, for positions above `floor` up to `cap`.

    Attributes:
        floor: largest notional of the bracket before, 0 in the first; in the unit of the tiers.
        cap: largest notional of this one; infinite in a last bracket without a limit.
        rate: maintenance margin over notional, in (0, 1).
        leverage: largest leverage of a position in it, at least 1.
        deduction: what is taken off `rate N`, where the venue states it.
    """

    floor: float
    cap: float
    rate: float
    leverage: float
    deduction: float | None = None


@pytree
class MarginTiers:
    """Marginal tiers: `max_k(r_k N - d_k)` with `d_k = d_(k-1) + floor_k (r_k - r_(k-1))`.

    Source: Binance, Leverage and Margin of USDⓈ-M Futures (Maintenance Amount); the same in
    Bybit's risk limits (Maintenance Margin Deduction) and Hyperliquid's margin tiers.

    Attributes:
        floor: notional above which a tier applies.
        rate: maintenance margin over notional, rising with the tier.
        deduction: d_k, at least 0.
        leverage: largest leverage in a tier.
        cap: `(contract,)` largest notional of a position.
    """

    floor: Table
    rate: Table
    deduction: Table
    leverage: Table
    cap: Float[Array, " contract"]

    @classmethod
    def from_brackets(
        cls, brackets: Mapping[str, Sequence[Bracket]], dtype: DTypeLike | None = None
    ) -> Self:
        """Return the tiers of contracts, in the order given, after checking their tables.

        Deductions are computed from rates and bounds.

        Args:
            brackets: of each contract, from the lowest up.
            dtype: of the coefficients; JAX's default float if not given.

        Raises:
            ValueError: with every problem found: no brackets, gaps between them, rates outside
                (0, 1) or not rising, leverage below 1 or rising, margin at that leverage below
                maintenance, a stated deduction that does not follow from the rates.
        """
        columns = _checked(brackets, marginal=True)
        steps = np.diff(columns["rate"], axis=0, prepend=columns["rate"][:1])
        # A padded tier has no step, and an infinite floor to take none of.
        entered = np.where(np.isfinite(columns["floor"]), columns["floor"], 0.0)
        columns["deduction"] = np.cumsum(entered * steps, axis=0)
        return cls(**{name: jnp.asarray(x, dtype or float) for name, x in columns.items()})

    def of(self, rows: Sequence[int]) -> Self:
        """Return the tiers of the contracts at `rows`, one for each."""
        return jax.tree.map(lambda leaf: leaf[..., np.asarray(rows)], self)

    def maintenance(self, notional: Positions) -> tuple[Positions, Int[Array, "contract account"]]:
        """Return maintenance margin, and the tier that binds.

        Args:
            notional: at least 0.
        """
        best = self.rate[0][:, None] * notional - self.deduction[0][:, None]
        tier = jnp.zeros(notional.shape, jnp.int32)
        for k in range(1, self.rate.shape[0]):
            line = self.rate[k][:, None] * notional - self.deduction[k][:, None]
            above = line > best
            best = jnp.where(above, line, best)
            tier = jnp.where(above, k, tier)
        return best, tier

    def required(
        self, notional: Positions, leverage: Positions
    ) -> tuple[Float[Array, "2 contract account"], Int[Array, "contract account"]]:
        """Return initial and maintenance margin, and the tier that binds.

        Initial margin is `N / leverage`, at no more than the largest leverage of the tier.

        Args:
            notional: at least 0.
            leverage: that accounts chose, positive.
        """
        maintenance, tier = self.maintenance(notional)
        initial = notional / smaller(leverage, _in_tier(self.leverage, tier))
        return jnp.stack([initial, maintenance]), tier

    def rows(self, held: Exposure) -> Float[Array, "2 contract account"]:
        """Return initial margin at the largest leverage of the tier, and maintenance margin."""
        return self.required(held.notional, jnp.full_like(held.notional, jnp.inf))[0]

    def largest_position(self, leverage: Positions) -> Positions:
        """Return the largest notional that may be opened at a leverage, 0 where it is too high."""
        return _largest_position(self.floor, self.leverage, self.cap, leverage)

    def charge(self, held: Exposure) -> tuple[Positions, Int[Array, "contract account"]]:
        """Return maintenance margin of positions, and the tier that binds."""
        return self.maintenance(held.notional)

    def lines(self, held: Exposure) -> Lines:
        """Return maintenance margin as a function of price: the same lines whatever is held."""
        del held
        return Lines(rate=self.rate[:, :, None], deduction=self.deduction[:, :, None])


@pytree
class SlabTiers:
    """Slab tiers: the whole position at the rate of its tier, `r_k N` for `floor_k < N <= cap_k`.

    The requirement jumps where a position enters a tier, so a price that is safe may lie between
    two that are not. Derivatives are those within a tier.

    Source: OKX, position tiers (of contracts, so that prices do not move a position between tiers);
    BitMEX, risk limits (of value).

    Attributes:
        floor: what a position must exceed for a tier to apply.
        rate: maintenance margin over notional.
        leverage: largest leverage in a tier.
        cap: `(contract,)` largest position.
        by_count: whether bounds are on contracts held, and not on notional.
    """

    floor: Table
    rate: Table
    leverage: Table
    cap: Float[Array, " contract"]
    by_count: bool = static(default=False)

    @classmethod
    def from_brackets(
        cls,
        brackets: Mapping[str, Sequence[Bracket]],
        dtype: DTypeLike | None = None,
        *,
        by_count: bool = False,
    ) -> Self:
        """Return the tiers of contracts, in the order given, after checking their tables.

        Args:
            brackets: of each contract, from the lowest up.
            dtype: of the coefficients; JAX's default float if not given.
            by_count: whether bounds are on contracts held, and not on notional.

        Raises:
            ValueError: as `MarginTiers.from_brackets`; a deduction may not be stated.
        """
        columns = _checked(brackets, marginal=False)
        leaves = {name: jnp.asarray(x, dtype or float) for name, x in columns.items()}
        return cls(**leaves, by_count=by_count)

    def of(self, rows: Sequence[int]) -> Self:
        """Return the tiers of the contracts at `rows`, one for each."""
        return jax.tree.map(lambda leaf: leaf[..., np.asarray(rows)], self)

    def tier(self, counted: Positions) -> Int[Array, "contract account"]:
        """Return the tier of positions.

        Args:
            counted: notional, or contracts held where tiers are by count.
        """
        place = jnp.zeros(counted.shape, jnp.int32)
        for k in range(1, self.floor.shape[0]):
            place = place + (counted > self.floor[k][:, None]).astype(jnp.int32)
        return place

    def maintenance(
        self, notional: Positions, counted: Positions
    ) -> tuple[Positions, Int[Array, "contract account"]]:
        """Return maintenance margin, and the tier of the position.

        Args:
            notional: at least 0.
            counted: notional again, or contracts held where tiers are by count.
        """
        tier = self.tier(counted)
        return notional * _in_tier(self.rate, tier), tier

    def required(
        self, notional: Positions, counted: Positions, leverage: Positions
    ) -> tuple[Float[Array, "2 contract account"], Int[Array, "contract account"]]:
        """Return initial and maintenance margin, and the tier.

        Args:
            notional: at least 0.
            counted: as in `maintenance`.
            leverage: that accounts chose, positive; no more counts than the tier allows.
        """
        maintenance, tier = self.maintenance(notional, counted)
        initial = notional / smaller(leverage, _in_tier(self.leverage, tier))
        return jnp.stack([initial, maintenance]), tier

    def rows(self, held: Exposure) -> Float[Array, "2 contract account"]:
        """Return initial margin at the largest leverage of the tier, and maintenance margin."""
        counted = held.count if self.by_count else held.notional
        return self.required(held.notional, counted, jnp.full_like(held.notional, jnp.inf))[0]

    def largest_position(self, leverage: Positions) -> Positions:
        """Return the largest position that may be opened at a leverage, 0 where it is too high."""
        return _largest_position(self.floor, self.leverage, self.cap, leverage)

    def charge(self, held: Exposure) -> tuple[Positions, Int[Array, "contract account"]]:
        """Return maintenance margin of positions, and their tier."""
        return self.maintenance(held.notional, held.count if self.by_count else held.notional)

    def lines(self, held: Exposure) -> Lines:
        """Return maintenance margin as a function of price, of tiers by count: the tier's rate.

        Tiers by notional have no such lines: prices move positions between them.
        """
        rate = _in_tier(self.rate, self.tier(held.count))[None]
        return Lines(rate=rate, deduction=jnp.zeros_like(rate))


def step_brackets(
    floor: float, step: float, *, rate: float, initial: float, added: float, tiers: int
) -> list[Bracket]:
    """Return brackets of one width that all add the same to both rates, the last without a limit.

    Args:
        floor: cap of the first bracket.
        step: width of each one after.
        rate: maintenance rate of the first.
        initial: initial rate of the first.
        added: to both rates, by bracket.
        tiers: how many.
    """
    caps = [floor + k * step for k in range(tiers - 1)] + [np.inf]
    floors = [0.0, *caps[:-1]]
    return [
        Bracket(low, cap, rate + k * added, 1.0 / (initial + k * added))
        for k, (low, cap) in enumerate(zip(floors, caps, strict=True))
    ]


def _in_tier(table: Table, tier: Int[Array, "contract account"]) -> Positions:
    value = jnp.broadcast_to(table[0][:, None], tier.shape)
    for k in range(1, table.shape[0]):
        value = jnp.where(tier >= k, table[k][:, None], value)
    return value


def _largest_position(
    floor: Table, largest: Table, cap: Float[Array, " contract"], leverage: Positions
) -> Positions:
    """Return the cap of the last tier that allows a leverage; largest leverage falls with tiers."""
    allowed = jnp.zeros_like(leverage)
    for k in range(floor.shape[0]):
        end = floor[k + 1] if k + 1 < floor.shape[0] else cap
        end = smaller(end, cap)[:, None]
        allowed = jnp.where(leverage <= largest[k][:, None], end, allowed)
    return allowed


def _checked(brackets: Mapping[str, Sequence[Bracket]], *, marginal: bool) -> dict[str, np.ndarray]:
    """Return columns of a table by name, padded, after checking all of its rows."""
    if not brackets:
        raise ValueError("no contracts")
    problems = [text for name in brackets for text in _problems(name, brackets[name], marginal)]
    if problems:
        raise ValueError("\n".join(problems))
    tiers = max(len(rows) for rows in brackets.values())
    floor = np.full((tiers, len(brackets)), np.inf)
    rate, leverage = np.zeros_like(floor), np.zeros_like(floor)
    for j, rows in enumerate(brackets.values()):
        padded = [rows[min(k, len(rows) - 1)] for k in range(tiers)]
        floor[: len(rows), j] = [row.floor for row in rows]
        rate[:, j] = [row.rate for row in padded]
        leverage[:, j] = [row.leverage for row in padded]
    cap = np.array([rows[-1].cap for rows in brackets.values()])
    return {"floor": floor, "rate": rate, "leverage": leverage, "cap": cap}


def _problems(name: str, rows: Sequence[Bracket], marginal: bool) -> list[str]:
    """Return what is wrong with the brackets of a contract."""
    if not rows:
        return [f"{name}: no brackets"]
    found: list[str] = []
    deduction = 0.0
    for k, row in enumerate(rows):
        before = rows[k - 1] if k else Bracket(0.0, 0.0, 0.0, np.inf)
        wrong = _problems_of_row(row, before)
        deduction += row.floor * (row.rate - before.rate)
        if row.deduction is not None and not marginal:
            wrong.append("a deduction, which slab tiers do not have")
        elif row.deduction is not None and not np.isclose(
            row.deduction, deduction, rtol=TOLERANCE, atol=TOLERANCE
        ):
            wrong.append(f"deduction {row.deduction}: rates and bounds give {deduction:.10g}")
        found += [f"{name}, tier {k + 1}: {text}" for text in wrong]
    return found


def _problems_of_row(row: Bracket, before: Bracket) -> list[str]:
    """Return what is wrong with a bracket, given the one below it."""
    wrong: list[str] = []
    if row.floor != before.cap:
        wrong.append(f"floor {row.floor}: expected {before.cap}, without gap or overlap")
    if not row.cap > row.floor:
        wrong.append(f"cap {row.cap}: expected more than the floor {row.floor}")
    if not 0 < row.rate < 1:
        wrong.append(f"rate {row.rate}: expected a fraction in (0, 1)")
    elif not row.rate > before.rate:
        wrong.append(f"rate {row.rate}: expected more than {before.rate} of the tier before")
    if not (row.leverage >= 1 and np.isfinite(row.leverage)):
        wrong.append(f"leverage {row.leverage}: expected 1 or more")
    elif row.leverage > before.leverage:
        wrong.append(f"leverage {row.leverage}: above {before.leverage} of the tier before")
    elif row.rate * row.leverage > 1 + TOLERANCE:
        wrong.append(f"leverage {row.leverage}: its margin is below maintenance, {row.rate}")
    return wrong
