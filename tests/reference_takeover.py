"""Independent float64 reference of execution by takeover: scalar loops, one venue on its markets.

Written from the description of the mechanisms. Both take unsafe accounts over without a keeper:

    stock     every account whose weighted collateral is below its debt is absorbed whole: the
              larger of debt and credit becomes a claim on its collateral, spread by credit. While
              reserves are below their target the stock is for sale at a discount; what a sale
              brings beyond the average claim of its units is gain, what it lacks is written off.
    vaults    the unsafe vaults of a type are seized together as far as two ceilings allow, and
              auctioned. In a round keepers look at the cheapest lot of each type and take it when
              the ask, which falls while the step lasts, has come to what the whole of it brings;
              else a part of it at the end of the step. Debt is paid first, then the penalty.

Prices move and sales fall upon the market as in `tests.reference_market`.
"""

import dataclasses
import math

import numpy as np

from tests.reference_market import SMALLEST_RATION, World, is_equal, move, sell, sellable

WORTHWHILE, EPSILON = 1e-4, 64 * np.finfo(np.float64).eps


@dataclasses.dataclass
class Books:
    """What both kinds keep: accounts, balance sheet in debt units, funds and flows.

    `collateral` is `(asset, account)`, `debt` `(account,)`; `coin` is the asset owed.
    """

    collateral: np.ndarray
    debt: np.ndarray
    coin: int
    threshold: np.ndarray
    funds: list[float]
    cash: float
    supplied: float
    treasury: float = 0.0
    in_sale: float = 0.0
    unsettled: float = 0.0
    unsettled_value: float = 0.0
    deficit: float = 0.0
    flows: dict[str, float] = dataclasses.field(default_factory=dict)

    def book(self, name: str, amount: float) -> None:
        """Add to a cumulated flow."""
        self.flows[name] = self.flows.get(name, 0.0) + amount

    def write_off(self, units: float, price: float) -> None:
        """Recognise a loss of `units` at the round's mid."""
        self.unsettled += units
        self.unsettled_value += units * price
        self.book("bad_debt", units * price)

    @property
    def pool(self) -> dict[str, float]:
        """Balance sheet by row of `jaxrisk.venue.venue.Pool`; the rows left out are zero."""
        names = ("cash", "unsettled", "deficit", "supplied", "treasury", "in_sale")
        return {"debt": float(self.debt.sum()), **{name: getattr(self, name) for name in names}}


@dataclasses.dataclass
class Stock(Books):
    """An absorbing market; `factor`, `units` and `claims` are `(asset,)`."""

    factor: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    discount_share: float = 0.5
    target_reserves: float = 0.0
    curves: dict[str, tuple[float, float, float, float]] = dataclasses.field(default_factory=dict)
    units: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    claims: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))


@dataclasses.dataclass
class Lot:
    """The auctions of one type that started, or started again, in one step."""

    lot: float
    target: float
    claim: float
    top: float
    since: float = 0.0
    elapsed: float = 0.0


@dataclasses.dataclass
class Type:
    """A vault type and its running lots, youngest first; prices are cut every `every` seconds."""

    asset: int
    category: int
    penalty: float
    dust: float
    ceiling: float
    opening: float
    longest: float
    floor: float
    cut: float
    every: float
    lots: list[Lot] = dataclasses.field(default_factory=list)

    def fraction(self, elapsed: float) -> float:
        """Return the ask as a fraction of the opening price."""
        return self.cut ** math.floor(elapsed / self.every)


@dataclasses.dataclass
class Vaults(Books):
    """A book of vaults; `seen` and `before` are the delayed prices."""

    category: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    types: list[Type] = dataclasses.field(default_factory=list)
    ceiling: float = 0.0
    fee: float = 0.0
    seen: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    before: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))


def step(
    world: World, venue: Stock | Vaults, log_return: np.ndarray, years: float, rounds: int
) -> None:
    """Play one step in place."""
    move(world, log_return, years)
    mids = _mids(world)
    if isinstance(venue, Stock):
        use = venue.debt.sum() / venue.supplied
        growth = math.exp(_rate(venue.curves["borrow"], use) * years)
        earned = venue.supplied * math.expm1(_rate(venue.curves["supply"], use) * years)
    else:
        growth, earned = (1.0 + venue.fee) ** years, 0.0
        for kind in venue.types:
            for lot in kind.lots:
                lot.since, lot.elapsed = lot.elapsed, lot.elapsed + years * 365 * 86400
        venue.seen, venue.before = venue.before, mids
    interest = venue.debt.sum() * (growth - 1.0)
    venue.debt = venue.debt * growth
    venue.supplied += earned
    venue.treasury += interest - earned
    venue.book("interest", interest * mids[venue.coin])
    venue.book("reserve_interest", (interest - earned) * mids[venue.coin])
    for _ in range(rounds):
        if isinstance(venue, Stock):
            _stock_round(world, venue)
        else:
            _vault_round(world, venue)
    _absorb(venue, _mids(world)[venue.coin])


def _mids(world: World) -> np.ndarray:
    return np.array([world.mid(a) for a in range(len(world.price))])


def _rate(curve: tuple[float, float, float, float], use: float) -> float:
    base, below, above, kink = curve
    return base + below * min(use, kink) + above * max(use - kink, 0.0)


def _stock_round(world: World, venue: Stock) -> None:
    mids = _mids(world)
    coin = mids[venue.coin]
    for n in range(len(venue.debt)):
        held = venue.collateral[:, n] * mids[:2]
        debt = venue.debt[n] * coin
        if not debt > float(held @ venue.threshold[:, n]):
            continue
        credits = held * venue.factor
        credit = credits.sum()
        refund = max(credit - debt, 0.0)
        venue.units += venue.collateral[:, n]
        venue.claims += credits / credit * max(credit, debt) / coin
        venue.in_sale += max(credit, debt) / coin
        venue.supplied += refund / coin
        venue.book("liquidated", held.sum())
        venue.book("repaid", min(credit, debt))
        venue.book("refund", refund)
        venue.collateral[:, n] = 0.0
        venue.debt[n] = 0.0
    ask = mids[:2] * (1.0 - venue.discount_share * (1.0 - venue.factor))
    reserves = venue.treasury + venue.funds[0] / coin
    reserves -= venue.in_sale + venue.unsettled + venue.deficit
    worth = float(venue.units @ ask)
    part = min(max(venue.target_reserves - reserves, 0.0) * coin / worth, 1.0) if worth > 0 else 0.0
    for_sale = venue.units * part
    classes = [(a, for_sale[a], for_sale[a] * ask[a]) for a in range(2)]
    sold = np.array([u * s for (_, u, _), s in zip(classes, _rations(world, classes), strict=True)])
    raised = float(sold @ ask) / coin
    released = sum(
        c * s / u for c, s, u in zip(venue.claims, sold, venue.units, strict=True) if u > 0
    )
    venue.claims = np.array(
        [
            c * (1.0 - s / u) if u > 0 else 0.0
            for c, s, u in zip(venue.claims, sold, venue.units, strict=True)
        ]
    )
    venue.units = venue.units - sold
    venue.cash += raised
    venue.in_sale -= released
    venue.treasury += max(raised - released, 0.0)
    venue.book("fee", max(raised - released, 0.0) * coin)
    venue.write_off(max(released - raised, 0.0), coin)
    venue.book("keeper_paid", raised * coin)
    _to_market(world, venue, [(0, sold[0]), (1, sold[1])])
    if world.cost is not None:
        made = sum(s / u for s, u in zip(sold, for_sale, strict=True) if u > 0)
        venue.book("keeper_cost", made * world.cost)


def _rations(world: World, classes: list[tuple[int, float, float]]) -> list[float]:
    """Return the share of each class `(asset, units, price paid)` that keepers can sell."""
    capacity = []
    for a, units, paid in classes:
        outlay = paid * (1.0 + world.minimum_return) + (world.cost or 0.0) * (units > 0)
        worth = units * world.mid(a)
        margin = 1.0 - outlay / worth if worth > 0 else 0.0
        capacity.append(sellable(world, a, margin))
    shares = []
    for (a, units, _), own in zip(classes, capacity, strict=True):
        rivals = [(u, c) for (b, u, _), c in zip(classes, capacity, strict=True) if b == a]
        taken = sum(min(u, c) for u, c in rivals if c > own and not is_equal(c, own))
        crowd = sum(u for u, c in rivals if is_equal(c, own))
        share = min(max(own - taken, 0.0) / crowd, 1.0) if units > 0 else 1.0
        shares.append(share if share >= SMALLEST_RATION else 0.0)
    return shares


def _to_market(world: World, venue: Books, sales: list[tuple[int, float]]) -> None:
    """Sell units by asset and book what keepers get for them."""
    sold = np.zeros(len(world.price))
    for a, units in sales:
        sold[a] += units
    received = sell(world, sold, list(_mids(world)))
    venue.book("proceeds", float(sold @ received))


def _vault_round(world: World, venue: Vaults) -> None:
    mids = _mids(world)
    coin = mids[venue.coin]
    seized = _seizures(venue)
    for kind, (units, debt) in zip(venue.types, seized, strict=True):
        venue.book("liquidated", units * mids[kind.asset])
        venue.in_sale += debt
        if units > 0:
            young = [lot for lot in kind.lots if lot.elapsed == 0]
            top = kind.opening * venue.seen[kind.asset] / venue.seen[venue.coin]
            if not young:
                young = [Lot(0.0, 0.0, 0.0, top)]
                kind.lots.insert(0, young[0])
            young[0].lot += units
            young[0].target += debt * (1.0 + kind.penalty)
            young[0].claim += debt
            young[0].top = top
    offers = []
    for kind in venue.types:
        chosen = min(kind.lots, key=lambda x: x.top * _lowest(kind, x), default=None)
        if chosen is None:
            offers.append((kind, None, 0.0, 0.0))
            continue
        lowest = _lowest(kind, chosen)
        highest = max(kind.fraction(chosen.since), lowest)
        worth = _worth(world, kind, chosen, coin)
        price = chosen.top * min(max(worth / chosen.top, lowest), highest)
        cost = chosen.lot * price
        units = min(chosen.target / price, chosen.lot) if cost >= chosen.target else chosen.lot
        offers.append((kind, chosen, units, price))
    classes = [(kind.asset, units, units * price * coin) for kind, _, units, price in offers]
    sales, made = [], 0.0
    shares = _rations(world, classes)
    for (kind, chosen, units, price), share in zip(offers, shares, strict=True):
        if chosen is not None:
            bought = _purchase(venue, kind, chosen, units * share, price, mids)
            sales.append((kind.asset, bought))
            made += bought / units
    if world.cost is not None:
        venue.book("keeper_cost", made * world.cost)
    for kind in venue.types:
        _restart(venue, kind)
    _to_market(world, venue, sales)


def _seizures(venue: Vaults) -> list[tuple[float, float]]:
    """Take unsafe vaults off the book, type by type, and return units and debt of each type."""
    price = venue.seen / venue.seen[venue.coin]
    unsafe = []
    for kind in venue.types:
        members = [
            n
            for n in range(len(venue.debt))
            if venue.category[n] == kind.category and venue.collateral[kind.asset, n] > 0
        ]
        backing = lambda n, a=kind.asset: venue.collateral[a, n] * price[a] * venue.threshold[a, n]
        unsafe.append([n for n in members if backing(n) < venue.debt[n]])
    running = [sum(lot.target for lot in kind.lots) for kind in venue.types]
    everywhere, ahead, result = sum(running), 0.0, []
    for kind, members, own in zip(venue.types, unsafe, running, strict=True):
        debt = sum(venue.debt[n] for n in members)
        room = min(venue.ceiling - everywhere - ahead, kind.ceiling - own)
        ahead += min(debt * (1.0 + kind.penalty), max(kind.ceiling - own, 0.0))
        taken = min(debt, max(room, 0.0) / (1.0 + kind.penalty))
        if debt - taken < kind.dust:
            taken = debt
        elif taken < kind.dust:
            taken = 0.0
        if room <= 0 or debt <= 0:
            taken = 0.0
        share = taken / debt if debt > 0 else 0.0
        units = sum(venue.collateral[kind.asset, n] for n in members) * share
        for n in members:
            venue.collateral[kind.asset, n] *= 1.0 - share
            venue.debt[n] *= 1.0 - share
        result.append((units, taken))
    return result


def _lowest(kind: Type, lot: Lot) -> float:
    return max(kind.fraction(min(lot.elapsed, kind.longest)), kind.floor)


def _worth(world: World, kind: Type, lot: Lot, coin: float) -> float:
    """Return what a unit brings where as much is sold as the target asks for."""
    a, mid = kind.asset, world.mid(kind.asset)
    node, weight = np.polynomial.legendre.leggauss(24)
    s = (node + 1.0) / 2.0

    def ask(units: float) -> float:
        volume = units * mid
        drop = world.coefficient[a] * math.sqrt(volume / world.depth_now(a))
        discount = 1.0 - float((weight * s * np.exp(-drop * s)).sum())
        within = sellable(world, a, discount) * mid
        discount = discount * max(volume / within, 1.0) * (1.0 + WORTHWHILE) + EPSILON
        left = mid * (1.0 - discount) - (world.cost or 0.0) / units
        return left / coin / (1.0 + world.minimum_return)

    first = ask(lot.lot)
    return ask(min(lot.lot, lot.target / first) if first > 0 else lot.lot)


def _purchase(
    venue: Vaults, kind: Type, lot: Lot, wanted: float, price: float, mids: np.ndarray
) -> float:
    """Sell up to `wanted` units of a lot and return how many."""
    coin = mids[venue.coin]
    least = kind.dust * (1.0 + kind.penalty)
    cost = wanted * price
    if cost >= lot.target * (1.0 - 1e-14):
        cost, wanted = lot.target, min(lot.target / price, lot.lot)
    elif wanted < lot.lot and lot.target - cost < least:
        if lot.target <= least:
            return 0.0
        cost = lot.target - least
        wanted = min(cost / price, lot.lot)
    paid_debt = min(cost, lot.claim)
    lot.claim -= paid_debt
    lot.target -= cost
    lot.lot -= wanted
    venue.cash += cost
    venue.in_sale -= paid_debt
    venue.treasury += cost - paid_debt
    venue.book("keeper_paid", cost * coin)
    venue.book("repaid", paid_debt * coin)
    venue.book("fee", (cost - paid_debt) * coin)
    if lot.lot <= 0 or lot.target <= 0:
        venue.book("refund", lot.lot * mids[kind.asset])
        venue.in_sale -= lot.claim
        venue.write_off(lot.claim, coin)
        kind.lots.remove(lot)
    return wanted


def _restart(venue: Vaults, kind: Type) -> None:
    """Start again what has come to the end of its time or of its price."""
    due = [
        x for x in kind.lots if x.elapsed >= kind.longest or kind.fraction(x.elapsed) <= kind.floor
    ]
    if not due:
        return
    rest = [x for x in kind.lots if x not in due]
    young = next((x for x in rest if x.elapsed == 0), None)
    if young is None:
        young = Lot(0.0, 0.0, 0.0, 0.0)
        rest.insert(0, young)
    young.top = kind.opening * venue.seen[kind.asset] / venue.seen[venue.coin]
    for x in due:
        young.lot += x.lot
        young.target += x.target
        young.claim += x.claim
    kind.lots = rest


def _absorb(venue: Books, coin: float) -> None:
    """Let the protocol's own claims pay, then the funds; the rest is carried."""
    del coin
    units, value = venue.unsettled, venue.unsettled_value
    own = min(units, max(venue.treasury, 0.0))
    own_value = value * own / units if units > 0 else 0.0
    venue.treasury -= own
    venue.book("treasury_paid", own_value)
    left = value - own_value
    for k, capacity in enumerate(venue.funds):
        paid = min(left, capacity)
        venue.funds[k] -= paid
        left -= paid
    rest = units - own
    covered = rest * (1.0 - left / (value - own_value)) if value > own_value else 0.0
    venue.cash += covered
    venue.deficit += rest - covered
    venue.unsettled = venue.unsettled_value = 0.0
    venue.book("residual", left)
