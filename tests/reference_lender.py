"""Independent float64 reference of auctions between lenders: scalar loops, one loan at a time.

Written from the description of the mechanism, for one pool on its markets:

    kick      a loan is auctioned where it is not backed at the lowest price in use, deposits priced
              above the market gone, and where the market is so far below its neutral price that
              the reward pays the kicker's cost.
    bucket    from the highest price down, a deposit takes what comes down to its price while the
              step lasts, beyond what outsiders would buy at that price.
    outside   outsiders take every loan whose price has come to what all that is for sale brings;
              of the others that come below the market they take a part at the end of the step.
    settle    debt left without collateral: reserves up to a share of the debt kicked, then the
              deposits, highest price first, then reserves again.

Prices move and sales fall upon the market as in `tests.reference_market`.
"""

import dataclasses
import math

import numpy as np

from tests.reference_market import SMALLEST_RATION, World, move, sell, sellable

WORTHWHILE, EPSILON = 1e-4, 64 * np.finfo(np.float64).eps
FACTOR, LOWEST = 1.04, 99_836_282_890e-18


@dataclasses.dataclass
class Auction:
    """What is fixed when a loan is kicked, what is left of bond and cover, and its age in hours."""

    top: float
    neutral: float
    threshold: float
    share: float
    bond: float
    cover: float
    since: float = 0.0
    age: float = 0.0

    def price(self, hours: float) -> float:
        """Return the asking price at an age."""
        if hours < 2:
            return 256.0 * self.top * 0.5 ** (hours * 3)
        if hours < 14:
            return 4.0 * self.top * 0.5 ** ((hours - 2) / 2)
        return self.top / 16.0 * 0.5 ** (hours - 14)

    def reward(self, price: float) -> float:
        """Return the kicker's share of the proceeds at a price."""
        return self.share * min(
            1.0, max(-1.0, (self.neutral - price) / (self.neutral - self.threshold))
        )


@dataclasses.dataclass
class Loan:
    """A loan, and its auction while one runs."""

    collateral: float
    debt: float
    auction: Auction | None = None


@dataclasses.dataclass
class Pool:
    """Loans, deposits `[price, amount]` from the highest price down, reserves, cash and flows."""

    loans: list[Loan]
    deposits: list[list[float]]
    reserves: float
    cash: float
    held: int
    owed: int
    rate: float
    kept: float
    leaving: float
    flows: dict[str, float] = dataclasses.field(default_factory=dict)

    def book(self, name: str, amount: float) -> None:
        """Add to a cumulated flow."""
        self.flows[name] = self.flows.get(name, 0.0) + amount

    @property
    def debt(self) -> float:
        """Return what all loans owe."""
        return sum(loan.debt for loan in self.loans)

    @property
    def pool(self) -> dict[str, float]:
        """Balance sheet by row of `jaxrisk.venue.venue.Pool`; the rows left out are zero."""
        supplied = sum(amount for _, amount in self.deposits)
        return {
            "cash": self.cash, "debt": self.debt, "supplied": supplied, "treasury": self.reserves
        }  # fmt: skip


def step(world: World, pool: Pool, log_return: np.ndarray, hours: float, rounds: int) -> None:
    """Play one step in place."""
    move(world, log_return, hours / 8760.0)
    growth = (1.0 + pool.rate) ** (hours / 8760.0)
    interest = pool.debt * (growth - 1.0)
    supplied = sum(amount for _, amount in pool.deposits)
    for bucket in pool.deposits:
        bucket[1] *= 1.0 + (1.0 - pool.kept) * interest / supplied
    pool.reserves += pool.kept * interest
    coin = world.mid(pool.owed)
    pool.book("interest", interest * coin)
    pool.book("reserve_interest", pool.kept * interest * coin)
    for loan in pool.loans:
        loan.debt *= growth
        if loan.auction is not None:
            loan.auction.since, loan.auction.age = loan.auction.age, loan.auction.age + hours
    for _ in range(rounds):
        play_round(world, pool)


def price_in_use(pool: Pool, market: float) -> float:
    """Return the price of the last deposit the debt would use without those above the market."""
    need = pool.debt + pool.leaving * sum(a for price, a in pool.deposits if price > market)
    for price, amount in pool.deposits:
        if need <= amount:
            return price
        need -= amount
    return LOWEST


def play_round(world: World, pool: Pool) -> list[float]:
    """Play one round in place, and return the rations of what is taken whole and in part."""
    mids = [world.mid(a) for a in range(len(world.price))]
    coin = mids[pool.owed]
    market = mids[pool.held] / coin
    kicks = _kick(pool, market, (world.cost or 0.0) / coin)
    pool.book("keeper_cost", kicks * (world.cost or 0.0))
    _bucket_takes(world, pool, market, coin)
    sold, shares = _outside_takes(world, pool, market, coin)
    _settle(pool, coin)
    units = np.zeros(len(mids))
    units[pool.held] = sold
    pool.book("proceeds", float(units @ sell(world, units, mids)))
    return shares


def _kick(pool: Pool, market: float, cost: float) -> int:
    idle = [x for x in pool.loans if x.auction is None and x.collateral > 0 and x.debt > 0]
    if not idle:
        return 0
    ratio = 1.0 + math.sqrt(pool.rate) / 2.0
    highest = FACTOR * max(loan.debt / loan.collateral for loan in idle)
    at, kicked = price_in_use(pool, market), []
    for loan in idle:
        threshold = loan.debt / loan.collateral
        share = min(max((ratio - 1.0) / 10.0, 0.005), 0.03)
        neutral = FACTOR * threshold * ratio
        auction = Auction(
            top=max(neutral, highest),
            neutral=neutral,
            threshold=threshold,
            share=share,
            bond=share * loan.debt,
            cover=max(pool.rate / 52.0, 0.0005) / 2.0 * loan.debt,
        )
        backed = at > LOWEST and loan.collateral * at >= FACTOR * loan.debt
        won = auction.reward(market) * min(loan.collateral * market, loan.debt)
        if not backed and won > cost:
            kicked.append((loan, auction))
    for loan, auction in kicked:
        loan.auction = auction
    return len(kicked)


def _needed(loan: Loan, price: float, judged: float) -> tuple[float, float]:
    """Return the units that repay a loan, at most all, and what a unit of them repays."""
    assert loan.auction is not None
    part = loan.auction.share
    credited = price * (1.0 - 1.25 * part + 0.25 * loan.auction.reward(judged))
    return min(loan.collateral, loan.debt / credited), credited


def _take(pool: Pool, loan: Loan, units: float, price: float, judged: float, whole: bool) -> float:
    """Take units of a loan in place and return what the kicker gets, negative for what he loses."""
    assert loan.auction is not None
    most, credited = _needed(loan, price, judged)
    covered = most < loan.collateral
    repaid = loan.debt if whole and covered else units * credited
    loan.collateral -= units
    loan.debt -= repaid
    reward = max(units * price * loan.auction.reward(judged), -loan.auction.bond)
    loan.auction.bond += reward
    fee = units * price - repaid - reward
    pool.reserves += fee
    pool.book("repaid_units", repaid)
    pool.book("fee_units", fee)
    return reward


def _running(pool: Pool, level: float) -> list[Loan]:
    """Return the loans under auction whose price comes down to a level in this step."""
    live = [loan for loan in pool.loans if loan.auction is not None and loan.auction.age > 0]
    return [x for x in live if x.auction is not None and x.auction.price(x.auction.age) <= level]


def _bucket_takes(world: World, pool: Pool, market: float, coin: float) -> None:
    for bucket in pool.deposits:
        level, amount = bucket
        asked = [
            (loan, min(level, loan.auction.price(loan.auction.since)))
            for loan in _running(pool, level)
            if loan.auction is not None
        ]
        units = [_needed(loan, price, level)[0] for loan, price in asked]
        burnt = [
            u * price * (1.0 - max(loan.auction.reward(level), 0.0))
            for (loan, price), u in zip(asked, units, strict=True)
            if loan.auction is not None
        ]
        if sum(units) <= 0 or amount <= 0:
            continue
        margin = min(1.0 - level * (1.0 + world.minimum_return) / market, 0.99)
        beyond = sum(units) - sellable(world, pool.held, margin)
        share = min(max(beyond, 0.0) / sum(units), amount / sum(burnt))
        for (loan, price), u in zip(asked, units, strict=True):
            mine = share * u
            reward = _take(pool, loan, mine, price, level, share == 1.0)
            gone = mine * price - max(reward, 0.0)
            bucket[1] -= gone
            pool.cash += max(-reward, 0.0)
            pool.book("keeper_paid", max(-reward, 0.0) * coin)
            pool.book("liquidated", mine * market * coin)
            pool.book("depositor_gain", mine * market * coin - gone * coin)


def _outside_takes(
    world: World, pool: Pool, market: float, coin: float
) -> tuple[float, list[float]]:
    """Let outsiders take what pays, and return the units they sell and the rations."""
    limit = market / (1.0 + world.minimum_return)
    loans = [loan for loan in _running(pool, limit) if loan.collateral > 0 and loan.debt > 0]
    if not loans:
        return 0.0, [1.0, 1.0]
    rows = []
    for loan in loans:
        assert loan.auction is not None
        rows.append((loan.auction.price(loan.auction.age), loan.auction.price(loan.auction.since)))

    def units_at(worth: float) -> list[float]:
        prices = [min(max(worth, low), high) for low, high in rows]
        return [_needed(x, p, p)[0] for x, p in zip(loans, prices, strict=True)]

    def worth(units: float) -> float:
        return _worth(world, pool.held, units) / coin / (1.0 + world.minimum_return)

    first = worth(sum(loan.collateral for loan in loans))
    wanted = units_at(first)
    second = worth(sum(wanted))
    # What a take costs counts per unit of what it takes.
    cost = (world.cost or 0.0) / coin / (1.0 + world.minimum_return)
    asks = [second - cost / u for u in wanted]
    classes: list[list] = [[], []]
    for loan, ask, (low, high) in zip(loans, asks, rows, strict=True):
        price = min(max(ask, low), high)
        classes[0 if low <= ask else 1].append((loan, _needed(loan, price, price)[0], price))
    sold, shares = 0.0, _rations(world, pool.held, classes, coin)
    for rows_, share in zip(classes, shares, strict=True):
        for loan, units, price in rows_:
            mine = share * units
            reward = _take(pool, loan, mine, price, price, share == 1.0)
            pool.cash += mine * price - reward
            pool.book("keeper_paid", (mine * price - reward) * coin)
            pool.book("keeper_cost", share * (world.cost or 0.0))
            pool.book("liquidated", mine * market * coin)
            sold += mine
    return sold, shares


def _worth(world: World, a: int, units: float) -> float:
    """Return what a unit brings on average where so many are sold."""
    node, weight = np.polynomial.legendre.leggauss(24)
    s = (node + 1.0) / 2.0
    mid = world.mid(a)
    volume = units * mid
    drop = world.coefficient[a] * math.sqrt(volume / world.depth_now(a))
    discount = 1.0 - float((weight * s * np.exp(-drop * s)).sum())
    within = sellable(world, a, discount) * mid
    return mid * (1.0 - discount * max(volume / within, 1.0) * (1.0 + WORTHWHILE) - EPSILON)


def _rations(world: World, a: int, classes: list[list], coin: float) -> list[float]:
    """Return the share of each class that goes through; the one with more room goes first."""
    demand, capacity = [], []
    for rows in classes:
        units = sum(u for _, u, _ in rows)
        outlay = sum(u * p for _, u, p in rows) * coin * (1.0 + world.minimum_return)
        outlay += len(rows) * (world.cost or 0.0)
        margin = 1.0 - outlay / (units * world.mid(a)) if units > 0 else 0.0
        demand.append(units)
        capacity.append(sellable(world, a, margin))
    shares = []
    for i, j in ((0, 1), (1, 0)):
        ahead = min(demand[j], capacity[j]) if capacity[j] > capacity[i] else 0.0
        share = min(max(capacity[i] - ahead, 0.0) / demand[i], 1.0) if demand[i] > 0 else 1.0
        shares.append(share if share >= SMALLEST_RATION else 0.0)
    return shares


def _settle(pool: Pool, coin: float) -> None:
    """Book repayments and fees, end auctions that are over, and let somebody bear what is left."""
    pool.book("repaid", pool.flows.pop("repaid_units", 0.0) * coin)
    pool.book("fee", pool.flows.pop("fee_units", 0.0) * coin)
    over = [x for x in pool.loans if x.auction is not None and (x.debt <= 0 or x.collateral <= 0)]
    bad = sum(loan.debt for loan in over)
    covered = sum(min(x.debt, x.auction.cover) for x in over if x.auction is not None)
    for loan in over:
        loan.debt, loan.auction = 0.0, None
    paid = min(covered, max(pool.reserves, 0.0))
    left = bad - paid
    for bucket in pool.deposits:
        lost = min(left, bucket[1])
        bucket[1] -= lost
        left -= lost
    paid += left
    pool.reserves -= paid
    pool.book("bad_debt", bad * coin)
    pool.book("treasury_paid", paid * coin)
    pool.book("depositor_loss", (bad - paid) * coin)
