"""The verb `act`: owners top up, sell, borrow more, or give to another of their accounts.

Between what the venue sees and what keepers do, every owner may act once for each policy, all at
the same moment: first what they sell goes into the markets, then what they buy. Debt is drawn and
repaid at the mid, as keepers do. An account is changed in proportion: its mix stays what it was.
"""

import dataclasses
from typing import TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import larger, positive_or_one, smaller
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.book import Tranche
from jaxrisk.system.calls import units_behind, value_behind
from jaxrisk.system.claim_prices import repriced
from jaxrisk.system.execution import play_of
from jaxrisk.system.halts import Shut, shut
from jaxrisk.system.offer import summed
from jaxrisk.system.owner_policy import Giver, OwnerPolicy, Stance, Wish
from jaxrisk.system.owners import OwnerState, owner_flows
from jaxrisk.system.ration import rations
from jaxrisk.system.system import State, StepRules, System, VenueState
from jaxrisk.venue.venue import Pool, Venue, changed_pool

Part = TypeVar("Part")
PerAccount = Float[Array, " account"]
PerOwner = Float[Array, " owner"]
PerAsset = Float[Array, " asset"]


@pytree
class Desk:
    """One tranche whose owners may do something in a turn.

    Attributes:
        tranche: the accounts.
        stance: the accounts, valued.
        wish: what they want.
        part: of the collateral that is sold.
        due: debt to be repaid out of the proceeds, numeraire; what is beyond goes to wallets.
        can: whether all markets of an account's collateral are open; `None` where they always are.
        venue: index of the venue.
        place: index of the tranche in the venue's book.
    """

    tranche: Tranche
    stance: Stance
    wish: Wish
    part: PerAccount
    due: PerAccount
    can: Bool[Array, " account"] | None
    venue: int = static()
    place: int = static()

    def collateral(self, state: State) -> Float[Array, "share account"]:
        """Return the fraction of the collateral that stands."""
        return state.venues[self.venue].collateral[self.place]

    def debt(self, state: State) -> Float[Array, "share account"]:
        """Return the fraction of the debt that stands."""
        return state.venues[self.venue].debt[self.place]

    def of_owner(self, amount: PerAccount, owners: int) -> PerOwner:
        """Return amounts added up by owner."""
        return jnp.zeros(owners, amount.dtype).at[self.tranche.accounts.owner].add(amount)


def act(
    system: System, books: tuple[tuple[Tranche, ...], ...], rules: StepRules, state: State
) -> State:
    """Return the state after owners have acted; as it is where none of them ever does.

    Args:
        system: what the scenario starts from.
        books: each venue's accounts in tranches.
        rules: how the step is played.
        state: the scenario so far.
    """
    if system.owners is None:
        return state
    for turn in range(system.owners.turns):
        desks = _desks(system, books, rules, state, turn)
        desks = _rationed(system, state, desks)
        desks = _with_gifts(system, state, desks)
        state = _sold(system, state, desks)
        state = _bought(system, state, desks)
    market = repriced(system, books, state.market, state.venues)
    return dataclasses.replace(state, market=market)


def _desks(
    system: System,
    books: tuple[tuple[Tranche, ...], ...],
    rules: StepRules,
    state: State,
    turn: int,
) -> list[Desk]:
    """Return the tranches whose owners want something in this turn, or may be asked to give."""
    desks, closed = [], shut(system.halts, state.halts, system.venues, state.market)
    for v, (venue, book) in enumerate(zip(system.venues, books, strict=True)):
        for place, tranche in enumerate(book):
            policy, giver = _policy(system, v, tranche, turn), _giver(system, v, tranche)
            if policy is None and giver is None:
                continue
            if not play_of(venue).owners_act or tranche.accounts.owner is None:
                raise ValueError(f"{venue.name}: its accounts have no owners who can act")
            stance = _stance(venue, tranche, state.venues[v], place, state.market)
            wish = Wish() if policy is None else policy.wish(stance, rules.width)
            can = _can_trade(tranche, state.venues[v].collateral[place], closed)
            wish = wish if can is None else wish.of(can)
            none = jnp.zeros_like(stance.debt)
            part = none if wish.sold is None else wish.sold
            due = jnp.where(part > 0, stance.debt, none)
            desks.append(
                Desk(
                    tranche=tranche, stance=stance, wish=wish,
                    part=part, due=due, can=can, venue=v, place=place,
                )
            )  # fmt: skip
    return desks


def _can_trade(
    tranche: Tranche, standing: Float[Array, "share account"], closed: Shut | None
) -> Bool[Array, " account"] | None:
    if closed is None:
        return None
    accounts = tranche.accounts
    stuck = select(closed.markets.astype(standing.dtype), accounts.collateral_assets)
    return value_behind(accounts.collateral, standing, stuck) == 0


def _policy(system: System, venue: int, tranche: Tranche, turn: int) -> OwnerPolicy | None:
    assert system.owners is not None
    own = system.owners.venues[venue].policies[tranche.category]
    return own[turn] if turn < len(own) else None


def _giver(system: System, venue: int, tranche: Tranche) -> Giver | None:
    assert system.owners is not None
    return system.owners.venues[venue].givers[tranche.category]


def _stance(
    venue: Venue, tranche: Tranche, state: VenueState, place: int, market: Market
) -> Stance:
    """Return what the accounts of a tranche are worth now."""
    accounts, weights = tranche.accounts, venue.collateral
    seen, growth = venue.oracle.seen(state.oracle, market), jnp.exp(state.log_index)
    held, owed = accounts.collateral_assets, accounts.debt_assets
    of_collateral = lambda price: value_behind(accounts.collateral, state.collateral[place], price)
    of_debt = lambda price: value_behind(accounts.debt, state.debt[place], price * growth)
    at = select(seen, held)
    return Stance(
        collateral=of_collateral(select(market.mid, held)),
        debt=of_debt(select(market.mid, owed)),
        backing=of_collateral(at * weights.liquidation_threshold[tranche.category]),
        power=of_collateral(at * weights.loan_to_value[tranche.category]),
        owed=of_debt(select(seen, owed)),
    )


def _rationed(system: System, state: State, desks: list[Desk]) -> list[Desk]:
    """Return the desks with sales cut to what their owners are willing to lose by them."""
    chosen = [i for i, desk in enumerate(desks) if desk.wish.discount is not None]
    if not chosen:
        return desks
    depth, law = system.liquidity.depth.now(state.market), system.liquidity.law
    limit = lambda desk: jnp.broadcast_to(desk.wish.discount, depth.shape)
    room = jnp.stack([law.volume_within(limit(desks[i]), depth) for i in chosen])
    demand = jnp.stack([_units_sold(state, desks[i]) for i in chosen])
    shares = rations(demand, room / state.market.mid[None, :])
    cut = list(desks)
    for i, share in zip(chosen, shares, strict=True):
        cut[i] = dataclasses.replace(desks[i], part=desks[i].part * share)
    return cut


def _units_sold(state: State, desk: Desk) -> PerAsset:
    accounts = desk.tranche.accounts
    units = units_behind(accounts.collateral, desk.collateral(state) * desk.part[None, :])
    return spread(units, accounts.collateral_assets, state.market.price.shape[0])


def _cash_wanted(system: System, desks: list[Desk]) -> PerOwner:
    assert system.owners is not None
    wanted = jnp.zeros_like(system.owners.wallet)
    for desk in desks:
        if desk.wish.cash is not None:
            wanted = wanted + desk.of_owner(desk.wish.cash, wanted.shape[0])
    return wanted


def _with_gifts(system: System, state: State, desks: list[Desk]) -> list[Desk]:
    """Return the desks, where accounts give what their owners lack for others.

    An owner's accounts give in proportion to what they can, at the mid. One that wants something
    itself gives nothing.
    """
    offered: list[tuple[int, PerAccount, PerAccount]] = []
    for i, desk in enumerate(desks):
        giver = _giver(system, desk.venue, desk.tranche)
        if giver is not None:
            calm = desk.part == 0
            calm = calm if desk.can is None else calm & desk.can
            calm = calm if desk.wish.cash is None else calm & (desk.wish.cash == 0)
            calm = calm if desk.wish.drawn is None else calm & (desk.wish.drawn == 0)
            idle = calm.astype(desk.part.dtype)
            part, closed = giver.gives(desk.stance)
            offered.append((i, part * idle, closed * idle))
    if not offered:
        return desks
    assert state.owners is not None
    lack = _cash_wanted(system, desks) - state.owners.wallet
    free = [desks[i].stance.collateral * p - desks[i].stance.debt * c for i, p, c in offered]
    total = summed(
        [desks[i].of_owner(f, lack.shape[0]) for f, (i, _, _) in zip(free, offered, strict=True)]
    )
    share = jnp.clip(lack / positive_or_one(total), 0.0, 1.0)
    share = jnp.where(total > 0, share, jnp.zeros_like(share))
    giving = list(desks)
    for i, part, closed in offered:
        desk = desks[i]
        own = share[desk.tranche.accounts.owner]
        giving[i] = dataclasses.replace(
            desk, part=desk.part + part * own, due=desk.due + closed * own * desk.stance.debt
        )
    return giving


def _sold(system: System, state: State, desks: list[Desk]) -> State:
    """Return the state after the owners' sales: debt repaid, and the rest in their wallets."""
    total = summed([_units_sold(state, desk) for desk in desks])
    market, proceeds = system.liquidity.sell(state.market, total)
    received = proceeds / positive_or_one(total)
    after = dataclasses.replace(state, market=market)
    for desk in desks:
        accounts, standing = desk.tranche.accounts, desk.collateral(state)
        sold = standing * desk.part[None, :]
        worth = lambda price, a=accounts, s=sold: value_behind(
            a.collateral, s, select(price, a.collateral_assets)
        )
        brought = worth(received)
        repaid = smaller(desk.due, brought)
        after = _changed(
            after,
            desk,
            collateral=standing - sold,
            borrowed=-repaid,
            taken_out=brought - repaid,
            flows=owner_flows(
                sold=jnp.sum(worth(state.market.mid)),
                proceeds=jnp.sum(brought),
                repaid=jnp.sum(repaid),
                taken_out=jnp.sum(brought - repaid),
            ),
        )
    return after


def _bought(system: System, state: State, desks: list[Desk]) -> State:
    """Return the state after cash and new debt were turned into collateral.

    Orders are for what the money buys at the mid, and move the market by as much; what it buys at
    the mean price of the round, which is higher, is what accounts get.
    """
    assert state.owners is not None
    buyers = [d for d in desks if d.wish.cash is not None or d.wish.drawn is not None]
    if not buyers:
        return state
    wanted = _cash_wanted(system, desks)
    enough = jnp.clip(state.owners.wallet / positive_or_one(wanted), 0.0, 1.0)
    enough = jnp.where(wanted > 0, enough, jnp.ones_like(enough))
    paid_in = [_paid_in(desk, enough) for desk in buyers]
    drawn = _drawn(system, state, buyers)
    orders = []
    for desk, cash, debt in zip(buyers, paid_in, drawn, strict=True):
        accounts = desk.tranche.accounts
        growth = (cash + debt) / positive_or_one(_worth(desk, state, state.market.mid))
        units = units_behind(accounts.collateral, desk.collateral(state) * growth[None, :])
        orders.append(spread(units, accounts.collateral_assets, state.market.price.shape[0]))
    total = summed(orders)
    market, cost = system.liquidity.buy(state.market, total)
    price = cost / positive_or_one(total)
    after = dataclasses.replace(state, market=market)
    for desk, cash, debt in zip(buyers, paid_in, drawn, strict=True):
        growth = (cash + debt) / positive_or_one(_worth(desk, state, price))
        after = _changed(
            after,
            desk,
            collateral=desk.collateral(state) * (1.0 + growth)[None, :],
            borrowed=debt,
            taken_out=-cash,
            flows=owner_flows(
                paid_in=jnp.sum(cash),
                drawn=jnp.sum(debt),
                spent=jnp.sum(cash + debt),
                bought=jnp.sum(growth * _worth(desk, state, state.market.mid)),
            ),
        )
    return _emptied(after, enough)


def _emptied(state: State, enough: PerOwner) -> State:
    """Return the state with nothing left by rounding in wallets that did not suffice.

    The slope of impact at nothing may be infinite: a sale for a rounding error would be seen.
    """
    assert state.owners is not None
    left = jnp.where(enough < 1, jnp.zeros_like(enough), state.owners.wallet)
    return dataclasses.replace(
        state, owners=dataclasses.replace(state.owners, wallet=larger(left, jnp.zeros_like(left)))
    )


def _worth(desk: Desk, state: State, price: PerAsset) -> PerAccount:
    accounts = desk.tranche.accounts
    held = select(price, accounts.collateral_assets)
    return value_behind(accounts.collateral, desk.collateral(state), held)


def _paid_in(desk: Desk, enough: PerOwner) -> PerAccount:
    """Return the cash that goes into each account, as far as its owner has it."""
    if desk.wish.cash is None:
        return jnp.zeros_like(desk.part)
    return desk.wish.cash * enough[desk.tranche.accounts.owner]


def _drawn(system: System, state: State, desks: list[Desk]) -> list[PerAccount]:
    """Return the debt each account draws, as far as the venue has cash to lend in every asset."""
    shares: dict[int, Float[Array, ""]] = {}
    for v in {desk.venue for desk in desks if desk.wish.drawn is not None}:
        own = [desk for desk in desks if desk.venue == v and desk.wish.drawn is not None]
        units = summed([_debt_units(state, desk, desk.wish.drawn) for desk in own])
        cash = state.venues[v].pool[Pool.CASH]
        share = jnp.where(units > 0, cash / positive_or_one(units), jnp.ones_like(units))
        shares[v] = jnp.clip(jnp.min(share), 0.0, 1.0)
    none = jnp.zeros_like
    return [none(d.part) if d.wish.drawn is None else d.wish.drawn * shares[d.venue] for d in desks]


def _debt_units(state: State, desk: Desk, value: PerAccount | None) -> Float[Array, " debt_asset"]:
    """Return the units of each debt that a value of every account's debt stands for."""
    assert value is not None
    part = value / positive_or_one(desk.stance.debt)
    growth = jnp.exp(state.venues[desk.venue].log_index)
    return growth * units_behind(desk.tranche.accounts.debt, desk.debt(state) * part[None, :])


def _changed(
    state: State,
    desk: Desk,
    *,
    collateral: Float[Array, "share account"],
    borrowed: PerAccount,
    taken_out: PerAccount,
    flows: Float[Array, " owner_flow"],
) -> State:
    """Return the state with one tranche changed and everything about it booked.

    Args:
        state: so far.
        desk: the tranche.
        collateral: the fraction that stands now.
        borrowed: new debt, numeraire; negative where repaid.
        taken_out: cash into wallets; negative where paid in.
        flows: what is booked.
    """
    v, place, kept = desk.venue, desk.place, state.owners
    assert kept is not None
    venue, before = state.venues[v], desk.debt(state)
    units = _debt_units(state, desk, borrowed)
    debt = before * (1.0 + borrowed / positive_or_one(desk.stance.debt))[None, :]
    changed = jnp.any(collateral != desk.collateral(state)) | jnp.any(borrowed != 0)
    venue = dataclasses.replace(
        venue,
        collateral=_with(venue.collateral, place, collateral),
        debt=_with(venue.debt, place, debt),
        touched=_with(venue.touched, place, venue.touched[place] | changed),
        owed=venue.owed + units / jnp.exp(venue.log_index),
        pool=venue.pool + changed_pool(cash=-units, debt=units),
    )
    owners = OwnerState(
        wallet=kept.wallet + desk.of_owner(taken_out, kept.wallet.shape[0]),
        flows=kept.flows.at[:, v].add(flows),
    )
    return dataclasses.replace(state, venues=_with(state.venues, v, venue), owners=owners)


def _with(parts: tuple[Part, ...], place: int, part: Part) -> tuple[Part, ...]:
    """Return the parts with another one at a place."""
    return (*parts[:place], part, *parts[place + 1 :])
