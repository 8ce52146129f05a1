"""A year of hours: how fast does bad debt accumulate, interest and all?

    python benchmarks/bad_debt_year.py [--quick] [--json]

1,000 accounts x (4 collaterals + 2 debts) x 8,760 hourly steps x 32 scenarios in float32. The rules
are those of `cascade_workload`, at normal volatility, and debts grow: each debt asset has a kinked
rate in its utilisation, which moves as loans are repaid and written off. The unit is one account in
one step of one scenario. Beside each speed stands the worst relative error of liquidated value, bad
debt and debt growth against float64 NumPy over the first scenarios. A second run of a tenth of the
steps shows that compilation does not grow with them. `--quick` is short and violent, so that bad
debt is checked too.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cascade_engine
import jax
import jax.numpy as jnp
import numpy as np
from cascade_peers import numba_or_stop
from cascade_workload import Workload, make_workload
from harness import (
    Implementation,
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
ENGINE = "jaxrisk float32"
TENTH = "jaxrisk float32, a tenth of the steps"
REFERENCE_SCENARIOS = 2
ACCURACY_LIMIT = 2e-3
"""Float32 flips a few accounts that sit on a trigger, and a year has many steps."""

BASE, SLOPE1, SLOPE2 = np.array([0.01, 0.0]), np.array([0.05, 0.03]), np.array([0.6, 0.8])
KINK, RESERVE_FACTOR = np.array([0.9, 0.8]), np.array([0.1, 0.15])
OPENING_UTILISATION = 0.85


@dataclasses.dataclass(frozen=True)
class Year:
    """What every implementation returns, one row a scenario.

    Attributes:
        bad_debt: USD written off.
        liquidated: USD of collateral seized.
        growth: `(scenario, debt_asset)` factor by which a debt that nobody touched has grown.
    """

    bad_debt: np.ndarray
    liquidated: np.ndarray
    growth: np.ndarray


def opening_cash(workload: Workload) -> np.ndarray:
    """Return the units of each debt asset that are not lent out."""
    return workload.debt.sum(axis=0) * (1.0 / OPENING_UTILISATION - 1.0)


def rate(use: np.ndarray) -> np.ndarray:
    """Return the borrow rate per year of each debt asset."""
    above = SLOPE1 + SLOPE2 * (use - KINK) / (1.0 - KINK)
    return BASE + np.where(use > KINK, above, SLOPE1 * use / KINK)


def numpy_year(workload: Workload, scenarios: int) -> Year:
    """NumPy as a user writes it: account-first float64, whole arrays, loops outside."""
    w, bonus = workload, 1.0 + workload.liquidation_bonus
    bad_debt, liquidated = np.zeros(scenarios), np.zeros(scenarios)
    growth = np.ones((scenarios, 2))
    for scenario in range(scenarios):
        collateral, debt, index = w.collateral.copy(), w.debt.copy(), np.ones(2)
        price, debt_price = np.ones(4), np.ones(2)
        total, cash = debt.sum(axis=0), opening_cash(w)
        for step in range(w.steps):
            price = price * w.growth[scenario, step, :4]
            debt_price = debt_price * w.growth[scenario, step, 4:]
            factor = np.exp(rate(total / (total + cash)) * w.step_years)
            index, total = index * factor, total * factor
            value, owed = collateral @ price, debt @ (debt_price * index)
            backing = collateral @ (price * w.liquidation_threshold)
            hit = backing < owed
            if hit.any():
                v, o = value[hit], owed[hit]
                part = np.where(backing[hit] < w.full_close_below * o, 1.0, w.close_factor)
                wanted = part * o * bonus
                seized = np.minimum(wanted, v)
                share, repaid = seized / v, seized / (bonus * o)
                gone = np.where(wanted >= v, 1.0 - repaid, 0.0)
                sold = (collateral[hit] * share[:, None]).sum(axis=0)
                cash = cash + (debt[hit] * repaid[:, None]).sum(axis=0) * index
                total = total - (debt[hit] * (repaid + gone)[:, None]).sum(axis=0) * index
                bad_debt[scenario] += (gone * o).sum()
                liquidated[scenario] += seized.sum()
                collateral[hit] *= (1.0 - share)[:, None]
                debt[hit] *= np.where(wanted >= v, 0.0, 1.0 - repaid)[:, None]
                impact = w.impact_coefficient * np.sqrt(sold * price / w.daily_volume_usd)
                price = price * np.exp(-impact)
        growth[scenario] = index
    return Year(bad_debt, liquidated, growth)


@functools.cache
# One loop nest, as a user writes it.
def numba_year() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:  # noqa: C901
    """Return Numba as a user writes it: account-first float32, scenarios in parallel."""
    numba = numba_or_stop()
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def kernel(  # noqa: C901
        book, owed_book, growth, threshold, impact, volume, rules, curve, opening_cash
    ):
        scenarios, steps, _ = growth.shape
        bonus, close_factor, full_below, years = rules
        base, slope1, slope2, kink = curve
        bad_debt, liquidated = np.zeros(scenarios), np.zeros(scenarios)
        grown = np.ones((scenarios, 2))
        for scenario in prange(scenarios):
            collateral, debt = book.copy(), owed_book.copy()
            price, debt_price = np.ones(4, np.float32), np.ones(2, np.float32)
            index, total, cash = np.ones(2), np.zeros(2), opening_cash.copy()
            for n in range(debt.shape[0]):
                for a in range(2):
                    total[a] += debt[n, a]
            worth = np.zeros(2, np.float32)
            for step in range(steps):
                for a in range(4):
                    price[a] *= growth[scenario, step, a]
                for a in range(2):
                    debt_price[a] *= growth[scenario, step, 4 + a]
                    use = total[a] / (total[a] + cash[a])
                    yearly = base[a] + slope1[a] * use / kink[a]
                    if use > kink[a]:
                        beyond = (use - kink[a]) / (1 - kink[a])
                        yearly = base[a] + slope1[a] + slope2[a] * beyond
                    factor = np.exp(yearly * years)
                    index[a] *= factor
                    total[a] *= factor
                    worth[a] = debt_price[a] * index[a]
                sold = np.zeros(4)
                for n in range(collateral.shape[0]):
                    value = backing = np.float32(0)
                    for a in range(4):
                        held = collateral[n, a] * price[a]
                        value += held
                        backing += held * threshold[a]
                    owed = debt[n, 0] * worth[0] + debt[n, 1] * worth[1]
                    if backing < owed:
                        part = np.float32(1) if backing < full_below * owed else close_factor
                        wanted = part * owed * bonus
                        seized = min(wanted, value)
                        share, repaid = seized / value, seized / (bonus * owed)
                        for a in range(4):
                            sold[a] += collateral[n, a] * share
                            collateral[n, a] *= 1 - share
                        gone = np.float32(0)
                        if wanted >= value:
                            gone = 1 - repaid
                            bad_debt[scenario] += gone * owed
                        for a in range(2):
                            cash[a] += debt[n, a] * repaid * index[a]
                            total[a] -= debt[n, a] * (repaid + gone) * index[a]
                            debt[n, a] *= np.float32(0) if gone > 0 else 1 - repaid
                        liquidated[scenario] += seized
                for a in range(4):
                    price[a] *= np.exp(-impact[a] * np.sqrt(sold[a] * price[a] / volume[a]))
            grown[scenario] = index
        return bad_debt, liquidated, grown

    return kernel


def prepare_numba(workload: Workload) -> Prepared:
    """Return the compiled Numba peer with its inputs."""
    f32, w = np.float32, workload
    rules = (
        f32(1.0 + w.liquidation_bonus),
        f32(w.close_factor),
        f32(w.full_close_below),
        w.step_years,
    )
    arguments = (
        w.collateral.astype(f32),
        w.debt.astype(f32),
        w.growth.astype(f32),
        w.liquidation_threshold.astype(f32),
        w.impact_coefficient,
        w.daily_volume_usd,
        rules,
        (BASE, SLOPE1, SLOPE2, KINK),
        opening_cash(w),
    )
    return Prepared(lambda: numba_year()(*arguments))


def prepare_engine(workload: Workload) -> Prepared:
    """Return the compiled engine: the whole step, with interest."""
    from jaxrisk.numerics.keys import root_key
    from jaxrisk.numerics.mapping import mapped
    from jaxrisk.system.simulate import (
        Plan,
        cut_books,
        lanes_for,
        layouts,
        playing,
        step_rules,
    )
    from jaxrisk.venue.interest import KinkedRate
    from jaxrisk.venue.venue import opening_pool

    array = lambda x: jnp.asarray(x, jnp.float32)
    system = cascade_engine.build_system(workload, np.float32)
    interest = KinkedRate(
        base=array(BASE),
        slope1=array(SLOPE1),
        slope2=array(SLOPE2),
        optimal_utilisation=array(KINK),
        reserve_factor=array(RESERVE_FACTOR),
    )
    venue = system.venues[0]
    pool = opening_pool(venue.accounts, array(opening_cash(workload)))
    venue = dataclasses.replace(venue, interest=interest, pool=pool)
    system = dataclasses.replace(system, venues=(venue,))
    plan = Plan(steps=workload.steps, rounds=1, lanes=lanes_for(system, 1))
    rules = step_rules(system, plan, workload.step_years)
    arguments = (system, cut_books(system, layouts(system, plan)), rules, root_key(0))
    run = mapped(functools.partial(playing, plan), plan.side_by_side)
    ids = jnp.arange(workload.scenarios, dtype=jnp.uint32)
    return compile_ahead(run, arguments, ids, live_scenarios=plan.side_by_side)


def engine_year(outcome: Any) -> Year:
    """Return the engine's outcome; the index of debt is no part of it."""
    host = jax.device_get(outcome)
    bad_debt, liquidated = (
        np.asarray(x[:, 0], np.float64) for x in (host.bad_debt, host.liquidated)
    )
    return Year(bad_debt, liquidated, np.ones((bad_debt.size, 0)))


def implementations(workload: Workload) -> list[Implementation]:
    """Return the peers and the engine."""
    few = min(REFERENCE_SCENARIOS, workload.scenarios)
    short = dataclasses.replace(workload, growth=workload.growth[:, : workload.steps // 10])
    return [
        Implementation(
            name=NUMPY,
            prepare=lambda: Prepared(lambda: numpy_year(workload, few)),
            outputs=lambda year: year,
            work=workload.updates(few),
        ),
        Implementation(
            name=NUMBA,
            prepare=lambda: prepare_numba(workload),
            outputs=lambda arrays: Year(*arrays),
            work=workload.updates(),
        ),
        Implementation(
            name=ENGINE,
            prepare=lambda: prepare_engine(workload),
            outputs=engine_year,
            work=workload.updates(),
        ),
        Implementation(
            name=TENTH,
            prepare=lambda: prepare_engine(short),
            outputs=lambda _: None,
            work=short.updates(),
        ),
    ]


def error(year: Year, reference: Year) -> float:
    """Return the worst relative error over the reference's scenarios."""
    few = reference.bad_debt.size
    pairs = [
        (year.bad_debt[:few], reference.bad_debt),
        (year.liquidated[:few], reference.liquidated),
    ]
    if year.growth.size:
        pairs.append((year.growth[:few], reference.growth))
    scale = lambda x: np.maximum(np.abs(x), 1e-4 * np.max(np.abs(x)) + 1e-12)
    return max(float(np.max(np.abs(a - b) / scale(b))) for a, b in pairs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("A year of hours with interest, against hand-written peers.", arguments)
    configure_jax()
    size = (
        {"accounts": 200, "steps": 240, "scenarios": 32, "stress": 30.0}
        if options.quick
        else {"accounts": 1_000, "steps": 8_760, "scenarios": 32, "stress": 1.0}
    )
    workload = make_workload(**size)
    measurements = measure(implementations(workload), repeats=3 if options.quick else 5)
    outputs = {m.implementation.name: m.outputs for m in measurements if m.outputs is not None}
    reference = outputs[NUMPY]
    accuracy = {name: error(year, reference) for name, year in outputs.items()}
    few = reference.bad_debt.size
    shares = {
        "liquidated_share": {
            n: float(y.liquidated[:few].mean() / workload.book_usd) for n, y in outputs.items()
        },
        "bad_debt_share": {
            n: float(y.bad_debt[:few].mean() / workload.debt.sum()) for n, y in outputs.items()
        },
    }
    rows = records(
        "bad_debt_year",
        measurements,
        unit="updates",
        numpy_peer=NUMPY,
        numba_peer=NUMBA,
        accuracy=accuracy,
        shares=shares,
    )
    publish(rows, as_json=options.json)
    problems = [f"{n}: off by {e:.2g}" for n, e in accuracy.items() if not e <= ACCURACY_LIMIT]
    problems += [
        f"{n}: nothing was liquidated" for n, y in outputs.items() if not y.liquidated.sum() > 0
    ]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
