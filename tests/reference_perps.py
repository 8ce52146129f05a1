"""Rules of perpetual futures in plain Python, one position or market at a time.

Written from the formulas, sharing no code with the arrays under test.
"""

import math
from collections.abc import Sequence


def skew_share_margins(
    size: float,
    price: float,
    *,
    slope: float,
    scale: float,
    floor: float,
    share: float,
    fixed: float,
) -> tuple[float, float]:
    """Initial and maintenance margin of one position."""
    if size == 0:
        return 0.0, 0.0
    rate = slope * abs(size) / scale + floor
    notional = abs(size) * price
    return notional * rate + fixed, notional * rate * share + fixed


def skew_fill(skew: float, size: float, price: float, scale: float) -> float:
    """Mean of the prices before and after an order."""
    before, after = price * (1 + skew / scale), price * (1 + (skew + size) / scale)
    return (before + after) / 2


def skew_fee(skew: float, size: float, fill: float, maker: float, taker: float) -> float:
    """Fee of an order, case by case."""
    if skew == 0 or (skew > 0) == (size > 0):
        return abs(size) * fill * taker
    if abs(size) <= abs(skew):
        return abs(size) * fill * maker
    return abs(skew) * fill * maker + abs(skew + size) * fill * taker


def velocity_funding(
    rate: float,
    paid: float,
    *,
    skew: float,
    scale: float,
    velocity: float,
    price: float,
    time: float,
) -> tuple[float, float]:
    """Rate and cumulated payment to a unit long, by summing many small steps of the velocity."""
    drift = max(-1.0, min(1.0, skew / scale)) * velocity
    steps = 2_000
    for k in range(steps):
        middle = rate + drift * time * (k + 0.5) / steps
        paid -= middle * price * time / steps
    return rate + drift * time, paid


def keeper_reward(
    earned: float,
    cost: float,
    margin: float,
    *,
    minimum: float,
    profit: float,
    maximum: float,
    share: float,
) -> float:
    """Reward of one execution."""
    floor = max(cost + minimum, cost * (1 + profit))
    cap = maximum if margin == 0 else min(maximum, share * margin)
    return min(max(floor, earned + cost), cap)


def power_impact(
    long: float, short: float, next_long: float, next_short: float, *, k: tuple, e: tuple
) -> tuple[float, bool]:
    """Impact and whether the balance improved; `k` and `e` of (worse, better)."""
    cost = lambda gap, factor, exponent: factor * gap**exponent if gap >= 1 else 0.0
    was, becomes = abs(long - short), abs(next_long - next_short)
    better = becomes < was
    good_k, good_e = min(k), min(e)
    if (long <= short) == (next_long <= next_short):
        factor, exponent = (good_k, good_e) if better else (k[0], e[0])
        return cost(was, factor, exponent) - cost(becomes, factor, exponent), better
    return cost(was, good_k, good_e) - cost(becomes, k[0], e[0]), better


def adaptive_funding(
    rate: float,
    long: float,
    short: float,
    time: float,
    *,
    increase: float,
    decrease: float,
    stable: float,
    decay: float,
    minimum: float,
    maximum: float,
    exponent: float,
    unit: float,
) -> tuple[float, bool, float]:
    """Charged rate, whether longs pay, saved rate."""
    if long == 0 or short == 0:
        return 0.0, False, 0.0
    gap = abs(long - short)
    x = gap**exponent / (long + short) if gap >= 1 else 0.0
    along = (rate > 0 and long > short) or (rate < 0 and short > long)
    if not along or x > stable:
        rate += (-1 if long < short else 1) * increase * x * time
    elif x < decay:
        left = abs(rate) - decrease * time
        rate = math.copysign(left if left > 0 else unit, rate)
    saved = max(-maximum, min(maximum, rate))
    charged = min(max(abs(saved), minimum), maximum)
    signed = charged if saved == 0 else math.copysign(charged, saved)
    return abs(signed), signed > 0, saved


def kinked_usage(used: float, base: float, full: float, kink: float) -> float:
    """Borrowing rate by use of what may be reserved."""
    rate = base * used
    if used > kink and kink < 1:
        rate += max(full - base, 0.0) * (used - kink) / (1 - kink)
    return rate


def remaining_collateral(
    *, collateral: float, profit: float, impact: float, fees: float, size: float, cap: float
) -> float:
    """Collateral after closing a position."""
    return collateral + profit + max(min(impact, 0.0), -cap * size) - fees


def liquidation_window(
    events: Sequence[tuple[float, float, float]], *, limit: float, duration: float, calm: float
) -> list[float]:
    """What is allowed of each (time, wanted, premium), by looking back over the whole list."""
    done: list[tuple[float, float]] = []
    allowed = []
    for now, wanted, premium in events:
        left = limit - sum(amount for time, amount in done if time > now - duration)
        latest = done[-1][0] if done else -math.inf
        if left > 1e-9 * limit:
            allowed.append(min(left, wanted))
        elif premium < calm and latest != now:
            allowed.append(min(limit, wanted))
        else:
            allowed.append(0.0)
        if allowed[-1] > 0:
            done.append((now, allowed[-1]))
    return allowed
