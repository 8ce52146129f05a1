"""What people write instead: QuantLib instruments and its formula, SciPy, Numba, plain JAX.

Each is meant to be good of its kind, in the style its author would choose. Numba takes logarithm
and root out of the loop over scenarios, as one who cares for speed does. QuantLib revalues a part
of the book, for it is slow; its rate is per option and scenario like all others.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Implementation, Prepared, compile_ahead
from options_workload import Workload

SCIPY = "scipy float64"
NUMBA = "numba user float64"
QUANTLIB = "QuantLib instruments"
BLOCKS = 64


def scipy_grid(w: Workload) -> np.ndarray:
    """NumPy and SciPy as a user writes it: whole arrays of options, a loop over scenarios."""
    from scipy.special import ndtr

    root, result = np.sqrt(w.years), np.empty(w.scenarios)
    for i, (price, factor) in enumerate(zip(w.price_factor, w.volatility_factor, strict=True)):
        forward, deviation = w.forward * price, w.volatility * factor * root
        d1 = np.log(forward / w.strike) / deviation + 0.5 * deviation
        d2 = d1 - deviation
        value = w.sign * (forward * ndtr(w.sign * d1) - w.strike * ndtr(w.sign * d2))
        result[i] = (w.size * value).sum()
    return result


def gross_value(w: Workload) -> float:
    """Return the value of the book with every size positive and no move: what errors are of."""
    from scipy.special import ndtr

    deviation = w.volatility * np.sqrt(w.years)
    d1 = np.log(w.forward / w.strike) / deviation + 0.5 * deviation
    d2 = d1 - deviation
    value = w.sign * (w.forward * ndtr(w.sign * d1) - w.strike * ndtr(w.sign * d2))
    return float((np.abs(w.size) * value).sum())


def prepare_numba(w: Workload) -> Prepared:
    """Numba as a user writes it: compiled loops over options and scenarios, options in parallel."""
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def grid(forward, strike, years, volatility, sign, size, price, log_price, factor):
        options, scenarios = forward.size, price.size
        part = np.zeros((BLOCKS, scenarios))
        for block in numba.prange(BLOCKS):
            for i in range(block * options // BLOCKS, (block + 1) * options // BLOCKS):
                root, moneyness = math.sqrt(years[i]), math.log(forward[i] / strike[i])
                for s in range(scenarios):
                    deviation = volatility[i] * factor[s] * root
                    d1 = (moneyness + log_price[s]) / deviation + 0.5 * deviation
                    d2 = d1 - deviation
                    above = 0.5 * math.erfc(-sign[i] * d1 * 0.7071067811865476)
                    below = 0.5 * math.erfc(-sign[i] * d2 * 0.7071067811865476)
                    value = forward[i] * price[s] * above - strike[i] * below
                    part[block, s] += size[i] * sign[i] * value
        return part.sum(axis=0)

    arguments = (
        w.forward, w.strike, w.years, w.volatility, w.sign, w.size,
        w.price_factor, np.log(w.price_factor), w.volatility_factor,
    )  # fmt: skip
    grid(*arguments)
    return Prepared(lambda: grid(*arguments))


def prepare_plain_jax(w: Workload, dtype: np.dtype | type) -> Prepared:
    """JAX as a user writes it: the textbook formula under `vmap`, on one device."""
    cdf = jax.scipy.stats.norm.cdf

    def value(option: tuple, price: jax.Array, factor: jax.Array) -> jax.Array:
        forward, strike, years, volatility, sign, size = option
        deviation = volatility * factor * jnp.sqrt(years)
        d1 = jnp.log(forward * price / strike) / deviation + 0.5 * deviation
        d2 = d1 - deviation
        value = sign * (forward * price * cdf(sign * d1) - strike * cdf(sign * d2))
        return jnp.sum(size * value)

    array = functools.partial(jnp.asarray, dtype=dtype)
    option = tuple(map(array, (w.forward, w.strike, w.years, w.volatility, w.sign, w.size)))
    factors = array(w.price_factor), array(w.volatility_factor)
    return compile_ahead(jax.vmap(value, in_axes=(None, 0, 0)), option, *factors)


def quantlib_instruments(w: Workload) -> Callable[[], np.ndarray]:
    """Return the revaluation of one instrument an option, each on quotes that are set anew."""
    import QuantLib

    today, counter = QuantLib.Date(1, 1, 2026), QuantLib.Actual365Fixed()
    QuantLib.Settings.instance().evaluationDate = today
    rate = QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, 0.0, counter))
    forward = QuantLib.SimpleQuote(w.forward[0])
    quotes, instruments = [], []
    for strike, days, volatility, sign in zip(w.strike, w.days, w.volatility, w.sign, strict=True):
        quote = QuantLib.SimpleQuote(volatility)
        surface = QuantLib.BlackConstantVol(
            today, QuantLib.NullCalendar(), QuantLib.QuoteHandle(quote), counter
        )
        process = QuantLib.BlackProcess(
            QuantLib.QuoteHandle(forward), rate, QuantLib.BlackVolTermStructureHandle(surface)
        )
        payoff = QuantLib.PlainVanillaPayoff(
            QuantLib.Option.Call if sign > 0 else QuantLib.Option.Put, strike
        )
        instrument = QuantLib.VanillaOption(payoff, QuantLib.EuropeanExercise(today + int(days)))
        instrument.setPricingEngine(QuantLib.AnalyticEuropeanEngine(process))
        quotes.append(quote)
        instruments.append(instrument)
    volatilities, sizes = w.volatility.tolist(), w.size.tolist()

    def run() -> np.ndarray:
        result = []
        for price, factor in zip(w.price_factor, w.volatility_factor, strict=True):
            forward.setValue(w.forward[0] * price)
            for quote, volatility in zip(quotes, volatilities, strict=True):
                quote.setValue(volatility * factor)
            values = zip(sizes, instruments, strict=True)
            result.append(sum(size * instrument.NPV() for size, instrument in values))
        return np.array(result)

    return run


def quantlib_formula(w: Workload) -> Callable[[], np.ndarray]:
    """Return the revaluation by a call of `blackFormula` for each option and scenario."""
    import QuantLib

    kinds = [QuantLib.Option.Call if sign > 0 else QuantLib.Option.Put for sign in w.sign]
    rows = list(zip(kinds, *(x.tolist() for x in (w.strike, w.forward, w.size)), strict=True))
    deviation = (w.volatility * np.sqrt(w.years)).tolist()

    def run() -> np.ndarray:
        return np.array([
            sum(
                size * QuantLib.blackFormula(kind, strike, forward * price, factor * s, 1.0)
                for (kind, strike, forward, size), s in zip(rows, deviation, strict=True)
            )
            for price, factor in zip(w.price_factor, w.volatility_factor, strict=True)
        ])  # fmt: skip

    return run


def implementations(w: Workload, part: Workload, *, quantlib: bool) -> list[Implementation]:
    """Return the peers; those of QuantLib, where it is installed, revalue `part`."""
    host = lambda prepare: lambda: Prepared(prepare())
    whole: list[tuple[str, Callable[[], Prepared], Workload]] = [
        (SCIPY, host(lambda: lambda: scipy_grid(w)), w),
        (NUMBA, lambda: prepare_numba(w), w),
        ("jax vmap user float32", lambda: prepare_plain_jax(w, np.float32), w),
    ]
    if quantlib:
        whole.append((QUANTLIB, host(lambda: quantlib_instruments(part)), part))
        whole.append(("QuantLib blackFormula loop", host(lambda: quantlib_formula(part)), part))
    return [
        Implementation(name=name, prepare=prepare, outputs=as_float64, work=on.revaluations)
        for name, prepare, on in whole
    ]


def as_float64(result: Any) -> np.ndarray:
    """Return `(scenario,)` values on the host."""
    return np.asarray(result, np.float64)
