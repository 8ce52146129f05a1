"""Dutch auctions of whole portfolios: a share of everything an account holds changes hands.

While the portfolio is worth something it is sold at a falling discount, and no more of it than
brings the rest back to its margin. Once it is worth less than nothing, whoever takes it is paid,
more from minute to minute, by a fund and, where that is empty, by everyone.
"""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.auction_price import TwoPhaseDecrease

Numbers = Float[Array, "*account"]


class PortfolioRefusal(IntEnum):
    """Why an auction does not start, or a bid does not go through; data, not an exception."""

    NONE = 0
    HEALTHY = 1
    INVALID_SHARE = 2
    RECOVERED = 3
    ENDED = 4


@pytree
class PortfolioAuctionTerms:
    """What governs auctions of portfolios; every leaf is a scalar or `(account,)`.

    Attributes:
        price: fraction of its value a solvent portfolio is offered at.
        insolvent_duration: seconds over which what takers of an insolvent portfolio are paid rises.
        fee: share of the value sold at the start that the fund gets when an auction begins.
        buffer: how far beyond maintenance margin accounts are brought back, as a fraction of what
            the margin takes off the portfolio's value.
        whole_below: value under which the whole portfolio may be bought at once.
    """

    price: TwoPhaseDecrease
    insolvent_duration: Numbers
    fee: Numbers
    buffer: Numbers
    whole_below: Numbers


@pytree
class Margined:
    """What an auction sees of accounts; every leaf is `(account,)`, in the numeraire.

    Attributes:
        margin: value less maintenance requirement; negative where the account may be liquidated.
        value: mark-to-market value of everything held, cash included.
    """

    margin: Float[Array, " account"]
    value: Float[Array, " account"]


@pytree
class PortfolioAuction:
    """Auctions under way; every leaf is `(account,)`.

    Attributes:
        elapsed: seconds since the start.
        reserved: cash the account got from earlier bids of this auction, which is not for sale.
        insolvent: whether takers are paid instead of paying.
    """

    elapsed: Float[Array, " account"]
    reserved: Float[Array, " account"]
    insolvent: Bool[Array, " account"]


@pytree
class PortfolioBid:
    """The outcome of bids; zero where refused. Every leaf is `(account,)`, cash in the numeraire.

    Attributes:
        share: fraction of the portfolio, reserved cash excepted, that changes hands.
        from_bidder: cash the account gets.
        to_bidder: cash the taker of an insolvent portfolio gets: `from_fund + socialised`.
        from_fund: part of it that the fund pays.
        socialised: part of it that nobody stands behind, spread over all holders of cash.
        ends: whether the auction is over.
        refusal: why the bid does not go through, as `PortfolioRefusal` numbers.
    """

    share: Float[Array, " account"]
    from_bidder: Float[Array, " account"]
    to_bidder: Float[Array, " account"]
    from_fund: Float[Array, " account"]
    socialised: Float[Array, " account"]
    ends: Bool[Array, " account"]
    refusal: Int[Array, " account"]


def buffer_margin(terms: PortfolioAuctionTerms, account: Margined) -> Float[Array, " account"]:
    """Return the margin that auctions restore: `M + buffer (M - V)`, below the margin itself.

    Source: Derive v2 DutchAuction.sol `_getBufferMargin`.
    """
    return account.margin + terms.buffer * (account.margin - account.value)


def opening_fee(
    terms: PortfolioAuctionTerms, account: Margined
) -> tuple[Float[Array, " account"], Int[Array, " account"]]:
    """Return what the account pays the fund when its auction starts, and refusals.

    `fee * f * V` where `f` is the share that would have to be sold at full value; nothing where the
    portfolio is worth nothing, for then the auction starts as an insolvent one. Accounts that meet
    their margin are refused.

    Source: Derive v2 DutchAuction.sol `startAuction`, `_getLiquidationFee`.
    """
    one, nothing = jnp.ones_like(account.value), jnp.zeros_like(account.value)
    share = _share_to_restore(terms, account, one, nothing)
    fee = jnp.where(account.value > 0, terms.fee * share * account.value, nothing)
    healthy = account.margin >= 0
    refusal = jnp.where(healthy, PortfolioRefusal.HEALTHY, PortfolioRefusal.NONE)
    return jnp.where(healthy, nothing, fee), refusal


def asking_price(
    terms: PortfolioAuctionTerms, account: Margined, auction: PortfolioAuction
) -> Float[Array, " account"]:
    """Return the price of the whole portfolio; negative where takers are paid.

    Solvent: `d(t) (V - reserved)`. Insolvent: from `min(V, 0)` linearly to the margin `M`, which
    then is what takers are paid in full; nothing once the margin is met.

    Source: Derive v2 DutchAuction.sol `_getSolventAuctionBidPrice`, `_getInsolventAuctionBidPrice`.
    """
    solvent = terms.price.fraction(auction.elapsed) * (account.value - auction.reserved)
    nothing = jnp.zeros_like(account.value)
    worth = jnp.where(account.value < 0, account.value, nothing)
    over = auction.elapsed >= terms.insolvent_duration
    part = auction.elapsed / positive_or_one(terms.insolvent_duration)
    insolvent = jnp.where(over, account.margin, worth + (account.margin - worth) * part)
    insolvent = jnp.where(account.margin < 0, insolvent, nothing)
    return jnp.where(auction.insolvent, insolvent, solvent)


def largest_share(
    terms: PortfolioAuctionTerms, account: Margined, auction: PortfolioAuction
) -> Float[Array, " account"]:
    """Return the most of a solvent portfolio that may be bought at the present price.

    `f = B / (B - V d - reserved (1 - d))` with the buffer margin `B < 0`, after which the buffer
    margin is met; everything where `V < whole_below`.

    Source: Derive v2 DutchAuction.sol `_getMaxProportion`.
    """
    discount = terms.price.fraction(auction.elapsed)
    return _share_to_restore(terms, account, discount, auction.reserved)


def recovered(
    terms: PortfolioAuctionTerms, account: Margined, auction: PortfolioAuction
) -> Bool[Array, " account"]:
    """Return whether an auction is to be ended without another bid.

    A solvent one ends when its buffer margin is met, when the portfolio is worth less than nothing
    or less than the reserved cash (it may then start again as an insolvent one); one that is
    insolvent, or whose time is over, when the margin itself is met.

    Source: Derive v2 DutchAuction.sol `getAuctionStatus`.
    """
    over = auction.elapsed >= terms.price.fast + terms.price.slow
    sunk = (account.value < 0) | (auction.reserved >= account.value)
    solvent = sunk | (buffer_margin(terms, account) >= 0)
    return jnp.where(auction.insolvent | over, account.margin >= 0, solvent)


def bid(
    terms: PortfolioAuctionTerms,
    account: Margined,
    auction: PortfolioAuction,
    wanted: Float[Array, " account"],
    *,
    fund: Float[Array, " account"],
) -> PortfolioBid:
    """Return what a bid for a share of each portfolio moves.

    A bid on a solvent portfolio is cut to `largest_share`, and then ends the auction. What a taker
    of an insolvent one is paid comes from the fund as far as that goes. Each account is treated as
    if it were the only one: whoever plays several takes each payment off the fund of the next.

    Source: Derive v2 DutchAuction.sol `bid`, `_bidOnSolventAuction`, `_bidOnInsolventAuction`.

    Args:
        terms: of the auctions.
        account: margins and values now.
        auction: the auctions.
        wanted: share of the portfolio asked for, in (0, 1].
        fund: cash of the fund that stands behind insolvent portfolios.
    """
    price = asking_price(terms, account, auction)
    largest = largest_share(terms, account, auction)
    refusal = jnp.where(
        auction.insolvent | (price > 0), PortfolioRefusal.NONE, PortfolioRefusal.ENDED
    )
    refusal = jnp.where(recovered(terms, account, auction), PortfolioRefusal.RECOVERED, refusal)
    valid = (wanted > 0) & (wanted <= 1)
    refusal = jnp.where(valid, refusal, PortfolioRefusal.INVALID_SHARE)
    goes = refusal == PortfolioRefusal.NONE
    share = jnp.where(auction.insolvent, wanted, smaller(wanted, largest))
    ends = jnp.where(auction.insolvent, wanted == 1, wanted >= largest)
    nothing = jnp.zeros_like(price)
    to_bidder = jnp.where(goes & auction.insolvent, -price * share, nothing)
    from_fund = smaller(to_bidder, fund)
    return PortfolioBid(
        share=jnp.where(goes, share, nothing),
        from_bidder=jnp.where(goes & ~auction.insolvent, price * share, nothing),
        to_bidder=to_bidder,
        from_fund=from_fund,
        socialised=to_bidder - from_fund,
        ends=goes & ends,
        refusal=refusal,
    )


def _share_to_restore(
    terms: PortfolioAuctionTerms, account: Margined, discount: Array, reserved: Array
) -> Array:
    margin = buffer_margin(terms, account)
    short = jnp.where(margin < 0, -margin, jnp.zeros_like(margin))
    proceeds = account.value * discount + reserved * (1.0 - discount)
    share = short / positive_or_one(short + proceeds)
    return jnp.where(account.value < terms.whole_below, jnp.ones_like(share), share)
