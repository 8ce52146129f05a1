"""Why plain differentiation of a simulation with liquidations is wrong, in one picture.

    python docs/examples/gradients.py [PICTURE.png]

One loan of 0.70 on a unit of collateral of price 1, fourteen daily steps at a volatility of 120 % a
year; it is closed whole when its price falls below 0.70 over the liquidation threshold, at a cost
of 10 %, and what is then missing is bad debt. How does expected bad debt change with the threshold?
By four estimators over thresholds from 0.76 to 0.88, and by the referee at 0.80. The check takes
half a minute; the picture, for which each estimator is compiled at each threshold, a few.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrisk.gradient.check import GradientCheck, against_bumps, check_gradient
from jaxrisk.gradient.estimate import Losses
from jaxrisk.gradient.pathwise import pathwise
from jaxrisk.gradient.regime import regime
from jaxrisk.gradient.smoothed import smoothed
from jaxrisk.gradient.survival import Walk, expected_put, survival, walk
from jaxrisk.numerics.crossing import Crossing, Hard
from jaxrisk.numerics.keys import random_words, root_key, standard_normal, uniform

STEPS, STEP_YEARS = 14, 1 / 365
LOAN = {"threshold": 0.80, "volatility": 1.2, "price": 1.0, "cost": 0.10, "debt": 0.70}
WIDTHS = (0.16, 0.08, 0.04)
HARD = Hard()


def bad_debt(p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
    """Return the bad debt of one scenario, step by step: the simulation as one would write it."""
    deviation = p["volatility"] * STEP_YEARS**0.5
    trigger = jnp.log(p["debt"] / p["threshold"])

    def step(state: tuple, draw: Any) -> tuple[tuple, tuple]:
        log_price, standing = state
        # The rest of the simulation jumps where the price crosses the trigger of a standing loan.
        edges = jnp.where(lax.stop_gradient(standing) > 0, trigger, -jnp.inf)[None]
        mean = log_price - 0.5 * deviation**2
        log_price, score = crossing.normal(mean, deviation, draw, edges)
        called = standing * crossing.gate(trigger - log_price)
        missing = p["debt"] - (1 - p["cost"]) * jnp.exp(log_price)
        return (log_price, standing - called), (called * jnp.maximum(missing, 0.0), score)

    draws = standard_normal(random_words(key, STEPS), deviation.dtype)
    _, (lost, scores) = lax.scan(step, (jnp.log(p["price"]), jnp.ones_like(deviation)), draws)
    return Losses(lost=lost, scores=scores)


def expected_bad_debt(p: Mapping[str, Any], key: Any) -> Any:
    """Return the same as an expectation: no step is called, the chance of it is written out."""
    deviation = p["volatility"] * STEP_YEARS**0.5
    every = lambda x: jnp.broadcast_to(x, (STEPS,))
    steps = Walk(
        start=jnp.log(p["price"]),
        mean=every(-0.5 * deviation**2),
        deviation=every(deviation),
        trigger=every(jnp.log(p["debt"] / p["threshold"])),
    )
    closed = lambda mean, deviation, below: expected_put(
        p["debt"], 1 - p["cost"], mean, deviation, below
    )
    return walk(steps, closed, uniform(random_words(key, STEPS), deviation.dtype))


def typed(parameters: Mapping[str, float]) -> dict[str, Any]:
    """Return parameters as arrays."""
    return {name: jnp.asarray(value) for name, value in parameters.items()}


@dataclasses.dataclass(frozen=True)
class Curves:
    """Derivatives by the threshold, one entry a threshold; estimates with their errors."""

    thresholds: np.ndarray
    exact: np.ndarray
    plain: np.ndarray
    smooth: dict[float, np.ndarray]
    regime: tuple[np.ndarray, np.ndarray]


def curves(thresholds: np.ndarray, scenarios: int) -> Curves:
    """Return what each estimator says at each threshold."""
    key = root_key(1)
    of = lambda e: [e.of("threshold") for e in e]
    at = [{**LOAN, "threshold": float(x)} for x in thresholds]
    run = lambda estimator, loss, **options: (
        np.array(of([estimator(loss, p, key, scenarios=scenarios, **options) for p in at])).T
    )
    return Curves(
        thresholds=thresholds,
        exact=run(survival, expected_bad_debt)[0],
        plain=run(pathwise, bad_debt)[0],
        smooth={w: run(smoothed, bad_debt, width=w, extrapolate=False)[0] for w in WIDTHS},
        regime=tuple(run(regime, bad_debt)),
    )


def referee(scenarios: int) -> tuple[GradientCheck, GradientCheck]:
    """Return the checks of the right estimator and of plain differentiation, by the threshold."""
    key, asked = root_key(2), {"threshold": LOAN["threshold"]}

    def loss(p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
        return bad_debt({**typed(LOAN), **p}, key, crossing)

    steps = (0.04, 0.02)
    right = check_gradient(loss, asked, key, scenarios=scenarios, steps=steps)
    plain = pathwise(loss, asked, key, scenarios=scenarios)
    return right, against_bumps(plain, loss, asked, key, scenarios=scenarios, steps=steps)


def draw(found: Curves, path: str) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    x = found.thresholds
    axes.plot(x, found.exact, color="#1c2733", lw=2.2, label="exact (one-step survival)")
    for (width, y), colour in zip(
        found.smooth.items(), ("#d39a1e", "#6fb3dd", "#1b8577"), strict=True
    ):
        axes.plot(x, y, color=colour, lw=1.2, ls="--", label=f"smoothed gate, width {width:g}")
    axes.errorbar(
        x, found.regime[0], 2 * found.regime[1], fmt="o", ms=4, color="#1f5f99", capsize=2,
        label="regime score, ± 2 standard errors",
    )  # fmt: skip
    axes.plot(x, found.plain, color="#c4501f", lw=2.2, label="plain differentiation: always 0")
    axes.set_xlabel("liquidation threshold")
    axes.set_ylabel("derivative of expected bad debt")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str]) -> int:
    """Print the check, draw the picture if a name is given, and return the exit status."""
    right, plain = referee(2**20)
    for check in (right, plain):
        print(check, end="\n\n")
    if arguments:
        draw(curves(np.linspace(0.76, 0.88, 13), 2**16), arguments[0])
    return 0 if right.passed and not plain.passed else 1


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sys.exit(main(sys.argv[1:]))
