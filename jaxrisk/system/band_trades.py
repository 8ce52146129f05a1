"""Execution by bands: outsiders convert collateral, keepers close what conversion did not save.

In a round keepers first close loans whose health is below zero: they pay what the borrowed coin in
the loan's bands leaves of its debt, and take the collateral that is left there. Then outsiders
trade the bands to the market's price. What they buy is sold into the market and rationed like any
call; what they sell back into the bands they buy at the market's mid, which moves nothing.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import gate, smaller
from jaxrisk.numerics.indexing import spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.offer import Moved, Offer, summed
from jaxrisk.system.system import AccountLedger, StepRules, System, VenueState, booked
from jaxrisk.venue.band_amm import Trade, exchange
from jaxrisk.venue.band_conversion import BandConversion, BandState
from jaxrisk.venue.band_grid import BandGrid
from jaxrisk.venue.band_oracle import SeenPrice
from jaxrisk.venue.venue import Venue, changed_pool

Book = tuple[Tranche, ...]
Scalar = Float[Array, ""]

# Less than this share of what the bands hold is not worth a trade.
_SMALLEST_TRADE = 1e-6


@pytree
class Loans:
    """The calls on one tranche, before rationing; every leaf `(account,)`.

    Attributes:
        weight: 1 where a loan is closed, smooth with a width.
        units: shares that stand.
        owed: units owed.
        released: borrowed coin in its bands.
        collateral: collateral in its bands.
    """

    weight: Float[Array, " account"]
    units: Float[Array, " account"]
    owed: Float[Array, " account"]
    released: Float[Array, " account"]
    collateral: Float[Array, " account"]

    @property
    def repaid(self) -> Float[Array, " account"]:
        """Debt that keepers repay: what the borrowed coin in the bands leaves of it."""
        return self.owed - smaller(self.released, self.owed)

    @property
    def surplus(self) -> Float[Array, " account"]:
        """Borrowed coin beyond the debt, which keepers take."""
        return self.released - smaller(self.released, self.owed)

    def total(self, values: Float[Array, " account"]) -> Scalar:
        """Return the sum of values over the loans that are closed."""
        return jnp.sum(self.weight * values)


@pytree
class Wanted:
    """What would be done on one venue in one round.

    Attributes:
        loans: per tranche.
        grid: where the bands lie now.
        seen: limited oracle price and dynamic fee.
        trades: whether a trade pays.
    """

    loans: tuple[Loans, ...]
    grid: BandGrid
    seen: SeenPrice
    trades: Bool[Array, ""]


@pytree
class _Coins:
    """Mids of the pair, and what keepers ask for.

    Attributes:
        collateral: mid of collateral.
        borrowed: mid of the borrowed coin.
        minimum_return: profit per unit paid below which nothing is done.
        cost: of a call or trade, numeraire.
    """

    collateral: Scalar
    borrowed: Scalar
    minimum_return: Scalar
    cost: Scalar


def wait(
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> VenueState:
    """Return the state a step later: the limit on the oracle's jumps runs out."""
    del venue, book, market
    bands: BandState = state.execution
    oracle = dataclasses.replace(bands.oracle, elapsed=bands.oracle.elapsed + rules.step_years)
    return dataclasses.replace(state, execution=dataclasses.replace(bands, oracle=oracle))


def standing(
    venue: Venue, book: Book, state: VenueState, mid: Float[Array, " asset"]
) -> Float[Array, " account"]:
    """Return the value in each account's bands, borrowed coin and collateral, in tranche order."""
    rules, accounts = _rules(venue), venue.accounts
    borrowed, collateral = rules.holdings(state.execution)
    value = (
        borrowed * mid[accounts.debt_assets[0]] + collateral * mid[accounts.collateral_assets[0]]
    )
    values = [
        tranche.accounts.collateral[0] * left[0] * value[rules.first_position(tranche.accounts)]
        for tranche, left in zip(book, state.collateral, strict=True)
    ]
    return jnp.concatenate(values)


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return what keepers and outsiders would do at the prices the venue sees, and two offers.

    The offer of the trade is that of bands in which nothing was closed: closing takes out of them,
    so that the trade which follows is never larger.
    """
    slot, accounts, bands = _rules(venue), venue.accounts, state.execution
    coins = _coins(system, venue, market)
    prices = venue.oracle.seen(state.oracle, market)
    feed = prices[accounts.collateral_assets[0]] / prices[accounts.debt_assets[0]]
    seen = slot.oracle.see(bands.oracle, feed)
    grid = slot.grown(jnp.exp(state.log_index[0]))
    loans = _loans(slot, venue, book, state, coins, (grid, seen), rules.width)
    closes = summed([_closing(venue, tranche, coins, market) for tranche in loans])
    amount, buys = _trade_size(slot, grid, bands, seen, coins)
    trade = exchange(grid, bands.bands, seen, slot.fee, amount, buys)
    pays = _profit(trade, buys, coins) > coins.cost
    wanted = Wanted(loans=loans, grid=grid, seen=seen, trades=pays & (trade.spent > 0))
    made = wanted.trades.astype(amount.dtype)
    return wanted, (closes, _conversion(venue, trade, buys, made, coins, market))


def go(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    wanted: Wanted,
    offers: tuple[Offer, ...],
    shares: tuple[Scalar, ...],
) -> tuple[VenueState, Offer]:
    """Return the venue after rationed closing and trading, and what is sold.

    A share of the trade is a trade of that share of the amount: the first part has the better
    price. Loans are a crowd of small ones, of which that share is closed. Closing and trading are
    the two classes; other arguments are those of `jaxrisk.system.execution.Play`.
    """
    rules, coins = _rules(venue), _coins(system, venue, market)
    state, released, surplus = _closed(rules, book, state, wanted, shares[0])
    before: BandState = state.execution
    amount, buys = _trade_size(rules, wanted.grid, before, wanted.seen, coins)
    amount = jnp.where(wanted.trades, shares[1] * amount, jnp.zeros_like(amount))
    trade = exchange(wanted.grid, before.bands, wanted.seen, rules.fee, amount, buys)
    state = _traded(rules, state, wanted.seen, trade, buys)
    flows = _trade_flows(trade, buys, coins, released)
    gained = surplus * coins.borrowed
    # Offers of closing are net of the coin that keepers find; flows are booked gross.
    closing = dataclasses.replace(offers[0], paid=offers[0].paid + gained)
    made = jnp.where(trade.spent > 0, shares[1], jnp.zeros_like(amount))
    trading = _conversion(venue, trade, buys, made, coins, market)
    state = dataclasses.replace(
        state, flows=state.flows + flows + booked(liquidated=gained, proceeds=gained)
    )
    if state.ledgers is not None:
        lost = _lost(rules, before, state.execution, coins)
        state = dataclasses.replace(
            state, ledgers=_noted(rules, book, state, wanted, shares[0], lost, coins)
        )
    return state, closing + trading


def _rules(venue: Venue) -> BandConversion:
    assert isinstance(venue.execution, BandConversion)
    return venue.execution


def _coins(system: System, venue: Venue, market: Market) -> _Coins:
    keeper, accounts = system.keeper, venue.accounts
    return _Coins(
        collateral=market.mid[accounts.collateral_assets[0]],
        borrowed=market.mid[accounts.debt_assets[0]],
        minimum_return=keeper.minimum_return,
        cost=jnp.zeros_like(keeper.minimum_return) if keeper.cost is None else keeper.cost,
    )


def _loans(
    rules: BandConversion,
    venue: Venue,
    book: Book,
    state: VenueState,
    coins: _Coins,
    view: tuple[BandGrid, SeenPrice],
    width: Scalar | None,
) -> tuple[Loans, ...]:
    """Return the loans of every tranche, and which of them keepers would close at a profit."""
    grid, seen = view
    # 1 + bonus is what a loan at health zero leaves for a unit of its debt: 1 / (1 - discount).
    weight = 1.0 / venue.incentive.largest_credit(1, 1)[0, 0]
    unit = rules.per_unit(grid, state.execution, seen.price, weight)
    table = jnp.stack([unit.borrowed, unit.collateral, unit.backing])
    growth = jnp.exp(state.log_index[0])
    found = []
    for tranche, stands, owes in zip(book, state.collateral, state.debt, strict=True):
        units = tranche.accounts.collateral[0] * stands[0]
        owed = tranche.accounts.debt[0] * owes[0] * growth
        per_unit = table[:, rules.first_position(tranche.accounts)]
        released, collateral = units * per_unit[0], units * per_unit[1]
        outlay = owed * (1.0 + coins.minimum_return)
        profit = collateral * coins.collateral + (released - outlay) * coins.borrowed - coins.cost
        unhealthy = gate(owed - units * per_unit[2], owed, width)
        found.append(
            Loans(
                weight=unhealthy * gate(profit, owed * coins.borrowed, width),
                units=units,
                owed=owed,
                released=released,
                collateral=collateral,
            )
        )
    return tuple(found)


def _closing(venue: Venue, loans: Loans, coins: _Coins, market: Market) -> Offer:
    """Return what closing loans brings and costs; what is paid is net of coin that is found."""
    row = lambda value: value[None]
    seized = row(loans.total(loans.collateral))
    repaid, surplus = loans.total(loans.repaid), loans.total(loans.surplus)
    return Offer(
        moved=Moved(
            seized=seized,
            repaid=row(repaid),
            written_off=jnp.zeros_like(seized),
            refund=jnp.zeros_like(repaid),
            calls=jnp.sum((loans.weight > 0).astype(repaid.dtype)),
        ),
        fee=jnp.zeros_like(seized),
        sold=spread(seized, venue.accounts.collateral_assets, market.price.shape[0]),
        paid=(repaid - surplus) * coins.borrowed,
    )


def _conversion(
    venue: Venue,
    trade: Trade,
    buys: Bool[Array, ""],
    made: Scalar,
    coins: _Coins,
    market: Market,
) -> Offer:
    """Return what a trade sells into the market: the collateral it buys out of the bands.

    `made` counts the trade: 1, or the share that goes through; nothing is sold where it is 0.
    """
    sells = (made > 0) & buys
    sold = jnp.where(sells, trade.received, jnp.zeros_like(trade.received))
    paid = jnp.where(sells, trade.spent, jnp.zeros_like(trade.spent))
    none = jnp.zeros_like(sold)[None]
    return Offer(
        moved=Moved(
            seized=none,
            repaid=none,
            written_off=none,
            refund=jnp.zeros_like(sold),
            calls=made,
        ),
        fee=none,
        sold=spread(sold[None], venue.accounts.collateral_assets, market.price.shape[0]),
        paid=paid * coins.borrowed,
    )


def _trade_size(
    rules: BandConversion, grid: BandGrid, state: BandState, seen: SeenPrice, coins: _Coins
) -> tuple[Scalar, Bool[Array, ""]]:
    """Return what outsiders would pay in, none where that is rounding, and whether they buy.

    However small, a trade sets the clock of the oracle.
    """
    bands, price = state.bands, coins.collateral / coins.borrowed
    amount, buys = rules.wanted_trade(grid, bands, seen, price, coins.minimum_return)
    value = jnp.where(buys, amount, amount * price)
    held = jnp.sum(bands.borrowed) + jnp.sum(bands.collateral) * price
    return jnp.where(value > _SMALLEST_TRADE * held, amount, jnp.zeros_like(amount)), buys


def _profit(trade: Trade, buys: Bool[Array, ""], coins: _Coins) -> Scalar:
    """Return what a trade earns at mids, before slippage and cost."""
    bought = trade.received * coins.collateral - trade.spent * coins.borrowed
    sold = trade.received * coins.borrowed - trade.spent * coins.collateral
    return jnp.where(buys, bought, sold)


def _closed(
    rules: BandConversion, book: Book, state: VenueState, wanted: Wanted, share: Scalar
) -> tuple[VenueState, Scalar, Scalar]:
    """Return the venue after closing loans, the debt their own coin repaid, and what was beyond.

    The coin held for borrowers is booked twice: by what loans own, and by what leaves the bands.
    """
    left = [1.0 - share * loans.weight for loans in wanted.loans]
    bands: BandState = state.execution
    units = summed(
        [
            rules.by_first_band(rules.first_position(t.accounts), loans.units * kept)
            for t, loans, kept in zip(book, wanted.loans, left, strict=True)
        ]
    )
    after = rules.withdrawn(bands, units)
    cleared = share * summed([loans.total(loans.owed) for loans in wanted.loans])
    released = share * summed([loans.total(loans.released) for loans in wanted.loans])
    surplus = share * summed([loans.total(loans.surplus) for loans in wanted.loans])
    row = lambda value: value[None]
    change = changed_pool(
        cash=row(cleared),
        debt=row(-cleared),
        converted=row(-released),
        borrowers=row(jnp.sum(after.borrowed - bands.bands.borrowed)),
    )
    touched = [
        was | (jnp.any(loans.weight > 0) & (share > 0))
        for was, loans in zip(state.touched, wanted.loans, strict=True)
    ]
    state = dataclasses.replace(
        state,
        collateral=tuple(c * k[None] for c, k in zip(state.collateral, left, strict=True)),
        debt=tuple(d * k[None] for d, k in zip(state.debt, left, strict=True)),
        touched=tuple(touched),
        owed=state.owed - row(cleared) / jnp.exp(state.log_index),
        pool=state.pool + change,
        execution=BandState(bands=after, units=units, oracle=bands.oracle),
    )
    return state, released - surplus, surplus


def _traded(
    rules: BandConversion,
    state: VenueState,
    seen: SeenPrice,
    trade: Trade,
    buys: Bool[Array, ""],
) -> VenueState:
    """Return the venue after a trade: what its bands hold, what its clock remembers, its books.

    The coin held for borrowers is booked twice: by what traders paid and got, and by what the bands
    hold after it.
    """
    before: BandState = state.execution
    happens = trade.spent > 0
    admin = jnp.where(buys, trade.admin_fee, jnp.zeros_like(trade.admin_fee))
    paid_in = jnp.where(buys, trade.spent - admin, -trade.received)
    held = jnp.sum(trade.bands.borrowed - before.bands.borrowed)
    row = lambda value: value[None]
    change = changed_pool(
        cash=row(admin), treasury=row(admin), converted=row(paid_in), borrowers=row(held)
    )
    recorded = rules.oracle.record(seen)
    oracle = dataclasses.replace(
        recorded,
        price=jnp.where(happens, recorded.price, before.oracle.price),
        fee=jnp.where(happens, recorded.fee, before.oracle.fee),
        elapsed=jnp.where(happens, recorded.elapsed, before.oracle.elapsed),
    )
    return dataclasses.replace(
        state,
        pool=state.pool + change,
        execution=BandState(bands=trade.bands, units=before.units, oracle=oracle),
    )


def _trade_flows(
    trade: Trade, buys: Bool[Array, ""], coins: _Coins, released: Scalar
) -> Float[Array, " flow"]:
    """Return the flows of a trade but for those of the sale that follows, at the round's mids.

    Selling into the bands brings the coin at once; what was paid for the collateral is its mid.
    """
    zero = jnp.zeros_like(trade.spent)
    taken = jnp.where(buys, zero, trade.received * coins.borrowed)
    given = jnp.where(buys, zero, trade.spent * coins.collateral)
    fee = trade.admin_fee * jnp.where(buys, coins.borrowed, coins.collateral)
    return booked(
        proceeds=taken,
        keeper_paid=given,
        reconverted=given,
        converted=jnp.where(buys, trade.received * coins.collateral, zero),
        conversion_loss=_profit(trade, buys, coins) + fee,
        fee=fee,
        released=released * coins.borrowed,
    )


def _lost(
    rules: BandConversion, before: BandState, after: BandState, coins: _Coins
) -> Float[Array, " band"]:
    """Return what a unit put in lost in a trade, at the round's mids, by first band."""
    (coin, collateral), (coin_left, left) = rules.holdings(before), rules.holdings(after)
    return (coin - coin_left) * coins.borrowed + (collateral - left) * coins.collateral


def _noted(
    rules: BandConversion,
    book: Book,
    state: VenueState,
    wanted: Wanted,
    share: Scalar,
    lost: Float[Array, " band"],
    coins: _Coins,
) -> tuple[AccountLedger, ...]:
    """Return the ledgers with this round's closing and trade noted, account by account."""
    assert state.ledgers is not None
    noted = []
    for ledger, tranche, loans in zip(state.ledgers, book, wanted.loans, strict=True):
        closed = share * loans.weight
        taken = loans.collateral * coins.collateral + loans.surplus * coins.borrowed
        own = loans.units * (1.0 - closed) * lost[rules.first_position(tranche.accounts)]
        noted.append(
            dataclasses.replace(
                ledger,
                seized=ledger.seized + closed * taken,
                repaid=ledger.repaid + closed * loans.repaid * coins.borrowed,
                converted=ledger.converted + own,
            )
        )
    return tuple(noted)
