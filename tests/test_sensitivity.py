"""Sensitivities: closed forms, the bump as referee, and what must never be published.

The closed forms are those of one loan and one step. Ether moves once by a normal log return of
standard deviation s; a loan of D dollars on C ether with threshold θ is closed whole when its price
falls below D / (θ C), and what is seized is D (1 + bonus) as long as that much is left. The draws
are the quantiles of the normal law, so sums over scenarios are integrals up to the gaps between
draws, and nothing here depends on luck.
"""

import dataclasses
import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.gradient.parameter import parameters, with_values
from jaxrisk.gradient.sensitivity import Sensitivity, agrees, sensitivities
from jaxrisk.market.impact import LinearImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import gate
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.policy import Keeper, ProRata
from jaxrisk.system.simulate import (
    Plan,
    cut_books,
    layouts,
    over_scenarios,
    playing,
    simulator,
    step_rules,
)
from jaxrisk.system.system import System
from jaxrisk.venue.venue import Venue
from tests.books import ASSETS, PRICE, pair_venue
from tests.helpers import assert_close
from tests.systems import STEP_YEARS, stochastic_system

NORMAL = NormalDist()
DRAWS = 8192
RETURN_DEVIATION = 0.10
# A year of interest on the loan is 2 %: over this step it is nothing.
INSTANT_YEARS = 1e-9

THRESHOLD = 0.8
BONUS = 1.0 / (1.0 - 0.3 * (1.0 - THRESHOLD)) - 1.0
DEBT = 1.0e6
OPENING_HEALTH = 1.1
COLLATERAL = OPENING_HEALTH * DEBT / THRESHOLD
# Returns at which the loan becomes liquidatable, and at which it leaves bad debt.
TRIGGER = math.log(1.0 / OPENING_HEALTH)
SHORT = math.log(DEBT * (1.0 + BONUS) / COLLATERAL)

KINDS = ("liquidation_threshold", "volatility", "depth", "insurance")
CONFIDENCE = 0.95
WIDTH = 0.05


def one_loan(*, insurance: float = 0.0, deviation: float = RETURN_DEVIATION) -> System:
    """Return the system of one loan; impact is far too small to matter."""
    quantiles = (np.arange(DRAWS) + 0.5) / DRAWS
    moves = np.zeros((DRAWS, 1, 2))
    moves[:, 0, 0] = [deviation * NORMAL.inv_cdf(q) for q in quantiles]
    venue: Venue = pair_venue([COLLATERAL], [DEBT], threshold=THRESHOLD)
    return System(
        market=Market.opening(dict(zip(ASSETS, PRICE, strict=True))),
        paths=GivenMoves(log_return=jnp.asarray(moves)),
        liquidity=Liquidity(
            law=LinearImpact(coefficient=jnp.full(2, 0.1)),
            depth=ConstantDepth(depth=jnp.full(2, 1e16)),
            permanent_share=jnp.asarray(0.0),
            recovery_rate=jnp.asarray(0.0),
            variance_rate=jnp.asarray(0.0),
        ),
        venues=(dataclasses.replace(venue, funds=jnp.asarray([0.0, insurance])),),
        keeper=Keeper(minimum_return=jnp.asarray(0.0), choice=ProRata()),
    )


def study(system: System, **options) -> list[Sensitivity]:
    """Return the sensitivities of one instant step; rounds = 1, so a gate is passed once."""
    return sensitivities(
        system,
        root_key(0),
        scenarios=DRAWS,
        steps=1,
        step_years=INSTANT_YEARS,
        rounds=1,
        **{"extrapolate": False, **options},
    )


def density(x: float) -> float:
    """Return the density of the log return."""
    return NORMAL.pdf(x / RETURN_DEVIATION) / RETURN_DEVIATION


def probability_below(x: float, *, deviation: float = RETURN_DEVIATION) -> float:
    """Return the probability of a log return below `x`."""
    return NORMAL.cdf(x / deviation)


@pytest.fixture(scope="module")
def published() -> list[Sensitivity]:
    """All rows of a system of ten accounts on two venues: 2 measures, their tails, 6 parameters."""
    return sensitivities(
        stochastic_system(1),
        root_key(1),
        scenarios=2048,
        steps=3,
        step_years=STEP_YEARS,
        measures=("supplier_loss_usd", "liquidated_usd"),
        kinds=KINDS,
        confidence=CONFIDENCE,
        width=WIDTH,
        extrapolate=False,
    )


def row(rows: list[Sensitivity], measure: str, parameter: str) -> Sensitivity:
    (found,) = [r for r in rows if (r.measure, r.parameter) == (measure, parameter)]
    return found


def test_every_row_says_how_it_was_obtained_and_how_wide_its_errors_are(published):
    names = [
        f"liquidation_threshold.{v}" if kind == "liquidation_threshold" else f"insurance.{v}"
        for kind in ("liquidation_threshold", "insurance")
        for v in ("pool", "isolated")
    ]
    names += ["volatility", "depth"]
    measures = [m + t for m in ("supplier_loss_usd", "liquidated_usd") for t in ("", ".es_0.95")]
    assert sorted((r.measure, r.parameter) for r in published) == sorted(
        (m, n) for m in measures for n in names
    )
    for r in published:
        exact = r.parameter.startswith("insurance")
        assert (r.estimator == "pathwise") is exact, r
        known = ("pathwise", "likelihood", f"smoothed gate, width {WIDTH:g}", "bump, half the step")
        assert r.estimator.startswith(known), r
        numbers = (r.value, r.derivative, r.standard_error, r.bump_derivative)
        assert np.isfinite([*numbers, r.bump_standard_error]).all(), r
        assert min(r.standard_error, r.bump_standard_error) >= 0.0, r
        pairs = (r.derivative, r.standard_error), (r.bump_derivative, r.bump_standard_error)
        assert r.agrees is agrees(*pairs), r


def test_nothing_published_is_autodiff_through_a_trigger(published):
    """Whatever moves a trigger goes through a gate of stated width; and it does move losses."""
    for r in published:
        if r.estimator == "pathwise":
            assert r.parameter.startswith("insurance.")
    moved = row(published, "liquidated_usd", "liquidation_threshold.isolated")
    assert moved.derivative != 0.0
    assert moved.bump_derivative < -4.0 * moved.bump_standard_error


@pytest.mark.parametrize("tail", ["", ".es_0.95"])
def test_pathwise_insurance_equals_its_bump_within_errors(published, tail):
    found = row(published, f"supplier_loss_usd{tail}", "insurance.isolated")
    errors = math.hypot(found.standard_error, found.bump_standard_error)
    assert found.derivative < -4.0 * found.standard_error
    # Both share their draws, so they are far closer than independent errors would allow.
    assert abs(found.derivative - found.bump_derivative) < errors


def test_insurance_of_one_loan_in_closed_form():
    """d E[(loss − K)+] / dK = −P(loss > K); the tail's is that over 1 − confidence."""
    capacity, deviation = 1.0e4, 0.15
    rows = study(
        one_loan(insurance=capacity, deviation=deviation),
        measures=("supplier_loss_usd",),
        kinds=("insurance",),
        confidence=CONFIDENCE,
    )
    uncovered = math.log((DEBT - capacity) * (1.0 + BONUS) / COLLATERAL)
    beyond = probability_below(uncovered, deviation=deviation)
    assert 0.01 < beyond < 1.0 - CONFIDENCE
    expected = {"supplier_loss_usd": -beyond, "supplier_loss_usd.es_0.95": -beyond / 0.05}
    for measure, derivative in expected.items():
        found = row(rows, measure, "insurance.morpho_blue")
        # One draw more or less is 1 / DRAWS of probability, 0.3 % of it here.
        assert_close(found.derivative, derivative, rtol=0.01, atol=0.0)
        assert_close(found.bump_derivative, derivative, rtol=0.01, atol=0.0)


def test_shortfall_by_rockafellar_uryasev_where_the_quantile_is_beyond_the_fund():
    """Every dollar of insurance takes a dollar off every loss of the tail: the derivative is −1."""
    wide = one_loan(insurance=2.0e4, deviation=0.3)
    rows = study(wide, measures=("supplier_loss_usd",), kinds=("insurance",), confidence=0.95)
    found = row(rows, "supplier_loss_usd.es_0.95", "insurance.morpho_blue")
    assert_close(found.derivative, -1.0, rtol=5e-3, atol=0.0)
    # The quantile is held, so the bump is exact only beyond it: losses within a bump of it are few.
    assert_close(found.bump_derivative, -1.0, rtol=5e-3, atol=0.0)


@pytest.mark.parametrize("estimate", ["derivative", "bump_derivative"])
def test_an_empty_fund_is_differentiated_to_the_right(estimate):
    """The first dollar of insurance saves a dollar wherever there is bad debt, else nothing."""
    system = one_loan(deviation=0.15)
    (found,) = study(system, measures=("supplier_loss_usd",), kinds=("insurance",))
    expected = -probability_below(SHORT, deviation=0.15)
    assert_close(getattr(found, estimate), expected, rtol=0.01, atol=0.0)


def test_smoothed_gate_approaches_the_closed_form_as_its_width_shrinks():
    """d E[seized] / dθ = −D (1 + bonus) φ(trigger) per unit of a factor on θ; bias O(width²)."""
    expected = -DEBT * (1.0 + BONUS) * density(TRIGGER)
    errors = []
    for width in (0.16, 0.08, 0.04):
        (found,) = study(
            one_loan(), measures=("liquidated_usd",), kinds=("liquidation_threshold",), width=width
        )
        assert found.estimator == f"smoothed gate, width {width:g}"
        errors.append(abs(found.derivative / expected - 1.0))
        # The bump is 2 % on both sides and the draws are 1e-4 apart in probability.
        assert_close(found.bump_derivative, expected, rtol=0.02, atol=0.0)
    assert errors[2] < 0.01, errors
    assert errors[0] > 3.0 * errors[1] > 9.0 * errors[2], errors


def test_the_bias_of_a_wide_gate_is_seen_and_taken_away():
    """Where half the width says something else beyond its noise; a narrow gate is left alone."""
    expected = -DEBT * (1.0 + BONUS) * density(TRIGGER)
    measure, kinds = ("liquidated_usd",), ("liquidation_threshold",)
    run = lambda width, **more: study(
        one_loan(), measures=measure, kinds=kinds, width=width, **more
    )[0]
    wide, raw = run(0.16, extrapolate=True), run(0.16)
    assert wide.estimator == "smoothed gate, width 0.16 and 0.08, extrapolated"
    assert abs(raw.derivative / expected - 1.0) > 0.05
    assert abs(wide.derivative / expected - 1.0) < 0.02
    narrow = run(0.02, extrapolate=True)
    assert narrow.estimator == "smoothed gate, width 0.02"


def test_a_gate_too_narrow_for_the_sample_gives_way_to_the_bump():
    """No scenario meets a trigger within it, so its derivative is 0 without error: never shown."""
    (found,) = study(
        one_loan(), measures=("liquidated_usd",), kinds=("liquidation_threshold",), width=1e-9
    )
    assert found.estimator == "bump, half the step"
    assert_close(found.derivative, found.bump_derivative, rtol=0.05, atol=0.0)
    assert found.derivative != found.bump_derivative


def test_smoothed_gate_of_a_volatility_in_closed_form():
    """With returns scaled by f: E[seized] = D (1 + bonus) Φ(trigger / (f s))."""
    expected = -DEBT * (1.0 + BONUS) * density(TRIGGER) * TRIGGER
    (found,) = study(one_loan(), measures=("liquidated_usd",), kinds=("volatility",), width=0.01)
    assert_close(found.derivative, expected, rtol=0.01, atol=0.0)
    assert_close(found.bump_derivative, expected, rtol=0.03, atol=0.0)


def test_negative_control_autodiff_through_the_hard_trigger_is_zero_and_rejected():
    """Plain autodiff sees no trigger: the gradient is 0 in every scenario, and never passes."""
    system, plan = one_loan(), Plan(steps=1, rounds=1)
    chosen = parameters(system, ("liquidation_threshold",))
    rules, key = step_rules(system, plan, INSTANT_YEARS), root_key(0)

    def bind(values, system, layout, rules, key):
        def seized(values, scenario):
            changed = with_values(system, chosen, values)
            return jnp.sum(
                playing(plan, changed, cut_books(changed, layout), rules, key)(scenario).liquidated
            )

        return lambda scenario: jax.jacfwd(seized)(values, scenario)

    arguments = (jnp.ones(1), system, layouts(system, plan), rules, key)
    slopes = np.asarray(over_scenarios(bind, plan.side_by_side)(arguments, np.arange(DRAWS)))
    assert_close(slopes, np.zeros((DRAWS, 1)), rtol=0.0, atol=0.0)

    (found,) = study(one_loan(), measures=("liquidated_usd",), kinds=("liquidation_threshold",))
    referee = (found.bump_derivative, found.bump_standard_error)
    assert abs(referee[0]) > 10.0 * referee[1]
    assert not agrees((float(slopes.mean()), float(slopes.std())), referee)


def test_a_gate_of_no_width_is_the_exact_rule():
    excess = jnp.array([-1.0, -1e-12, 0.0, 1e-12, 0.5, 1.0, -3.0])
    scale = jnp.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert gate(excess, scale, jnp.array(0.0)).tolist() == gate(excess, scale, None).tolist()


@pytest.mark.slow
def test_a_simulation_with_a_gate_of_no_width_is_the_exact_one():
    """Pathwise derivatives run the smooth program at width 0: it must be the published run."""
    system, plan = stochastic_system(1), Plan(steps=3, rounds=3)
    ids, books = np.arange(256), cut_books(system, layouts(system, plan))
    exact, limit = (
        simulator(plan)(system, books, step_rules(system, plan, STEP_YEARS, w), root_key(1), ids)
        for w in (None, 0.0)
    )
    assert float(jnp.sum(exact.liquidated)) > 0.0
    assert_close(limit.liquidated, exact.liquidated, rtol=1e-9, atol=1e-6)
    assert_close(limit.bad_debt, exact.bad_debt, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("estimate", "referee", "verdict"),
    [
        ((1.00, 0.02), (1.02, 0.02), True),
        ((1.00, 0.02), (1.20, 0.02), False),  # 7 combined errors apart
        ((1.00, 0.30), (1.02, 0.02), False),  # the estimate's error is wide
        ((1.00, 0.02), (1.02, 0.30), False),  # the bump's error is wide
        ((1.00, math.inf), (1.00, math.inf), False),  # a single scenario
        ((0.00, 0.00), (1.00, 0.02), False),  # autodiff through a trigger
        ((1.00, 0.02), (0.00, 0.00), False),
        ((0.00, 0.00), (0.00, 0.00), True),  # nothing depends on it
        ((math.nan, 0.02), (1.00, 0.02), False),
    ],
)
def test_verdicts(estimate, referee, verdict):
    assert agrees(estimate, referee) is verdict


def test_agreement_to_rounding_needs_no_error_bars():
    """Scenarios of a replay are all alike: their errors are 0 and the last digits still differ."""
    assert agrees((-1.0, 0.0), (-1.0 + 1e-13, 0.0))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown measure 'bad_debt'; known: bad_debt_usd, "):
        study(one_loan(), measures=("bad_debt",))
    with pytest.raises(ValueError, match=r"unknown parameter 'vol'; known: liquidation_threshold"):
        study(one_loan(), kinds=("vol",))


def test_nothing_is_computed_where_nothing_is_asked():
    assert study(one_loan(), measures=()) == []
    assert study(one_loan(), kinds=()) == []
