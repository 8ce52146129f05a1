"""Close-out rules and rankings of exchanges, one account at a time, in plain Python.

`orders` returns the share of every position, whether the account is called, and what it forfeits.
"""

import math


class Restored:
    """As much as restores a multiple of the margin; else everything, and what is left is lost."""

    def __init__(self, target, fee):
        self.target, self.fee = target, fee

    def wait(self, years):
        """Nothing is remembered."""

    def orders(self, a, has, required, notional, count):
        if has >= required:
            return [0.0] * len(count), 0.0, 0.0
        freed = self.target * required - self.fee * sum(notional)
        missing = self.target * required - has
        share = 1.0 if freed <= 0 else min(missing / freed, 1.0)
        return [share] * len(count), 1.0, float(share == 1.0)


class Whole:
    """Everything, at the bankruptcy price."""

    def __init__(self, reserve):
        self.reserve = reserve

    def wait(self, years):
        """Nothing is remembered."""

    def orders(self, a, has, required, notional, count):
        called = float(has < required + self.reserve * sum(notional))
        return [called] * len(count), called, called


class Sliced:
    """A fifth of large positions first; the weak are closed by the vault in equal parts."""

    def __init__(self, years, step):
        self.years, self.step = years, step
        self.since, self.left, self.due = {}, {}, {}

    def wait(self, years):
        self.since = {
            key: seconds + years * 365.0 * 86_400.0 for key, seconds in self.since.items()
        }
        for a, left in self.left.items():
            self.due[a] = min(years / left, 1.0) if left > 0 else 1.0
            self.left[a] = max(left - years, 0.0)

    def orders(self, a, has, required, notional, count):
        if a not in self.left and has < required * 2.0 / 3.0:
            self.left[a] = max(self.years - self.step, 0.0)
            self.due[a] = min(self.step / self.years, 1.0)
        if a in self.left:
            due, self.due[a] = self.due[a], 0.0
            return [due] * len(count), 1.0, 1.0
        if has >= required:
            return [0.0] * len(count), 0.0, 0.0
        share = []
        for k, worth in enumerate(notional):
            whole = worth <= 1e5 or self.since.get((k, a), math.inf) < 30.0
            share.append(1.0 if whole else 0.2)
            if not whole:
                self.since[k, a] = 0.0
        return share, 1.0, 0.0


class TwoTiersDown:
    """Down to the largest position two tiers below, if the first tier's margin is there."""

    def __init__(self, tables, fee):
        self.tables, self.fee = tables, fee

    def wait(self, years):
        """Nothing is remembered."""

    def tier(self, k, count):
        return max(j for j, (low, _) in enumerate(self.tables[k]) if j == 0 or count > low)

    def orders(self, a, has, required, notional, count):
        if has >= required + self.fee * sum(notional):
            return [0.0] * len(count), 0.0, 0.0
        own = [
            worth * (self.tables[k][self.tier(k, n)][1] + self.fee)
            for k, (worth, n) in enumerate(zip(notional, count, strict=True))
        ]
        share = []
        for k, (worth, n) in enumerate(zip(notional, count, strict=True)):
            beyond = has - (sum(own) - own[k])
            tier = self.tier(k, n)
            if n == 0 or beyond >= own[k]:
                share.append(0.0)
            elif tier < 2 or beyond < worth * (self.tables[k][0][1] + self.fee):
                share.append(1.0)
            else:
                share.append(1.0 - self.tables[k][tier - 1][0] / n)
        return share, 1.0, 0.0


class Blocks:
    """What restores the margin, at least 1,000, within what many blocks allow."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.closed, self.stands = {}, {}

    def wait(self, years):
        self.closed, self.stands = {}, {}

    def orders(self, a, has, required, notional, count):
        if has >= required:
            return [0.0] * len(count), 0.0, 0.0
        total = sum(notional)
        freed = required - 0.015 * total
        wanted = 1.0 if freed <= 0 else min((required - has) / freed, 1.0)
        amounts = []
        for k, worth in enumerate(notional):
            least = min(1e3, worth)
            # What must stand at the end of the step, of what stands now.
            floor = 0.9**self.blocks / (self.stands.get((k, a), 1.0) or 1.0)
            room = max(worth * (1.0 - min(floor, 1.0)), least)
            amounts.append(min(max(wanted * worth, least), room))
        budget = 1e5 * self.blocks - self.closed.get(a, 0.0)
        part = min(budget / sum(amounts), 1.0) if sum(amounts) > 0 else 0.0
        share = [x * part / w if w > 0 else 0.0 for x, w in zip(amounts, notional, strict=True)]
        self.closed[a] = self.closed.get(a, 0.0) + sum(amounts) * part
        for k, x in enumerate(share):
            self.stands[k, a] = self.stands.get((k, a), 1.0) * (1.0 - x)
        return share, 1.0, 0.0


def leveraged_profit(a, size, notional, profit, equity, required):
    """Relative profit times leverage of a winner, over it of a loser."""
    value = math.copysign(notional, size)
    gain = profit / abs(value - profit)
    leverage = notional / equity
    return gain * leverage if gain > 0 else gain / leverage


def margin_profit(a, size, notional, profit, equity, required):
    """Profit over other collateral, times margin over equity."""
    return max(profit, 0.0) / max(equity - profit, 1.0) * required / equity


class Buffered:
    """Up to the margin and a buffer of 2 % of notional, position by position, under a throttle."""

    def __init__(self, rates, factors, fee, insurance, initial, duration, step):
        self.rates, self.factors, self.fee, self.insurance = rates, factors, fee, insurance
        self.initial, self.duration, self.step = initial, duration, step
        self.elapsed: dict[int, float] = {}
        self.freed: dict[int, float] = {}
        self.fees: dict[int, list[float]] = {}
        self.waits: set[int] = set()

    def wait(self, years):
        self.waits = set()
        self.elapsed = {a: time + years for a, time in self.elapsed.items()}

    def rate(self, k, units):
        rate, factor = self.rates[k], self.factors[k]
        return max(rate, 0.8 * rate + factor * math.sqrt(units)) if factor > 0 else rate

    def orders(self, a, has, required, notional, count):
        missing = required + 0.02 * sum(notional) - has
        if not (has < required or (a in self.elapsed and missing > 1e-12 * sum(notional))):
            self.elapsed.pop(a, None)
            self.freed.pop(a, None)
            return [0.0] * len(count), 0.0, 0.0
        time = max(self.elapsed.setdefault(a, self.step), self.step)
        already = self.freed.setdefault(a, 0.0)
        ramp = min(max(self.initial + time / self.duration, 0.0), 1.0)
        room = max((missing + already) * ramp - already, 0.0)
        allowed = 1.0 if missing < 50.0 else min(room / missing, 1.0)
        if a in self.waits:
            return [0.0] * len(count), 1.0, 0.0
        if allowed < 1 - 1e-13:
            self.waits.add(a)
        share, fees = [], []
        for k, (worth, units) in enumerate(zip(notional, count, strict=True)):
            if worth == 0:
                share.append(0.0)
                fees.append(0.0)
                continue
            rate = self.rate(k, units)
            own = missing * worth * rate / required
            spare = max(rate + 0.02 - self.fee - own / worth, 0.0)
            insurance = min(self.insurance, 0.95 * spare)
            freed = worth * (rate + 0.02 - self.fee - insurance)
            part = 1.0 if freed <= 0 else min(own / freed * allowed, 1.0)
            part = 1.0 if worth <= 50.0 else part
            part = part if allowed > 0 else 0.0
            share.append(part)
            fees.append(insurance)
            already += part * freed
        self.freed[a] = already
        self.fees[a] = fees
        return share, 1.0, 0.0
