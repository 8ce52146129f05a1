"""What people write instead for a portfolio margin: NumPy and Numba, in float64.

Each is what a competent analyst writes first. The margin is the maintenance surplus of
`jaxrisk.venue.presets.derive.portfolio_terms_2` where every price is sure and nothing but options
and a perpetual is held.
"""

import math
from dataclasses import dataclass

import numpy as np
from harness import Prepared

try:
    import numba
    from scipy.special import ndtr
except ModuleNotFoundError as missing:
    message = (
        f"{missing.name} is not installed; the peers need the bench extra: pip install '.[bench]'"
    )
    raise SystemExit(message) from None

NUMPY_USER, NUMBA_USER = "numpy user float64", "numba user float64"
EXPIRIES, OPTIONS = 8, 8
SPOT = 2000.0


@dataclass(frozen=True)
class Workload:
    """Portfolios in float64; arrays are `(portfolio, expiry, option)` unless said.

    Attributes:
        years: `(expiry,)`.
        forward: `(expiry,)`.
        discount: `(expiry,)`.
        strike: of each option.
        volatility: of each option.
        is_call: of each option.
        amount: units held.
        perpetual: `(portfolio,)` units of the perpetual.
    """

    years: np.ndarray
    forward: np.ndarray
    discount: np.ndarray
    strike: np.ndarray
    volatility: np.ndarray
    is_call: np.ndarray
    amount: np.ndarray
    perpetual: np.ndarray


def make_workload(portfolios: int) -> Workload:
    """Return random portfolios, long and short."""
    rng = np.random.default_rng(0)
    shape = (portfolios, EXPIRIES, OPTIONS)
    years = np.array([2, 7, 14, 28, 56, 91, 182, 365]) / 365.0
    return Workload(
        years=years,
        forward=SPOT * np.exp(0.05 * years),
        discount=np.exp(-0.05 * years),
        strike=np.round(SPOT * np.exp(rng.normal(0.0, 0.3, shape))),
        volatility=rng.uniform(0.3, 1.2, shape),
        is_call=rng.random(shape) < 0.5,
        amount=rng.normal(0.0, 3.0, shape),
        perpetual=rng.normal(0.0, 20.0, portfolios),
    )


def numpy_user(w: Workload, rows: np.ndarray) -> np.ndarray:
    """NumPy as a user writes it: a function for prices, loops over scenarios and expiries."""

    def value(e: int, forward: float, sigma: np.ndarray) -> np.ndarray:
        deviation = sigma * np.sqrt(w.years[e])
        d1 = np.log(forward / w.strike[:, e]) / deviation + deviation / 2
        d2 = d1 - deviation
        call = forward * ndtr(d1) - w.strike[:, e] * ndtr(d2)
        price = np.where(w.is_call[:, e], call, call - forward + w.strike[:, e])
        return w.discount[e] * (price * w.amount[:, e]).sum(axis=1)

    now = [value(e, w.forward[e], w.volatility[:, e]) for e in range(EXPIRIES)]
    basis = np.zeros(len(w.perpetual))
    for e in range(EXPIRIES):
        up = value(e, w.forward[e] * 1.045, w.volatility[:, e]) - now[e]
        down = value(e, w.forward[e] * 0.955, w.volatility[:, e]) - now[e]
        basis += np.minimum(np.minimum(up, down), 0) * (0.5 + 2 * w.years[e])
    worst = basis
    for move, direction, tilt, wings, weight in rows:
        gain = w.perpetual * SPOT * move * weight
        for e in range(EXPIRIES):
            t = w.years[e]
            tenor = ((30 / 365) / max(t, 1 / 365)) ** (0.3 if t <= 30 / 365 else 0.13)
            sigma = w.volatility[:, e]
            if direction > 0:
                sigma = np.maximum(sigma * (1 + 0.5 * tenor), 0.4)
            elif direction < 0:
                sigma = sigma * max(0.0, 1 - 0.3 * tenor)
            k, cap = np.log(w.strike[:, e] / w.forward[e]), 0.25 - 0.1 * np.sqrt(t)
            reach = max(0.01, np.sqrt(t) * 4 * 0.6)
            if tilt > 0:
                sigma = sigma * (1 + np.clip(k * cap / reach, -cap, cap))
            if wings > 0:
                sigma = sigma * (1 + np.clip(np.abs(k) * cap / reach, -cap, cap))
            then = value(e, w.forward[e] * (1 + move), sigma)
            long, short = 1.05 * np.exp(-0.16 * t), 0.95 * np.exp(0.16 * t)
            then = then * np.where(then >= 0, long, min(short, 1 / w.discount[e]))
            change = (then - now[e]) * weight
            gain = gain - np.abs(change) if tilt + wings > 0 else gain + change
        worst = np.minimum(worst, gain)
    naked = naked_units(w)
    charges = SPOT * (0.03 * np.abs(w.perpetual) + 0.003 * naked)
    return sum(now) + 0.8 * worst - charges


def naked_units(w: Workload) -> np.ndarray:
    """Return options written beyond those held at the same strike, by a dictionary."""
    result = np.zeros(len(w.perpetual))
    for n in range(len(result)):
        for e in range(EXPIRIES):
            net: dict[float, float] = {}
            for strike, amount in zip(w.strike[n, e], w.amount[n, e], strict=True):
                net[strike] = net.get(strike, 0.0) + amount
            result[n] += sum(max(-amount, 0.0) for amount in net.values())
    return result


@numba.njit(fastmath=True)
def _normal(x):
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@numba.njit(fastmath=True)
def _price(forward, strike, root, sigma, is_call):
    deviation = sigma * root
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    d2 = d1 - deviation
    if is_call:
        return forward * _normal(d1) - strike * _normal(d2)
    return strike * _normal(-d2) - forward * _normal(-d1)


@numba.njit(fastmath=True)
def _naked(strikes, amounts):
    total = 0.0
    for i in range(strikes.size):
        net, first = 0.0, True
        for j in range(strikes.size):
            if strikes[j] == strikes[i]:
                net += amounts[j]
                if j < i:
                    first = False
        if first and net < 0:
            total -= net
    return total


@numba.njit(fastmath=True)
def _value(forward, t, discount, options, row, up, down):
    strikes, sigmas, calls, amounts = options
    root, total = math.sqrt(t), 0.0
    cap, reach = 0.25 - 0.1 * root, max(0.01, root * 2.4)
    for o in range(strikes.size):
        sigma = sigmas[o]
        if row[1] > 0:
            sigma = max(sigma * up, 0.4)
        elif row[1] < 0:
            sigma = sigma * down
        if row[2] > 0 or row[3] > 0:
            k = math.log(strikes[o] / forward)
            if row[3] > 0:
                k = abs(k)
            sigma *= 1 + min(cap, max(-cap, k * cap / reach))
        price = _price(forward * (1 + row[0]), strikes[o], root, sigma, calls[o])
        total += price * amounts[o]
    return total * discount


@numba.njit(fastmath=True)
def _expiry(forward, t, discount, options, rows, gains):
    """Add the gains of an expiry; return its value and its basis charge."""
    power = 0.3 if t <= 30 / 365 else 0.13
    tenor = ((30 / 365) / max(t, 1 / 365)) ** power
    up, down = 1 + 0.5 * tenor, max(0.0, 1 - 0.3 * tenor)
    long, short = 1.05 * math.exp(-0.16 * t), min(0.95 * math.exp(0.16 * t), 1 / discount)
    still = np.zeros(5)
    now = _value(forward, t, discount, options, still, up, down)
    least = 0.0
    for move in (0.045, -0.045):
        still[0] = move
        least = min(least, _value(forward, t, discount, options, still, up, down) - now)
    for s in range(rows.shape[0]):
        then = _value(forward, t, discount, options, rows[s], up, down)
        change = (then * (long if then >= 0 else short) - now) * rows[s, 4]
        gains[s] += -abs(change) if rows[s, 2] + rows[s, 3] > 0 else change
    return now, least * (0.5 + 2 * t)


@numba.njit(parallel=True, fastmath=True)
def _numba_user(years, forwards, discounts, strike, volatility, is_call, amount, perpetual, rows):
    result = np.zeros(perpetual.size)
    for n in numba.prange(perpetual.size):
        gains = perpetual[n] * 2000.0 * rows[:, 0] * rows[:, 4]
        total = basis = shorts = 0.0
        for e in range(years.size):
            options = (strike[n, e], volatility[n, e], is_call[n, e], amount[n, e])
            value, charge = _expiry(forwards[e], years[e], discounts[e], options, rows, gains)
            total += value
            basis += charge
            shorts += _naked(strike[n, e], amount[n, e])
        worst = min(basis, gains.min())
        charges = 2000.0 * (0.03 * abs(perpetual[n]) + 0.003 * shorts)
        result[n] = total + 0.8 * worst - charges
    return result


def prepare_numba(w: Workload, rows: np.ndarray) -> Prepared:
    """Return Numba as a user writes it, compiled: scalars and branches, portfolios in parallel."""
    options = (w.strike, w.volatility, w.is_call, w.amount)
    terms = (w.years, w.forward, w.discount)
    _numba_user(*terms, *(x[:1] for x in options), w.perpetual[:1], rows)
    return Prepared(lambda: _numba_user(*terms, *options, w.perpetual, rows))
