"""Execution by a pool of deposits: liquidations without a buyer, then redemptions.

In a round all accounts that may be called are closed against deposits and other accounts, at once
and whatever the market can take: nobody has to sell for that. What depositors sell of the
collateral they get, and what redeemers sell and buy, goes into the same markets as everybody's.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.branch import Branch, Closing, branches_of, closed, split, with_branches
from jaxrisk.system.offer import Moved, Offer
from jaxrisk.system.redeeming import (
    Bid,
    Queue,
    Redeemed,
    amount_wanted,
    queue_of,
    redeemed,
)
from jaxrisk.system.system import AccountLedger, StepRules, System, VenueState, booked
from jaxrisk.venue.deposit_pool import DepositPool, PoolState, RedemptionRules
from jaxrisk.venue.redemption import split_by_unbacked
from jaxrisk.venue.stability_pool import collateral_ratio
from jaxrisk.venue.venue import Pool, Venue, changed_pool

Book = tuple[Tranche, ...]
_MINUTES_A_YEAR = 365.0 * 24.0 * 60.0
# Depositors hold what brings less than this share of the mid on average.
_LOWEST_SALE = 0.1


@pytree
class Redeeming:
    """The redemptions of one round.

    Attributes:
        queues: by branch.
        ordinary: `(branch,)` amounts at face value.
        urgent: `(branch,)` amounts of branches shut down, with a bonus.
    """

    queues: tuple[Queue, ...]
    ordinary: Float[Array, " branch"]
    urgent: Float[Array, " branch"]


@pytree
class Wanted:
    """What happens in a round.

    Attributes:
        closings: by branch, the liquidations.
        branches: by branch, the accounts after them.
        redeeming: what redeemers would do then; `None` where there are none.
        price: `(branch,)` of a unit of collateral in the stablecoin, as the venue sees it.
        shut: `(branch,)` whether the branch is shut down after the liquidations.
    """

    closings: tuple[Closing, ...]
    branches: tuple[Branch, ...]
    redeeming: Redeeming | None
    price: Float[Array, " branch"]
    shut: Bool[Array, " branch"]


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return what is closed and what redeemers would do then, and the offers of both.

    Offers are what depositors and callers sell, what redeemers sell, and what redeemers of branches
    shut down sell. Triggers are exact: the smooth twin of a width is not made.
    """
    del rules
    slot, kept = slot_of(venue), state.execution
    accounts, seen = venue.accounts, venue.oracle.seen(state.oracle, market)
    price = select(seen, accounts.collateral_assets) / select(seen, accounts.debt_assets)
    held, owed = _mids(venue, market)
    minimum = 1.0 / jnp.diagonal(venue.collateral.liquidation_threshold)
    branches = branches_of(book, state, price.shape[0], jnp.exp(state.log_index)[0])
    closings, shut, redeeming = [], kept.shut, None
    for i, branch in enumerate(branches):
        branches[i], closing = closed(
            slot,
            i,
            branch,
            kept.deposits[i],
            price=price[i],
            minimum=minimum[i],
            mid=(held[i], owed),
        )
        closings.append(closing)
    offers = [_sale_offer(venue, closings, market)]
    if slot.redemption is not None:
        deposits = kept.deposits - _stacked(closings, "repaid")
        shut, caps = _redeemable(slot.redemption, branches, deposits, price, shut)
        redeeming = _redeeming(system, venue, state, market, branches, price, shut, caps)
        offers += _redemption_offers(system, venue, state, market, redeeming, price)
    wanted = Wanted(
        closings=tuple(closings),
        branches=tuple(branches),
        redeeming=redeeming,
        price=price,
        shut=shut,
    )
    return wanted, tuple(offers)


def slot_of(venue: Venue) -> DepositPool:
    """Return the venue's kind of execution, which is played here."""
    assert isinstance(venue.execution, DepositPool)
    return venue.execution


def _rules_of(venue: Venue) -> RedemptionRules:
    rules = slot_of(venue).redemption
    assert rules is not None
    return rules


def _redeemable(
    rules: RedemptionRules,
    branches: list[Branch],
    deposits: Float[Array, " branch"],
    price: Float[Array, " branch"],
    shut: Bool[Array, " branch"],
) -> tuple[Bool[Array, " branch"], Float[Array, " branch"]]:
    """Return which branches are shut down now, and how much of each other can be redeemed."""
    debt = jnp.stack([jnp.sum(b.debt) for b in branches])
    ratio = collateral_ratio(jnp.stack([jnp.sum(b.collateral) for b in branches]), debt, price)
    if rules.shutdown_ratio is not None:
        shut = shut | (ratio < rules.shutdown_ratio)
    unbacked = debt - deposits if rules.by_unbacked else debt
    return shut, split_by_unbacked(
        jnp.sum(debt),
        unbacked=jnp.where(unbacked > 0, unbacked, jnp.zeros_like(unbacked)),
        debt=debt,
        redeemable=(ratio >= rules.lowest_branch_ratio) & ~shut,
    )


def _redeeming(
    system: System,
    venue: Venue,
    state: VenueState,
    market: Market,
    branches: list[Branch],
    price: Float[Array, " branch"],
    shut: Bool[Array, " branch"],
    caps: Float[Array, " branch"],
) -> Redeeming:
    """Return what redeemers would do with the branches as they stand."""
    rules = _rules_of(venue)
    held, owed = _mids(venue, market)
    asset, asked = venue.accounts.debt_assets[0], system.keeper.minimum_return
    base, supply = state.execution.base_rate, state.pool[Pool.DEBT][0]
    worth, none = held / price, jnp.zeros_like(price)
    first = worth * jnp.where(shut, 1.0 + rules.bonus, 1.0 - rules.fee.rate(base))

    def amounts(branches: list[Branch]) -> Redeeming:
        queues = [queue_of(rules, b, p, s) for b, p, s in zip(branches, price, shut, strict=True)]
        payable = jnp.stack([jnp.sum(q.payable) for q in queues])
        urgent, ordinary = jnp.where(shut, payable, none), smaller(caps, payable)
        prior = jnp.zeros_like(owed)
        if rules.shutdown_ratio is not None:
            bid = Bid(worth=_mean(first, urgent), slope=prior, most=jnp.sum(urgent))
            prior = amount_wanted(bid, system.liquidity, market, asset, asked, prior)
            urgent = urgent * (prior / positive_or_one(bid.most))
        slope = _mean(worth, ordinary) * rules.fee.sensitivity / positive_or_one(supply)
        bid = Bid(worth=_mean(first, ordinary), slope=slope, most=jnp.sum(ordinary))
        amount = amount_wanted(bid, system.liquidity, market, asset, asked, prior)
        ordinary = ordinary * (amount / positive_or_one(bid.most))
        return Redeeming(queues=tuple(queues), ordinary=ordinary, urgent=urgent)

    def nothing(branches: list[Branch]) -> Redeeming:
        empty = [jnp.zeros_like(b.held) for b in branches]
        return Redeeming(
            queues=tuple(Queue(payable=e, ahead=e) for e in empty), ordinary=none, urgent=none
        )

    return lax.cond(jnp.any(first > owed * (1.0 + asked)), amounts, nothing, branches)


def _mean(values: Float[Array, " branch"], weight: Float[Array, " branch"]) -> Float[Array, ""]:
    return jnp.sum(values * weight) / positive_or_one(jnp.sum(weight))


def _sale_offer(venue: Venue, closings: list[Closing], market: Market) -> Offer:
    """Return what depositors and callers sell, at almost any price: they ask for no profit."""
    assets, mid = venue.accounts.collateral_assets, market.mid
    units = slot_of(venue).sale_share * _stacked(closings, "seized") + _stacked(closings, "fee")
    sold = spread(units, assets, mid.shape[0])
    return _bare_offer(venue, sold, _LOWEST_SALE * jnp.sum(sold * mid))


def _redemption_offers(
    system: System,
    venue: Venue,
    state: VenueState,
    market: Market,
    redeeming: Redeeming,
    price: Float[Array, " branch"],
) -> list[Offer]:
    """Return what redeemers would sell, and what they would pay for the stablecoin before."""
    rules = _rules_of(venue)
    assets, size = venue.accounts.collateral_assets, market.mid.shape[0]
    stable, law = venue.accounts.debt_assets[0], system.liquidity.law
    depth, mid = system.liquidity.depth.now(market), market.mid

    def offer(amount: Float[Array, " branch"], part: Float[Array, ""]) -> Offer:
        volume = jnp.broadcast_to(jnp.sum(amount) * mid[stable], depth.shape)
        return _bare_offer(
            venue, spread(amount * part / price, assets, size), law.cost(volume, depth)[stable]
        )

    fee = _fee_rate(rules, state, jnp.sum(redeeming.ordinary))[1]
    offers = [offer(redeeming.ordinary, 1.0 - fee)]
    if rules.shutdown_ratio is not None:
        offers.append(offer(redeeming.urgent, 1.0 + rules.bonus))
    return offers


def _fee_rate(
    rules: RedemptionRules, state: VenueState, amount: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the base rate after a redemption, and the fee rate it pays."""
    share = amount / positive_or_one(state.pool[Pool.DEBT][0])
    base = rules.fee.raised(state.execution.base_rate, share)
    return base, rules.fee.rate(base)


def _bare_offer(venue: Venue, sold: Float[Array, " asset"], paid: Float[Array, ""]) -> Offer:
    """Return an offer to be rationed; what it moves in the book is only known once it is."""
    none, zero = jnp.zeros(len(venue.accounts.collateral_assets), sold.dtype), jnp.zeros_like(paid)
    moved = Moved(seized=none, repaid=zero[None], written_off=zero[None], refund=zero, calls=zero)
    return Offer(moved=moved, fee=none, sold=sold, paid=paid)


def go(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    wanted: Wanted,
    offers: tuple[Offer, ...],
    shares: tuple[Float[Array, ""], ...],
) -> tuple[VenueState, Offer]:
    """Return the venue after liquidations and rationed redemptions, and all they brought.

    Arguments are those of `jaxrisk.system.execution.Play`.
    """
    del system, offers
    held, owed = _mids(venue, market)
    redemptions, base = _redemptions(venue, state, wanted, shares)
    branches = [
        branch if r is None else branch.less(r.seized + r.fee, r.repaid, r.emptied)
        for branch, r in zip(wanted.branches, redemptions, strict=True)
    ]
    offer, held_back = _gone_through(venue, wanted, redemptions, shares[0], market)
    of = lambda name: _stacked(wanted.closings, name)
    paid, gone, kept = jnp.sum(of("repaid")), offer.moved.repaid, state.execution
    lost, handed = jnp.sum(of("depositor_loss")), jnp.sum(of("borrower_loss"))
    flows = booked(
        bad_debt=lost + handed,
        redeemed=(gone[0] - paid) * owed,
        depositor_gain=jnp.sum(of("seized") * held) - paid * owed,
        depositor_loss=lost,
        borrower_loss=handed,
    )
    touched = (offer.moved.calls > 0) | (gone[0] > 0)
    after = dataclasses.replace(
        with_branches(book, state, branches),
        touched=tuple(t | touched for t in state.touched),
        owed=state.owed - gone / jnp.exp(state.log_index),
        pool=state.pool + changed_pool(debt=-gone, supplied=-gone),
        execution=PoolState(
            deposits=kept.deposits - of("repaid"),
            held=kept.held + held_back,
            base_rate=base,
            shut=wanted.shut,
        ),
        flows=state.flows + flows,
    )
    if state.ledgers is not None:
        ledgers = _noted(venue, book, state, branches, wanted, redemptions, market)
        after = dataclasses.replace(after, ledgers=ledgers)
    return after, offer


def _gone_through(
    venue: Venue,
    wanted: Wanted,
    redemptions: list[Redeemed | None],
    share: Float[Array, ""],
    market: Market,
) -> tuple[Offer, Float[Array, " branch"]]:
    """Return all that was moved, is sold and bought, and the collateral that depositors hold back.

    Args:
        venue: the venue.
        wanted: the liquidations, which go through whole.
        redemptions: by branch, as far as they go through.
        share: of what depositors and callers want to sell, how much they can.
        market: the market before the round.
    """
    slot, accounts, size = slot_of(venue), venue.accounts, market.mid.shape[0]
    held, owed = _mids(venue, market)
    of = lambda name: _stacked(wanted.closings, name)
    total = lambda name: jnp.stack(
        [jnp.zeros_like(owed) if r is None else jnp.sum(getattr(r, name)) for r in redemptions]
    )
    bought, fee, seized = total("repaid"), total("fee"), of("seized")
    refunds = jnp.stack([jnp.sum(c.refund) for c in wanted.closings]) + total("refund")
    sold = slot.sale_share * share * seized
    gone = jnp.sum(of("repaid") + bought)
    units = sold + share * of("fee") + total("seized")
    offer = Offer(
        moved=Moved(
            seized=seized + of("fee") + refunds + total("seized") + fee,
            repaid=gone[None],
            written_off=jnp.zeros_like(gone)[None],
            refund=jnp.sum(refunds * held),
            calls=jnp.sum(of("calls")),
        ),
        fee=fee,
        sold=spread(units, accounts.collateral_assets, size),
        paid=slot.sale_share * share * jnp.sum(of("repaid")) * owed,
        bought=None
        if slot.redemption is None
        else spread(jnp.sum(bought)[None], accounts.debt_assets, size),
    )
    return offer, seized - sold


def _redemptions(
    venue: Venue, state: VenueState, wanted: Wanted, shares: tuple[Float[Array, ""], ...]
) -> tuple[list[Redeemed | None], Float[Array, ""]]:
    """Return the redemptions that go through by branch, and the base rate after them."""
    rules, asked = slot_of(venue).redemption, wanted.redeeming
    if rules is None or asked is None:
        return [None] * len(wanted.branches), state.execution.base_rate
    ordinary = asked.ordinary * shares[1]
    base, fee = _fee_rate(rules, state, jnp.sum(ordinary))
    amount = ordinary
    if rules.shutdown_ratio is not None:
        amount = amount + asked.urgent * shares[2]
    return [
        redeemed(
            rules, branch, asked.queues[i], amount[i],
            price=wanted.price[i], fee_rate=fee, shut=wanted.shut[i],
        )
        for i, branch in enumerate(wanted.branches)
    ], base  # fmt: skip


def wait(
    venue: Venue, book: Book, state: VenueState, market: Market, rules: StepRules
) -> VenueState:
    """Return the state a step later: fees have faded, and chosen rates have accrued.

    The interest that the protocol does not keep goes to the depositors of the branch.
    """
    slot, kept = slot_of(venue), state.execution
    if slot.redemption is not None:
        fade = slot.redemption.fee.decay ** (rules.step_years * _MINUTES_A_YEAR)
        kept = dataclasses.replace(kept, base_rate=kept.base_rate * fade)
    if venue.accounts.rate is None:
        return dataclasses.replace(state, execution=kept)
    growth, debt, interest = jnp.exp(state.log_index)[0], [], jnp.zeros_like(kept.deposits)
    for tranche, owed in zip(book, state.debt, strict=True):
        assert tranche.accounts.rate is not None
        years = jnp.where(kept.shut[tranche.category], 0.0, rules.step_years)
        more = owed * jnp.expm1(tranche.accounts.rate * years)[None, :]
        accrued = growth * jnp.sum(tranche.accounts.debt[0] * more[0])
        interest = interest.at[tranche.category].add(accrued)
        debt.append(owed + more)
    total, share, price = jnp.sum(interest), slot.interest_kept, _mids(venue, market)[1]
    return dataclasses.replace(
        state,
        debt=tuple(debt),
        owed=state.owed + total / growth,
        pool=state.pool
        + changed_pool(
            debt=total[None], supplied=total[None] * (1.0 - share), treasury=total[None] * share
        ),
        execution=dataclasses.replace(kept, deposits=kept.deposits + (1.0 - share) * interest),
        flows=state.flows + booked(interest=total * price, reserve_interest=total * share * price),
    )


def _mids(venue: Venue, market: Market) -> tuple[Float[Array, " branch"], Float[Array, ""]]:
    """Return the market's mid of each collateral and of the stablecoin."""
    accounts = venue.accounts
    return select(market.mid, accounts.collateral_assets), market.mid[accounts.debt_assets[0]]


def _stacked(closings: Sequence[Closing], name: str) -> Float[Array, " branch"]:
    return jnp.stack([getattr(closing, name) for closing in closings])


def _noted(
    venue: Venue,
    book: Book,
    state: VenueState,
    branches: list[Branch],
    wanted: Wanted,
    redemptions: list[Redeemed | None],
    market: Market,
) -> tuple[AccountLedger, ...]:
    """Return the ledgers with this round noted account by account, at the round's mid.

    What is handed to an account counts as seized and repaid with the opposite sign.
    """
    held, owed = _mids(venue, market)
    growth = jnp.exp(state.log_index)[0]
    before = branches_of(book, state, len(branches), growth)
    seized, repaid, bad = [], [], []
    for i, (old, new) in enumerate(zip(before, branches, strict=True)):
        redeemed_now, closing = redemptions[i], wanted.closings[i]
        refund = closing.refund if redeemed_now is None else closing.refund + redeemed_now.refund
        seized.append((old.collateral - new.collateral - refund) * held[i])
        repaid.append((old.debt - new.debt) * owed - closing.bad_debt)
        bad.append(closing.bad_debt)
    assert state.ledgers is not None
    rows = zip(state.ledgers, *(split(book, part) for part in (seized, repaid, bad)), strict=True)
    return tuple(
        dataclasses.replace(
            ledger,
            seized=ledger.seized + s,
            repaid=ledger.repaid + r,
            written_off=ledger.written_off + w,
        )
        for ledger, s, r, w in rows
    )
