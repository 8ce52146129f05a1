"""How each kind of execution is played: a registry from the venue's slot to its functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from jaxrisk.system import (
    absorbed_stock,
    auctioned_lots,
    band_trades,
    keeper_calls,
    ladder_calls,
    lender_play,
    margin_book,
    margin_play,
    pool_play,
    stop_sales,
)
from jaxrisk.system.ladder_calls import LadderCalls
from jaxrisk.system.margin_book import MarginFigures
from jaxrisk.system.offer import Offer
from jaxrisk.system.system import VenueState
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.lender_auctions import LenderAuctions
from jaxrisk.venue.margin_accounts import MarginAccounts
from jaxrisk.venue.stop_orders import StopOrders
from jaxrisk.venue.takeover import AbsorbedStock, AuctionedLots
from jaxrisk.venue.venue import Venue

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Play:
    """One kind of execution, in two moves of a round.

    In every kind `system` is the whole system, `venue` its venue, `book` the venue's accounts in
    tranches, `state` and `market` the venue and the market before the round or the step, `wanted`
    what `look` found; `offers` and `shares` have an entry a class: what goes through of it after
    rationing, and which share of it that is. `mid` is `(asset,)`, the market's mid.

    Attributes:
        look: `(system, venue, book, state, market, rules) -> (wanted, offers)`: what would be
            done at the prices the venue sees, and what each class of it would sell and cost.
        go: `(system, venue, book, state, market, wanted, offers, shares) -> (state, offer)`: the
            venue after every class went through as far as it was rationed, its balance sheet
            booked in units, and all that was moved and is sold.
        wait: `(venue, book, state, market, rules) -> state`: what a step of time does to what this
            kind of execution keeps, after interest; `None` where it keeps nothing that changes.
        settle: `(venue, book, state, wanted, dealt) -> state`: the venue once it is known what the
            round's orders brought; `None` where that is the keepers' affair.
        unsold: `(venue, kept, mid) -> (gap, worth)`: claims beyond the worth of what was taken
            over for them, and that worth, in the numeraire; `None` where nothing is taken over.
        standing: `(venue, book, state, mid) -> (account,)`: value behind each account, tranche
            after tranche.
        margin: `(venue, price) -> MarginFigures`: what accounts have and need before anything has
            happened, at prices of the assets; `None` where collateral and debt say it.
        bearers: `(venue) -> ((name, property), ...)`: who stands behind the venue's funds, each
            with the property of `Outcome` that says what it bore; `None` where the venue's residual
            bearer does.
        owed: `(venue, book, state) -> (debt_asset,)`: opening units of debt that still stand.
        shortfall: `(venue, book, state, mid) -> ()`: debt beyond what stands behind it, summed over
            accounts, in the numeraire; `None` to ask `standing`.
        overrun: `(kept,) -> ()`: 1 where what it keeps did not suffice, so that the scenario is not
            exact; `None` where it always does.
        idle_without_offers: whether `go` changes nothing where nothing is offered.
        owners_act: whether fractions of collateral and debt are all that stands of an account, so
            that its owner can add and take some.
    """

    look: Callable[..., tuple[Any, tuple[Offer, ...]]]
    go: Callable[..., tuple[VenueState, Offer]]
    wait: Callable[..., VenueState] | None = None
    settle: Callable[..., VenueState] | None = None
    unsold: Callable[[Venue, Any, Float[Array, " asset"]], tuple[Scalar, Scalar]] | None = None
    standing: Callable[..., Float[Array, " account"]] = keeper_calls.standing
    margin: Callable[[Venue, Float[Array, " asset"]], MarginFigures] | None = None
    bearers: Callable[[Venue], tuple[tuple[str, str], ...]] | None = None
    owed: Callable[..., Float[Array, " debt_asset"]] = keeper_calls.owed
    shortfall: Callable[..., Scalar] | None = None
    overrun: Callable[[Any], Scalar] | None = None
    idle_without_offers: bool = False
    owners_act: bool = False


_PLAYS: dict[type, Play] = {
    KeeperCalls: Play(
        look=keeper_calls.look, go=keeper_calls.go, idle_without_offers=True, owners_act=True
    ),
    LadderCalls: Play(
        look=ladder_calls.look,
        go=ladder_calls.go,
        owed=ladder_calls.owed,
        shortfall=ladder_calls.shortfall,
        overrun=ladder_calls.overrun,
        idle_without_offers=True,
    ),
    AbsorbedStock: Play(
        look=absorbed_stock.look,
        go=absorbed_stock.go,
        unsold=absorbed_stock.unsold,
        owners_act=True,
    ),
    AuctionedLots: Play(
        look=auctioned_lots.look,
        go=auctioned_lots.go,
        wait=auctioned_lots.wait,
        unsold=auctioned_lots.unsold,
        owners_act=True,
    ),
    DepositPool: Play(look=pool_play.look, go=pool_play.go, wait=pool_play.wait),
    LenderAuctions: Play(look=lender_play.look, go=lender_play.go, wait=lender_play.wait),
    BandConversion: Play(
        look=band_trades.look,
        go=band_trades.go,
        wait=band_trades.wait,
        standing=band_trades.standing,
    ),
    StopOrders: Play(
        look=stop_sales.look,
        go=stop_sales.go,
        settle=stop_sales.settle,
        idle_without_offers=True,
        owners_act=True,
    ),
    MarginAccounts: Play(
        look=margin_play.look,
        go=margin_play.go,
        wait=margin_play.wait,
        settle=margin_play.settle,
        standing=margin_play.standing,
        margin=margin_book.figures,
        bearers=margin_book.bearers,
        idle_without_offers=True,
    ),
}


def play_of(venue: Venue) -> Play:
    """Return how the venue's kind of execution is played."""
    return _PLAYS[type(venue.execution)]
