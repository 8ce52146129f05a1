"""Opyn Gamma: margin of naked options and of spreads, liquidation prices, payouts at expiry."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.option_buyback import OptionBuyback, ShortOption
from jaxrisk.venue.option_payoff import payoff, settled
from jaxrisk.venue.presets.opyn import AUCTION_YEARS
from jaxrisk.venue.spread_margin import spread_margin
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR
from jaxrisk.venue.upper_bound_margin import UpperBoundMargin
from tests.conformance.comparison import Replay

PRICE, AMOUNT, FIXED = 1e8, 1e8, 1e27
AUCTION_SECONDS = AUCTION_YEARS * SECONDS_PER_YEAR


def _column(cases: list[dict], name: str, unit: float = 1.0) -> np.ndarray:
    """Return a field in natural units, 0 where it is absent."""
    return np.array([float(c[name] or 0) for c in cases]) / unit


def _raw(cases: list[dict]) -> np.ndarray:
    """Return the smallest units of collateral in one: puts are backed in dollars, calls in kind."""
    return 10.0 ** _column(cases, "collateralDecimals")


def _rules(cases: list[dict]) -> UpperBoundMargin:
    """Return the rule of each case, stacked."""
    table = lambda name, unit: jnp.asarray([[float(x) / unit for x in c[name]] for c in cases])
    return UpperBoundMargin(
        within=table("timesToExpiry", SECONDS_PER_YEAR),
        upper_bound=table("upperBoundValues", FIXED),
        spot_shock=jnp.asarray(_column(cases, "spotShock", FIXED)),
    )


def _shorts(cases: list[dict], expiry: str) -> ShortOption:
    return ShortOption(
        strike=jnp.asarray(_column(cases, "strike", PRICE)),
        size=jnp.asarray(_column(cases, "shortAmount", AMOUNT)),
        years=jnp.asarray(_column(cases, expiry, SECONDS_PER_YEAR)),
        is_put=jnp.asarray([c["isPut"] for c in cases]),
    )


def naked_margin(header: dict, cases: list[dict]) -> Replay:
    """Replay `getNakedMarginRequired`."""
    del header
    replay = Replay(len(cases))

    @jax.jit
    @jax.vmap
    def run(rule: UpperBoundMargin, short: ShortOption, spot: jax.Array) -> jax.Array:
        return rule.margin(short, spot).required

    spot = jnp.asarray(_column(cases, "spot", PRICE))
    required = run(_rules(cases), _shorts(cases, "timeToExpiry"), spot)
    indices = np.arange(len(cases))
    replay.compare_labels(
        "refusal", indices,
        ["none" if x else "no upper bound" for x in np.isfinite(required)],
        [c["revertReason"] or "none" for c in cases],
    )  # fmt: skip
    replay.compare(
        "marginRequired",
        indices,
        np.asarray(required) * _raw(cases),
        _column(cases, "marginRequired"),
    )
    itm = (np.asarray(spot) < _column(cases, "strike", PRICE)) == [c["isPut"] for c in cases]
    labels = [
        f"{'put' if c['isPut'] else 'call'}_{'itm' if i else 'otm'}"
        for c, i in zip(cases, itm, strict=True)
    ]
    replay.compare_labels("branch", indices, labels, [c["branch"] for c in cases])
    return replay


def liquidation_price(header: dict, cases: list[dict]) -> Replay:
    """Replay `isLiquidatable`: whether, and at what price a unit of debt."""
    del header
    replay = Replay(len(cases))

    @jax.jit
    @jax.vmap
    def run(
        rule: OptionBuyback,
        short: ShortOption,
        collateral: jax.Array,
        spot: jax.Array,
        elapsed: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        offer = rule.offer(short, collateral, spot, elapsed)
        return offer.callable, offer.price

    count = len(cases)
    rule = OptionBuyback(
        margin=_rules(cases),
        duration=jnp.full(count, AUCTION_YEARS),
        price_deviation=jnp.asarray(_column(cases, "oracleDeviation", FIXED)),
    )
    elapsed = _column(cases, "auctionElapsed", SECONDS_PER_YEAR)
    called, price = run(
        rule,
        _shorts(cases, "timeToExpiryNow"),
        jnp.asarray(_column(cases, "collateral") / _raw(cases)),
        jnp.asarray(_column(cases, "roundPrice", PRICE)),
        jnp.asarray(elapsed),
    )
    indices = np.arange(count)
    called = np.asarray(called)
    replay.compare_labels(
        "isLiquidatable", indices, called.tolist(), [c["isLiquidatable"] for c in cases]
    )
    running = np.where(
        elapsed < AUCTION_YEARS, "liquidatable_auction", "liquidatable_auction_ended"
    )
    labels = np.where(called, running, "safe").tolist()
    replay.compare_labels("branch", indices, labels, [c["branch"] for c in cases])
    # The contract multiplies with elapsed time kept in 9 digits before it divides by the duration.
    truncation = _raw(cases) / (AUCTION_SECONDS * 1e9)
    replay.compare(
        "debtPrice", indices, np.asarray(price) * _raw(cases), _column(cases, "debtPrice"),
        raw_units=2.0 + truncation,
    )  # fmt: skip
    return replay


def _legs(cases: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return strikes and signed sizes, `(leg, case)`, and whether they are puts."""
    strike = np.stack([_column(cases, n, PRICE) for n in ("shortStrike", "longStrike")])
    size = np.stack([-_column(cases, "shortAmount", AMOUNT), _column(cases, "longAmount", AMOUNT)])
    return strike, size, np.array([c["isPut"] for c in cases])


def _compare_excess(
    replay: Replay, cases: list[dict], excess: np.ndarray, scale: np.ndarray
) -> None:
    indices = np.arange(len(cases))
    # A difference: its error scales with what it was taken from.
    slack = 2.0 + 8.0 * np.finfo(np.float64).eps * scale
    expected = _column(cases, "excess") * np.where([c["isExcess"] for c in cases], 1.0, -1.0)
    replay.compare("excess", indices, excess, expected, raw_units=slack)
    replay.compare_labels(
        "isExcess", indices, (excess >= -slack * (expected == 0)).tolist(),
        [c["isExcess"] for c in cases],
    )  # fmt: skip


def spread(header: dict, cases: list[dict]) -> Replay:
    """Replay `getExcessCollateral` of fully covered vaults."""
    del header
    replay = Replay(len(cases))
    strike, size, is_put = _legs(cases)
    worst = jax.jit(spread_margin)(*(jnp.asarray(x) for x in (strike, size, is_put)))
    raw = _raw(cases)
    required = np.asarray(worst.required) * raw
    # Recorded in 27 digits whatever the decimals of the collateral.
    recorded = _column(cases, "marginRequired1e27", FIXED) * raw
    replay.compare("marginRequired", np.arange(len(cases)), required, recorded)
    held = _column(cases, "collateral")
    excess = held - required
    _compare_excess(replay, cases, excess, held + np.sum(np.abs(size), axis=0) * raw)
    kind = np.where(is_put, "put", "call")
    legs = np.where([c["longStrike"] is None for c in cases], "short", "spread")
    state = np.where(excess >= -2.0, "excess", "deficit")
    labels = ["_".join(x) for x in zip(kind, legs, state, strict=True)]
    replay.compare_labels("branch", np.arange(len(cases)), labels, [c["branch"] for c in cases])
    return replay


def expired(header: dict, cases: list[dict]) -> Replay:
    """Replay `getExpiredPayoutRate` and `getExcessCollateral` after expiry."""
    del header
    replay = Replay(len(cases))
    strike, size, is_put = (jnp.asarray(x) for x in _legs(cases))
    price = jnp.asarray(_column(cases, "expiryPrice", PRICE))
    raw = _raw(cases)
    held = _column(cases, "collateral")

    @jax.jit
    def run(collateral: jax.Array) -> tuple[jax.Array, jax.Array]:
        rate = payoff(strike[0], price, is_put)
        return rate, settled(collateral, strike, size, price, is_put)

    rate, left = run(jnp.asarray(held / raw))
    indices = np.arange(len(cases))
    replay.compare(
        "shortPayoutRate", indices, np.asarray(rate) * raw, _column(cases, "shortPayoutRate")
    )
    labels = np.where(np.asarray(rate) > 0, "expired_itm", "expired_otm").tolist()
    replay.compare_labels("branch", indices, labels, [c["branch"] for c in cases])
    worth = np.where(is_put, np.asarray(strike), 1.0)
    scale = held + np.sum(np.abs(np.asarray(size)) * worth, axis=0) * raw
    _compare_excess(replay, cases, np.asarray(left) * raw, scale)
    return replay


ADAPTERS = {
    "opyn_naked_margin": naked_margin,
    "opyn_liquidation_price": liquidation_price,
    "opyn_spread_margin": spread,
    "opyn_expired_payout": expired,
}
