"""Replay the auctions of 12 and 13 March 2020: `python docs/examples/black_thursday.py FILE`.

FILE is the record of the auctions (CSV or Parquet; columns in `jaxrisk/run/auction_history.py`).
Prints what was published, what the record says, what the law of participation expects, what it
gives when sampled by the rules of the auctions, and what it expects where bids stand for six hours
and as many auctions are open as there were.
"""

import dataclasses
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk import root_key
from jaxrisk.numerics.keys import scenario_key
from jaxrisk.run.auction_history import (
    AuctionTotals,
    auction_totals,
    read_auctions,
    recorded_sale,
)
from jaxrisk.venue.bid_sale import expected_sale, sampled_sale
from jaxrisk.venue.presets.maker_flip import (
    BIDDING_SECONDS,
    LATER_BIDDING_SECONDS,
    LIQUIDATION_RATIO,
    PENALTY,
    bid_rules,
    keeper_participation,
)

SAMPLES = 200
LINE = "{:<34}{:>9}{:>9}{:>11}{:>11}{:>13}"


def row(name: str, totals: AuctionTotals) -> str:
    """Return a line of the table."""
    return LINE.format(
        name,
        f"{totals.unbid_auctions:,.0f}",
        f"{totals.unbid_share:.1%}",
        f"{totals.unbid_lot:,.0f}",
        f"{totals.unbid_usd / 1e6:.2f}",
        f"{totals.deficit / 1e6:.2f}",
    )


def main(path: Path) -> None:
    """Print the table."""
    jax.config.update("jax_enable_x64", True)
    history = read_auctions(
        path,
        liquidation_ratio=LIQUIDATION_RATIO,
        penalty=PENALTY,
        bidding_seconds=BIDDING_SECONDS,
    )
    event = history.between(datetime(2020, 3, 12, tzinfo=UTC), datetime(2020, 3, 14, tzinfo=UTC))
    law, rules = keeper_participation(), bid_rules()
    expected = expected_sale(law, history.conditions, history.lots)
    sample = jax.jit(lambda key: sampled_sale(law, history.conditions, history.lots, rules, key))
    samples = [
        auction_totals(history, sample(scenario_key(root_key(0), i)), event) for i in range(SAMPLES)
    ]
    table = np.array([dataclasses.astuple(totals) for totals in samples])
    longer = dataclasses.replace(
        history.conditions,
        bidding_seconds=jnp.full_like(history.conditions.bidding_seconds, LATER_BIDDING_SECONDS),
    )
    print(f"{int(event.sum()):,} auctions won on 12 and 13 March 2020")
    print(LINE.format("", "no bid", "share", "ETH", "MUSD", "deficit MDAI"))
    print(LINE.format("published", "", "36%", "", "8.32", "5.67"))
    print(row("recorded", auction_totals(history, recorded_sale(history), event)))
    print(row("expected by the law", auction_totals(history, expected, event)))
    print(row(f"mean of {SAMPLES} samples", AuctionTotals(*table.mean(axis=0))))
    print(row("their standard deviation", AuctionTotals(*table.std(axis=0))))
    print(
        row(
            "expected, six hours to bid",
            auction_totals(history, expected_sale(law, longer, history.lots), event),
        )
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).exists():
        sys.exit("usage: python docs/examples/black_thursday.py FILE, the record named at the top")
    main(Path(sys.argv[1]))
