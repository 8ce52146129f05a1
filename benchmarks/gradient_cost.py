"""What do derivatives across triggers cost, beside the value they belong to?

    python benchmarks/gradient_cost.py [--quick] [--json]

Fifty loans that push each other's price down, ten steps, six parameters (`gradient_settings.py` of
the tests). All six derivatives by regime scores, one backward pass; by bumps, two simulations a
parameter; by plain differentiation, which is wrong; and by a smoothed gate, which needs the cascade
played in rounds (on a sixteenth of the scenarios). NumPy and Numba play the value alone. The unit
is a scenario; `time_ratio` is time over the value's. Beside the speeds stands how far each value is
from the NumPy one, and a run whose regime scores cost more than ten values exits with status 1.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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

sys.path.append(str(Path(__file__).resolve().parent.parent))

NUMPY, NUMBA = "NumPy, value", "Numba, value"
VALUE, REGIME = "jaxrisk, value", "jaxrisk, value and 6 derivatives by regime scores"
BUMPS = "jaxrisk, 6 derivatives by bumps"
PLAIN = "value and plain differentiation (wrong)"
ROUNDS, GATE = "value, cascade in rounds", "value and 6 derivatives by a smoothed gate, in rounds"
MOST_VALUES = 10.0
VALUE_LIMIT = 1e-10
MOST_ROUNDS = 24
GATE_WIDTH = 0.05
SIDE_BY_SIDE = 256
FEWER = 16


def numpy_value(at: dict[str, float], book: tuple, draws: np.ndarray) -> np.ndarray:
    """Return the loss of each scenario, scenarios side by side and loans one after another."""
    ltv, collateral = book
    before = np.concatenate([[0.0], np.cumsum(collateral)])
    debt = collateral * ltv * at["debt"]
    trigger = np.log(ltv * at["debt"] / at["threshold"])
    x = np.full(len(draws), np.log(at["price"]))
    closed, loss = np.zeros(len(draws), np.intp), np.zeros(len(draws))
    for draw in draws.T:
        x = x - 0.5 * at["deviation"] ** 2 + at["deviation"] * draw
        opening, start = closed.copy(), x.copy()
        for j in range(len(ltv)):
            sold = before[closed] - before[opening]
            falls = (closed == j) & (start - at["impact"] * sold <= trigger[j])
            closed = np.where(falls, j + 1, closed)
        x = start - at["impact"] * (before[closed] - before[opening])
        for j in range(len(ltv)):
            gap = debt[j] - (1.0 - at["cost"]) * collateral[j] * np.exp(x)
            loss += np.where((opening <= j) & (j < closed), np.maximum(gap, 0.0), 0.0)
    return loss


@functools.cache
def numba_value() -> Callable[..., Any]:
    """Return the same loop, one scenario after another on all cores."""
    import numba

    @numba.njit(parallel=True)
    def play(draws, ltv, collateral, threshold, impact, cost, deviation, price, debt):
        loss = np.zeros(draws.shape[0])
        for s in numba.prange(draws.shape[0]):
            x, n = np.log(price), 0
            for t in range(draws.shape[1]):
                x += -0.5 * deviation**2 + deviation * draws[s, t]
                first = n
                while n < ltv.size and x <= np.log(ltv[n] * debt / threshold):
                    x -= impact * collateral[n]
                    n += 1
                for j in range(first, n):
                    gap = collateral[j] * (ltv[j] * debt - (1.0 - cost) * np.exp(x))
                    loss[s] += max(gap, 0.0)
        return loss

    return play


def in_rounds(p: Any, draws: Any, crossing: Any) -> Any:
    """Return the loss of a scenario whose cascades are played in rounds, each loan by a gate."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from tests.gradient_settings import FIFTY

    ltv, collateral = (jnp.asarray(x) for x in FIFTY)
    debt = collateral * ltv * p["debt"]
    trigger = jnp.log(ltv * p["debt"] / p["threshold"])

    def step(state: tuple, draw: Any) -> tuple[tuple, Any]:
        x, open_before = state
        x = x - 0.5 * p["deviation"] ** 2 + p["deviation"] * draw

        def one_round(left: Any, _: None) -> tuple[Any, None]:
            y = x - p["impact"] * jnp.sum(collateral * (open_before - left))
            return open_before * (1.0 - crossing.gate(trigger - y)), None

        left, _ = lax.scan(one_round, open_before, None, length=MOST_ROUNDS)
        y = x - p["impact"] * jnp.sum(collateral * (open_before - left))
        gap = jnp.maximum(debt - (1.0 - p["cost"]) * collateral * jnp.exp(y), 0.0)
        return (y, left), jnp.sum((open_before - left) * gap)

    opening = (jnp.log(p["price"]), jnp.ones_like(ltv))
    _, lost = lax.scan(jax.checkpoint(step, prevent_cse=False), opening, draws)
    return jnp.sum(lost)


def prepare(kind: str, parameters: dict[str, float], draws: np.ndarray) -> Prepared:
    """Return one of the JAX programs over all scenarios, compiled."""
    import jax
    import jax.numpy as jnp

    from jaxrisk.gradient.estimate import lost, point_of, total
    from jaxrisk.numerics.crossing import Hard, Smooth, Stratified
    from jaxrisk.system.simulate import mapped
    from tests.gradient_settings import ten_steps_at, typed

    at = point_of(typed(parameters))
    smooth = Smooth(width=jnp.asarray(GATE_WIDTH))
    value = lambda v, own: lost(ten_steps_at(at.unravel(v), own))
    scored = lambda v, own: total(ten_steps_at(at.unravel(v), own, Stratified()))
    rounds = lambda crossing: lambda v, own: in_rounds(at.unravel(v), own, crossing)

    def bumped(v: Any, own: Any) -> Any:
        size = 0.01 * jnp.diag(v)
        ends = jax.vmap(lambda u: value(u, own))(jnp.concatenate([v + size, v - size]))
        return (ends[: v.size] - ends[v.size :]) / (0.02 * v)

    functions = {
        VALUE: value,
        REGIME: jax.value_and_grad(scored),
        BUMPS: bumped,
        PLAIN: jax.value_and_grad(value),
        ROUNDS: rounds(Hard()),
        GATE: jax.value_and_grad(rounds(smooth)),
    }
    play, data = functions[kind], jnp.asarray(draws)
    lanes = SIDE_BY_SIDE // (FEWER if kind in (ROUNDS, GATE) else 1)
    run = mapped(lambda v, data: lambda scenario: play(v, data[scenario]), lanes)
    ids = jnp.arange(len(draws), dtype=jnp.uint32)
    return compile_ahead(run, (at.values, data), ids, live_scenarios=lanes)


def implementations(scenarios: int) -> list[Implementation]:
    """Return peers and programs, each with what it is measured against."""
    from tests.gradient_settings import FIFTY, TEN, TEN_STEPS

    draws = np.random.default_rng(0).normal(size=(scenarios, TEN))
    names = ("threshold", "impact", "cost", "deviation", "price", "debt")
    numbers = [TEN_STEPS[name] for name in names]

    def numba() -> Prepared:
        kernel = numba_value()
        kernel(draws[:2], *FIFTY, *numbers)
        return Prepared(lambda: kernel(draws, *FIFTY, *numbers))

    of_value = lambda raw: np.asarray(raw[0] if isinstance(raw, tuple) else raw)
    against = {REGIME: VALUE, BUMPS: VALUE, PLAIN: VALUE, GATE: ROUNDS}
    result = [
        Implementation(
            name=NUMPY,
            prepare=lambda: Prepared(lambda: numpy_value(TEN_STEPS, FIFTY, draws)),
            outputs=of_value,
            work=scenarios,
        ),
        Implementation(name=NUMBA, prepare=numba, outputs=of_value, work=scenarios),
    ]
    for kind in (VALUE, REGIME, BUMPS, PLAIN, ROUNDS, GATE):
        own = draws[: scenarios // FEWER] if kind in (ROUNDS, GATE) else draws
        one = Implementation(
            name=kind,
            prepare=functools.partial(prepare, kind, TEN_STEPS, own),
            outputs=(lambda raw: None) if kind in (BUMPS, GATE) else of_value,
            work=len(own),
            relative_to=against.get(kind),
        )
        result = [*result, one]
    return result


def judge(measurements: Sequence[Measurement]) -> tuple[dict[str, float], list[str]]:
    """Return how far values are from NumPy's, over the mean, and what is not as it should be."""
    by_name = {m.implementation.name: m for m in measurements}
    expected = by_name[NUMPY].outputs
    errors = {
        name: float(np.abs(m.outputs - expected[: m.outputs.size]).max() / expected.mean())
        for name, m in by_name.items()
        if m.outputs is not None
    }
    wrong = [
        f"{name}: a scenario's loss is off by {error:.2g} of the mean"
        for name, error in errors.items()
        if not error <= VALUE_LIMIT
    ]
    cost = by_name[REGIME].seconds_wall / by_name[VALUE].seconds_wall
    if not cost <= MOST_VALUES:
        wrong.append(f"{REGIME}: {cost:.1f} times the value's time")
    return errors, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("Derivatives across triggers: what they cost.", arguments)
    configure_jax()
    import jax

    jax.config.update("jax_enable_x64", True)
    scenarios = 2**12 if options.quick else 2**15
    measurements = measure(implementations(scenarios), repeats=3 if options.quick else 7)
    errors, wrong = judge(measurements)
    rows = records(
        "gradient_cost",
        measurements,
        unit="scenarios",
        numpy_peer=NUMPY,
        numba_peer=NUMBA,
        accuracy=errors,
        shares={},
    )
    publish(rows, as_json=options.json)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
