"""Independent float64 reference of accounts on margin in the step: scalar loops, no arrays of JAX.

Written from the description, one account, contract and asset at a time, for one venue:

    move      prices move, transient impact fades, the running variance learns.
    wait      volatilities follow the market, a long pays funding, expired options pay in cash.
    round     an account below its margin closes a share of everything by market orders. Those who
              owe more than they have while the fund cannot pay are closed against winners first.
              Who owes of the settlement currency has other collateral sold for it. Sales come
              before purchases; each order gets the mean price of its side.
    absorb    the funds pay what was forgiven, in order; the rest is a deficit.

Worth is in the settlement currency, `s` in the numeraire per unit of it.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Contract:
    """One contract: kind is linear, inverse, call or put; a coin option is quoted in its asset."""

    kind: str
    multiplier: float
    asset: int
    strike: float = 1.0
    expiry: float = 0.0
    coin: bool = False

    @property
    def in_coins(self) -> bool:
        """Whether it is settled in its own asset."""
        return self.kind == "inverse" or self.coin

    def quote(self, forward: float, volatility: float, time: float) -> float:
        """Price as quoted."""
        if self.kind in ("linear", "inverse"):
            return forward
        return self.premium(forward, volatility, time) / (forward if self.coin else 1.0)

    def premium(self, forward: float, volatility: float, time: float) -> float:
        """Worth of an option in the currency of its strike."""
        sign = 1.0 if self.kind == "call" else -1.0
        years = self.expiry - time
        if years <= 0:
            return max(sign * (forward - self.strike), 0.0)
        s = volatility * math.sqrt(years)
        d = math.log(forward / self.strike) / s + s / 2
        cdf = lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0))
        return sign * (forward * cdf(sign * d) - self.strike * cdf(sign * (d - s)))

    def worth(self, quote: float) -> float:
        """Worth of a unit at a quoted price."""
        return self.multiplier * (-1.0 / quote if self.kind == "inverse" else quote)

    def slope(self, forward: float, volatility: float, time: float) -> float:
        """Change of that by the forward."""
        if self.kind == "linear":
            return self.multiplier
        if self.kind == "inverse":
            return self.multiplier / forward**2
        delta = self.delta(forward, volatility, time)
        if self.coin:
            price = self.premium(forward, volatility, time)
            return self.multiplier * (delta - price / forward) / forward
        return self.multiplier * delta

    def delta(self, forward: float, volatility: float, time: float) -> float:
        """Change of an option's premium by the forward."""
        sign = 1.0 if self.kind == "call" else -1.0
        years = self.expiry - time
        if years <= 0:
            return sign * (sign * (forward - self.strike) > 0)
        s = volatility * math.sqrt(years)
        d = math.log(forward / self.strike) / s + s / 2
        return sign * 0.5 * math.erfc(-sign * d / math.sqrt(2.0))

    def notional(self, forward: float) -> float:
        """Worth of what a unit is about."""
        if self.kind == "inverse":
            return self.multiplier / forward
        return self.multiplier * (1.0 if self.coin else forward)


@dataclasses.dataclass
class Posted:
    """Collateral in another asset: its slices are (from, weight), by worth."""

    asset: int
    slices: list[tuple[float, float]]

    def counted(self, worth: float) -> float:
        """What holdings back, slice by slice."""
        ends = [*(low for low, _ in self.slices[1:]), math.inf]
        parts = zip(self.slices, ends, strict=True)
        return sum(w * max(min(worth, high) - low, 0.0) for (low, w), high in parts)


@dataclasses.dataclass
class Rules:
    """Numbers of the venue and of the market; see the classes of the same fields."""

    contracts: list[Contract]
    settlement: int
    trigger: float
    target: float
    largest: float
    fee: float
    behind: str
    funding: Any
    margin: Callable[..., float]
    depth: np.ndarray
    coefficient: float
    permanent: float
    keep: float
    years: float
    volatility: Callable[..., Sequence[float]] | None = None
    close: Any = None
    score: Callable[..., float] | None = None
    taker: float | None = None
    posted: Sequence[Posted] = ()
    allowance: float = 0.0
    buffer: float = 0.0


@dataclasses.dataclass
class World:
    """A scenario at one moment."""

    price: np.ndarray
    displacement: np.ndarray
    size: np.ndarray
    opening: np.ndarray
    entry: np.ndarray
    collateral: np.ndarray
    cash: np.ndarray
    implied: np.ndarray
    funds: list[float]
    time: float = 0.0
    unsettled: float = 0.0
    units: float = 0.0
    paid: float = 0.0
    deficit: float = 0.0
    flows: dict[str, float] = dataclasses.field(default_factory=dict)
    began: Sequence[float] = ()
    posted: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))
    deposited: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Remember what was posted at the opening."""
        self.deposited = self.posted.copy()

    def book(self, name: str, amount: float) -> None:
        """Add to a cumulated flow."""
        self.flows[name] = self.flows.get(name, 0.0) + amount

    @property
    def mid(self) -> np.ndarray:
        """Price one can deal at."""
        return self.price * np.exp(-self.displacement)


def forwards(rules: Rules, price: np.ndarray) -> list[float]:
    """Price of each underlying as its contract quotes it."""
    unit = lambda c: 1.0 if c.in_coins else price[rules.settlement]
    return [price[c.asset] / unit(c) for c in rules.contracts]


def other_collateral(rules: Rules, world: World, price: np.ndarray, a: int) -> list[float]:
    """Worth of what one account has posted beyond the settlement currency."""
    s = price[rules.settlement]
    return [world.posted[i, a] * price[p.asset] / s for i, p in enumerate(rules.posted)]


def equity(rules: Rules, world: World, quotes: list[float], a: int, price=None) -> float:
    """Collateral, cash and profit of one account."""
    price = world.mid if price is None else price
    total = world.collateral[a] + world.cash[a] + sum(other_collateral(rules, world, price, a))
    for k, contract in enumerate(rules.contracts):
        if world.size[k, a] != 0:
            gain = contract.worth(quotes[k]) - contract.worth(world.entry[k, a])
            total += world.size[k, a] * gain
    return total


def move(rules: Rules, world: World, returns: np.ndarray) -> None:
    """Prices move and transient impact fades."""
    world.price = world.price * np.exp(returns)
    world.displacement = world.displacement * rules.keep


def wait(rules: Rules, world: World) -> None:
    """Time passes: volatility, funding, expiry."""
    world.time += rules.years
    if rules.close is not None:
        rules.close.wait(rules.years)
    ahead = forwards(rules, world.mid)
    if rules.volatility is not None:
        world.implied = np.array(rules.volatility(ahead, world))
    s = world.mid[rules.settlement]
    index = forwards(rules, world.price)
    for k, contract in enumerate(rules.contracts):
        if contract.kind in ("linear", "inverse") and contract.expiry == 0:
            if rules.funding is None:
                continue
            rate = _funding_rate(rules, k, ahead[k] / index[k] - 1.0)
            for a in range(world.size.shape[1]):
                due = world.size[k, a] * rate * contract.notional(index[k]) * rules.years
                world.cash[a] -= due
                world.book("funding", due * s)
        elif world.time >= contract.expiry - 0.001 * rules.years:
            worth = contract.worth(contract.quote(ahead[k], world.implied[k], world.time))
            for a in range(world.size.shape[1]):
                gain = worth - contract.worth(world.entry[k, a])
                world.cash[a] += world.size[k, a] * gain
                world.size[k, a] = 0.0
    _recognise(rules, world, s)


def _funding_rate(rules: Rules, contract: int, premium: float) -> float:
    if not isinstance(rules.funding, tuple):
        return rules.funding(contract, premium)
    period, interest, cap = rules.funding
    return max(-cap, min(cap, premium / period + interest))


def cascade_round(rules: Rules, world: World) -> None:
    """One round of calls."""
    mid = world.mid
    s = mid[rules.settlement]
    ahead = forwards(rules, mid)
    quotes = [
        c.quote(f, v, world.time)
        for c, f, v in zip(rules.contracts, ahead, world.implied, strict=True)
    ]
    accounts = world.size.shape[1]
    before = [equity(rules, world, quotes, a) for a in range(accounts)]
    share, called, forfeit = _closing(rules, world, ahead, quotes, before)
    sold = _sold(rules, world)
    fund = max(sum(world.funds) - world.unsettled, 0.0) / s
    if rules.behind == "winners":
        _deleverage(rules, world, ahead, quotes, before, called, fund, s)
    orders = np.zeros_like(world.size)
    for k in range(len(rules.contracts)):
        for a in range(accounts):
            most = rules.largest * abs(world.opening[k, a])
            amount = min(share[k][a] * abs(world.size[k, a]), most)
            orders[k, a] = math.copysign(amount, world.size[k, a])
    slopes = [
        c.slope(f, v, world.time)
        for c, f, v in zip(rules.contracts, ahead, world.implied, strict=True)
    ]
    received, paid = _dealt(rules, world, orders, slopes, mid, s, sold)
    for a in range(accounts):
        for i, other in enumerate(rules.posted):
            world.posted[i, a] -= sold[i, a]
            world.cash[a] += sold[i, a] * received[other.asset] / s
            world.book("liquidated", sold[i, a] * mid[other.asset])
    _settle(rules, world, orders, slopes, quotes, ahead, mid, received, paid, s, forfeit)


def _closing(rules, world, ahead, quotes, before):
    """Shares of every position, who is called, and what closed accounts forfeit."""
    accounts, contracts = range(world.size.shape[1]), range(world.size.shape[0])
    if rules.close is None:
        share = [_share(rules, world, ahead, quotes, a, before[a]) for a in accounts]
        return [share for _ in contracts], share, [0.0 for _ in accounts]
    found = []
    for a in accounts:
        held = np.abs(world.size[:, a])
        notional = [q * c.notional(f) for q, c, f in zip(held, rules.contracts, ahead, strict=True)]
        required = rules.margin(rules, world.size[:, a], ahead, quotes, world)
        found.append(rules.close.orders(a, before[a], required, notional, held))
    return (
        [[found[a][0][k] for a in accounts] for k in contracts],
        [found[a][1] for a in accounts],
        [found[a][2] for a in accounts],
    )


def _sold(rules, world):
    """Units of other collateral sold for what accounts owe."""
    sold = np.zeros_like(world.posted)
    for a in range(world.size.shape[1]):
        owed = -(world.collateral[a] + world.cash[a])
        worth = sum(other_collateral(rules, world, world.mid, a))
        if owed > rules.allowance and worth > 0:
            sold[:, a] = world.posted[:, a] * min(owed * (1.0 + rules.buffer) / worth, 1.0)
    return sold


def _share(rules, world, ahead, quotes, a, has):
    held = world.size[:, a]
    parts = other_collateral(rules, world, world.mid, a)
    has -= sum(parts)
    has += sum(p.counted(w) for p, w in zip(rules.posted, parts, strict=True))
    required = rules.margin(rules, held, ahead, quotes, world)
    if has >= rules.trigger * required:
        return 0.0
    notional = sum(
        abs(q) * c.notional(f) for q, c, f in zip(held, rules.contracts, ahead, strict=True)
    )
    freed = rules.target * required - rules.fee * notional
    return 1.0 if freed <= 0 else min((rules.target * required - has) / freed, 1.0)


def _deleverage(rules, world, ahead, quotes, before, share, fund, s):
    dust = [_dust(rules, world, a) for a in range(len(before))]
    lack = [-e * share[a] if e < -dust[a] else 0.0 for a, e in enumerate(before)]
    if sum(lack) <= fund:
        return
    unpaid = (sum(lack) - fund) / sum(lack)
    opening = world.size.copy()
    about = np.array(
        [
            abs(opening[k]) * c.notional(f)
            for k, (c, f) in enumerate(zip(rules.contracts, ahead, strict=True))
        ]
    )
    for k, contract in enumerate(rules.contracts):
        worth = contract.worth(quotes[k])
        for side in (1.0, -1.0):
            losers = [a for a in range(len(lack)) if lack[a] > 0 and opening[k, a] * side > 0]
            units = {a: unpaid * abs(opening[k, a]) for a in losers}
            lift = {a: unpaid * lack[a] * about[k, a] / about[:, a].sum() for a in losers}
            total = sum(units.values())
            if total == 0:
                continue
            price = sum(lift.values()) / total
            winners = []
            for a, e in enumerate(before):
                gain = -side * (worth - contract.worth(world.entry[k, a]))
                if opening[k, a] * side < 0 and e > dust[a] and gain >= price:
                    winners.append((-_score(rules, world, ahead, quotes, opening, k, a, e), a))
            matched = min(total, sum(abs(opening[k, a]) for _, a in winners))
            left = matched
            for _, a in sorted(winners):
                closed = min(left, abs(opening[k, a]))
                left -= closed
                gain = -side * closed * (worth - contract.worth(world.entry[k, a]))
                world.cash[a] += gain - closed * price
                world.size[k, a] += side * closed
                world.book("deleveraged", closed * price * s)
                world.book("bad_debt", closed * price * s)
            for a in losers:
                part = units[a] * matched / total
                gain = side * part * (worth - contract.worth(world.entry[k, a]))
                world.cash[a] += gain + lift[a] * matched / total
                world.size[k, a] -= side * part
            world.book("liquidated", matched * contract.notional(ahead[k]) * s)


def _score(rules, world, ahead, quotes, opening, k, a, equity):
    """Rank of one position; by levered gain where the rules say nothing else."""
    entry, size = world.entry[k, a], opening[k, a]
    if rules.score is None:
        ratio = entry / quotes[k] if size < 0 else quotes[k] / (entry or 1.0)
        return ratio * abs(size) * quotes[k] / equity
    contract = rules.contracts[k]
    profit = size * (contract.worth(quotes[k]) - contract.worth(entry))
    notional = abs(size) * contract.notional(ahead[k])
    required = rules.margin(rules, opening[:, a], ahead, quotes, world)
    return rules.score(a, size, notional, profit, equity, required)


def _dust(rules, world, a):
    """Amounts of one account that are no more than rounding."""
    rows = zip(world.opening[:, a], rules.contracts, world.entry[:, a], strict=True)
    size = sum(abs(q * c.worth(p)) for q, c, p in rows if q != 0)
    return 1e-11 * (world.collateral[a] + abs(world.cash[a]) + size)


def _dealt(rules, world, orders, slopes, mid, s, posted):
    """Mean prices of sales and purchases; the market after both."""
    unit = lambda c: 1.0 if c.in_coins else s
    sold, bought = np.zeros(len(mid)), np.zeros(len(mid))
    for other, units in zip(rules.posted, posted, strict=True):
        sold[other.asset] += units.sum()
    for k, contract in enumerate(rules.contracts):
        for q in orders[k]:
            exposure = q * slopes[k] / unit(contract) * s
            if exposure > 0:
                sold[contract.asset] += exposure
            else:
                bought[contract.asset] -= exposure
    received, paid = mid.copy(), mid.copy()
    for i in range(len(mid)):
        for units, mean, sign in ((sold[i], received, -1.0), (bought[i], paid, 1.0)):
            now = world.mid[i]
            if units == 0:
                mean[i] = now
                continue
            y = rules.coefficient * math.sqrt(units * now / rules.depth[i])
            # The mean of exp(-+y sqrt(x)) for x uniform on [0, 1], by many midpoints of sqrt(x).
            u = (np.arange(4000) + 0.5) / 4000
            mean[i] = now * np.mean(2.0 * u * np.exp(sign * y * u))
            world.price[i] *= math.exp(sign * rules.permanent * y)
            world.displacement[i] -= sign * (1.0 - rules.permanent) * y
    return received, paid


def _settle(rules, world, orders, slopes, quotes, ahead, mid, received, paid, s, forfeit):
    unit = lambda c: 1.0 if c.in_coins else s
    fees = 0.0
    for a in range(world.size.shape[1]):
        notional, slippage, asked = 0.0, 0.0, 0.0
        rates = getattr(rules.close, "fees", {}).get(a)
        for k, contract in enumerate(rules.contracts):
            q = orders[k, a]
            if q == 0:
                continue
            dealt = received if q * slopes[k] > 0 else paid
            moved = slopes[k] / unit(contract) * (dealt[contract.asset] - mid[contract.asset])
            worth = contract.worth(quotes[k]) + moved
            if rules.taker is not None:
                paid_fee = rules.taker * contract.notional(ahead[k])
                worth = contract.worth(quotes[k]) - math.copysign(paid_fee, q)
            world.cash[a] += q * (worth - contract.worth(world.entry[k, a]))
            world.size[k, a] -= q
            notional += abs(q) * contract.notional(ahead[k])
            slippage += q * (contract.worth(quotes[k]) - worth)
            rate = rules.fee if rates is None else rates[k]
            asked += rate * abs(q) * contract.notional(ahead[k])
        world.book("liquidated", notional * s)
        due = getattr(rules.close, "due", {}).get(a, 0.0)
        # Without takers nobody keeps what the round's prices were better than the mid.
        takers = getattr(rules.close, "discount", None)
        discount = slippage if takers is None else takers.get(a, 0.0)
        # Collateral not sold counts at the prices of the round's beginning, as positions do.
        has = equity(rules, world, quotes, a, mid)
        fee = min(asked + due, max(has, 0.0))
        taken = min(max(discount - slippage, 0.0), max(has - fee, 0.0))
        world.cash[a] -= taken
        world.book("taken", taken * s)
        left = world.collateral[a] + world.cash[a] - fee
        if left > 0 and not world.size[:, a].any():
            fee += forfeit[a] * left
        world.cash[a] -= fee
        fees += fee
    world.funds[0] += fees * s
    world.book("fee", fees * s)
    _recognise(rules, world, s)


def _recognise(rules, world, s):
    """Forgive what accounts without positions owe, and charge whoever stands behind the fund."""
    bad = 0.0
    for a in range(world.size.shape[1]):
        owed = -(world.collateral[a] + world.cash[a])
        small = 1e-9 * (world.collateral[a] + abs(world.cash[a]))
        if not world.size[:, a].any() and not world.posted[:, a].any() and owed > small:
            bad += owed
            world.cash[a] += owed
    world.book("bad_debt", bad * s)
    unpaid = max(bad - max(sum(world.funds) - world.unsettled, 0.0) / s, 0.0)
    borne = _charge(rules, world, unpaid) if unpaid > 0 else 0.0
    world.unsettled += (bad - borne) * s
    world.units += bad - borne
    if borne:
        world.book("deleveraged" if rules.behind == "winners" else "socialised", borne * s)


def _charge(rules, world, loss):
    """Take a loss from winners or from all positions at today's prices, and return how much."""
    ahead = forwards(rules, world.mid)
    quotes = [
        c.quote(f, v, world.time)
        for c, f, v in zip(rules.contracts, ahead, world.implied, strict=True)
    ]
    accounts = range(world.size.shape[1])
    has = [max(equity(rules, world, quotes, a), 0.0) for a in accounts]
    if rules.behind == "nobody":
        return 0.0
    if rules.behind == "winners":
        profit = [
            sum(
                max(
                    world.size[k, a] * (c.worth(quotes[k]) - c.worth(world.entry[k, a]))
                    if world.size[k, a]
                    else 0.0,
                    0.0,
                )
                for k, c in enumerate(rules.contracts)
            )
            for a in accounts
        ]
        left = loss
        order = sorted(accounts, key=lambda a: (-profit[a] / (has[a] or 1.0), a))
        for a in order:
            taken = min(left, profit[a], has[a])
            world.cash[a] -= taken
            left -= taken
        return loss - left
    if rules.behind == "gainers":
        start = [c.worth(q) for c, q in zip(rules.contracts, world.began, strict=True)]
        begun = [
            sum(
                world.opening[k, a] * (start[k] - c.worth(world.entry[k, a]))
                for k, c in enumerate(rules.contracts)
                if world.opening[k, a] != 0
            )
            for a in accounts
        ]
        # Other collateral is no gain, nor is what was sold of it.
        other = [
            sum(
                world.deposited[i, a] * world.mid[p.asset] / world.mid[rules.settlement]
                for i, p in enumerate(rules.posted)
            )
            for a in accounts
        ]
        gains = [
            equity(rules, world, quotes, a) - world.collateral[a] - begun[a] - other[a]
            for a in accounts
        ]
        return _spread(world, loss, [min(h, max(g, 0.0)) for h, g in zip(has, gains, strict=True)],
                       [max(g, 0.0) for g in gains])  # fmt: skip
    weight = [
        sum(abs(world.size[k, a]) * c.notional(ahead[k]) for k, c in enumerate(rules.contracts))
        for a in accounts
    ]
    return _spread(world, loss, has, weight)


def _spread(world, loss, has, weight):
    """Take a loss in proportion to weights, of nobody more than he has; return how much."""
    accounts = range(len(has))
    able = [min(has[a], 1e300) if weight[a] > 0 else 0.0 for a in accounts]
    if sum(able) <= loss:
        taken = able
    else:
        low, high = 0.0, max(h / w for h, w in zip(able, weight, strict=True) if w > 0)
        for _ in range(200):
            level = 0.5 * (low + high)
            total = sum(min(h, level * w) for h, w in zip(able, weight, strict=True))
            low, high = (level, high) if total < loss else (low, level)
        taken = [min(h, high * w) for h, w in zip(able, weight, strict=True)]
    for a in accounts:
        world.cash[a] -= taken[a]
    return sum(taken)


def absorb(rules: Rules, world: World) -> None:
    """Funds pay in order, the same share of every unit; the rest is a deficit."""
    whole = loss = world.unsettled
    units, world.unsettled, world.units = world.units, 0.0, 0.0
    for layer, fund in enumerate(world.funds):
        part = min(loss, fund)
        world.funds[layer] -= part
        world.paid += part
        loss -= part
    world.deficit += units * loss / (whole or 1.0)
    world.book("residual", loss)


def by_table(tables, *, slab: bool = False, by_count: bool = False):
    """Margin by a table of (floor, rate) of each contract, added up or whole at the last rate."""

    def required(rules, held, ahead, quotes, world):
        del quotes, world
        total = 0.0
        for q, c, f, table in zip(held, rules.contracts, ahead, tables, strict=True):
            notional = abs(q) * c.notional(f)
            if slab:
                counted = abs(q) if by_count else notional
                total += notional * [r for low, r in table if counted > low or low == 0][-1]
                continue
            ends = [*(low for low, _ in table[1:]), math.inf]
            for (low, rate), high in zip(table, ends, strict=True):
                total += rate * max(min(notional, high) - low, 0.0)
        return total

    return required


def tiered(tiers: tuple[float, ...], rates: tuple[float, ...]):
    """Margin that adds up, tier by tier, what lies inside of each."""

    def required(rules, held, ahead, quotes, world):
        del quotes, world
        total = 0.0
        for q, c, f in zip(held, rules.contracts, ahead, strict=True):
            notional = abs(q) * c.notional(f)
            for low, high, rate in zip(tiers, (*tiers[1:], math.inf), rates, strict=True):
                total += rate * max(min(notional, high) - low, 0.0)
        return total

    return required
