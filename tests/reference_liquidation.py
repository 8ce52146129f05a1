"""Margin of futures accounts written from its rules, one account at a time, in long double.

An account is a list of positions, each a dictionary: `contract`, `size`, `entry`, `multiplier`,
`inverse`, `margin` (None in cross margin), `reserved`, `fee` and `rule`, maintenance margin as a
function of (notional, contracts, units of the underlying).
"""

import numpy as np

wide = np.longdouble


def marginal(brackets):
    """Each slice of a position pays the rate of its bracket."""

    def rule(notional, count, units):
        del count, units
        return sum(
            wide(row.rate) * max(min(notional, wide(row.cap)) - wide(row.floor), wide(0))
            for row in brackets
        )

    return rule


def slab(brackets, *, by_count=False):
    """The whole position pays the rate of its bracket."""

    def rule(notional, count, units):
        del units
        counted = count if by_count else notional
        row = [row for row in brackets if counted > row.floor or row.floor == 0][-1]
        return wide(row.rate) * notional

    return rule


def by_size(base, slope):
    """The rate rises with units of the underlying."""
    return lambda notional, count, units: notional * (wide(base) + wide(slope) * units)


def discounted(slices, liability, units, price):
    """Each slice of a holding counts at its own weight; what is owed counts for more."""
    value = wide(units) * wide(price)
    if value < 0:
        return wide(liability) * value
    ends = [*(row.floor for row in slices[1:]), np.inf]
    return sum(
        wide(row.weight) * max(min(value, wide(end)) - wide(row.floor), wide(0))
        for row, end in zip(slices, ends, strict=True)
    )


def worth(position, price):
    """Unrealised profit and maintenance margin of a position, fee to close included."""
    size, multiplier = wide(position["size"]), wide(position["multiplier"])
    entry, price, face = wide(position["entry"]), wide(price), abs(size) * multiplier
    if size == 0:
        return wide(0), wide(0)
    if position["inverse"]:
        profit, notional, units = size * multiplier * (1 / entry - 1 / price), face / price, None
        units = notional
    else:
        profit, notional, units = size * multiplier * (price - entry), face * price, face
    required = position["rule"](notional, abs(size), units) + wide(position["fee"]) * notional
    return profit, required


def surplus(positions, wallet, prices, mine):
    """What stands behind position `mine` beyond what is required."""
    if positions[mine]["margin"] is not None:
        position = positions[mine]
        profit, required = worth(position, prices[position["contract"]])
        return wide(position["margin"]) - wide(position["reserved"]) + profit - required
    total = wide(wallet)
    for position in positions:
        if position["margin"] is None:
            profit, required = worth(position, prices[position["contract"]])
            total += profit - required - wide(position["reserved"])
    return total


def bisected(positions, wallet, prices, mine, *, highest=1e9):
    """Price at which the surplus of a one-way position crosses zero; NaN where it does not."""
    contract, rising = positions[mine]["contract"], positions[mine]["size"] > 0

    def safe(price):
        moved = [*prices]
        moved[contract] = price
        return surplus(positions, wallet, moved, mine) >= 0

    low, high = wide(1e-9), wide(highest)
    if safe(low) == safe(high):
        return np.nan
    for _ in range(200):
        middle = (low + high) / 2
        if safe(middle) == rising:
            high = middle
        else:
            low = middle
    return float((low + high) / 2)
