"""Independent float64 reference of a step: scalar loops over accounts, venues and assets.

Written from the descriptions of the verbs, one account and one asset at a time:

    move      prices move, transient impact and the memory of flow fade, the variance learns.
    accrue    debt grows by exp(rate x years), the rate kinked in debt / (cash + debt).
    see       a push oracle publishes the mid if it has moved far enough; it keeps that until the
              next step. An exchange-rate oracle follows the underlying at any moment.
    round     keepers call every account they may; calls are rationed to what can be sold at a
              profit, those with the larger margin first; the market falls by
              coefficient sqrt(volume / depth).
    absorb    funds pay in order; the rest is carried or cut from suppliers' claims.

A call repays the allowance, lowered so that no dust is left, seizes repaid x (1 + bonus), and
writes off what is left once the last collateral is gone.
"""

import dataclasses
import math

import numpy as np

SMALLEST_RATION = 1e-6


@dataclasses.dataclass
class Venue:
    """Rules, book and state of one venue; arrays have the account last.

    Attributes:
        held_assets: system index of each collateral.
        owed_assets: system index of each debt.
        category: of each account.
        collateral: units standing `(collateral_asset, account)`.
        debt: units standing, interest included `(debt_asset, account)`.
        threshold: `(collateral_asset, account)`.
        bonus: `(collateral_asset, account)`.
        fee_share: `(collateral_asset,)`.
        deviation: of a push oracle; `None` for an exchange-rate oracle.
        close_factor: `None` for a venue without close factor and dust rule.
        carried: whether the residual is carried as a deficit.
    """

    held_assets: tuple[int, ...]
    owed_assets: tuple[int, ...]
    category: list[int]
    collateral: np.ndarray
    debt: np.ndarray
    threshold: np.ndarray
    bonus: np.ndarray
    fee_share: np.ndarray
    deviation: np.ndarray | None
    close_factor: float | None
    full_below_health: float
    small_position: float
    minimum_leftover: float
    rate: dict[str, np.ndarray]
    carried: bool
    funds: list[float]
    cash: np.ndarray
    supplied: np.ndarray
    treasury: np.ndarray
    published: np.ndarray
    deficit: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    unsettled: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    unsettled_value: float = 0.0
    opening_debt: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    flows: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deficit = np.zeros(len(self.owed_assets))
        self.unsettled = np.zeros(len(self.owed_assets))
        self.opening_debt = self.debt.copy()

    def book(self, name: str, amount: float) -> None:
        """Add to a cumulated flow."""
        self.flows[name] = self.flows.get(name, 0.0) + amount


@dataclasses.dataclass
class World:
    """Market, keepers and venues; arrays are `(asset,)`."""

    price: np.ndarray
    displacement: np.ndarray
    log_ratio: np.ndarray
    variance: np.ndarray
    recent_sales: np.ndarray
    underlying: list[int]
    coefficient: np.ndarray
    depth: np.ndarray
    calm_volatility: np.ndarray
    volatility_sensitivity: float
    flow_sensitivity: float
    permanent_share: float
    recovery_rate: float
    variance_rate: float
    pro_rata: bool
    minimum_return: float
    cost: float | None
    venues: list[Venue]

    def mid(self, a: int) -> float:
        """Return the mid of one asset."""
        return self.price[a] * math.exp(-self.displacement[a])

    def depth_now(self, a: int) -> float:
        """Return the depth left after volatility and recent flow, at least 1 % of the calm one."""
        excess = max(math.sqrt(self.variance[a]) / self.calm_volatility[a] - 1.0, 0.0)
        share = math.exp(-self.volatility_sensitivity * excess)
        share *= 1.0 - self.flow_sensitivity * self.recent_sales[a] / self.depth[a]
        return self.depth[a] * max(share, 0.01)


@dataclasses.dataclass
class _Call:
    """One account's call: units per asset, before rationing."""

    seized: np.ndarray
    repaid: np.ndarray
    written_off: np.ndarray


def step(world: World, log_return: np.ndarray, years: float, rounds: int) -> None:
    """Play one step in place."""
    _move(world, log_return, years)
    for venue in world.venues:
        _accrue(world, venue, years)
        _see(world, venue)
    for _ in range(rounds):
        _round(world)
    for venue in world.venues:
        _absorb(venue)


def _move(world: World, log_return: np.ndarray, years: float) -> None:
    for a in range(len(world.price)):
        keep = math.exp(-world.recovery_rate * years)
        world.displacement[a] *= keep
        world.recent_sales[a] *= keep
        squared = log_return[a] ** 2 / years
        memory = math.exp(-world.variance_rate * years)
        world.variance[a] = memory * world.variance[a] + (1.0 - memory) * squared
        world.price[a] *= math.exp(log_return[a])
        world.log_ratio[a] += log_return[a] - log_return[world.underlying[a]]


def _accrue(world: World, venue: Venue, years: float) -> None:
    for d, asset in enumerate(venue.owed_assets):
        debt = venue.debt[d].sum()
        use = debt / (debt + venue.cash[d]) if debt > 0 else 0.0
        r = {name: values[d] for name, values in venue.rate.items()}
        if use <= r["optimal"]:
            rate = r["base"] + r["slope1"] * use / r["optimal"]
        else:
            over = (use - r["optimal"]) / (1.0 - r["optimal"])
            rate = r["base"] + r["slope1"] + r["slope2"] * over
        interest = debt * math.expm1(rate * years)
        kept = interest * r["reserve_factor"]
        venue.debt[d] *= math.exp(rate * years)
        venue.supplied[d] += interest - kept
        venue.treasury[d] += kept
        venue.book("interest", interest * world.mid(asset))
        venue.book("reserve_interest", kept * world.mid(asset))


def _see(world: World, venue: Venue) -> None:
    if venue.deviation is None:
        return
    for a, last in enumerate(venue.published):
        if abs(world.mid(a) - last) >= venue.deviation[a] * last:
            venue.published[a] = world.mid(a)


def _seen(world: World, venue: Venue) -> np.ndarray:
    """Return the prices the venue sees, all assets."""
    mids = np.array([world.mid(a) for a in range(len(world.price))])
    if venue.deviation is not None:
        return venue.published.copy()
    return np.array(
        [mids[u] * math.exp(r) for u, r in zip(world.underlying, world.log_ratio, strict=True)]
    )


def _lag(world: World, venue: Venue, seen: np.ndarray, account: int) -> float:
    """Return the largest mid over seen price of what accounts of the category owed at the start."""
    peers = [n for n, c in enumerate(venue.category) if c == venue.category[account]]
    return max(
        world.mid(b) / seen[b] if venue.opening_debt[d, peers].sum() > 0 else 0.0
        for d, b in enumerate(venue.owed_assets)
    )


def _sellable(world: World, a: int, margin: float) -> float:
    """Return the units of an asset that sell at an average loss below `margin`."""
    return world.depth_now(a) * (1.5 * max(margin, 0.0) / world.coefficient[a]) ** 2 / world.mid(a)


def _capacity(world: World, venue: Venue, seen: np.ndarray, held: int, account: int) -> float:
    """Return the units of a collateral that a keeper expects to sell at a profit."""
    a = venue.held_assets[held]
    net = 1.0 + venue.bonus[held, account] * (1.0 - venue.fee_share[held])
    cost = seen[a] / world.mid(a) * _lag(world, venue, seen, account)
    return _sellable(world, a, 1.0 - cost * (1.0 + world.minimum_return) / net)


def _round(world: World) -> None:
    seen = [_seen(world, venue) for venue in world.venues]
    calls = [
        [_call(world, v, s, n) for n in range(v.debt.shape[1])]
        for v, s in zip(world.venues, seen, strict=True)
    ]
    rations = _rations(world, seen, calls)
    mids = [world.mid(a) for a in range(len(world.price))]
    sold = np.zeros(len(world.price))
    parts = []
    for v, (venue, s) in enumerate(zip(world.venues, seen, strict=True)):
        fees = [r * _fee(venue, s, calls[v], c) for c, r in _by_category(venue, rations[v]).items()]
        moved = _go_through(world, venue, calls[v], rations[v])
        units = _booked(world, venue, moved, np.sum(fees, axis=0), mids)
        parts.append(units)
        sold += units
    received = _sell(world, sold, mids)
    for venue, units in zip(world.venues, parts, strict=True):
        venue.book("proceeds", float((units * received).sum()))


def _call(world: World, venue: Venue, seen: np.ndarray, n: int) -> _Call:
    """Return the call a keeper acting alone would make on account `n`."""
    held = [venue.collateral[c, n] * seen[a] for c, a in enumerate(venue.held_assets)]
    owed = [venue.debt[d, n] * seen[a] for d, a in enumerate(venue.owed_assets)]
    nothing = _Call(np.zeros(len(held)), np.zeros(len(owed)), np.zeros(len(owed)))
    total, backing = sum(owed), sum(t * v for t, v in zip(venue.threshold[:, n], held, strict=True))
    if not total > backing:
        return nothing
    if world.pro_rata:
        redeemable = sum(v / (1.0 + b) for v, b in zip(held, venue.bonus[:, n], strict=True))
        collateral, debt = sum(held), total
        credit = collateral / redeemable if collateral > 0 else 1.0
        of_collateral = np.array(held) > -1.0
        of_debt = np.array(owed) > -1.0
    else:
        d = int(np.argmax(owed))
        bonus = venue.bonus[:, n]
        room = [
            _capacity(world, venue, seen, c, n) * seen[a] for c, a in enumerate(venue.held_assets)
        ]
        gain = [
            min(v, owed[d] * (1.0 + b), r) * b / (1.0 + b)
            for v, b, r in zip(held, bonus, room, strict=True)
        ]
        c = int(np.argmax(gain))
        collateral, debt, credit = held[c], owed[d], 1.0 + bonus[c]
        of_collateral, of_debt = np.arange(len(held)) == c, np.arange(len(owed)) == d
    repaid = _request(venue, collateral, debt, credit, total, backing)
    seized = repaid * credit
    if seized > collateral:
        seized, repaid = collateral, collateral / credit
    if venue.close_factor is not None and repaid < debt and seized < collateral:
        # A request lowered to the limit is at the limit but for rounding.
        least = venue.minimum_leftover * (1.0 - 1e-12)
        if debt - repaid < least or collateral - seized < least:
            return nothing
    called = venue.collateral[:, n] * of_collateral
    taken = seized / collateral if collateral > 0 else 0.0
    if world.cost is not None:
        worth = sum(u * world.mid(a) for u, a in zip(called, venue.held_assets, strict=True))
        fee = float(np.mean(venue.fee_share)) * (seized - repaid)
        outlay = repaid * _lag(world, venue, seen, n) * (1.0 + world.minimum_return)
        if not taken * worth - fee - outlay > world.cost:
            return nothing
    call = _Call(
        seized=venue.collateral[:, n] * taken * of_collateral,
        repaid=venue.debt[:, n] * (repaid / debt) * of_debt,
        written_off=nothing.written_off,
    )
    if seized >= sum(held):
        call.written_off = venue.debt[:, n] - call.repaid
    return call


def _request(
    venue: Venue, collateral: float, debt: float, credit: float, total: float, backing: float
) -> float:
    """Return the allowance, lowered so that a partial call leaves no dust."""
    if venue.close_factor is None:
        return debt
    is_large = collateral >= venue.small_position and debt >= venue.small_position
    repay = debt
    if is_large and backing > venue.full_below_health * total:
        repay = min(debt, venue.close_factor * total)
    if repay >= debt or repay * credit >= collateral:
        return repay
    limit = min(debt - venue.minimum_leftover, (collateral - venue.minimum_leftover) / credit)
    return min(repay, max(limit, 0.0))


def _by_category(venue: Venue, values: list) -> dict:
    """Return one account's value for each category."""
    return dict(zip(venue.category, values, strict=True))


def _fee(venue: Venue, seen: np.ndarray, calls: list[_Call], category: int) -> np.ndarray:
    """Return the units the protocol keeps of a class of calls: a share of their common bonus."""
    made = [c for c, own in zip(calls, venue.category, strict=True) if own == category]
    seized = np.sum([c.seized for c in made], axis=0)
    repaid = np.sum([c.repaid for c in made], axis=0)
    taken = float(seized @ seen[list(venue.held_assets)])
    given = float(repaid @ seen[list(venue.owed_assets)])
    bonus = max(taken - given, 0.0) / taken if taken > 0 else 0.0
    return seized * bonus * venue.fee_share


def _rations(world: World, seen: list[np.ndarray], calls: list[list[_Call]]) -> list[list[float]]:
    """Return the share of each account's call that goes through, by venue.

    Accounts of one venue and category form a class. Its margin is what its calls would earn before
    slippage, over what they would sell. In each market classes with more capacity go first, and a
    class sells only into the room left below its own capacity, all equal classes sharing it.
    """
    demand, capacity = {}, {}
    for v, venue in enumerate(world.venues):
        for category in set(venue.category):
            made = [c for c, own in zip(calls[v], venue.category, strict=True) if own == category]
            sold = np.sum([c.seized for c in made], axis=0) - _fee(
                venue, seen[v], calls[v], category
            )
            worth = sum(u * world.mid(a) for u, a in zip(sold, venue.held_assets, strict=True))
            repaid = np.sum([c.repaid for c in made], axis=0)
            outlay = (1.0 + world.minimum_return) * sum(
                u * world.mid(a) for u, a in zip(repaid, venue.owed_assets, strict=True)
            )
            outlay += (world.cost or 0.0) * sum(c.repaid.sum() > 0 for c in made)
            for c, a in enumerate(venue.held_assets):
                demand[a, v, category] = sold[c]
                margin = 1.0 - outlay / worth if worth > 0 else 0.0
                capacity[a, v, category] = _sellable(world, a, margin)
    share = {}
    for key, wanted in demand.items():
        rivals = [other for other in demand if other[0] == key[0]]
        taken = sum(
            min(demand[other], capacity[other])
            for other in rivals
            if capacity[other] > capacity[key]
        )
        crowd = sum(demand[other] for other in rivals if capacity[other] == capacity[key])
        room = max(capacity[key] - taken, 0.0)
        share[key] = min(room / crowd, 1.0) if wanted > 0 else 1.0
    rations = []
    for v, venue in enumerate(world.venues):
        scarcest = [
            min(share[a, v, category] for a in venue.held_assets) for category in venue.category
        ]
        rations.append([r if r >= SMALLEST_RATION else 0.0 for r in scarcest])
    return rations


def _go_through(world: World, venue: Venue, calls: list[_Call], rations: list[float]) -> _Call:
    """Move the book by rationed calls and return the units moved in all."""
    moved = _Call(
        np.zeros(len(venue.held_assets)),
        np.zeros(len(venue.owed_assets)),
        np.zeros(len(venue.owed_assets)),
    )
    made = 0.0
    for n, (call, ration) in enumerate(zip(calls, rations, strict=True)):
        venue.collateral[:, n] -= ration * call.seized
        venue.debt[:, n] -= ration * (call.repaid + call.written_off)
        moved.seized += ration * call.seized
        moved.repaid += ration * call.repaid
        moved.written_off += ration * call.written_off
        made += ration * (call.repaid.sum() > 0)
    if world.cost is not None:
        venue.book("keeper_cost", made * world.cost)
    return moved


def _booked(
    world: World, venue: Venue, moved: _Call, fees: np.ndarray, mids: list[float]
) -> np.ndarray:
    """Book the venue's side of a round and return the units that keepers sell, all assets."""
    sold = np.zeros(len(world.price))
    for c, a in enumerate(venue.held_assets):
        sold[a] = moved.seized[c] - fees[c]
        venue.book("liquidated", moved.seized[c] * mids[a])
        venue.book("fee", fees[c] * mids[a])
    for d, a in enumerate(venue.owed_assets):
        venue.book("repaid", moved.repaid[d] * mids[a])
        venue.book("keeper_paid", moved.repaid[d] * mids[a])
        venue.book("bad_debt", moved.written_off[d] * mids[a])
        venue.unsettled_value += moved.written_off[d] * mids[a]
    venue.cash += moved.repaid
    venue.unsettled += moved.written_off
    return sold


def _sell(world: World, sold: np.ndarray, mids: list[float]) -> np.ndarray:
    """Sell into the market and return the average price received per unit, all assets."""
    drops, received = [], []
    for a, mid in enumerate(mids):
        volume = sold[a] * mid
        drop = world.coefficient[a] * math.sqrt(volume / world.depth_now(a))
        drops.append(drop)
        # The mean of exp(-drop sqrt(t)) over t in [0, 1], by Gauss-Legendre in s = sqrt(t).
        node, weight = np.polynomial.legendre.leggauss(24)
        s = (node + 1.0) / 2.0
        received.append(mid * float((weight / 2.0 * 2.0 * s * np.exp(-drop * s)).sum()))
        world.recent_sales[a] += volume
    for a, drop in enumerate(drops):
        if world.underlying[a] != a:
            drop += drops[world.underlying[a]]
        world.price[a] *= math.exp(-world.permanent_share * drop)
        world.displacement[a] += (1.0 - world.permanent_share) * drop
    return np.array(received)


def _absorb(venue: Venue) -> None:
    loss = venue.unsettled_value
    left = loss
    for k, capacity in enumerate(venue.funds):
        paid = min(left, capacity)
        venue.funds[k] -= paid
        left -= paid
    covered = venue.unsettled * ((loss - left) / loss if loss > 0 else 0.0)
    borne = venue.unsettled - covered
    venue.cash += covered
    if venue.carried:
        venue.deficit += borne
    else:
        venue.supplied -= borne
    venue.unsettled = np.zeros_like(venue.unsettled)
    venue.unsettled_value = 0.0
    venue.book("residual", left)
