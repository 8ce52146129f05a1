"""Four small worlds with triggers, whose derivatives are known in several ways.

One loan over fourteen steps; one shock to fifty loans that push each other; ten steps of the same;
two assets of which the first one's sales push the second. Losses are per unit of the book. Each is
written once, for one scenario, and takes its normal steps from a crossing.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrisk.gradient.estimate import Losses
from jaxrisk.gradient.ladder import SortedLoans, expected_loss
from jaxrisk.gradient.survival import Walk, expected_put, walk
from jaxrisk.market.impact import LinearImpact
from jaxrisk.numerics.crossing import Crossing, Hard
from jaxrisk.numerics.keys import random_words, standard_normal, uniform

STEP_YEARS = 1.0 / 365.0
HARD = Hard()

ONE_LOAN = {"threshold": 0.80, "volatility": 1.2, "price": 1.0, "cost": 0.10, "debt": 0.70}
ONE_LOAN_STEPS = 14
ONE_SHOT = {"threshold": 0.80, "impact": 0.35, "deviation": 0.12, "price": 1.0}
ONE_SHOT_COST = 0.06
TEN = 10
TEN_STEPS = {
    "threshold": 0.80, "impact": 0.35, "cost": 0.06, "deviation": 0.05, "price": 1.0, "debt": 1.0,
}  # fmt: skip
TWO_ASSETS_COST = 0.06
TWO_ASSETS = {
    "first_threshold": 0.80, "second_threshold": 0.82, "impact": 0.30, "cross": 0.10,
    "deviation": 0.10, "correlation": 0.7,
}  # fmt: skip


def typed(parameters: Mapping[str, float], dtype: Any = np.float64) -> dict[str, Any]:
    """Return parameters as arrays of a type."""
    return {name: jnp.asarray(value, dtype) for name, value in parameters.items()}


def drawn(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return loan-to-values, and collaterals that add up to 1 along the last axis."""
    rng = np.random.default_rng(seed)
    ltv = rng.uniform(0.45, 0.76, shape)
    collateral = rng.lognormal(0.0, 1.0, shape)
    return ltv, collateral / collateral.sum(axis=-1, keepdims=True)


def book_of(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the same with loan-to-values that fall along the last axis."""
    ltv, collateral = drawn(seed, shape)
    return np.sort(ltv, axis=-1)[..., ::-1].copy(), collateral


def fifty_at_once() -> tuple[np.ndarray, np.ndarray]:
    """Return fifty loans, the most indebted first."""
    ltv, collateral = drawn(5, (50,))
    order = np.argsort(-ltv)
    return ltv[order], collateral[order]


def normals(key: Any, count: int, dtype: Any) -> Any:
    """Return standard normal draws."""
    return standard_normal(random_words(key, count), dtype)


def one_loan(p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
    """Return what one loan on a unit of collateral leaves unpaid when it is called."""
    deviation = p["volatility"] * STEP_YEARS**0.5
    mean = -0.5 * deviation**2
    trigger = jnp.log(p["debt"] / p["threshold"])
    kink = jnp.log(p["debt"] / (1.0 - p["cost"]))

    def step(state: tuple, draw: Any) -> tuple[tuple, tuple]:
        x, alive = state
        edges = jnp.where(lax.stop_gradient(alive) > 0, jnp.stack([trigger, kink]), -jnp.inf)
        x, score = crossing.normal(x + mean, deviation, draw, edges)
        called = alive * crossing.gate(trigger - x)
        gap = p["debt"] - (1.0 - p["cost"]) * jnp.exp(x)
        return (x, alive - called), (called * jnp.maximum(gap, 0.0), score)

    opening = (jnp.log(p["price"]), jnp.ones_like(mean))
    draws = normals(key, ONE_LOAN_STEPS, mean.dtype)
    _, (lost, scores) = lax.scan(step, opening, draws)
    return Losses(lost=lost, scores=scores)


def one_loan_survival(p: Mapping[str, Any], key: Any) -> Any:
    """Return the conditional expectation of the same loss, given that each step is survived."""
    deviation = p["volatility"] * STEP_YEARS**0.5
    steps = lambda x: jnp.broadcast_to(x, (ONE_LOAN_STEPS,))
    recovered = 1.0 - p["cost"]
    return walk(
        Walk(
            start=jnp.log(p["price"]),
            mean=steps(-0.5 * deviation**2),
            deviation=steps(deviation),
            trigger=steps(jnp.log(p["debt"] / p["threshold"])),
        ),
        lambda mean, deviation, below: expected_put(p["debt"], recovered, mean, deviation, below),
        uniform(random_words(key, ONE_LOAN_STEPS), deviation.dtype),
    )


def pushed_out_loan(p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
    """Return `one_loan`, simulated as the distance to its trigger, which then stands still."""
    deviation = p["volatility"] * STEP_YEARS**0.5
    mean = -0.5 * deviation**2
    trigger = jnp.log(p["debt"] / p["threshold"])

    def step(state: tuple, draw: Any) -> tuple[tuple, tuple]:
        distance, alive = state
        distance, score = crossing.normal(distance + mean, deviation, draw, jnp.zeros(1))
        called = alive * crossing.gate(-distance)
        gap = p["debt"] - (1.0 - p["cost"]) * jnp.exp(distance + trigger)
        return (distance, alive - called), (called * jnp.maximum(gap, 0.0), score)

    opening = (jnp.log(p["price"]) - trigger, jnp.ones_like(mean))
    draws = normals(key, ONE_LOAN_STEPS, mean.dtype)
    _, (lost, scores) = lax.scan(step, opening, draws)
    return Losses(lost=lost, scores=scores)


class Loans:
    """Loans of one collateral that are sold into one market with additive log impact."""

    def __init__(self, ltv: np.ndarray, collateral: np.ndarray, cost: Any) -> None:
        self.collateral = collateral
        self.ltv, self.cost = ltv, cost
        self.before = np.concatenate([[0.0], np.cumsum(collateral)])
        self.index = np.arange(len(ltv), dtype=np.int32)

    def fall(
        self, p: Any, n: Any, mean: Any, deviation: Any, draw: Any, crossing: Crossing
    ) -> tuple[Any, Any, Any, Any, Any]:
        """Return the step taken, the price after sales, how many are closed, loss and score.

        Args:
            p: `threshold`, `impact` and `debt` (a factor on all debts).
            n: how many are closed already.
            mean: of the log price after the step.
            deviation: its standard deviation.
            draw: standard normal.
            crossing: how the step is differentiated.
        """
        dtype = mean.dtype
        ltv, before = jnp.asarray(self.ltv, dtype), jnp.asarray(self.before, dtype)
        trigger = jnp.log(ltv * p["debt"] / p["threshold"])
        left = trigger + p["impact"] * (before[:-1] - before[n])
        x = lax.stop_gradient(mean + deviation * draw)
        # The first that stands stops the fall; the one that fell last of its own bounds it.
        stands = (self.index >= n) & (lax.stop_gradient(left) < x)
        closed = jnp.min(jnp.where(stands, self.index, len(self.index)))
        fallen = (self.index >= n) & (self.index < closed)
        high = jnp.min(jnp.where(fallen, left, jnp.inf))
        low = jnp.max(jnp.where(self.index == closed, left, -jnp.inf))
        x, score = crossing.normal(mean, deviation, draw, jnp.stack([low, high]))
        after = x - p["impact"] * (before[closed] - before[n])
        collateral = jnp.asarray(self.collateral, dtype)
        debt = collateral * ltv * p["debt"]
        gap = debt - (1.0 - self.cost) * collateral * jnp.exp(after)
        loss = jnp.sum(jnp.where(fallen, jnp.maximum(gap, 0.0), 0.0))
        return x, after, closed, loss, score


FIFTY = book_of(5, (50,))
ONE_SHOT_BOOK = fifty_at_once()


def one_shot(p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
    """Return what fifty loans leave unpaid after one shock and all it sets off."""
    (draw,) = normals(key, 1, p["deviation"].dtype)
    return one_shot_at(p, draw, crossing)


def one_shot_at(p: Mapping[str, Any], draw: Any, crossing: Crossing = HARD) -> Losses:
    """Return the same of a given draw."""
    own = {**p, "debt": jnp.ones_like(draw)}
    mean = jnp.log(p["price"]) - 0.5 * p["deviation"] ** 2
    loans = Loans(*ONE_SHOT_BOOK, cost=ONE_SHOT_COST)
    _, _, _, loss, score = loans.fall(own, 0, mean, p["deviation"], draw, crossing)
    return Losses(lost=loss[None], scores=score[None])


def ten_steps(p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
    """Return what fifty loans leave unpaid over ten steps; what is sold lowers later prices too."""
    return ten_steps_at(p, normals(key, TEN, p["deviation"].dtype), crossing)


def ten_steps_at(p: Mapping[str, Any], draws: Any, crossing: Crossing = HARD) -> Losses:
    """Return the same of given draws, `(step,)`."""
    loans = Loans(*FIFTY, cost=p["cost"])
    drift = -0.5 * p["deviation"] ** 2

    def step(state: tuple, draw: Any) -> tuple[tuple, tuple]:
        x, n = state
        _, x, n, loss, score = loans.fall(p, n, x + drift, p["deviation"], draw, crossing)
        return (x, n), (loss, score)

    opening = (jnp.log(p["price"]), jnp.zeros((), jnp.int32))
    _, (lost, scores) = lax.scan(step, opening, draws)
    return Losses(lost=lost, scores=scores)


class TwoAssets:
    """Two books of so many loans over so many steps.

    In each step the first asset moves and its loans fall; then the second, whose move is correlated
    with the first one's and pushed by its sales.
    """

    def __init__(self, loans: int, steps: int) -> None:
        ltv, collateral = book_of(7, (2, loans))
        self.steps = steps
        self.first, self.second = (Loans(ltv[a], collateral[a], TWO_ASSETS_COST) for a in (0, 1))

    def __call__(self, p: Mapping[str, Any], key: Any, crossing: Crossing = HARD) -> Losses:
        """Return the losses of one scenario."""
        draws = normals(key, 2 * self.steps, p["impact"].dtype)
        return self.played(p, draws.reshape(self.steps, 2), crossing)

    def played(self, p: Mapping[str, Any], draws: Any, crossing: Crossing = HARD) -> Losses:
        """Return the same of given draws, `(step, 2)`."""
        one = jnp.ones_like(p["impact"])
        first, second = (
            {"threshold": p[f"{name}_threshold"], "impact": p["impact"], "debt": one}
            for name in ("first", "second")
        )
        drift, own = -0.5 * p["deviation"] ** 2, jnp.sqrt(1.0 - p["correlation"] ** 2)
        sold = lambda n: jnp.asarray(self.first.before, one.dtype)[n]

        def step(state: tuple, draw: Any) -> tuple[tuple, tuple]:
            x, n, y, m = state
            moved, after, k, loss_x, score_x = self.first.fall(
                first, n, x + drift, p["deviation"], draw[0], crossing
            )
            common = p["correlation"] * (moved - x - drift)
            centre = y + drift + common - p["cross"] * (sold(k) - sold(n))
            _, y, m, loss_y, score_y = self.second.fall(
                second, m, centre, p["deviation"] * own, draw[1], crossing
            )
            # The first asset's score comes before the second one's losses, and not the other way.
            return (after, k, y, m), (jnp.stack([loss_x, loss_y]), jnp.stack([score_x, score_y]))

        zero, none = jnp.zeros_like(drift), jnp.zeros((), jnp.int32)
        _, (lost, scores) = lax.scan(step, (zero, none, zero, none), draws)
        return Losses(lost=lost.reshape(-1), scores=scores.reshape(-1))


def one_shot_expected(p: Mapping[str, Any]) -> Any:
    """Return the expectation of `one_shot` in closed form."""
    ltv, collateral = (jnp.asarray(x, p["impact"].dtype) for x in ONE_SHOT_BOOK)
    loans = SortedLoans.of(
        jnp.log(ltv / p["threshold"]), collateral, (1.0 - ONE_SHOT_COST) * collateral,
        collateral * ltv,
    )  # fmt: skip
    return expected_loss(
        loans,
        LinearImpact(coefficient=p["impact"][None]),
        jnp.ones_like(p["impact"]),
        mean=jnp.log(p["price"]) - 0.5 * p["deviation"] ** 2,
        deviation=p["deviation"],
    )
