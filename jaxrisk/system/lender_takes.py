"""What is taken of loans under auction in a round: by lenders' deposits, then by outsiders.

While a step lasts every auction price falls from that of its beginning to that of its end. A bucket
takes what comes down to its price; outsiders come where selling pays. Who would have come first
while the step lasted takes first.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.sale_price import price_of_all
from jaxrisk.system.system import System
from jaxrisk.venue.half_life_auction import Lot, Take, TakeRefusal, take
from jaxrisk.venue.lender_auctions import LenderAuctions, LoanAuctions
from jaxrisk.venue.venue import Venue

PerLoan = Float[Array, " account"]
PerBucket = Float[Array, " bucket"]

# No bucket this far below the market takes before outsiders do.
_FARTHEST = 0.99


@pytree
class Window:
    """Prices that auctions pass through while a step lasts; leaves are `(account,)`.

    Attributes:
        lowest: at its end.
        highest: at its beginning.
        years: age of the auction at the end; 0 where none runs.
    """

    lowest: PerLoan
    highest: PerLoan
    years: PerLoan

    @classmethod
    def of(cls, rule: LenderAuctions, kept: LoanAuctions) -> "Window":
        """Return the window of the step that has passed."""
        return cls(
            lowest=rule.price.at(kept.reference, kept.elapsed),
            highest=rule.price.at(kept.reference, kept.since),
            years=kept.elapsed,
        )


@pytree
class Took:
    """What takes moved; leaves are `(account,)`, amounts in the loan asset.

    Attributes:
        seized: collateral units.
        repaid: debt repaid.
        fee: what reserves got.
        lost: part of `fee` that is the kicker's bond.
    """

    seized: PerLoan
    repaid: PerLoan
    fee: PerLoan
    lost: PerLoan

    @classmethod
    def nothing(cls, like: PerLoan) -> "Took":
        """Return takes that moved nothing."""
        none = jnp.zeros_like(like)
        return cls(seized=none, repaid=none, fee=none, lost=none)

    def and_by(self, call: Take) -> "Took":
        """Return the sum with what further takes move."""
        return Took(
            seized=self.seized + call.seized,
            repaid=self.repaid + call.repaid,
            fee=self.fee + call.fee,
            lost=self.lost + _at_least_zero(-call.reward),
        )


def after(lots: Lot, call: Take) -> Lot:
    """Return the lots after takes."""
    return dataclasses.replace(
        lots,
        collateral=lots.collateral - call.seized,
        debt=lots.debt - call.repaid,
        bond=lots.bond + call.reward,
    )


def _at_least_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.zeros_like(x))


def _possible(window: Window, call: Take, level: Array) -> Bool[Array, " account"]:
    """Return which takes come down to a price in this step."""
    return (window.lowest <= level) & (call.refusal == TakeRefusal.NONE)


def rate_of(venue: Venue, market: Market) -> Float[Array, ""]:
    """Return the market's price of the collateral in the loan asset."""
    held, owed = venue.accounts.collateral_assets[0], venue.accounts.debt_assets[0]
    return market.mid[held] / market.mid[owed]


def room_outside(
    system: System, venue: Venue, market: Market, prices: PerBucket
) -> Float[Array, " bucket"]:
    """Return the units that outsiders can sell at no less than each price on average."""
    law, depth = system.liquidity.law, system.liquidity.depth.now(market)
    held = venue.accounts.collateral_assets[0]
    wanted = prices * (1.0 + system.keeper.minimum_return)
    margin = jnp.clip(1.0 - wanted / rate_of(venue, market), 0.0, _FARTHEST)
    alike = jnp.broadcast_to(margin[:, None], (margin.shape[0], depth.shape[0]))
    volume = jax.vmap(law.volume_within, (0, None))(alike, depth)
    return volume[:, held] / market.mid[held]


def by_buckets(
    rule: LenderAuctions,
    lots: Lot,
    window: Window,
    deposits: PerBucket,
    room: Float[Array, " bucket"],
) -> tuple[Lot, Took, PerBucket]:
    """Return the lots after deposits have taken of them, what that moved, and what is left.

    Buckets come from the highest price down. Each takes the loans whose price comes down to its
    own, in proportion, as far as its deposit reaches and beyond what outsiders would take. Rewards
    of kickers stay in the bucket.

    Args:
        rule: the venue's rules.
        lots: the loans.
        window: prices they pass through.
        deposits: of each bucket.
        room: `(bucket,)` units that outsiders would buy at each bucket's price.
    """

    def one(
        carry: tuple[Lot, Took], bucket: tuple[Array, Array, Array]
    ) -> tuple[tuple[Lot, Took], Array]:
        (lots, took), (level, deposit, room) = carry, bucket
        judged = jnp.broadcast_to(level, window.highest.shape)
        price = smaller(judged, window.highest)
        buy = lambda amount: take(rule.bond, lots, price, window.years, amount, judged=judged)
        whole = buy(lots.collateral)
        possible = _possible(window, whole, level)
        wanted = jnp.where(possible, whole.seized, jnp.zeros_like(price))
        asked = jnp.sum(jnp.where(possible, _burnt(whole), jnp.zeros_like(price)))
        units = jnp.sum(wanted)
        share = _at_least_zero(units - room) / positive_or_one(units)
        share = smaller(share, deposit / positive_or_one(asked))
        bought = buy(share * wanted)
        left = _at_least_zero(deposit - jnp.sum(_burnt(bought)))
        return (after(lots, bought), took.and_by(bought)), left

    start = (lots, Took.nothing(lots.debt))
    (lots, took), left = lax.scan(one, start, (rule.prices, deposits, room))
    return lots, took, left


def _burnt(call: Take) -> PerLoan:
    """Return the deposit that a bucket's take uses up."""
    return call.paid - _at_least_zero(call.reward)


@pytree
class Asked:
    """What outsiders would take; leaves are `(account,)`.

    Attributes:
        price: paid for a unit of each loan's collateral.
        whole: units of loans that can all be taken.
        part: units of loans whose price is still above what all of them would bring.
    """

    price: PerLoan
    whole: PerLoan
    part: PerLoan


def by_outsiders(
    system: System, venue: Venue, market: Market, rule: LenderAuctions, lots: Lot, window: Window
) -> Asked:
    """Return what outsiders would take of the lots at the prices at which they come first.

    All that comes below the market in this step is valued together: so much would be sold. The
    others would be taken at the end of the step, as far as the market has room for them.
    """
    keeper, held = system.keeper, venue.accounts.collateral_assets[:1]
    coin = market.mid[venue.accounts.debt_assets[0]] * (1.0 + keeper.minimum_return)
    limit = market.mid[held[0]] / coin
    none = jnp.zeros_like(lots.debt)
    buy = lambda price: take(rule.bond, lots, price, window.years, lots.collateral)
    between = lambda price: jnp.clip(price, window.lowest, window.highest)
    worth = lambda units: price_of_all(system, market, held, jnp.sum(units)[None])[0] / coin
    owing = (lots.collateral > 0) & (lots.debt > 0)
    within = owing & _possible(window, buy(window.lowest), limit)
    first = worth(jnp.where(within, lots.collateral, none))
    needed = jnp.where(within, buy(between(first)).seized, none)
    ask = jnp.broadcast_to(worth(needed), none.shape)
    if keeper.cost is not None:
        ask = ask - keeper.cost / coin / positive_or_one(needed)
    price = between(ask)
    units = jnp.where(within, buy(price).seized, none)
    whole = window.lowest <= ask
    return Asked(
        price=price, whole=jnp.where(whole, units, none), part=jnp.where(whole, none, units)
    )
