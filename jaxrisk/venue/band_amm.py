"""Trading through bands: outsiders convert collateral into the borrowed coin and back.

A trade starts in the active band and walks away from it, one band after another, until its amount
is used up. Because a band takes no more than its own capacity, the walk has no loop: a cumulative
sum of capacities says how much reaches every band.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to
from jaxrisk.numerics.sums import sum_before
from jaxrisk.venue.band_grid import BANDS_PER_TRADE, BandGrid, Bands, Curve, curve, spot_price
from jaxrisk.venue.band_oracle import SeenPrice

_SKIPPED_BANDS = 1024
_FAR = 1 << 20


@pytree
class BandFee:
    """What a trade pays.

    Attributes:
        fee: least fee, as a fraction of what goes in.
        admin_share: share of the fee that leaves the bands.
    """

    fee: Float[Array, ""]
    admin_share: Float[Array, ""]


@pytree
class Trade:
    """The outcome of a trade.

    Attributes:
        spent: what the trader pays, in the coin that goes in.
        received: what the trader gets, in the other coin.
        fee: part of `spent` that is fee; it stays in the bands but for `admin_fee`.
        admin_fee: part of `fee` taken out of the bands.
        bands: the bands afterwards.
    """

    spent: Float[Array, ""]
    received: Float[Array, ""]
    fee: Float[Array, ""]
    admin_fee: Float[Array, ""]
    bands: Bands


@pytree
class _Walk:
    """The bands in the order a trade meets them; `in` is the coin that is paid.

    Every leaf but `last` is `(band,)`. `distance` counts bands from the active one, negative behind
    it; `last` is the farthest distance a trade can come.
    """

    distance: Int[Array, " band"]
    held_in: Float[Array, " band"]
    held_out: Float[Array, " band"]
    offset_in: Float[Array, " band"]
    offset_out: Float[Array, " band"]
    antifee: Float[Array, " band"]
    within: Bool[Array, " band"]
    last: Int[Array, ""]

    def capacity(self) -> Float[Array, " band"]:
        """Return what goes in, fee included, until a band has nothing left to give."""
        net = self.held_out * (self.offset_in + self.held_in) / positive_or_one(self.offset_out)
        return jnp.where(self.within, net * self.antifee, jnp.zeros_like(net))


def exchange(
    grid: BandGrid,
    bands: Bands,
    seen: SeenPrice,
    fee: BandFee,
    amount: Float[Array, ""],
    buys: Bool[Array, ""],
    *,
    borrowed_unit: Float[Array, ""] | None = None,
    collateral_unit: Float[Array, ""] | None = None,
) -> Trade:
    """Return the trade of someone who pays up to `amount`.

    In a band that keeps something, `received = (g + y) dx / (f + x + dx)` with `dx` the amount net
    of fee. What no band can take is not spent. A trade that rounds to nothing changes nothing.

    Args:
        grid: where the bands lie.
        bands: what they hold.
        seen: oracle price and dynamic fee.
        fee: least fee, and whose it is.
        amount: of the borrowed coin where `buys`, of collateral elsewhere.
        buys: whether collateral is bought (the price rises) rather than sold.
        borrowed_unit: smallest amount of the borrowed coin; `None` for real amounts.
        collateral_unit: smallest amount of collateral; `None` for real amounts.

    Source: crvUSD AMM `exchange`, `calc_swap_out`.
    """
    walk = _walk(grid, bands, seen, fee, buys)
    capacity = walk.capacity()
    earlier = sum_before(capacity)
    end = _last_band(walk, earlier + capacity, amount)
    inside = walk.within & (walk.distance <= end)
    room = amount - earlier
    room = jnp.where(inside & (room > 0), room, jnp.zeros_like(room))
    emptied = room >= capacity
    paid = jnp.where(emptied, capacity, room)
    net = paid / walk.antifee
    share = net / positive_or_one(walk.offset_in + walk.held_in + net)
    given = smaller((walk.offset_out + walk.held_out) * share, walk.held_out)
    given = jnp.where(inside & emptied & (capacity > 0), walk.held_out, given)
    admin = (paid - net) * fee.admin_share
    spent = ceil_to(jnp.sum(paid), _pick(buys, borrowed_unit, collateral_unit))
    received = floor_to(jnp.sum(given), _pick(buys, collateral_unit, borrowed_unit))
    happens = (spent > 0) & (received > 0)
    kept = lambda value: jnp.where(happens, value, jnp.zeros_like(value))
    after_in, after_out = walk.held_in + kept(paid - admin), walk.held_out - kept(given)
    return Trade(
        spent=kept(spent),
        received=kept(received),
        fee=kept(jnp.sum(paid - net)),
        admin_fee=kept(jnp.sum(admin)),
        bands=Bands(
            borrowed=_ordered(jnp.where(buys, after_in, after_out), buys),
            collateral=_ordered(jnp.where(buys, after_out, after_in), buys),
            active=bands.active + jnp.where(happens, jnp.where(buys, end, -end), 0),
            lowest=bands.lowest,
            highest=bands.highest,
        ),
    )


def amount_to_price(
    grid: BandGrid, bands: Bands, seen: SeenPrice, fee: BandFee, target: Float[Array, ""]
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Return how much must be paid to bring the price to `target`, and whether that is a purchase.

    Bands short of the target are emptied; in the band that quotes it, `y' = sqrt(I / target) - g`
    and `x' = I / (g + y') - f` with `I` the invariant.

    Source: crvUSD AMM `get_amount_for_price`.
    """
    buys = target >= spot_price(grid, bands, seen.price)
    walk = _walk(grid, bands, seen, fee, buys)
    lowest, highest = grid.quote_range(grid.numbers(), seen.price)
    edge = _ordered(jnp.where(buys, highest, lowest), buys)
    short = jnp.where(buys, target > edge, target < edge)
    # In the coin that is paid, the price of the other one: what the walk raises in both directions.
    price = jnp.where(buys, target, 1.0 / target)
    total_in, total_out = walk.offset_in + walk.held_in, walk.offset_out + walk.held_out
    wanted = jnp.sqrt(positive_or_one(total_in * total_out * price))
    end = wanted - walk.offset_in
    most = walk.capacity() / walk.antifee + walk.held_in
    end = smaller(end, most)
    part = jnp.where(end > walk.held_in, end - walk.held_in, jnp.zeros_like(end)) * walk.antifee
    # The walk stops in the first band that is not short of the target.
    stop = jnp.min(jnp.where(short | (walk.distance < 0), _FAR, walk.distance))
    amount = jnp.where(walk.distance < stop, walk.capacity(), part)
    counted = walk.within & (walk.distance <= stop) & (total_in > 0)
    return jnp.sum(jnp.where(counted, amount, jnp.zeros_like(amount))), buys


def band_fee(
    grid: BandGrid, number: Int[Array, "..."], seen: SeenPrice, fee: Float[Array, ""]
) -> Float[Array, "..."]:
    """Return the fee of a band: at least a quarter of its distance from the oracle price.

    Source: crvUSD AMM `get_dynamic_fee`.
    """
    lowest, highest = grid.quote_range(number, seen.price)
    below = 0.25 * (1.0 - seen.price / lowest)
    above = 0.25 * (1.0 - highest / seen.price)
    distance = jnp.where(below > above, below, above)
    base = jnp.where(seen.fee > fee, seen.fee, fee)
    return jnp.where(distance > base, distance, base)


def _walk(
    grid: BandGrid, bands: Bands, seen: SeenPrice, fee: BandFee, buys: Bool[Array, ""]
) -> _Walk:
    c: Curve = curve(grid, bands, seen.price)
    numbers = grid.numbers()
    distance = _ordered(jnp.where(buys, numbers - bands.active, bands.active - numbers), buys)
    sides = lambda bought, sold: _ordered(jnp.where(buys, bought, sold), buys)
    charged = band_fee(grid, numbers, seen, fee.fee)
    nearly_all = 1.0 - jnp.finfo(charged.dtype).eps
    charged = jnp.where(charged < nearly_all, charged, jnp.full_like(charged, nearly_all))
    held_out = sides(bands.collateral, bands.borrowed)
    ahead = distance >= 0
    first = jnp.min(jnp.where(ahead & _ordered(~c.empty, buys), distance, _FAR))
    # No walk leaves the bands in use, touches too many, or strays too far from the oracle price.
    edge = jnp.where(buys, bands.highest - bands.active, bands.active - bands.lowest)
    steps = jnp.log(_ordered(c.upper, buys) / seen.price) / grid.log_ratio()
    strayed = jnp.where(buys, -steps, steps) > BANDS_PER_TRADE
    last = smaller(
        jnp.where(edge >= 0, edge, _FAR), jnp.min(jnp.where(ahead & strayed, distance, _FAR))
    )
    last = smaller(last, smaller(first + BANDS_PER_TRADE - 1, _full(first, _SKIPPED_BANDS + 49)))
    return _Walk(
        distance=distance,
        held_in=sides(bands.borrowed, bands.collateral),
        held_out=held_out,
        offset_in=sides(c.borrowed_offset, c.collateral_offset),
        offset_out=sides(c.collateral_offset, c.borrowed_offset),
        antifee=1.0 / (1.0 - _ordered(charged, buys)),
        within=ahead & (distance <= last),
        last=last,
    )


def _last_band(
    walk: _Walk, reached: Float[Array, " band"], amount: Float[Array, ""]
) -> Int[Array, ""]:
    """Return the distance of the band in which a trade ends: where the amount is used up.

    An amount meant to empty a band exactly must not spill into the next one by rounding errors, of
    which prices and balances have gathered several: the contract stops on equality.
    """
    slack = 256.0 * jnp.finfo(amount.dtype).eps * amount
    enough = (walk.capacity() > 0) & (reached >= amount - slack)
    return smaller(jnp.min(jnp.where(enough, walk.distance, _FAR)), walk.last)


def _full(like: Array, value: int) -> Array:
    return jnp.full_like(like, value)


def _ordered(values: Array, buys: Bool[Array, ""]) -> Array:
    """Return bands in the order of a walk, or back: buyers walk up in number, sellers down."""
    return jnp.where(buys, values, values[::-1])


def _pick(buys: Bool[Array, ""], bought: Array | None, sold: Array | None) -> Array | None:
    if bought is None or sold is None:
        return None
    return jnp.where(buys, bought, sold)
