"""How fast is a book of one pair on a ladder, against a loop over its accounts?

    python benchmarks/ladder.py [--quick] [--json]

10,000 accounts of one collateral and one debt x 48 steps x 16,384 scenarios, one round of calls a
step, square-root impact, every call for the whole account. The peers look at every account in every
step, of the first 512 scenarios (NumPy: 8); the ladder searches sorted sums, and its table looks
them up at 1,024 nodes. All run in turns
in one process; the unit is one account in one step of one scenario, which the ladder never touches:
its rates are those of the same answer. Errors are against a loop in float64, of the ladder account
by account, of the table in the mean and in the mean of the worst percent of scenarios. A run that
liquidates nothing or something else exits with status 1.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from cascade_peers import numba_or_stop
from harness import (
    Implementation,
    Measurement,
    Prepared,
    compile_ahead,
    configure_jax,
    measure,
    parse_options,
    publish,
    records,
)

NUMPY = "numpy user float64"
NUMBA = "numba user float32"
NUMBA_EXPERT = "numba expert float32"
NUMBA_PREFIX = "numba prefix float64"
EXACT = "jaxrisk ladder float64"
LADDER = "jaxrisk ladder float32"
TABLE = "jaxrisk table float32"
NODES = 1024
LOOPED = 512
SIDE_BY_SIDE = {None: 512, NODES: 1024}

THRESHOLD, BONUS, IMPACT, DEPTH = 0.86, 0.0438, 0.12, 5e8
EXACT_LIMIT, LADDER_LIMIT = 1e-11, 1e-3
TAIL_LIMIT, MEAN_LIMIT = 1e-4, 3e-3


@dataclasses.dataclass(frozen=True)
class Workload:
    """A book in dollars at a price of one, and price factors.

    Attributes:
        collateral: `(account,)`.
        debt: `(account,)`.
        growth: `(scenario, step)` factors of the collateral's price.
    """

    collateral: np.ndarray
    debt: np.ndarray
    growth: np.ndarray

    @property
    def work(self) -> int:
        """Accounts x steps x scenarios."""
        return self.collateral.size * self.growth.size


@dataclasses.dataclass(frozen=True)
class Losses:
    """What is compared, `(scenario,)`, float64."""

    liquidated: np.ndarray
    bad_debt: np.ndarray
    price: np.ndarray


def make_workload(accounts: int, steps: int, scenarios: int) -> Workload:
    """Return Pareto sizes, health of 1.02 plus a lognormal, hourly moves at thrice 80 % volatility.

    In one scenario of ten the price falls by a quarter halfway.
    """
    rng = np.random.default_rng(0)
    size = rng.pareto(1.3, accounts) + 0.05
    size *= 1e9 / size.sum()
    debt = size * THRESHOLD / (1.02 + rng.lognormal(-1.0, 0.9, accounts))
    volatility = 0.8 * 3.0 / np.sqrt(8760.0)
    growth = np.exp(volatility * rng.standard_normal((scenarios, steps)) - 0.5 * volatility**2)
    growth[rng.random(scenarios) < 0.1, steps // 2] *= 0.75
    return Workload(collateral=size, debt=debt, growth=growth)


def numpy_user(w: Workload, scenarios: int) -> Losses:
    """NumPy as a user writes it: whole arrays in float64, loops outside."""
    liquidated, bad_debt, prices = np.zeros(scenarios), np.zeros(scenarios), np.ones(scenarios)
    for s in range(scenarios):
        collateral, debt, price = w.collateral.copy(), w.debt.copy(), 1.0
        for growth in w.growth[s]:
            price *= growth
            hit = collateral * price * THRESHOLD < debt
            value = collateral[hit] * price
            wanted = debt[hit] * (1.0 + BONUS)
            seized = np.minimum(wanted, value)
            bad_debt[s] += (debt[hit] - seized / (1.0 + BONUS))[wanted >= value].sum()
            liquidated[s] += seized.sum()
            left = collateral[hit] - seized / price
            collateral[hit] = np.where(wanted >= value, 0.0, left)
            debt[hit] = 0.0
            price *= np.exp(-IMPACT * np.sqrt(seized.sum() / DEPTH))
        prices[s] = price
    return Losses(liquidated=liquidated, bad_debt=bad_debt, price=prices)


@functools.cache
def numba_user() -> Callable[..., Any]:
    """Return Numba as a user writes it: a loop over accounts with a branch."""
    numba = numba_or_stop()
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def kernel(book, owed, growth, threshold, bonus, impact, depth):
        scenarios, steps = growth.shape
        liquidated, bad_debt = np.zeros(scenarios), np.zeros(scenarios)
        prices = np.ones(scenarios)
        for s in prange(scenarios):
            collateral, debt = book.copy(), owed.copy()
            price = np.float32(1)
            for t in range(steps):
                price *= growth[s, t]
                sold = 0.0
                for n in range(collateral.size):
                    value = collateral[n] * price
                    if value * threshold < debt[n]:
                        wanted = debt[n] * (1 + bonus)
                        seized = min(wanted, value)
                        collateral[n] -= seized / price
                        if wanted >= value:
                            bad_debt[s] += debt[n] - seized / (1 + bonus)
                            collateral[n] = 0
                        debt[n] = 0
                        sold += seized
                liquidated[s] += sold
                price *= np.float32(np.exp(-impact * np.sqrt(sold / depth)))
            prices[s] = price
        return liquidated, bad_debt, prices

    return kernel


@functools.cache
def numba_expert() -> Callable[..., Any]:
    """Return Numba by an expert: a test without branches, and a closer look at blocks that hit."""
    numba = numba_or_stop()
    prange, block = numba.prange, 64

    @numba.njit(parallel=True, fastmath=True)
    def kernel(book, owed, growth, threshold, bonus, impact, depth):
        scenarios, steps = growth.shape
        liquidated, bad_debt = np.zeros(scenarios), np.zeros(scenarios)
        prices = np.ones(scenarios)
        for s in prange(scenarios):
            collateral, debt = book.copy(), owed.copy()
            surplus = np.empty(book.size, np.float32)
            price = np.float32(1)
            for t in range(steps):
                price *= growth[s, t]
                sold, weight = 0.0, price * threshold
                for first in range(0, book.size, block):
                    end, worst = min(first + block, book.size), np.float32(0)
                    for n in range(first, end):
                        surplus[n] = collateral[n] * weight - debt[n]
                        worst = min(worst, surplus[n])
                    if worst < 0:
                        for n in range(first, end):
                            if surplus[n] < 0:
                                value, wanted = collateral[n] * price, debt[n] * (1 + bonus)
                                seized = min(wanted, value)
                                collateral[n] -= seized / price
                                if wanted >= value:
                                    bad_debt[s] += debt[n] - seized / (1 + bonus)
                                    collateral[n] = 0
                                debt[n] = 0
                                sold += seized
                liquidated[s] += sold
                price *= np.float32(np.exp(-impact * np.sqrt(sold / depth)))
            prices[s] = price
        return liquidated, bad_debt, prices

    return kernel


@functools.cache
def numba_prefix() -> Callable[..., Any]:
    """Return the ladder itself in Numba: binary searches in sorted sums."""
    numba = numba_or_stop()
    prange = numba.prange

    @numba.njit
    def count(cover, level, low, high):
        while low < high:
            middle = (low + high) // 2
            if cover[middle] < level:
                low = middle + 1
            else:
                high = middle
        return low

    @numba.njit(parallel=True, fastmath=True)
    def kernel(cover, held, owed, growth, threshold, bonus, impact, depth):
        scenarios, steps = growth.shape
        liquidated, bad_debt = np.zeros(scenarios), np.zeros(scenarios)
        prices = np.ones(scenarios)
        for s in prange(scenarios):
            price, reached = 1.0, 0
            for t in range(steps):
                price *= growth[s, t]
                called = count(cover, 1.0 / (price * threshold), reached, cover.size)
                if called > reached:
                    poor = count(cover, (1.0 + bonus) / price, reached, called)
                    taken = (held[poor] - held[reached]) * price
                    seized = taken + (owed[called] - owed[poor]) * (1.0 + bonus)
                    bad_debt[s] += owed[poor] - owed[reached] - taken / (1.0 + bonus)
                    liquidated[s] += seized
                    price *= np.exp(-impact * np.sqrt(seized / depth))
                    reached = called
            prices[s] = price
        return liquidated, bad_debt, prices

    return kernel


def prepare_numba(kernel: Callable[[], Callable[..., Any]], w: Workload) -> Prepared:
    """Return a brute-force kernel, compiled, with float32 inputs."""
    f32 = np.float32
    book = (w.collateral.astype(f32), w.debt.astype(f32))
    rules = tuple(f32(x) for x in (THRESHOLD, BONUS, IMPACT, DEPTH))
    return _compiled(kernel(), (*book,), w.growth.astype(f32), rules)


def prepare_prefix(w: Workload) -> Prepared:
    """Return the prefix kernel, compiled, with float64 inputs."""
    order = np.argsort(w.collateral / w.debt)
    total = lambda x: np.concatenate([[0.0], np.cumsum(x[order])])
    book = ((w.collateral / w.debt)[order], total(w.collateral), total(w.debt))
    return _compiled(numba_prefix(), book, w.growth, (THRESHOLD, BONUS, IMPACT, DEPTH))


def _compiled(kernel: Callable[..., Any], book: tuple, growth: Any, rules: tuple) -> Prepared:
    start = time.perf_counter()
    kernel(*book, growth[:2], *rules)
    return Prepared(lambda: kernel(*book, growth, *rules), time.perf_counter() - start)


def prepare_jaxrisk(w: Workload, dtype: Any, nodes: int | None) -> Prepared:
    """Return scenarios on a ladder, or on its table, over all devices."""
    import jax.numpy as jnp

    from jaxrisk.market.impact import SquareRootImpact
    from jaxrisk.numerics.mapping import mapped
    from jaxrisk.system.ladder import Ladder, LadderMarket, LadderRules, play_ladder
    from jaxrisk.system.ladder_table import LadderTable
    from jaxrisk.venue.incentive import UniformBonus

    array = lambda x: jnp.asarray(x, dtype)
    incentive = UniformBonus(bonus=array(BONUS), fee_share=array(0.0))
    book = Ladder.of(array(w.collateral), array(w.debt), array(THRESHOLD), incentive)
    book = book.indexed() if nodes is None else LadderTable.of(book, nodes)
    market = LadderMarket(
        price=array(1.0),
        debt_price=array(1.0),
        law=SquareRootImpact(coefficient=array([IMPACT])),
        depth=array(DEPTH),
    )
    moves = array(np.log(w.growth))

    def bind(book: Any, market: Any) -> Callable[[jax.Array], Any]:
        return lambda own: play_ladder(book, market, own, rules=LadderRules())

    side_by_side = max(min(SIDE_BY_SIDE[nodes], w.growth.shape[0] // jax.local_device_count()), 1)
    run = mapped(bind, side_by_side)
    return compile_ahead(run, (book, market), moves, live_scenarios=side_by_side)


def losses(raw: Any) -> Losses:
    """Return the raw result of an implementation as losses on the host."""
    if hasattr(raw, "liquidated"):
        raw = (raw.liquidated, raw.bad_debt, raw.price)
    liquidated, bad_debt, price = (np.asarray(x, np.float64) for x in raw)
    return Losses(liquidated=liquidated, bad_debt=bad_debt, price=price)


def implementations(w: Workload) -> list[Implementation]:
    """Return peers and engine; peers that loop over accounts run the first scenarios only."""
    subset = min(8, w.growth.shape[0])
    few = dataclasses.replace(w, growth=w.growth[:LOOPED])
    one = lambda name, prepare, own=w: Implementation(
        name=name, prepare=lambda: prepare(own), outputs=losses, work=own.work
    )
    f32, f64 = np.float32, np.float64
    return [
        Implementation(
            name=NUMPY,
            prepare=lambda: Prepared(lambda: numpy_user(w, subset)),
            outputs=lambda result: result,
            work=w.work * subset / w.growth.shape[0],
        ),
        one(NUMBA, lambda own: prepare_numba(numba_user, own), few),
        one(NUMBA_EXPERT, lambda own: prepare_numba(numba_expert, own), few),
        one(NUMBA_PREFIX, prepare_prefix),
        one(EXACT, lambda own: prepare_jaxrisk(own, f64, None)),
        one(LADDER, lambda own: prepare_jaxrisk(own, f32, None)),
        one(TABLE, lambda own: prepare_jaxrisk(own, f32, NODES)),
    ]


def worst_percent(x: np.ndarray) -> float:
    """Return the mean of the largest hundredth, at least one."""
    return float(np.sort(x)[-max(x.size // 100, 1) :].mean())


def compare(
    measurements: Sequence[Measurement], book: float
) -> tuple[dict[str, float], dict[str, dict[str, float]], list[str]]:
    """Return accuracy, further metrics, and a line for each that does not compute the workload."""
    outputs = {m.implementation.name: m.outputs for m in measurements}
    reference, numpy = outputs[EXACT].liquidated, outputs[NUMPY].liquidated
    gap = lambda x, y: float(np.max(np.abs(x - y) / np.maximum(y, 1.0)))
    accuracy = {n: gap(o.liquidated[: numpy.size], numpy) for n, o in outputs.items()}
    ratio = lambda statistic: {
        name: abs(statistic(o.liquidated) / statistic(reference[: o.liquidated.size]) - 1.0)
        for name, o in outputs.items()
        if name != NUMPY
    }
    mean, tail = ratio(np.mean), ratio(worst_percent)
    whole = outputs[EXACT].bad_debt
    lost = {
        n: o.bad_debt.mean() / whole[: o.bad_debt.size].mean()
        for n, o in outputs.items()
        if n != NUMPY
    }
    shares = {
        "liquidated_share": {
            name: float(o.liquidated.mean() / book) for name, o in outputs.items()
        },
        "mean_error": mean,
        "tail_error": tail,
        "bad_debt_to_exact": {name: float(x) for name, x in lost.items()},
    }
    wrong = []
    if not accuracy[EXACT] <= EXACT_LIMIT:
        wrong.append(f"{EXACT}: liquidated value is off by {accuracy[EXACT]:.2g}")
    wrong += [
        f"{name}: the mean liquidated value is off by {mean[name]:.2g}"
        for name in (NUMBA, NUMBA_EXPERT, NUMBA_PREFIX, LADDER)
        if not mean[name] <= LADDER_LIMIT
    ]
    if not (mean[TABLE] <= MEAN_LIMIT and tail[TABLE] <= TAIL_LIMIT):
        wrong.append(
            f"{TABLE}: off by {mean[TABLE]:.2g} in the mean, {tail[TABLE]:.2g} in the tail"
        )
    if not numpy.mean() > 0.0:
        wrong.append("nothing was liquidated")
    return accuracy, shares, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("A book of one pair: the ladder against loops over it.", arguments)
    configure_jax()
    jax.config.update("jax_enable_x64", True)
    size = (2_000, 24, 1_024) if options.quick else (10_000, 48, 16_384)
    workload = make_workload(*size)
    measurements = measure(implementations(workload), repeats=3 if options.quick else 9)
    accuracy, shares, wrong = compare(measurements, float(workload.collateral.sum()))
    rows = records(
        "ladder",
        measurements,
        unit="updates",
        numpy_peer=NUMPY,
        numba_peer=NUMBA,
        accuracy=accuracy,
        shares=shares,
    )
    publish(rows, as_json=options.json)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
