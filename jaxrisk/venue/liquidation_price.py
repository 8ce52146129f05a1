"""At what price of one contract an account is liquidated, everything else unchanged.

With `x` the price, or its inverse for inverse contracts, an account has beyond its requirement
`a + b x - max_k(r_k f x - d_k) - c x^2`: the smallest of concave functions. Each is at least zero
between its roots, so the account is safe exactly where all are, and the bounds of that range are
the largest of lower and the smallest of upper roots. No tier is guessed and nothing is iterated.

Tiers that jump (`SlabTiers` by notional) are no such maximum: safe prices may lie apart, and are
returned by tier.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt
from jaxrisk.venue.account import per_account
from jaxrisk.venue.margin_book import MarginBook
from jaxrisk.venue.margin_tiers import SlabTiers
from jaxrisk.venue.requirement import Lines
from jaxrisk.venue.venue import Venue

Positions = Float[Array, "position account"]


@pytree
class PriceRange:
    """Prices between which something holds; NaN on both sides where there are none.

    Attributes:
        lower: 0 where it holds down to nothing.
        upper: infinite where it holds however high.
    """

    lower: Float[Array, "..."]
    upper: Float[Array, "..."]


@pytree
class _Leg:
    """One position's requirement: its face, at least 0, and its lines."""

    face: Positions
    lines: Lines


def liquidation_price(
    held: Venue | MarginBook, price: Float[Array, " asset"]
) -> Float[Array, "asset account"]:
    """Return the price of each asset or contract at which liquidation begins, others unchanged.

    NaN where no price does that. Of an account that can be liquidated already it is the price that
    would restore it. An account hedged in one contract may be liquidated below and above: then it
    is the price nearer to the present one in ratio, and `safe_prices` has both.

    Args:
        held: a lending venue with its book, or a book under margin.
        price: as the venue sees them: `(asset,)` of the venue's system, `(contract,)` of the book.

    Returns:
        `(asset, account)` for a lending venue, `(position, account)` for a book under margin.
    """
    if isinstance(held, Venue):
        return _lending_price(held, price, held.collateral.liquidation_threshold)
    return _nearest(held, price, safe_prices(held, price))


def bankruptcy_price(
    held: Venue | MarginBook, price: Float[Array, " asset"]
) -> Float[Array, "asset account"]:
    """Return the price of each asset or contract at which nothing is left, others unchanged.

    That is debt equal to collateral at its full price, or a balance and its profits of zero: the
    liquidation price without requirement, fee and reserve. A position in cross margin has all of
    its account behind it. NaN where no price does that.

    Args:
        held: a lending venue with its book, or a book under margin.
        price: as in `liquidation_price`.

    Returns:
        As `liquidation_price`.
    """
    if isinstance(held, Venue):
        return _lending_price(held, price, jnp.ones_like(held.collateral.liquidation_threshold))
    return _nearest(held, price, _ranges(held, price, required=False))


def safe_prices(book: MarginBook, price: Float[Array, " contract"]) -> PriceRange:
    """Return between which prices of its contract each position is safe, others unchanged.

    Where tiers jump it is the range around the present price, NaN if the account is not safe now.

    Args:
        book: positions and rules.
        price: `(contract,)` mark prices.
    """
    rule = book.requirement
    if isinstance(rule, SlabTiers) and not rule.by_count:
        return _around(book, price, slab_ranges(book, price))
    return _ranges(book, price, required=True)


def slab_ranges(book: MarginBook, price: Float[Array, " contract"]) -> PriceRange:
    """Return between which prices each position is safe within each of its slab tiers.

    Safe prices need not hang together: a position may be safe in a tier, not below a price in it,
    and safe again where it is small enough for the tier below. So a position can have several
    liquidation prices, and the end of each range that is not the bound of its tier is one.

    Args:
        book: positions and rules; one position a contract, `SlabTiers` by notional.
        price: `(contract,)` mark prices.

    Returns:
        Leaves of shape `(tier, position, account)`.

    Raises:
        ValueError: other tiers, a contract with two positions, or collateral in underlyings.
    """
    rule = book.requirement
    if not isinstance(rule, SlabTiers) or rule.by_count:
        raise ValueError("expected SlabTiers by notional")
    if book.hedged or book.collateral is not None:
        raise ValueError("slab tiers by notional: expected one position a contract, no collateral")
    tiers = rule.of(book.rows)
    constant, slope = _surplus(book, price, required=True)
    face = jnp.abs(book.face)
    ranges = []
    for k in range(tiers.floor.shape[0]):
        rate = tiers.rate[k][:, None] + book.fee[np.asarray(book.rows)][:, None]
        line = Lines(rate=rate[None], deduction=jnp.zeros_like(rate)[None])
        inside = _solvent(constant, slope, [_Leg(face=face, lines=line)])
        start, end = _tier_bounds(tiers, k, face)
        lower, upper = jnp.maximum(inside.lower, start), smaller(inside.upper, end)
        ranges.append(_in_prices(book, PriceRange(lower=lower, upper=upper)))
    return jax.tree.map(lambda *each: jnp.stack(each), *ranges)


def _tier_bounds(tiers: SlabTiers, k: int, face: Positions) -> tuple[Positions, Positions]:
    """Return between which `x` a position is in a tier."""
    held = face > 0
    per = lambda bound: jnp.where(held, bound[:, None] / positive_or_one(face), jnp.inf)
    start = per(tiers.floor[k]) if k else jnp.zeros_like(face)
    last = k + 1 == tiers.floor.shape[0]
    return start, jnp.full_like(face, jnp.inf) if last else per(tiers.floor[k + 1])


def _around(book: MarginBook, price: Float[Array, " contract"], tiers: PriceRange) -> PriceRange:
    """Return the ranges of tiers that hang together with the present price, as one."""
    mark = book.at(price)
    lower, upper = tiers.lower, tiers.upper
    count = lower.shape[0]
    low = jnp.full_like(lower[0], jnp.nan)
    high = low
    for k in range(count):
        here = (lower[k] <= mark) & (mark <= upper[k])
        low, high = jnp.where(here, lower[k], low), jnp.where(here, upper[k], high)
    # Higher tiers are higher prices of linear contracts and lower ones of inverse contracts.
    for k in [*range(count - 1, -1, -1), *range(count)]:
        low = jnp.where((upper[k] == low) & (lower[k] < low), lower[k], low)
        high = jnp.where((lower[k] == high) & (upper[k] > high), upper[k], high)
    return PriceRange(lower=low, upper=high)


def _ranges(book: MarginBook, price: Float[Array, " contract"], *, required: bool) -> PriceRange:
    """Return the safe range of each position, of a hedged contract over both legs."""
    constant, slope = _surplus(book, price, required=required)
    if not required:
        return _in_prices(book, _solvent(constant, slope, []))
    own, fee = book.requirement.of(book.rows), book.fee[np.asarray(book.rows)][:, None]
    held = book.exposure(price)
    lines = own.lines(held)
    lines = dataclasses.replace(lines, rate=lines.rate + fee[None])
    legs = [_Leg(face=held.face, lines=lines)]
    if book.hedged:
        other = np.asarray(book.partners)
        beside = jax.tree.map(lambda leaf: leaf[..., other, :], lines)
        shared = lambda amount: jnp.where(book.shared, amount, jnp.zeros_like(amount))
        if beside.curvature is not None:
            beside = dataclasses.replace(beside, curvature=shared(beside.curvature))
        legs.append(_Leg(face=shared(held.face[other]), lines=beside))
    if book.collateral is not None and book.haircut is not None:
        mine = np.asarray(book.rows)
        backing = jax.tree.map(lambda leaf: leaf[:, mine, :], book.haircut.lines(book.collateral))
        legs.append(_Leg(face=book.cross(jnp.ones_like(held.face)), lines=backing))
    return _in_prices(book, _solvent(constant, slope, legs))


def _surplus(
    book: MarginBook, price: Float[Array, " contract"], *, required: bool
) -> tuple[Positions, Positions]:
    """Return `a` and `b` of what stands behind each position: `a + b x`, its own legs left out.

    Other positions count at the present price, with their requirement.
    """
    inverse, zero = book.inverse, jnp.zeros_like(book.size)
    entry = positive_or_one(book.entry)
    slope = jnp.where(inverse, -book.face, book.face)
    own = -slope * jnp.where(inverse, 1.0 / entry, entry)
    reserved = book.reserved if required else zero
    value = book.profit(price) - (book.maintenance(price)[0] if required else zero)
    backing = book.backing(price, full=not required)
    account = book.wallet + jnp.sum(book.cross(value - reserved), axis=0)
    account = account + jnp.sum(backing, axis=0)
    # Collateral in the contract's own underlying moves with its price: it is one of the legs, or
    # at its full price a slope.
    mine = np.asarray(book.rows)
    others = account[None, :] - value - backing[mine]
    behind = jnp.where(book.isolated, book.margin - reserved, others) + own
    if book.hedged:
        other = np.asarray(book.partners)
        beside = lambda amount: jnp.where(book.shared, amount[other], zero)
        behind, slope = behind + beside(own) - beside(value), slope + beside(slope)
    if book.collateral is not None and not required:
        slope = slope + book.cross(book.collateral[mine])
    return behind, slope


def _solvent(constant: Positions, slope: Positions, legs: Sequence[_Leg]) -> PriceRange:
    """Return between which `x` there is at least as much as the requirement of all legs.

    Args:
        constant: a.
        slope: b.
        legs: of which every combination of lines is one function that must not be negative.
    """
    everywhere = PriceRange(lower=jnp.zeros_like(slope), upper=jnp.full_like(slope, jnp.inf))
    if not legs:
        return _narrowed(everywhere, constant, slope, None)
    bends = [leg.lines.curvature for leg in legs if leg.lines.curvature is not None]
    bend = sum(bends[1:], bends[0]) if bends else None
    first, rest = legs[0], legs[1:]

    def narrow(found: PriceRange, a: Positions, b: Positions) -> PriceRange:
        for k in range(first.lines.rate.shape[0]):
            level = a + first.lines.deduction[k]
            found = _narrowed(found, level, b - first.lines.rate[k] * first.face, bend)
        return found

    if not rest:
        return narrow(everywhere, constant, slope)
    counts = [range(leg.lines.rate.shape[0]) for leg in rest]
    chosen = np.array(list(itertools.product(*counts))).T
    rates = [leg.lines.rate[k] for leg, k in zip(rest, chosen, strict=True)]
    deductions = [leg.lines.deduction[k] for leg, k in zip(rest, chosen, strict=True)]

    def combine(found: PriceRange, lines: tuple) -> tuple[PriceRange, None]:
        a, b = constant, slope
        for leg, rate, deduction in zip(rest, *lines, strict=True):
            a, b = a + deduction, b - rate * leg.face
        return narrow(found, a, b), None

    return jax.lax.scan(combine, everywhere, (rates, deductions))[0]


def _narrowed(found: PriceRange, a: Positions, b: Positions, bend: Positions | None) -> PriceRange:
    """Return the part of a range in which `a + b x - c x^2` is at least zero, c from `bend`."""
    rising, falling = b > 0, b < 0
    if bend is None:
        root = -a / jnp.where(b == 0, jnp.ones_like(b), b)
        lower = jnp.where(rising & (root > found.lower), root, found.lower)
        upper = jnp.where(falling & (root < found.upper), root, found.upper)
        never = ~rising & ~falling & (a < 0)
    else:
        # Of the two forms of each root the one that does not cancel.
        under = b**2 + 4.0 * a * bend
        half = 0.5 * (jnp.abs(b) + safe_sqrt(under))
        near, far = a / positive_or_one(half), half / positive_or_one(bend)
        far = jnp.where(bend > 0, far, jnp.full_like(far, jnp.inf))
        low = jnp.where(falling, jnp.zeros_like(a), -near)
        high = jnp.where(falling, near, far)
        lower = jnp.where(low > found.lower, low, found.lower)
        upper = jnp.where(high < found.upper, high, found.upper)
        never = (under < 0) | ((half == 0) & (a < 0))
    return PriceRange(lower=jnp.where(never, jnp.full_like(lower, jnp.inf), lower), upper=upper)


def _in_prices(book: MarginBook, found: PriceRange) -> PriceRange:
    """Return a range of `x` as one of prices, NaN where it is empty or holds no price above 0."""
    empty = (found.lower > found.upper) | (found.upper <= 0) | jnp.isinf(found.lower)
    finite = jnp.isfinite(found.upper)
    one = jnp.ones_like(found.lower)
    inverted_low = jnp.where(finite, 1.0 / positive_or_one(jnp.where(finite, found.upper, one)), 0)
    inverted_high = jnp.where(found.lower > 0, 1.0 / positive_or_one(found.lower), jnp.inf)
    lower = jnp.where(book.inverse, inverted_low, found.lower)
    upper = jnp.where(book.inverse, inverted_high, found.upper)
    nan = jnp.full_like(lower, jnp.nan)
    return PriceRange(lower=jnp.where(empty, nan, lower), upper=jnp.where(empty, nan, upper))


def _nearest(book: MarginBook, price: Float[Array, " contract"], safe: PriceRange) -> Positions:
    """Return the bound of a range that is nearer to the present price in ratio."""
    mark = book.at(price)
    below = safe.lower > 0
    above = jnp.isfinite(safe.upper)
    ratio = lambda a, b: jnp.where(a > b, a / positive_or_one(b), b / positive_or_one(a))
    nearer = ratio(safe.lower, mark) <= ratio(safe.upper, mark)
    bound = jnp.where(below & (~above | nearer), safe.lower, safe.upper)
    held = book.size != 0
    if book.collateral is not None:
        held = held | (book.cross(book.collateral[np.asarray(book.rows)]) != 0)
    return jnp.where(held & (below | above), bound, jnp.full_like(bound, jnp.nan))


def _lending_price(
    venue: Venue,
    price: Float[Array, " asset"],
    threshold: Float[Array, "category collateral_asset"],
) -> Float[Array, "asset account"]:
    """Return the price of each asset at which thresholds times collateral are the debt.

    Backing minus debt is linear in one asset's price, so the crossing is in closed form:
    `p* = (debt without the asset - backing without the asset) / (weighted units - owed units)`.
    An asset held as collateral has its liquidation price below today's, a borrowed one above.
    """
    accounts = venue.accounts
    weight = per_account(threshold, accounts.category)
    slope = jnp.zeros((price.shape[0], accounts.count), price.dtype)
    slope = slope.at[jnp.asarray(accounts.collateral_assets)].add(weight * accounts.collateral)
    slope = slope.at[jnp.asarray(accounts.debt_assets)].add(-accounts.debt)
    surplus = jnp.sum(slope * price[:, None], axis=0)
    others = surplus[None, :] - slope * price[:, None]
    crossing = -others / jnp.where(slope == 0, jnp.ones_like(slope), slope)
    return jnp.where((slope != 0) & (crossing > 0), crossing, jnp.full_like(crossing, jnp.nan))
