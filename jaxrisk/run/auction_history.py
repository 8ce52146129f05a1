"""Recorded auctions by bids: what was sold, for how much, and what keepers saw at the time.

A file holds an auction a row: lot, winning price, time of the winning bid, the venue's and the
market's price then, and what the transaction that closed it paid for inclusion. What is not in it
is derived by a stated rule:

- Price of inclusion: median over the auctions won within half an hour before or after; where none
  has one recorded, the nearest auction's. One keeper's own choice weighs little in it.
- Auctions open at once: those won within one bidding time before or after.
- Debt: `lot * price the venue saw / liquidation ratio`, that of an account called at once. Of a lot
  that bidders cut only what they left is recorded, so the debt of well-sold lots is understated.
- A lot was sold for nothing where the winning bid was below one unit of the debt asset a unit.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxrisk.run.rows import Problems, Rows, read_rows
from jaxrisk.venue.bid_sale import BidSale, SeizedLots
from jaxrisk.venue.participation import AuctionConditions

_NOTHING = 1.0
_GAS_WINDOW_SECONDS = 1_800.0
_LEAST_SHARE = 1e-6
_COLUMNS = (
    "id", "lot", "best_price_ethdai", "lastbid_timestamp", "lastbid_osm_price_ethusd",
    "san_price_ethusd", "san_price_daiusd", "gasPrice_GWei",
)  # fmt: skip

Auctions = Float[np.ndarray, " auction"]


@dataclass(frozen=True, kw_only=True)
class AuctionHistory:
    """Recorded auctions in the order of their ids; every array is `(auction,)`.

    Attributes:
        auction_id: as numbered by the venue.
        time: of the winning bid, seconds since 1970 UTC.
        unbid: whether the lot went for nothing.
        share: winning price over the market's, in (0, 1]; at the least where unbid.
        raised: what was paid, in the debt asset.
        usd_price: market price of a unit of collateral, USD.
        conditions: what keepers saw.
        lots: what was for sale, and the debt.
    """

    auction_id: Int[np.ndarray, " auction"]
    time: Auctions
    unbid: Bool[np.ndarray, " auction"]
    share: Auctions
    raised: Auctions
    usd_price: Auctions
    conditions: AuctionConditions
    lots: SeizedLots

    def between(self, start: datetime, end: datetime) -> Bool[np.ndarray, " auction"]:
        """Return which auctions were won from `start` to before `end`."""
        first, last = (moment.astimezone(UTC).timestamp() for moment in (start, end))
        return (self.time >= first) & (self.time < last)


def read_auctions(
    path: Path, *, liquidation_ratio: float, penalty: float, bidding_seconds: float
) -> AuctionHistory:
    """Return the recorded auctions of a file.

    Args:
        path: CSV or Parquet with the columns id, lot, best_price_ethdai (debt asset a unit),
            lastbid_timestamp (seconds), lastbid_osm_price_ethusd, san_price_ethusd,
            san_price_daiusd (USD) and gasPrice_GWei (may be absent in a row).
        liquidation_ratio: collateral over debt at which accounts are called, above 1.
        penalty: added to the debt that an auction must raise, as a fraction of it.
        bidding_seconds: how long a bid must stand to win.

    Raises:
        DataError: the file or a column is absent, or an entry is no price, amount or time.
    """
    rows = read_rows(path)
    rows.require(_COLUMNS)
    values = _positive(rows)
    order = np.argsort(values["id"], kind="stable")
    values = {name: column[order] for name, column in values.items()}
    time, lot = values["lastbid_timestamp"], values["lot"]
    oracle, market = values["lastbid_osm_price_ethusd"], values["san_price_ethusd"]
    price = market / values["san_price_daiusd"]
    unbid = values["best_price_ethdai"] < _NOTHING
    debt = lot * oracle / liquidation_ratio
    target = debt * (1.0 + penalty)
    return AuctionHistory(
        auction_id=values["id"].astype(np.int64),
        time=time,
        unbid=unbid,
        share=np.clip(values["best_price_ethdai"] / price, _LEAST_SHARE, 1.0),
        raised=np.minimum(values["best_price_ethdai"] * lot, target),
        usd_price=market,
        conditions=AuctionConditions(
            gas_price=jnp.asarray(_gas_price(time, values["gasPrice_GWei"])),
            open_auctions=jnp.asarray(_within(time, bidding_seconds)),
            market_over_oracle=jnp.asarray(market / oracle),
            hours_known=jnp.asarray(_hours_known(time, unbid)),
            lot_value=jnp.asarray(lot * market),
            bidding_seconds=jnp.full(len(time), bidding_seconds),
        ),
        lots=SeizedLots(
            lot=jnp.asarray(lot),
            price=jnp.asarray(price),
            debt=jnp.asarray(debt),
            target=jnp.asarray(target),
        ),
    )


def _positive(rows: Rows) -> dict[str, Auctions]:
    """Return the columns as numbers above 0; the price of inclusion may be absent (NaN)."""
    problems = Problems(rows.path)
    values = {name: rows.number(name, problems) for name in _COLUMNS[:-1]}
    gas = np.array(rows.raw(_COLUMNS[-1]), dtype=object)
    gas[[entry is None or entry == "" for entry in gas]] = np.nan
    try:
        values[_COLUMNS[-1]] = gas.astype(np.float64)
    except ValueError as error:
        problems.add(str(error), column=_COLUMNS[-1])
    for name, column in values.items():
        for i in np.flatnonzero(column <= 0):
            text = f"{column[i]:g}: expected a number above 0"
            problems.add(text, line=int(rows.lines[i]), column=name)
    if np.isnan(values.get(_COLUMNS[-1], np.zeros(1))).all():
        problems.add("no auction has a price of inclusion", column=_COLUMNS[-1])
    problems.raise_if_any()
    return values


def _gas_price(time: Auctions, gas: Auctions) -> Auctions:
    """Return the median price of inclusion around each auction, or the nearest recorded one."""
    known = np.isfinite(gas)
    order = np.argsort(time[known], kind="stable")
    times, prices = time[known][order], gas[known][order]
    first = np.searchsorted(times, time - _GAS_WINDOW_SECONDS)
    last = np.searchsorted(times, time + _GAS_WINDOW_SECONDS, side="right")
    nearest = np.abs(times[None, :] - time[first == last, None]).argmin(axis=1)
    result = np.empty(len(time))
    result[first == last] = prices[nearest]
    for i in np.flatnonzero(first < last):
        result[i] = np.median(prices[first[i] : last[i]])
    return result


def _within(time: Auctions, seconds: float) -> Auctions:
    """Return how many auctions were won within `seconds` of each, itself included."""
    ordered = np.sort(time)
    first = np.searchsorted(ordered, time - seconds)
    return (np.searchsorted(ordered, time + seconds, side="right") - first).astype(np.float64)


def _hours_known(time: Auctions, unbid: Bool[np.ndarray, " auction"]) -> Auctions:
    """Return hours since the first lot that went for nothing; 0 before, and where none did."""
    first = time[unbid].min() if unbid.any() else np.inf
    return np.maximum(time - first, 0.0) / 3600.0 if np.isfinite(first) else np.zeros(len(time))


@dataclass(frozen=True)
class AuctionTotals:
    """What auctions came to together.

    Attributes:
        auctions: how many.
        unbid_auctions: those whose lot went for nothing.
        unbid_share: their share.
        unbid_lot: what went for nothing, units of collateral.
        unbid_usd: its worth at the market.
        deficit: debt less what was raised, in the debt asset.
    """

    auctions: int
    unbid_auctions: float
    unbid_share: float
    unbid_lot: float
    unbid_usd: float
    deficit: float


def recorded_sale(history: AuctionHistory) -> BidSale:
    """Return what happened in the form in which a law says what is expected."""
    unbid = jnp.asarray(history.unbid, history.lots.lot.dtype)
    return BidSale(
        unbid=unbid, unbid_lot=unbid * history.lots.lot, raised=jnp.asarray(history.raised)
    )


def auction_totals(
    history: AuctionHistory, sale: BidSale, where: Bool[np.ndarray, " auction"]
) -> AuctionTotals:
    """Return the totals over the auctions in `where`, recorded, expected or sampled."""
    total = lambda values: float(np.asarray(values, np.float64)[where].sum())
    count, unbid = int(where.sum()), total(sale.unbid)
    return AuctionTotals(
        auctions=count,
        unbid_auctions=unbid,
        unbid_share=unbid / count if count else 0.0,
        unbid_lot=total(sale.unbid_lot),
        unbid_usd=total(np.asarray(sale.unbid_lot) * history.usd_price),
        deficit=total(sale.deficit(history.lots)),
    )
