"""Independent scalar reference of the step with one market in price bands, one loan at a time.

Plain float64 Python over `tests/reference_bands.py`. Outsiders' trades are found by bisection on
the amount, not by the inverse of the invariant; shares are kept band by band and loan by loan.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from tests.reference_bands import Pool

SMALLEST_RATION, SMALLEST_MOVE, SMALLEST_TRADE = 1e-6, 1e-4, 1e-6
WINDOW, LARGEST_MOVE = 120.0 / (365.0 * 86400.0), 1.25


@dataclass
class World:
    """One market, its loans and the price of its collateral; the borrowed coin is worth 1."""

    pool: Pool
    shares: list[dict[int, float]]
    deposits: list[float]
    debt: list[float]
    fee: float
    admin_share: float
    liquidation_discount: float
    base_rate: float
    cash: float
    price: float
    coefficient: float
    depth: float
    permanent_share: float
    recovery_rate: float
    cost: float | None
    displacement: float = 0.0
    index: float = 1.0
    last_price: float = 1.0
    last_fee: float = 0.0
    elapsed: float = 1.0
    treasury: float = 0.0
    base: float = 0.0
    flows: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = self.pool.base_price

    @property
    def mid(self) -> float:
        return self.price * math.exp(-self.displacement)

    def book(self, entry: str, value: float) -> None:
        self.flows[entry] = self.flows.get(entry, 0.0) + value

    def owned(self, loan: int, held: dict[int, float]) -> float:
        """Return a loan's part of what bands hold."""
        total = 0.0
        for n, own in self.shares[loan].items():
            every = sum(shares.get(n, 0.0) for shares in self.shares)
            total += held.get(n, 0.0) * own / every if every > 0 else 0.0
        return total


def step(world: World, log_return: float, years: float, rounds: int) -> None:
    """Play one step in place."""
    world.displacement *= math.exp(-world.recovery_rate * years)
    world.price *= math.exp(log_return)
    _accrue(world, years)
    for _ in range(rounds):
        _round(world)


def _accrue(world: World, years: float) -> None:
    debt = sum(world.debt)
    use = debt / (debt + world.cash)
    growth = math.exp(world.base_rate * (0.9 + 0.1 / (1.0 - use)) * years)
    world.debt = [d * growth for d in world.debt]
    world.index *= growth
    world.pool.base_price = world.base * world.index
    world.elapsed += years
    world.treasury += debt * (growth - 1.0)
    world.book("interest", debt * (growth - 1.0))
    world.book("reserve_interest", debt * (growth - 1.0))


def _seen(world: World, feed: float) -> tuple[float, float]:
    """Return limited price and dynamic fee."""
    running = max(WINDOW - world.elapsed, 0.0) / WINDOW
    ratio = min(feed, world.last_price) / max(feed, world.last_price)
    price = feed
    if ratio < 1.0 / LARGEST_MOVE:
        ratio = 1.0 / LARGEST_MOVE
        if running > 0:
            price = world.last_price * (LARGEST_MOVE if feed > world.last_price else ratio)
    return price, min((world.last_fee + 1.0 - ratio**3) * running, 1.0)


def _round(world: World) -> None:
    mid = world.mid
    oracle, dynamic = _seen(world, mid)
    fee = max(world.fee, dynamic)
    closed = [n for n in range(len(world.debt)) if _closes(world, n, oracle, mid)]
    held = [world.owned(n, world.pool.collateral) for n in closed]
    coin = [world.owned(n, world.pool.borrowed) for n in closed]
    owed = [world.debt[n] for n in closed]
    amount, buys = _wanted(world.pool, oracle, fee, mid)
    spent, received = copy.deepcopy(world.pool).exchange(oracle, fee, 0.0, amount, buys)
    profit = received * mid - spent if buys else received - spent * mid
    trades = spent > 0 and profit > (world.cost or 0.0)
    share = _rations(
        world,
        mid,
        [
            (sum(held), sum(owed) - sum(coin), len(closed)),
            (received, spent, 1.0) if trades and buys else (0.0, 0.0, float(trades)),
        ],
    )
    _close(world, share[0], mid, (closed, held, coin, owed))
    bought = 0.0
    if trades:
        amount, buys = _wanted(world.pool, oracle, fee, mid)
        bought = _trade(world, (oracle, fee, dynamic), share[1] * amount, buys, share[1])
    _sell(world, share[0] * sum(held) + bought, mid)


def _closes(world: World, n: int, oracle: float, mid: float) -> bool:
    """Return whether a loan is unhealthy, and closing it pays."""
    bands = world.shares[n]
    down = {b: world.pool.band_down(b, oracle) for b in bands}
    backing = world.owned(n, down) * (1.0 - world.liquidation_discount)
    collateral = world.owned(n, world.pool.collateral)
    first = min(bands)
    if first > world.pool.active and oracle > world.pool.top(first):
        backing += (oracle - world.pool.top(first)) * collateral
    found = collateral * mid + world.owned(n, world.pool.borrowed)
    return backing < world.debt[n] and found - world.debt[n] > (world.cost or 0.0)


def _wanted(pool: Pool, oracle: float, fee: float, mid: float) -> tuple[float, bool]:
    """Return the amount that brings the price, fee included, to the market's, by bisection."""
    number = next(n for n in range(-500, 1500) if pool.quotes(n, oracle)[1] > mid)
    keep, spot = 1.0 - pool.charged(number, oracle, fee), pool.price(oracle)
    if mid * keep > spot * (1.0 + SMALLEST_MOVE):
        buys, target = True, mid * keep
    elif mid / keep < spot * (1.0 - SMALLEST_MOVE):
        buys, target = False, mid / keep
    else:
        return 0.0, True

    def beyond(amount: float) -> bool:
        after = dataclasses.replace(
            pool, borrowed=dict(pool.borrowed), collateral=dict(pool.collateral)
        )
        # The fee does not move what the next unit costs, though it stays in the band.
        after.exchange(oracle, fee, 1.0, amount, buys)
        price = after.price(oracle)
        return price >= target if buys else price <= target

    high, _ = copy.deepcopy(pool).exchange(oracle, fee, 0.0, 1e8, buys)
    low = 0.0 if beyond(high) else high
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if beyond(middle) else (middle, high)
    value = sum(pool.borrowed.values()) + sum(pool.collateral.values()) * mid
    return (high if high * (1.0 if buys else mid) > SMALLEST_TRADE * value else 0.0), buys


def _capacity(world: World, mid: float, margin: float) -> float:
    return world.depth * (1.5 * max(margin, 0.0) / world.coefficient) ** 2 / mid


def _rations(world: World, mid: float, classes: list[tuple[float, float, float]]) -> list[float]:
    """Return the shares of closing and trading, each given as (sold, paid, calls)."""
    room = []
    for sold, paid, calls in classes:
        outlay = paid + calls * (world.cost or 0.0)
        room.append(_capacity(world, mid, 1.0 - outlay / (sold * mid)) if sold > 0 else 0.0)
    shares = []
    for k, (sold, _, _) in enumerate(classes):
        other = 1 - k
        taken = min(classes[other][0], room[other]) if room[other] > room[k] else 0.0
        share = min(max(room[k] - taken, 0.0) / sold, 1.0) if sold > 0 else 1.0
        shares.append(share if share >= SMALLEST_RATION else 0.0)
    return shares


def _close(world: World, share: float, mid: float, loans: tuple[list, list, list, list]) -> None:
    pool, after = world.pool, copy.deepcopy(world.shares)
    for n, held, coin, owed in zip(*loans, strict=True):
        own = min(coin, owed)
        world.book("liquidated", share * (held * mid + coin - own))
        world.book("proceeds", share * (coin - own))
        world.book("repaid", share * (owed - own))
        world.book("keeper_paid", share * (owed - own))
        world.book("released", share * own)
        world.book("keeper_cost", share * (world.cost or 0.0))
        world.cash += share * owed
        world.debt[n] -= share * owed
        world.deposits[n] *= 1.0 - share
        after[n] = {b: s * (1.0 - share) for b, s in world.shares[n].items()}
    for b in pool.collateral:
        every = sum(shares.get(b, 0.0) for shares in world.shares)
        left = sum(shares.get(b, 0.0) for shares in after)
        if every > 0:
            pool.collateral[b] *= left / every
            pool.borrowed[b] *= left / every
    world.shares = after


def _trade(
    world: World, view: tuple[float, float, float], amount: float, buys: bool, made: float
) -> float:
    """Trade and return the collateral that is sold into the market."""
    if amount <= 0:
        return 0.0
    mid, (oracle, fee, dynamic) = world.mid, view
    without = copy.deepcopy(world.pool)
    spent, received = world.pool.exchange(oracle, fee, world.admin_share, amount, buys)
    if received <= 0:
        return 0.0
    # What does not stay in the bands is the protocol's.
    without.exchange(oracle, fee, 0.0, amount, buys)
    coin, coll = (
        sum(getattr(without, k).values()) - sum(getattr(world.pool, k).values())
        for k in ("borrowed", "collateral")
    )
    admin = coin if buys else coll * mid
    world.last_price, world.last_fee, world.elapsed = oracle, dynamic, 0.0
    world.book("fee", admin)
    world.book("keeper_cost", made * (world.cost or 0.0))
    if buys:
        world.cash += coin
        world.treasury += coin
        world.book("converted", received * mid)
        world.book("keeper_paid", spent)
        world.book("conversion_loss", received * mid - spent + admin)
        return received
    world.book("reconverted", spent * mid)
    world.book("keeper_paid", spent * mid)
    world.book("proceeds", received)
    world.book("conversion_loss", received - spent * mid + admin)
    return 0.0


def _sell(world: World, sold: float, mid: float) -> None:
    drop = world.coefficient * math.sqrt(sold * mid / world.depth)
    node, weight = np.polynomial.legendre.leggauss(24)
    s = (node + 1.0) / 2.0
    world.book("proceeds", sold * mid * float((weight * s * np.exp(-drop * s)).sum()))
    world.price *= math.exp(-world.permanent_share * drop)
    world.displacement += (1.0 - world.permanent_share) * drop
