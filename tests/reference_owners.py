"""Independent float64 reference of owners who act: scalar loops over accounts and owners.

Written from the description: in a turn every owner looks at each account, at the prices the venue
sees for health and at the mid for everything else. All sell first, at one mean price an asset; then
all buy. Wallets are shared by the accounts of an owner in proportion to what each asks for.

    top up      below a health factor: cash for collateral until health is the target.
    deleverage  below a health factor: sell s so that health at the mid is the target; all sales of
                a class together lose at most a stated discount.
    band        outside a band of collateral over debt: sell and repay, or draw and buy, to the
                target.
    withdraw    give collateral beyond a health factor where the owner lacks cash for another.
    unwind      give a part of the account, its debt repaid, likewise.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference_market import SMALLEST_RATION, World, is_equal, sell, sellable


@dataclasses.dataclass
class Owners:
    """Wallets, who holds what, and rules.

    `policies[v][c]` is a list of `(kind, numbers)` played in that order; `givers[v][c]` one of them
    or `None`; `owner[v][n]` the owner of an account; `ratio[v]` `(collateral_asset, account)` the
    loan to value of new debt.
    """

    wallet: np.ndarray
    owner: list[list[int]]
    policies: list[list[list[tuple[str, dict[str, float]]]]]
    givers: list[list[tuple[str, dict[str, float]] | None]]
    ratio: list[np.ndarray]
    flows: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def book(self, v: int, name: str, amount: float) -> None:
        self.flows[v][name] = self.flows[v].get(name, 0.0) + amount


@dataclasses.dataclass
class _Account:
    venue: int
    number: int
    owner: int
    collateral: float
    debt: float
    backing: float
    power: float
    owed: float
    cash: float = 0.0
    part: float = 0.0
    due: float = 0.0
    drawn: float = 0.0
    discount: float | None = None


def act(world: World, owners: Owners, seen: Callable[[World, Any], np.ndarray]) -> None:
    """Play every turn in place, at the prices that a venue has `seen` by then."""
    turns = max(len(own) for venue in owners.policies for own in venue)
    for turn in range(turns):
        accounts = [
            _account(world, owners, seen(world, venue), v, n)
            for v, venue in enumerate(world.venues)
            for n in range(venue.debt.shape[1])
        ]
        for account in accounts:
            category = world.venues[account.venue].category[account.number]
            own = owners.policies[account.venue][category]
            if turn < len(own):
                _wish(account, *own[turn])
        _ration(world, accounts)
        wanted: dict[int, float] = {}
        for account in accounts:
            wanted[account.owner] = wanted.get(account.owner, 0.0) + account.cash
        _give(world, owners, accounts, wanted)
        _sell(world, owners, accounts)
        _buy(world, owners, accounts, wanted)


def _account(world: World, owners: Owners, seen: np.ndarray, v: int, n: int) -> _Account:
    venue = world.venues[v]
    held = list(zip(venue.collateral[:, n], venue.held_assets, strict=True))
    owed = list(zip(venue.debt[:, n], venue.owed_assets, strict=True))
    ratio = owners.ratio[v]
    return _Account(
        venue=v,
        number=n,
        owner=owners.owner[v][n],
        collateral=sum(u * world.mid(a) for u, a in held),
        debt=sum(u * world.mid(a) for u, a in owed),
        backing=sum(u * seen[a] * venue.threshold[c, n] for c, (u, a) in enumerate(held)),
        power=sum(u * seen[a] * ratio[c, n] for c, (u, a) in enumerate(held)),
        owed=sum(u * seen[a] for u, a in owed),
    )


def _wish(a: _Account, kind: str, numbers: dict[str, float]) -> None:
    has_equity = a.collateral > a.debt
    if kind == "top_up":
        if has_equity and a.backing < numbers["below"] * a.owed:
            a.cash = max((numbers["target"] * a.owed / a.backing - 1.0) * a.collateral, 0.0)
    elif kind == "deleverage":
        a.discount = numbers["largest_discount"]
        need = numbers["target"] * a.owed
        if has_equity and a.backing < numbers["below"] * a.owed:
            reach = need * a.collateral / a.debt - a.backing
            if reach > 0:
                a.part = min(max((need - a.backing) / reach, 0.0), 1.0)
    elif kind == "band":
        target = numbers["target"]
        if has_equity and a.collateral < numbers["lowest"] * a.debt:
            a.part = min((target * a.debt - a.collateral) / (target - 1.0) / a.collateral, 1.0)
        elif a.debt > 0 and a.collateral > numbers["highest"] * a.debt:
            value = (a.collateral - target * a.debt) / (target - 1.0)
            a.drawn = min(value, max(a.power - a.owed, 0.0))
    if a.part > 0:
        a.due = a.debt


def _sales(world: World, accounts: list[_Account]) -> np.ndarray:
    sold = np.zeros(len(world.price))
    for account in accounts:
        venue = world.venues[account.venue]
        for c, a in enumerate(venue.held_assets):
            sold[a] += account.part * venue.collateral[c, account.number]
    return sold


def _ration(world: World, accounts: list[_Account]) -> None:
    classes: dict[tuple[int, int], list[_Account]] = {}
    for account in accounts:
        if account.discount is not None:
            category = world.venues[account.venue].category[account.number]
            classes.setdefault((account.venue, category), []).append(account)
    demand = {key: _sales(world, own) for key, own in classes.items()}
    shares = {}
    for key, own in classes.items():
        share = 1.0
        for a in range(len(world.price)):
            if demand[key][a] <= 0:
                continue
            room = {k: sellable(world, a, o[0].discount or 0.0) for k, o in classes.items()}
            equal = [k for k in classes if is_equal(room[k], room[key])]
            ahead = [k for k in classes if room[k] > room[key] and k not in equal]
            left = max(room[key] - sum(min(demand[k][a], room[k]) for k in ahead), 0.0)
            share = min(share, left / sum(demand[k][a] for k in equal))
        shares[key] = share if share >= SMALLEST_RATION else 0.0
        assert own
    for key, own in classes.items():
        for account in own:
            account.part *= shares[key]


def _give(world: World, owners: Owners, accounts: list[_Account], wanted: dict[int, float]) -> None:
    able: dict[int, list[tuple[_Account, float, float]]] = {}
    for account in accounts:
        category = world.venues[account.venue].category[account.number]
        giver = owners.givers[account.venue][category]
        if giver is None or account.cash > 0 or account.part > 0 or account.drawn > 0:
            continue
        kind, numbers = giver
        if kind == "withdraw":
            kept = numbers["keep"] * account.owed / account.backing if account.backing > 0 else 1.0
            part = max(1.0 - kept, 0.0)
            able.setdefault(account.owner, []).append((account, part, 0.0))
        elif account.collateral > account.debt:
            part = numbers["largest"]
            able.setdefault(account.owner, []).append((account, part, part))
    for owner, those in able.items():
        lack = wanted.get(owner, 0.0) - owners.wallet[owner]
        total = sum(a.collateral * part - a.debt * closed for a, part, closed in those)
        share = min(max(lack / total, 0.0), 1.0) if total > 0 else 0.0
        for account, part, closed in those:
            account.part = part * share
            account.due = closed * share * account.debt


def _sell(world: World, owners: Owners, accounts: list[_Account]) -> None:
    mids = [world.mid(a) for a in range(len(world.price))]
    received = sell(world, _sales(world, accounts), mids)
    for account in accounts:
        venue, v, n = world.venues[account.venue], account.venue, account.number
        units = account.part * venue.collateral[:, n]
        brought = sum(u * received[a] for u, a in zip(units, venue.held_assets, strict=True))
        repaid = min(account.due, brought)
        venue.collateral[:, n] -= units
        _lend(venue, n, -repaid / account.debt if account.debt > 0 else 0.0)
        owners.wallet[account.owner] += brought - repaid
        worth = sum(u * mids[a] for u, a in zip(units, venue.held_assets, strict=True))
        for name, amount in (
            ("sold", worth),
            ("proceeds", brought),
            ("repaid", repaid),
            ("taken_out", brought - repaid),
        ):
            owners.book(v, name, amount)


def _lend(venue: Any, n: int, growth: float) -> None:
    """Let an account's debts grow in proportion; what is drawn leaves the pool's cash."""
    units = venue.debt[:, n] * growth
    venue.debt[:, n] += units
    venue.cash -= units


def _buy(world: World, owners: Owners, accounts: list[_Account], wanted: dict[int, float]) -> None:
    mids = [world.mid(a) for a in range(len(world.price))]
    enough = {
        owner: min(owners.wallet[owner] / need, 1.0) for owner, need in wanted.items() if need > 0
    }
    share = [_lendable(venue, v, accounts) for v, venue in enumerate(world.venues)]
    money, orders = [], np.zeros(len(mids))
    for account in accounts:
        venue, n = world.venues[account.venue], account.number
        cash = account.cash * enough.get(account.owner, 0.0)
        drawn = account.drawn * share[account.venue]
        money.append((cash, drawn))
        worth = sum(venue.collateral[c, n] * mids[a] for c, a in enumerate(venue.held_assets))
        for c, a in enumerate(venue.held_assets):
            if worth > 0:
                orders[a] += (cash + drawn) / worth * venue.collateral[c, n]
    paid = _buy_all(world, orders, mids)
    for account, (cash, drawn) in zip(accounts, money, strict=True):
        venue, v, n = world.venues[account.venue], account.venue, account.number
        held = venue.collateral[:, n]
        price = sum(u * paid[a] for u, a in zip(held, venue.held_assets, strict=True))
        worth = sum(u * mids[a] for u, a in zip(held, venue.held_assets, strict=True))
        growth = (cash + drawn) / price if cash + drawn > 0 else 0.0
        venue.collateral[:, n] *= 1.0 + growth
        _lend(venue, n, drawn / account.debt if drawn > 0 else 0.0)
        owners.wallet[account.owner] -= cash
        for name, amount in (
            ("paid_in", cash),
            ("drawn", drawn),
            ("spent", cash + drawn),
            ("bought", growth * worth),
        ):
            owners.book(v, name, amount)
    for owner, share in enough.items():
        # A wallet that was emptied is empty, whatever the sum of what was taken out of it.
        owners.wallet[owner] = 0.0 if share < 1.0 else max(owners.wallet[owner], 0.0)


def _lendable(venue: Any, v: int, accounts: list[_Account]) -> float:
    """Return the share of the debt asked for that the venue has cash for."""
    units = np.zeros(len(venue.owed_assets))
    for account in accounts:
        if account.venue == v and account.drawn > 0:
            units += venue.debt[:, account.number] * account.drawn / account.debt
    limits = [c / u for c, u in zip(venue.cash, units, strict=True) if u > 0]
    return min([1.0, *limits])


def _buy_all(world: World, units: np.ndarray, mids: list[float]) -> np.ndarray:
    """Buy in the market, the mirror of a sale, and return the mean price of each asset."""
    node, weight = np.polynomial.legendre.leggauss(24)
    s = (node + 1.0) / 2.0
    paid = []
    for a, mid in enumerate(mids):
        rise = world.coefficient[a] * math.sqrt(max(units[a], 0.0) * mid / world.depth_now(a))
        paid.append(mid * float((weight * s * np.exp(rise * s)).sum()))
        world.price[a] *= math.exp(world.permanent_share * rise)
        world.displacement[a] -= (1.0 - world.permanent_share) * rise
    return np.array(paid)
