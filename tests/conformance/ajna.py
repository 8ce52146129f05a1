"""Ajna: auction price, bond, collateralisation and claimable reserves, as recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.half_life_auction import HalfLifePrice, KickerBond
from jaxrisk.venue.lender_price import LenderPriceTest, claimable_reserves
from jaxrisk.venue.presets.ajna import (
    DEPOSIT_BUFFER,
    bucket_price,
    kicker_bond,
    lender_price_test,
    loan_auction,
)
from tests.conformance.comparison import Replay

WAD = 1e18
YEAR = 365.0 * 86400.0
COLLECTIBLES = 1


def auction(header: dict, cases: list[dict]) -> Replay:
    """Replay `_auctionPrice`, `_bondParams` and `_bpf`."""
    del header
    replay = Replay(len(cases))
    column = lambda name, scale=WAD: jnp.asarray([float(c[name]) for c in cases]) / scale
    rule = kicker_bond(jnp.float64)
    price = jax.jit(HalfLifePrice.at)(
        loan_auction(jnp.float64), column("referencePrice"), column("elapsedSeconds", YEAR)
    )
    share = jax.jit(KickerBond.share)(rule, column("npTpRatio"))
    reward = jax.jit(KickerBond.reward)(
        rule, share, price, threshold=column("debtToCollateral"), neutral=column("neutralPrice")
    )
    indices = np.arange(len(cases))
    recorded = lambda name: np.array([float(c[name]) for c in cases])
    # The contract's power of two has 18 decimals, of what the reference is multiplied with, and
    # the product is multiplied by 256, 4 or 1/16 after it has been rounded.
    elapsed = recorded("elapsedSeconds")
    multiple = np.select([elapsed < 7200, elapsed < 50400], [256.0, 4.0], 1.0 / 16.0)
    slack = 2.0 + 2.0 * multiple * recorded("referencePrice") / WAD
    for what, actual, units in (
        ("auctionPrice", price, slack),
        ("bondFactor", share, 2.0),
        ("bondSize", share * column("borrowerDebt"), 2.0),
        ("bondPenaltyFactor", reward, 2.0),
    ):
        replay.compare(what, indices, np.asarray(actual) * WAD, recorded(what), raw_units=units)
    return replay


def collateralisation_and_reserves(header: dict, cases: list[dict]) -> Replay:
    """Replay `_isCollateralized` at a bucket's price and `_claimableReserves`."""
    del header
    replay = Replay(len(cases))
    column = lambda name, scale=WAD: jnp.asarray([float(c[name]) for c in cases]) / scale
    price = column("bucketPrice")
    for whole in (None, jnp.ones(1)):
        kind = whole is not None
        of_kind = np.array([(c["poolType"] == COLLECTIBLES) == kind for c in cases])
        indices = np.flatnonzero(of_kind)
        safe = jax.jit(LenderPriceTest.collateralised)(
            lender_price_test(jnp.float64, whole=whole),
            column("collateral")[indices],
            column("debt")[indices],
            price[indices],
        )
        recorded = [cases[i]["isCollateralized"] for i in indices]
        replay.compare_labels("collateralised", indices, np.asarray(safe).tolist(), recorded)
    claimable = jax.jit(claimable_reserves, static_argnames="buffer")(
        column("debt"),
        column("quoteTokenBalance"),
        column("poolSize"),
        bonds=column("bondEscrowed"),
        unclaimed=column("reserveAuctionUnclaimed"),
        buffer=DEPOSIT_BUFFER,
    )
    every = np.arange(len(cases))
    raw = lambda name: np.array([float(c[name]) for c in cases])
    replay.compare(
        "bucketPrice", every, np.asarray(bucket_price(column("priceIndex", 1.0))) * WAD,
        raw("bucketPrice"),
    )  # fmt: skip
    # A difference of totals: its error scales with them.
    slack = 2.0 + 1e-15 * (raw("debt") + raw("quoteTokenBalance") + raw("poolSize"))
    replay.compare(
        "claimableReserves", every, np.asarray(claimable) * WAD, raw("claimableReserves"),
        raw_units=slack,
    )  # fmt: skip
    return replay


ADAPTERS = {
    "ajna_auction": auction,
    "ajna_collateralization_reserves": collateralisation_and_reserves,
}
