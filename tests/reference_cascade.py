"""Independent float64 reference of a step: scalar loops over accounts, venues and assets.

Written from the descriptions of the verbs, one account and one asset at a time:

    move      prices move, transient impact and the memory of flow fade, the variance learns.
    accrue    debt grows by exp(rate x years), the rate kinked in debt / (cash + debt).
    see       a push oracle publishes the mid if it has moved far enough; it keeps that until the
              next step. An exchange-rate oracle follows the underlying at any moment, a spot oracle
              is the mid.
    act       owners do what `tests.reference_owners` says.
    prepare   tied capital comes back, a new block begins, and of each account it is counted for how
              many steps in a row it could be called.
    round     keepers call every account they may; calls are rationed to what can be sold at a
              profit, those with the larger margin first, and all alike to what free capital pays
              for; the market falls by coefficient sqrt(volume / depth).
    absorb    where the protocol's own claims come first, they pay; then funds, in order; the rest
              is carried or cut from suppliers' claims.

What a call does is the protocol's (`tests.reference_calls`). Debt that it recognises is written off
once the last collateral is gone.
"""

import dataclasses
import math

import numpy as np

from tests.reference_calls import Account, Called, Close, Protocol
from tests.reference_market import SMALLEST_RATION, World, is_equal, move, sell, sellable
from tests.reference_owners import act


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
        bonus: `(collateral_asset, account)`, as stated.
        fee_share: `(collateral_asset,)`.
        protocol: what a call does.
        deviation: of a push oracle; `None` for others.
        follows_ratio: whether the oracle follows the underlying; else it is spot.
        carried: whether the residual is carried as a deficit.
        treasury_pays: whether the protocol's own claims bear losses first.
    """

    name: str
    held_assets: tuple[int, ...]
    owed_assets: tuple[int, ...]
    category: list[int]
    collateral: np.ndarray
    debt: np.ndarray
    threshold: np.ndarray
    bonus: np.ndarray
    fee_share: np.ndarray
    protocol: Protocol
    deviation: np.ndarray | None
    follows_ratio: bool
    rate: dict[str, np.ndarray]
    carried: bool
    treasury_pays: bool
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
    waited: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.waited = [0] * self.debt.shape[1]
        self.deficit = np.zeros(len(self.owed_assets))
        self.unsettled = np.zeros(len(self.owed_assets))
        self.opening_debt = self.debt.copy()

    def book(self, name: str, amount: float) -> None:
        """Add to a cumulated flow."""
        self.flows[name] = self.flows.get(name, 0.0) + amount


@dataclasses.dataclass
class _Call:
    """One account's call: units per asset, before rationing; values beyond the debt."""

    seized: np.ndarray
    repaid: np.ndarray
    written_off: np.ndarray
    charge: float = 0.0
    refund: float = 0.0


def step(world: World, log_return: np.ndarray, years: float, rounds: int) -> None:
    """Play one step in place."""
    move(world, log_return, years)
    for venue in world.venues:
        _accrue(world, venue, years)
        _see(world, venue)
    if world.owners is not None:
        act(world, world.owners, _seen)
    _prepare(world, years)
    for _ in range(rounds):
        _round(world)
    for venue in world.venues:
        _absorb(world, venue)


def _prepare(world: World, years: float) -> None:
    world.calls = 0.0
    if world.capital is not None:
        tied = (world.capital - world.free) * math.exp(-world.capital_rate * years)
        world.free = world.capital - tied
    for venue in world.venues:
        seen = _seen(world, venue)
        for n in range(venue.debt.shape[1]):
            account = _account(venue, seen, n)
            venue.waited[n] = venue.waited[n] + 1 if account.debt > account.weighted else 0


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
    if not venue.follows_ratio:
        return mids
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


def _capacity(world: World, venue: Venue, seen: np.ndarray, held: int, account: int) -> float:
    """Return the units of a collateral that a keeper expects to sell at a profit."""
    a, protocol = venue.held_assets[held], venue.protocol
    credit = 1.0 + protocol.largest_bonus(venue.bonus[held, account])
    net = credit - protocol.kept(credit, 1.0 - 1.0 / credit, venue.fee_share[held])
    cost = seen[a] / world.mid(a) * _lag(world, venue, seen, account)
    return sellable(world, a, 1.0 - cost * (1.0 + world.minimum_return) / net)


def _round(world: World) -> None:
    seen = [_seen(world, venue) for venue in world.venues]
    calls = []
    for venue, s in zip(world.venues, seen, strict=True):
        everyone = range(venue.debt.shape[1])
        venue.protocol.look([_account(venue, s, n) for n in everyone])
        calls.append([_call(world, venue, s, n) for n in everyone])
    rations = _rations(world, seen, calls)
    mids = [world.mid(a) for a in range(len(world.price))]
    sold = np.zeros(len(world.price))
    parts = []
    through = sum(
        r * _made(c)
        for own, rs in zip(calls, rations, strict=True)
        for c, r in zip(own, rs, strict=True)
    )
    world.calls += through
    for v, (venue, s) in enumerate(zip(world.venues, seen, strict=True)):
        fees = [r * _fee(venue, s, calls[v], c) for c, r in _by_category(venue, rations[v]).items()]
        moved = _go_through(world, venue, calls[v], rations[v])
        units = _booked(world, venue, moved, np.sum(fees, axis=0), mids)
        parts.append(units)
        sold += units
    received = sell(world, sold, mids)
    for venue, units in zip(world.venues, parts, strict=True):
        venue.book("proceeds", float((units * received).sum()))


def _values(venue: Venue, seen: np.ndarray, n: int) -> tuple[list[float], list[float]]:
    """Return the value of each collateral and of each debt of account `n`."""
    held = [venue.collateral[c, n] * seen[a] for c, a in enumerate(venue.held_assets)]
    owed = [venue.debt[d, n] * seen[a] for d, a in enumerate(venue.owed_assets)]
    return held, owed


def _account(venue: Venue, seen: np.ndarray, n: int) -> Account:
    held, owed = _values(venue, seen, n)
    weighted = sum(t * v for t, v in zip(venue.threshold[:, n], held, strict=True))
    return Account(sum(held), sum(owed), weighted)


def _call(world: World, venue: Venue, seen: np.ndarray, n: int) -> _Call:
    """Return the call a keeper acting alone would make on account `n`."""
    account, nothing = _account(venue, seen, n), np.zeros(len(venue.owed_assets))
    no_call = _Call(np.zeros(len(venue.held_assets)), nothing, nothing)
    if not account.debt > account.weighted:
        return no_call
    if world.latency is not None and venue.waited[n] <= world.latency:
        return no_call
    called, of_collateral, of_debt = _choice(world, venue, seen, n)
    close = venue.protocol.close(called)
    taken = close.seized / called.collateral if called.collateral > 0 else 0.0
    if world.cost is not None and not _pays(world, venue, seen, n, close, taken * of_collateral):
        return no_call
    call = _Call(
        seized=venue.collateral[:, n] * taken * of_collateral,
        repaid=venue.debt[:, n] * (close.repaid / called.debt) * of_debt,
        written_off=nothing,
        charge=close.charge,
        refund=close.refund,
    )
    is_empty = close.seized >= account.collateral
    if is_empty and venue.protocol.recognises(account):
        call.written_off = venue.debt[:, n] - call.repaid
    return call


def _choice(
    world: World, venue: Venue, seen: np.ndarray, n: int
) -> tuple[Called, np.ndarray, np.ndarray]:
    """Return what a keeper calls of account `n`, and which collateral and debt that is."""
    held, owed = _values(venue, seen, n)
    account, protocol = _account(venue, seen, n), venue.protocol
    bonus = [protocol.bonus(b, account) for b in venue.bonus[:, n]]
    if world.pro_rata or protocol.whole:
        redeemable = sum(v / (1.0 + b) for v, b in zip(held, bonus, strict=True))
        called = Called(
            account=account,
            collateral=account.collateral,
            debt=account.debt,
            weight=account.weighted / account.collateral if account.collateral > 0 else 0.0,
            credit=account.collateral / redeemable if redeemable > 0 else 1.0,
        )
        return called, np.ones(len(held), bool), np.ones(len(owed), bool)
    d = int(np.argmax(owed))
    room = [_capacity(world, venue, seen, c, n) * seen[a] for c, a in enumerate(venue.held_assets)]
    gain = [
        min(v, owed[d] * (1.0 + b), r) * b / (1.0 + b)
        for v, b, r in zip(held, bonus, room, strict=True)
    ]
    c = int(np.argmax(gain))
    called = Called(account, held[c], owed[d], venue.threshold[c, n], 1.0 + bonus[c])
    return called, np.arange(len(held)) == c, np.arange(len(owed)) == d


def _pays(
    world: World, venue: Venue, seen: np.ndarray, n: int, close: Close, taken: np.ndarray
) -> bool:
    """Return whether a call brings more than it costs, before slippage."""
    mids = np.array([world.mid(a) for a in venue.held_assets])
    worth = float((venue.collateral[:, n] * taken) @ mids)
    bonus = (close.seized - close.repaid) / close.seized if close.seized > 0 else 0.0
    fee = venue.protocol.kept(close.seized, bonus, float(np.mean(venue.fee_share)))
    outlay = close.paid * _lag(world, venue, seen, n) * (1.0 + world.minimum_return)
    return worth - fee - outlay > (world.cost_at(world.calls) or 0.0)


def _by_category(venue: Venue, values: list) -> dict:
    """Return one account's value for each category."""
    return dict(zip(venue.category, values, strict=True))


def _fee(venue: Venue, seen: np.ndarray, calls: list[_Call], category: int) -> np.ndarray:
    """Return the units the protocol keeps of a class of calls, whose bonus is a common one."""
    made = [c for c, own in zip(calls, venue.category, strict=True) if own == category]
    seized = np.sum([c.seized for c in made], axis=0)
    repaid = np.sum([c.repaid for c in made], axis=0)
    taken = float(seized @ seen[list(venue.held_assets)])
    given = float(repaid @ seen[list(venue.owed_assets)])
    given += sum(c.charge + c.refund for c in made)
    bonus = max(taken - given, 0.0) / taken if taken > 0 else 0.0
    kept = venue.protocol.kept
    return np.array([kept(u, bonus, s) for u, s in zip(seized, venue.fee_share, strict=True)])


def _rations(world: World, seen: list[np.ndarray], calls: list[list[_Call]]) -> list[list[float]]:
    """Return the share of each account's call that goes through, by venue.

    Accounts of one venue and category form a class. Its margin is what its calls would earn before
    slippage, over what they would sell. In each market classes with more capacity go first, and a
    class sells only into the room left below its own capacity, all equal classes sharing it.
    """
    demand, capacity, price = {}, {}, {}
    cost = world.cost_at(world.calls + sum(_made(c) for own in calls for c in own)) or 0.0
    for v, venue in enumerate(world.venues):
        for category in set(venue.category):
            made = [c for c, own in zip(calls[v], venue.category, strict=True) if own == category]
            sold = np.sum([c.seized for c in made], axis=0) - _fee(
                venue, seen[v], calls[v], category
            )
            worth = sum(u * world.mid(a) for u, a in zip(sold, venue.held_assets, strict=True))
            repaid = np.sum([c.repaid for c in made], axis=0)
            paid = sum(u * world.mid(a) for u, a in zip(repaid, venue.owed_assets, strict=True))
            paid += sum(c.charge + c.refund for c in made)
            outlay = (1.0 + world.minimum_return) * paid
            outlay += cost * sum(_made(c) for c in made)
            price[v, category] = paid
            for c, a in enumerate(venue.held_assets):
                demand[a, v, category] = sold[c]
                margin = 1.0 - outlay / worth if worth > 0 else 0.0
                capacity[a, v, category] = sellable(world, a, margin)
    share = {}
    for key, wanted in demand.items():
        rivals = [other for other in demand if other[0] == key[0]]
        own = capacity[key]
        equal = [other for other in rivals if is_equal(capacity[other], own)]
        ahead = [other for other in rivals if capacity[other] > own and other not in equal]
        room = max(own - sum(min(demand[other], capacity[other]) for other in ahead), 0.0)
        crowd = sum(demand[other] for other in equal)
        share[key] = min(room / crowd, 1.0) if wanted > 0 else 1.0
    rations = []
    for v, venue in enumerate(world.venues):
        scarcest = [
            min(share[a, v, category] for a in venue.held_assets) for category in venue.category
        ]
        rations.append([r if r >= SMALLEST_RATION else 0.0 for r in scarcest])
    return _within_capital(world, rations, price)


def _made(call: _Call) -> bool:
    return call.repaid.sum() > 0


def _within_capital(
    world: World, rations: list[list[float]], price: dict[tuple[int, int], float]
) -> list[list[float]]:
    """Cut all alike to what free capital pays for, and tie that up."""
    if world.capital is None:
        return rations
    needed = sum(
        _by_category(world.venues[v], rations[v])[category] * paid
        for (v, category), paid in price.items()
    )
    share = min(world.free / needed, 1.0) if needed > 0 else 1.0
    share = share if share >= SMALLEST_RATION else 0.0
    world.free -= share * needed
    return [[share * r for r in own] for own in rations]


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
        moved.charge += ration * call.charge
        moved.refund += ration * call.refund
        made += ration * _made(call)
    # By now the calls of the round are among those of the step.
    cost = world.cost_at(world.calls)
    if cost is not None:
        venue.book("keeper_cost", made * cost)
    return moved


def _booked(
    world: World, venue: Venue, moved: _Call, fees: np.ndarray, mids: list[float]
) -> np.ndarray:
    """Book the venue's side of a round and return the units that keepers sell, all assets."""
    sold = np.zeros(len(world.price))
    venue.book("fee", moved.charge)
    venue.book("refund", moved.refund)
    venue.book("keeper_paid", moved.charge + moved.refund)
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


def _absorb(world: World, venue: Venue) -> None:
    units, loss = venue.unsettled, venue.unsettled_value
    own = np.zeros_like(units)
    if venue.treasury_pays:
        own = np.minimum(units, np.maximum(venue.treasury, 0.0))
    mids = np.array([world.mid(a) for a in venue.owed_assets])
    own_value = loss * float(own @ mids) / float(units @ mids) if loss > 0 else 0.0
    left = loss - own_value
    for k, capacity in enumerate(venue.funds):
        paid = min(left, capacity)
        venue.funds[k] -= paid
        left -= paid
    rest = units - own
    covered = rest * (1.0 - left / (loss - own_value) if loss > own_value else 0.0)
    venue.treasury -= own
    venue.cash += covered
    if venue.carried:
        venue.deficit += rest - covered
    else:
        venue.supplied -= rest - covered
    venue.unsettled = np.zeros_like(units)
    venue.unsettled_value = 0.0
    venue.book("treasury_paid", own_value)
    venue.book("residual", left)
