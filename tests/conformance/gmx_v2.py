"""GMX v2: price impact, funding, borrowing, profit caps and the liquidation test, as recorded."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.adaptive_funding import (
    AdaptiveFunding,
    FundingPayment,
    FundingRate,
    ProportionalFunding,
    funding_payment,
)
from jaxrisk.venue.borrowing_fee import PowerFee, UsageFee, reserved_value, spared
from jaxrisk.venue.pool_pnl import ProfitCap, paid_pnl, profit_factor, side_pnl
from jaxrisk.venue.position_fees import Charges, PositionFees
from jaxrisk.venue.position_impact import (
    Impact,
    PowerImpact,
    Sides,
    capped_gain,
    virtual_sides,
    with_position,
    with_swap,
)
from jaxrisk.venue.presets.gmx_v2 import (
    FUNDING_UNIT,
    LEAST_IMBALANCE,
    RECEIVER_SHARE,
    borrowing_curve,
)
from jaxrisk.venue.remaining_collateral import (
    ClosingTest,
    LiquidationReason,
    RemainingCollateral,
    pending_impact,
)
from tests.conformance.comparison import Replay, reason

UNIT = 10**30
PER_SIZE = 10**45
EPS = 8.0 * float(np.finfo(np.float64).eps)


def _column(cases: list[dict], name: str, unit: int = UNIT) -> jax.Array:
    """Return integers in natural units: USD, fractions, USD per smallest unit of a token."""
    return jnp.asarray([int(c[name]) / unit for c in cases])


def _flag(cases: list[dict], name: str) -> jax.Array:
    return jnp.asarray([bool(c[name]) for c in cases])


def _power_impact(cases: list[dict]) -> PowerImpact:
    read = lambda name: _column(cases, name)
    return PowerImpact(
        positive_factor=read("positionImpactFactorPositive"),
        negative_factor=read("positionImpactFactorNegative"),
        positive_exponent=read("positionImpactExponentPositive"),
        negative_exponent=read("positionImpactExponentNegative"),
        least=jnp.asarray(LEAST_IMBALANCE),
    )


def _impact_rounding(rule: PowerImpact, *states: Sides) -> np.ndarray:
    """Return what the impact may be off by: a difference of powers of differences.

    A power loses what its base has lost, times the exponent, and the base is a difference of sides
    that are known to 53 bits.
    """
    total = np.zeros(())
    for sides in states:
        gap = np.maximum(np.abs(np.asarray(sides.first - sides.second)), LEAST_IMBALANCE)
        whole = np.asarray(sides.first + sides.second)
        pairs = (
            (rule.positive_factor, rule.positive_exponent),
            (rule.negative_factor, rule.negative_exponent),
        )
        for factor, exponent in pairs:
            cost = np.asarray(factor) * gap ** np.asarray(exponent)
            total = total + EPS * cost * (1.0 + np.asarray(exponent) * whole / gap)
    return total + 2.0 / UNIT


def _position_impact(
    rule: PowerImpact, open_interest: Sides, is_long: jax.Array, change: jax.Array, virtual: tuple
) -> Impact:
    """Return the impact on the market or on the shared inventory, of cases that have one."""
    has, inventory = virtual
    own = rule.impact(*with_position(open_interest, is_long, change))
    shared = with_position(virtual_sides(inventory, change), is_long, change)
    worse = rule.worse_of(own, rule.impact(*shared))
    return jax.tree.map(lambda a, b: jnp.where(has, a, b), worse, own)


def _virtual(cases: list[dict]) -> tuple[jax.Array, jax.Array]:
    name = "virtualInventoryForPositions"
    has = jnp.asarray([c[name] is not None for c in cases])
    return has, jnp.asarray([int(c[name] or 0) / UNIT for c in cases])


def _open_interest(cases: list[dict]) -> Sides:
    read = lambda name: _column(cases, name)
    return Sides(first=read("longOpenInterest"), second=read("shortOpenInterest"))


def position_price_impact(header: dict, cases: list[dict]) -> Replay:
    """Replay `getPriceImpactUsd` of positions and the cap on gains."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    rule, sides, change = _power_impact(cases), _open_interest(cases), _column(cases, "usdDelta")
    is_long, virtual = _flag(cases, "isLong"), _virtual(cases)
    cap = _column(cases, "maxPositionImpactFactor")

    @jax.jit
    def run(rule: PowerImpact, sides: Sides, change: jax.Array) -> tuple[Impact, jax.Array]:
        impact = _position_impact(rule, sides, is_long, change, virtual)
        return impact, capped_gain(impact.value, jnp.abs(change), cap)

    impact, capped = run(rule, sides, change)
    slack = _impact_rounding(
        rule,
        *with_position(sides, is_long, change),
        *with_position(virtual_sides(virtual[1], change), is_long, change),
    )
    for what, actual in (("priceImpactUsd", impact.value), ("cappedPriceImpactUsd", capped)):
        replay.compare(what, indices, np.asarray(actual), _column(cases, what), raw_units=slack)
    _compare_flags(replay, cases, "balanceWasImproved", impact.improved)
    return replay


def _compare_flags(replay: Replay, cases: list[dict], name: str, actual: jax.Array) -> None:
    recorded = [c[name] for c in cases]
    replay.compare_labels(name, np.arange(len(cases)), np.asarray(actual).tolist(), recorded)


def swap_price_impact(header: dict, cases: list[dict]) -> Replay:
    """Replay `getPriceImpactUsd` of swaps and its refusal."""
    del header
    replay = Replay(len(cases))
    exponent, read = _column(cases, "impactExponent"), lambda name: _column(cases, name)
    rule = PowerImpact(
        positive_factor=read("impactFactorPositive"),
        negative_factor=read("impactFactorNegative"),
        positive_exponent=exponent,
        negative_exponent=exponent,
        least=jnp.asarray(LEAST_IMBALANCE),
    )
    prices = read("priceTokenIn"), read("priceTokenOut")
    amount = lambda name: jnp.asarray([float(int(c[name] or 0)) for c in cases])
    pools = [
        Sides(
            first=amount(f"{kind}TokenIn") * prices[0], second=amount(f"{kind}TokenOut") * prices[1]
        )
        for kind in ("poolAmount", "virtualPool")
    ]
    value = read("usdDelta")
    shared = [c["includeVirtualInventory"] and c["virtualPoolTokenIn"] is not None for c in cases]
    shares = jnp.asarray(shared)

    @jax.jit
    def run(rule: PowerImpact, own: Sides, virtual: Sides) -> tuple[Impact, jax.Array]:
        before, after, holds = with_swap(own, value)
        alone = rule.impact(before, after)
        before, after, shared_holds = with_swap(virtual, value)
        worse = rule.worse_of(alone, rule.impact(before, after))
        impact = jax.tree.map(lambda a, b: jnp.where(shares, a, b), worse, alone)
        # The shared inventory is looked at only where the market's own impact is negative.
        return impact, holds & (shared_holds | ~shares | (alone.value >= 0))

    impact, holds = run(rule, *pools)
    refused = ["" if ok else "UsdDeltaExceedsPoolValue" for ok in np.asarray(holds)]
    recorded = [c.get("revertReason", "").partition("(")[0] for c in cases]
    replay.compare_labels("refusal", np.arange(len(cases)), refused, recorded)
    done = np.flatnonzero([not c["reverted"] for c in cases])
    states = [state for pool in pools for state in with_swap(pool, value)[:2]]
    slack = _impact_rounding(rule, *states)[done]
    chosen = [cases[i] for i in done]
    actual = np.asarray(impact.value)[done]
    expected = _column(chosen, "priceImpactUsd")
    replay.compare("priceImpactUsd", done, actual, expected, raw_units=slack)
    improved = np.asarray(impact.improved)[done].tolist()
    flags = [c["balanceWasImproved"] for c in chosen]
    replay.compare_labels("balanceWasImproved", done, improved, flags)
    return replay


def funding_update(header: dict, cases: list[dict]) -> Replay:
    """Replay `getNextFundingAmountPerSize`: the rate and what each side pays and gets."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    read = lambda name: _column(cases, name)
    sides, seconds = _open_interest(cases), _column(cases, "durationInSeconds", 1)
    saved = read("savedFundingFactorPerSecond")
    adaptive = AdaptiveFunding(
        increase=read("fundingIncreaseFactorPerSecond"),
        decrease=read("fundingDecreaseFactorPerSecond"),
        stable_above=read("thresholdForStableFunding"),
        decay_below=read("thresholdForDecreaseFunding"),
        minimum=read("minFundingFactorPerSecond"),
        maximum=read("maxFundingFactorPerSecond"),
        exponent=read("fundingExponentFactor"),
        unit=jnp.asarray(FUNDING_UNIT),
    )
    fixed = ProportionalFunding(
        factor=read("fundingFactor"), maximum=adaptive.maximum, exponent=adaptive.exponent
    )
    adapts = adaptive.increase > 0
    held = jnp.asarray(
        [
            [[int(c["openInterest"][f"{side}With{coin}Token"]) / UNIT for c in cases]
             for coin in ("Long", "Short")]
            for side in ("long", "short")
        ]
    )  # fmt: skip
    prices = jnp.stack([read("longTokenPriceMax"), read("shortTokenPriceMax")])

    @jax.jit
    def run(rate: jax.Array, sides: Sides) -> tuple[FundingRate, FundingPayment]:
        moving = adaptive.advance(rate, sides.first, sides.second, seconds)
        still = fixed.advance(rate, sides.first, sides.second, seconds)
        funding = jax.tree.map(lambda a, b: jnp.where(adapts, a, b), moving, still)
        return funding, funding_payment(funding, held, prices, seconds)

    funding, payment = run(saved, sides)
    slack = _rate_rounding(adaptive, fixed, saved, sides, seconds)
    for what, actual in (
        ("fundingFactorPerSecond", funding.charged),
        ("nextSavedFundingFactorPerSecond", funding.saved),
    ):
        replay.compare(what, indices, np.asarray(actual), read(what), raw_units=slack)
    # A rate of one unit differs from none by its sign alone, which decides what comes next.
    signs = np.sign(read("nextSavedFundingFactorPerSecond")).tolist()
    replay.compare_labels("sign", indices, np.sign(np.asarray(funding.saved)).tolist(), signs)
    _compare_flags(replay, cases, "longsPayShorts", funding.longs_pay)
    for name, amounts in (
        ("fundingFeeAmountPerSizeDelta", payment.fee),
        ("claimableFundingAmountPerSizeDelta", payment.claim),
    ):
        for i, side in enumerate(("long", "short")):
            for j, coin in enumerate(("longToken", "shortToken")):
                expected = [int(c[name][side][coin]) / PER_SIZE * UNIT for c in cases]
                _compare_amounts(replay, f"{name} {side} {coin}", amounts[i, j], expected,
                                 slack * np.asarray(seconds / prices[j]))  # fmt: skip
    return replay


def _compare_amounts(
    replay: Replay, what: str, actual: jax.Array, expected: list[float], slack: np.ndarray
) -> None:
    rounding = 2.0 * UNIT / PER_SIZE
    replay.compare(
        what, np.arange(replay.cases), np.asarray(actual), expected, raw_units=rounding + slack
    )


def _rate_rounding(
    adaptive: AdaptiveFunding,
    fixed: ProportionalFunding,
    saved: jax.Array,
    sides: Sides,
    seconds: jax.Array,
) -> np.ndarray:
    """Return what a rate may be off by: a sum of the saved one and a step of either sign.

    The contract rounds the imbalance, and the step in it, to thirty digits a second.
    """
    whole = np.maximum(np.asarray(sides.first + sides.second), 1.0)
    exponent = np.asarray(adaptive.exponent)
    # By the largest the imbalance may be, and by what a difference of the sides has lost.
    power = exponent * whole**exponent / whole
    step = np.asarray(adaptive.increase * seconds + fixed.factor) * power
    fall = np.asarray(adaptive.decrease * seconds)
    digits = (2.0 + np.asarray(seconds)) * 2.0 / UNIT
    return EPS * (np.abs(np.asarray(saved)) + step + fall) + digits


def borrowing(header: dict, cases: list[dict]) -> Replay:
    """Replay `getBorrowingFactorPerSecond` and its cumulation."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    read = lambda name: _column(cases, name)
    is_long, sides = _flag(cases, "isLong"), _open_interest(cases)
    own = jnp.where(is_long, sides.first, sides.second)
    other = jnp.where(is_long, sides.second, sides.first)
    tokens, price = _column(cases, "openInterestInTokens", 1), read("indexPriceMax")
    pool = _column(cases, "poolAmount", 1) * read("poolTokenPriceMin")
    kink = read("optimalUsageFactor")
    kinked = UsageFee(
        reservable=read("reserveFactor"),
        curve=borrowing_curve(
            read("baseBorrowingFactor"),
            read("aboveOptimalUsageBorrowingFactor"),
            jnp.where(kink > 0, kink, jnp.ones_like(kink)),
        ),
    )
    power = PowerFee(factor=read("borrowingFactor"), exponent=read("borrowingExponentFactor"))
    skips, seconds = _flag(cases, "skipSmallerSide"), _column(cases, "durationInSeconds", 1)

    @jax.jit
    def run(pool: jax.Array) -> jax.Array:
        reserved = reserved_value(is_long, own, tokens, price)
        rate = jnp.where(kink > 0, kinked.rate(reserved, pool), power.rate(reserved, pool))
        return jnp.where(skips, spared(rate, own, other), rate)

    rate = run(pool)
    cumulated = read("cumulativeBorrowingFactor")
    for what, actual, slack in (
        ("borrowingFactorPerSecond", rate, 2.0),
        # The rate is rounded before it is multiplied with the time.
        ("delta", rate * seconds, 2.0 + np.asarray(seconds)),
        ("nextCumulativeBorrowingFactor", cumulated + rate * seconds, 2.0 + np.asarray(seconds)),
    ):
        replay.compare(what, indices, np.asarray(actual), read(what), raw_units=slack / UNIT)
    return replay


def pnl_factor_adl(header: dict, cases: list[dict]) -> Replay:
    """Replay `getPnlToPoolFactor` at both prices and `isPnlFactorExceeded`."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    is_long = _flag(cases, "isLong")
    entry, tokens = _column(cases, "openInterest"), _column(cases, "openInterestInTokens", 1)
    amount = _column(cases, "poolAmount", 1)
    cap = _column(cases, "maxPnlFactorForAdl")
    rule = ProfitCap(payable=cap, deleverage_above=cap, deleverage_to=cap)
    quote = lambda name, side: _column([c[name] for c in cases], side)
    low, high = quote("indexPrice", "min"), quote("indexPrice", "max")
    pools = amount * quote("poolTokenPrice", "min"), amount * quote("poolTokenPrice", "max")

    @jax.jit
    def run(tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        most = side_pnl(is_long, entry, tokens, jnp.where(is_long, high, low))
        least = side_pnl(is_long, entry, tokens, jnp.where(is_long, low, high))
        return (
            profit_factor(most, pools[0]),
            profit_factor(least, pools[1]),
            rule.triggered(most, pools[0]),
        )

    most, least, exceeded = run(tokens)
    # Profit is a difference of values known to 53 bits.
    pool = np.where(np.asarray(pools[0]) > 0, np.asarray(pools[0]), np.inf)
    slack = EPS * np.asarray(entry + tokens * high) / pool + 2.0 / UNIT
    for what, actual in (
        ("pnlToPoolFactorMaximized", most),
        ("pnlToPoolFactorMinimized", least),
    ):
        replay.compare(what, indices, np.asarray(actual), _column(cases, what), raw_units=slack)
    _compare_flags(replay, cases, "exceeded", exceeded)
    return replay


REASONS = {
    "": LiquidationReason.NONE,
    "min collateral": LiquidationReason.BELOW_MINIMUM,
    "< 0": LiquidationReason.EXHAUSTED,
    "min collateral for leverage": LiquidationReason.BELOW_MARGIN,
}
FEES = {
    "positionFeeAmount": "trade",
    "borrowingFeeAmount": "borrowing",
    "fundingFeeAmount": "funding",
    "liquidationFeeAmount": "liquidation",
    "totalCostAmount": "total",
    "feeAmountForPool": "pool",
    "feeReceiverAmount": "receiver",
}


@dataclasses.dataclass(frozen=True)
class _Positions:
    """Positions under test, as arrays."""

    is_long: jax.Array
    size: jax.Array
    tokens: jax.Array
    low: jax.Array
    high: jax.Array
    entry: jax.Array
    side_tokens: jax.Array
    pool: jax.Array
    price: jax.Array
    collateral: jax.Array
    borrowing: jax.Array
    funding: jax.Array
    pending: jax.Array

    @classmethod
    def of(cls, cases: list[dict]) -> "_Positions":
        read, units = (lambda name: _column(cases, name)), lambda name: _column(cases, name, 1)
        quote = lambda name, side: _column([c[name] for c in cases], side)
        sides, is_long = _open_interest(cases), _flag(cases, "isLong")
        due = [
            (int(c["fundingFeeAmountPerSize"]) - int(c["positionFundingFeeAmountPerSize"]))
            / PER_SIZE * UNIT for c in cases
        ]  # fmt: skip
        since = [
            (int(c["cumulativeBorrowingFactor"]) - int(c["positionBorrowingFactor"])) / UNIT
            for c in cases
        ]
        price = quote("collateralPrice", "min")
        return cls(
            is_long=is_long,
            size=read("sizeInUsd"),
            tokens=units("sizeInTokens"),
            low=quote("indexPrice", "min"),
            high=quote("indexPrice", "max"),
            entry=jnp.where(is_long, sides.first, sides.second),
            side_tokens=units("sideOpenInterestInTokens"),
            pool=units("poolAmount") * read("poolTokenPriceMin"),
            price=price,
            collateral=units("collateralAmount") * price,
            borrowing=jnp.asarray(since),
            funding=jnp.asarray(due),
            pending=units("pendingImpactAmount"),
        )

    def scale(self) -> np.ndarray:
        """Return the size of the values that remaining collateral is a sum of."""
        values = self.size + self.tokens * self.high + self.collateral
        return np.asarray(values + jnp.abs(self.pending) * self.high)


def position_liquidatable(header: dict, cases: list[dict]) -> Replay:
    """Replay `isPositionLiquidatable`, and the fees of the liquidation."""
    del header
    replay, indices = Replay(len(cases)), np.arange(len(cases))
    at, rule, sides = _Positions.of(cases), _power_impact(cases), _open_interest(cases)
    virtual = _virtual(cases)
    run = jax.jit(lambda rule, sides: _closing(cases, at, rule, sides, virtual))
    out = run(rule, sides)
    change = -at.size
    impact_slack = _impact_rounding(
        rule,
        *with_position(sides, at.is_long, change),
        *with_position(virtual_sides(virtual[1], change), at.is_long, change),
    )
    # What the whole side has won is a difference too, and a cap divides by it.
    side_value = np.asarray(at.entry + at.side_tokens * at.high)
    share = np.abs(np.asarray(out.uncapped)) / np.maximum(np.abs(np.asarray(out.side)), 1.0)
    slack = 2.0 / UNIT + EPS * at.scale()
    pnl_slack = slack + EPS * side_value * share
    closing, fees = out.closing, out.fees
    for what, actual, allowed in (
        ("uncappedPnlUsd", out.uncapped, slack),
        ("positionPnlUsd", out.pnl, pnl_slack),
        ("closePriceImpactUsd", out.impact.value, impact_slack),
        ("remainingCollateralUsd", closing.remaining, pnl_slack + impact_slack),
        ("minCollateralUsdForLeverage", closing.margin, slack),
    ):
        replay.compare(what, indices, np.asarray(actual), _column(cases, what), raw_units=allowed)
    _compare_flags(replay, cases, "closeImprovesBalance", out.impact.improved)
    reasons = [LiquidationReason(int(r)) for r in closing.reason]
    replay.compare_labels(
        "reason",
        indices,
        [r.name for r in reasons],
        [reason(REASONS, c["reason"]).name for c in cases],
    )
    replay.compare_labels(
        "isLiquidatable",
        indices,
        [r != LiquidationReason.NONE for r in reasons],
        [c["isLiquidatable"] for c in cases],
    )
    for what, field in FEES.items():
        expected = _column([c["liquidationFees"] for c in cases], what, 1)
        replay.compare(f"fee {what}", indices, np.asarray(getattr(fees, field)), expected)
    return replay


class _Closing(NamedTuple):
    """What closing whole positions would do."""

    side: jax.Array
    uncapped: jax.Array
    pnl: jax.Array
    impact: Impact
    closing: ClosingTest
    fees: Charges


def _closing(
    cases: list[dict], at: _Positions, rule: PowerImpact, sides: Sides, virtual: tuple
) -> _Closing:
    """Return profit, impact, test and fees of closing whole positions."""
    read = lambda name: _column(cases, name)
    caps = read("maxPnlFactorForTraders")
    profits = ProfitCap(payable=caps, deleverage_above=caps, deleverage_to=caps)
    side = side_pnl(at.is_long, at.entry, at.side_tokens, jnp.where(at.is_long, at.high, at.low))
    uncapped = side_pnl(at.is_long, at.size, at.tokens, jnp.where(at.is_long, at.low, at.high))
    pnl = paid_pnl(uncapped, profits.paid_share(side, at.pool))
    impact = _position_impact(rule, sides, at.is_long, -at.size, virtual)
    cap = jnp.minimum(
        read("maxPositionImpactFactorPositive"), read("maxPositionImpactFactorNegative")
    )
    due = capped_gain(impact.value, at.size, cap) + pending_impact(at.pending, at.low, at.high)
    fees = PositionFees(
        improving=read("positionFeeFactorPositive"),
        worsening=read("positionFeeFactorNegative"),
        liquidation=read("liquidationFeeFactor"),
        receiver_share=jnp.asarray(RECEIVER_SHARE),
        unit=jnp.asarray(1.0),
    )
    charge = lambda liquidated: fees.charge(
        at.size,
        improved=impact.improved,
        liquidated=jnp.full(at.size.shape, liquidated),
        borrowing=at.borrowing,
        funding=at.funding,
        price=at.price,
    )
    rate = jnp.where(
        _flag(cases, "forLiquidation"),
        read("minCollateralFactorForLiquidation"),
        read("minCollateralFactor"),
    )
    test = RemainingCollateral(
        minimum=read("minCollateralUsdConfig"),
        margin_rate=rate,
        impact_cap=read("maxPositionImpactFactorForLiquidations"),
    )
    closing = test.test(
        at.size,
        collateral=at.collateral,
        profit=pnl,
        impact=due,
        fees=charge(False).total * at.price,
        with_minimum=_flag(cases, "shouldValidateMinCollateralUsd"),
    )
    return _Closing(side, uncapped, pnl, impact, closing, charge(True))


ADAPTERS = {
    "gmx_v2_borrowing": borrowing,
    "gmx_v2_funding_update": funding_update,
    "gmx_v2_pnl_factor_adl": pnl_factor_adl,
    "gmx_v2_position_liquidatable": position_liquidatable,
    "gmx_v2_position_price_impact": position_price_impact,
    "gmx_v2_swap_price_impact": swap_price_impact,
}
