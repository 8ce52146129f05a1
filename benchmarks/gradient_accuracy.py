"""Are derivatives across triggers right: every one of four settings beside its extrapolated bump.

    python benchmarks/gradient_accuracy.py [--quick] [--json]

The settings are those of the tests (`gradient_settings.py`): one loan over fourteen steps, one
shock to fifty loans, ten steps of the same with feedback, two assets with cross impact over two
steps. The referee is a central bump of two step sizes, extrapolated: of quadrature for the one
loan, of the simulation over quantiles for the one shock, of simulations under other draws for the
rest. A derivative fails that is more than `FARTHEST` combined errors off or whose own error is over
`WIDEST` of it (ten times that with `--quick`); plain differentiation must fail in every setting.
Either way round the status is then 1.
"""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import configure_jax, machine, parse_options

sys.path.append(str(Path(__file__).resolve().parent.parent))

FARTHEST, WIDEST = 3.0, 0.02
ESTIMATE, REFEREE = 11, 12
"""Seeds."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One derivative and its referee."""

    setting: str
    parameter: str
    estimator: str
    derivative: float
    standard_error: float
    bump: float
    bump_error: float

    @property
    def off(self) -> float:
        """Distance in combined errors."""
        error = math.hypot(self.standard_error, self.bump_error)
        gap = abs(self.derivative - self.bump)
        return gap / error if error > 0 else (0.0 if gap <= 1e-6 * abs(self.bump) else math.inf)

    @property
    def width(self) -> float:
        """Error relative to the bump."""
        return self.standard_error / abs(self.bump)

    def passes(self, widest: float) -> bool:
        """Whether the derivative is near and its error narrow."""
        return self.off <= FARTHEST and self.width <= widest


def rows_of(setting: str, estimate: Any, referee: Mapping[str, tuple[float, float]]) -> list[Row]:
    """Return the rows of one estimate."""
    rows = []
    for name in estimate.parameters:
        (derivative, error), (bump, bump_error) = estimate.of(name), referee[name]
        how = estimate.estimator
        rows.append(Row(setting, name, how, derivative, error, bump, bump_error))
    return rows


def by_simulation(loss: Callable, p: Mapping[str, float], scenarios: int) -> dict:
    """Return extrapolated bumps of a simulation under other draws."""
    from jaxrisk.gradient.bump import bumps
    from jaxrisk.numerics.keys import root_key

    *_, limit = bumps(loss, p, root_key(REFEREE), scenarios=scenarios, steps=(0.02, 0.01))
    return {name: limit.of(name) for name in limit.parameters}


def by_quantiles(p: Mapping[str, float], count: int) -> dict[str, tuple[float, float]]:
    """Return extrapolated bumps of one shock played over quantiles; their error is not random."""
    from tests.gradient_settings import one_shot_at, typed

    draws = jax.scipy.special.ndtri((jnp.arange(count) + 0.5) / count)
    loss = lambda at, z: jnp.sum(one_shot_at(at, z).lost)
    run = jax.jit(lambda at: jnp.mean(jax.lax.map(lambda z: loss(at, z), draws, batch_size=4096)))
    result = {}
    for name, value in p.items():
        ways = []
        for h in (0.02 * value, 0.01 * value):
            up, down = (float(run(typed({**p, name: value + s * h}))) for s in (1.0, -1.0))
            ways.append((up - down) / (2.0 * h))
        # What the extrapolation moved it by is the order of what is left.
        result[name] = ((4.0 * ways[1] - ways[0]) / 3.0, abs(ways[1] - ways[0]))
    return result


def measured(scale: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """Yield, a setting at a time, what should pass and what should not.

    Args:
        scale: by how much fewer scenarios than in full.
    """
    from jaxrisk.gradient.ladder import closed_form
    from jaxrisk.gradient.pathwise import pathwise
    from jaxrisk.gradient.regime import regime
    from jaxrisk.gradient.survival import survival
    from jaxrisk.numerics.keys import root_key
    from tests import gradient_settings as settings
    from tests import reference_one_loan

    key, typed = root_key(ESTIMATE), settings.typed
    of = lambda estimator, loss, p, count: estimator(
        loss, typed(p), key, scenarios=max(count // scale, 4096)
    )
    p = settings.ONE_LOAN
    truth = reference_one_loan.derivatives(p, settings.ONE_LOAN_STEPS, settings.STEP_YEARS)
    referee = {name: (value, 0.0) for name, value in truth.items()}
    found = of(survival, settings.one_loan_survival, p, 2**18)
    plain = of(pathwise, settings.one_loan, p, 2**18)
    yield rows_of("one loan", found, referee), rows_of("one loan", plain, referee)

    p = settings.ONE_SHOT
    referee = by_quantiles(p, 2**19 // min(scale, 8))
    found = closed_form(settings.one_shot_expected, typed(p))
    again = of(regime, settings.one_shot, p, 2**19)
    plain = of(pathwise, settings.one_shot, p, 2**18)
    right = rows_of("one shot", found, referee) + rows_of("one shot", again, referee)
    yield right, rows_of("one shot", plain, referee)

    for name, loss, p, count, bumped in (
        ("ten steps", settings.ten_steps, settings.TEN_STEPS, 2**19, 2**19),
        ("two assets", settings.TwoAssets(6, 2), settings.TWO_ASSETS, 2**24, 2**23),
    ):
        referee = by_simulation(loss, typed(p), max(bumped // scale, 4096))
        found = of(regime, loss, p, count)
        plain = of(pathwise, loss, p, 2**18)
        yield rows_of(name, found, referee), rows_of(name, plain, referee)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as lines."""
    head = f"{'setting':<12}{'parameter':<18}{'estimator':<20}{'derivative':>24}{'bump':>24}"
    lines = [f"{head}{'errors off':>12}{'relative error':>16}"]
    for r in rows:
        pair = lambda x, e: f"{x:.5g} ± {e:.1g}"
        lines.append(
            f"{r.setting:<12}{r.parameter:<18}{r.estimator:<20}"
            f"{pair(r.derivative, r.standard_error):>24}{pair(r.bump, r.bump_error):>24}"
            f"{r.off:>12.2f}{r.width:>16.4f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("Derivatives across triggers: whether they are right.", arguments)
    configure_jax()
    jax.config.update("jax_enable_x64", True)
    out = sys.stderr if options.json else sys.stdout
    widest, start, problems = WIDEST * (10.0 if options.quick else 1.0), time.perf_counter(), []
    print(f"gradient_accuracy: {machine()}", file=out)
    for right, wrong in measured(64 if options.quick else 1):
        print(table([*right, *wrong]), file=out, flush=True)
        problems += [f"{r.setting}, {r.parameter}: fails" for r in right if not r.passes(widest)]
        if all(r.passes(widest) for r in wrong):
            problems.append(f"{wrong[0].setting}: plain differentiation passes")
        if options.json:
            for r in [*right, *wrong]:
                print(
                    json.dumps(
                        {**dataclasses.asdict(r), "errors_off": float(np.minimum(r.off, 1e9))}
                    )
                )
    print(f"{time.perf_counter() - start:.0f} s", file=out)
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
