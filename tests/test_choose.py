"""Which estimator serves which row of a table, and what the rows made in new ways are worth."""

import dataclasses
import math
from statistics import NormalDist
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.gradient.choose import choose
from jaxrisk.gradient.law import log_density, moves_of, volatile_assets
from jaxrisk.gradient.parameter import leaf_parameter, parameters
from jaxrisk.gradient.sensitivity import sensitivities
from jaxrisk.gradient.study import MEASURES, measure_of
from jaxrisk.gradient.tail import Functional, density_at, mean_and_error
from jaxrisk.market.correlation import correlation_factor
from jaxrisk.market.paths import Gbm
from jaxrisk.numerics.keys import root_key
from jaxrisk.run.config import Measure
from jaxrisk.system.system import System
from tests.helpers import assert_close
from tests.systems import random_system, stochastic_system
from tests.test_sensitivity import BONUS, COLLATERAL, DEBT, INSTANT_YEARS, THRESHOLD, one_loan

NORMAL = NormalDist()
DEVIATION = 0.10
TRIGGER = math.log(DEBT / (THRESHOLD * COLLATERAL)) + 0.5 * DEVIATION**2
SCENARIOS = 2**13


def normal_loan() -> System:
    """Return one loan whose collateral makes one normal step of deviation `DEVIATION`."""
    return dataclasses.replace(
        one_loan(),
        paths=Gbm(
            drift=jnp.zeros(2),
            volatility=jnp.array([DEVIATION / math.sqrt(INSTANT_YEARS), 0.0]),
            factor=jnp.eye(2),
        ),
    )


def named(system: System, name: str):
    (found,) = [p for p in parameters(system) if p.name == name]
    return found


@pytest.mark.parametrize(
    ("parameter", "functional", "valid"),
    [
        ("insurance.pool", Functional(), ("pathwise", "bump")),
        ("insurance.pool", Functional("above", 1.0), ("bump",)),
        ("liquidation_threshold.pool", Functional(), ("smoothed gate", "bump")),
        ("liquidation_threshold.pool", Functional("var", 0.9), ("bump",)),
        ("volatility", Functional(), ("likelihood ratio", "smoothed gate", "bump")),
        ("volatility", Functional("above", 1.0), ("likelihood ratio", "bump")),
        ("correlation", Functional("es", 0.9), ("likelihood ratio", "smoothed gate", "bump")),
        ("depth", Functional("es", 0.9), ("smoothed gate", "bump")),
    ],
)
def test_what_is_valid_for_what(parameter, functional, valid):
    system = stochastic_system(1)
    choice = choose(system, functional, named(system, parameter))
    assert choice.valid == valid
    assert choice.estimator == valid[0]
    assert set(choice.refused) == {"pathwise", "likelihood ratio", "smoothed gate", "bump"} - {
        *valid
    }
    assert str(choice).startswith(f"{valid[0]}: ")


def test_plain_differentiation_across_a_trigger_is_refused_with_the_reason():
    system = stochastic_system(1)
    threshold = named(system, "liquidation_threshold.pool")
    with pytest.raises(ValueError, match=r"pathwise is not valid for liquidation_threshold\.pool"):
        choose(system, Functional(), threshold, prefer="pathwise")
    with pytest.raises(ValueError, match="wrong, not noisy; take smoothed gate or bump"):
        choose(system, Functional(), threshold, prefer="pathwise")
    with pytest.raises(ValueError, match="unknown estimator 'autodiff'; known: pathwise, "):
        choose(system, Functional(), threshold, prefer="autodiff")
    assert choose(system, Functional(), threshold, prefer="bump").estimator == "bump"


def test_a_table_of_returns_has_no_law():
    system = random_system(1)
    assert volatile_assets(system).size == 0
    assert not named(system, "volatility").law


def test_pegged_and_still_assets_have_no_density_of_their_own():
    assert volatile_assets(stochastic_system(1)).tolist() == [0, 2]
    assert volatile_assets(normal_loan()).tolist() == [0]
    twice = dataclasses.replace(
        normal_loan(),
        paths=Gbm(
            drift=jnp.zeros(2), volatility=jnp.full(2, 0.1),
            factor=correlation_factor(jnp.ones((2, 2))),
        ),
    )  # fmt: skip
    assert volatile_assets(twice).size == 0


def test_the_log_density_is_that_of_correlated_normals():
    volatility, correlation, years = np.array([0.5, 0.8]), 0.6, 0.04
    diffusion = Gbm(
        drift=jnp.array([0.1, -0.2]),
        volatility=jnp.asarray(volatility),
        factor=correlation_factor(jnp.array([[1.0, correlation], [correlation, 1.0]])),
    )
    moves = np.array([[0.03, -0.1], [0.2, 0.11], [-0.05, 0.0]])
    mean = (np.array([0.1, -0.2]) - 0.5 * volatility**2) * years
    spread = np.outer(volatility, volatility) * years
    covariance = spread * np.array([[1.0, correlation], [correlation, 1.0]])
    off = moves - mean
    expected = -0.5 * np.einsum("ti,ij,tj->", off, np.linalg.inv(covariance), off)
    expected -= 1.5 * math.log(np.linalg.det(covariance))
    found = log_density(diffusion, jnp.asarray(moves), jnp.asarray(years), np.array([0, 1]))
    assert_close(found, expected, rtol=1e-12, atol=0.0)
    draws = jnp.array([[0.5, -1.0]])
    (played,) = moves_of(diffusion, draws, jnp.asarray(years))
    across = correlation * 0.5 - math.sqrt(1 - correlation**2)
    second = mean[1] + 0.8 * math.sqrt(years) * across
    assert_close(played, [mean[0] + 0.5 * 0.5 * 0.2, second], rtol=1e-12, atol=0.0)


@pytest.fixture(scope="module")
def rows():
    """Sensitivities of one loan to its volatility, its debt and its insurance fund."""
    system = normal_loan()
    debt = leaf_parameter(system, "debt.loan", lambda s: s.venues[0].accounts.debt, (0, 0))
    level = 0.5 * DEBT
    found = sensitivities(
        system,
        root_key(3),
        scenarios=SCENARIOS,
        steps=1,
        step_years=INSTANT_YEARS,
        rounds=1,
        measures=("liquidated_usd", "liquidated_usd.morpho_blue"),
        kinds=("volatility",),
        leaves=(debt,),
        functionals=(Functional("above", level),),
        width=0.04,
    )
    return {(r.measure, r.parameter): r for r in found}


def test_a_likelihood_ratio_sees_the_calls_that_volatility_brings(rows):
    """P(called) = Phi(trigger / (f s) + f s / 2): the closed form of mean and probability."""
    chance = lambda f: NORMAL.cdf(
        (TRIGGER - 0.5 * DEVIATION**2 + 0.5 * (f * DEVIATION) ** 2) / (f * DEVIATION)
    )
    slope = (chance(1.0 + 1e-5) - chance(1.0 - 1e-5)) / 2e-5
    probability = rows["liquidated_usd.above_500000", "volatility"]
    assert probability.estimator == "likelihood ratio"
    assert abs(probability.derivative - slope) <= 3.0 * probability.standard_error
    assert probability.standard_error <= 0.05 * slope
    mean = rows["liquidated_usd", "volatility"]
    assert abs(mean.derivative - slope * DEBT * (1.0 + BONUS)) <= 3.0 * mean.standard_error
    gap = abs(mean.derivative - mean.bump_derivative)
    assert gap <= 3.0 * math.hypot(mean.standard_error, mean.bump_standard_error)


def test_the_debt_of_one_account_is_a_parameter(rows):
    """d E[seized] / dD = (1 + bonus) (P(called) + density at the trigger): more owed, sooner."""
    r = rows["liquidated_usd", "debt.loan"]
    assert r.value == DEBT
    assert r.estimator == "smoothed gate, width 0.04"
    called = NORMAL.cdf(TRIGGER / DEVIATION)
    expected = (1.0 + BONUS) * (called + NORMAL.pdf(TRIGGER / DEVIATION) / DEVIATION)
    assert abs(r.derivative / expected - 1.0) < 0.06
    assert abs(r.derivative - r.bump_derivative) < 3.0 * math.hypot(
        r.standard_error, r.bump_standard_error
    )


def test_a_probability_is_bumped_where_nothing_else_is_valid(rows):
    r = rows["liquidated_usd.above_500000", "debt.loan"]
    assert r.estimator == "bump, half the step"
    expected = NORMAL.pdf(TRIGGER / DEVIATION) / DEVIATION / DEBT
    assert abs(r.bump_derivative - expected) <= 4.0 * r.bump_standard_error


def test_the_measure_of_the_only_venue_is_the_measure_of_all(rows):
    for parameter in ("volatility", "debt.loan"):
        one = rows["liquidated_usd.morpho_blue", parameter]
        assert one.derivative == rows["liquidated_usd", parameter].derivative


def test_a_configuration_may_ask_for_every_measure():
    assert set(get_args(Measure)) == set(MEASURES)


def test_names_of_measures_are_checked():
    with pytest.raises(ValueError, match="unknown measure 'loss'; known: bad_debt_usd, "):
        measure_of(normal_loan(), "loss")
    with pytest.raises(ValueError, match="no venue 'pool'; there are morpho_blue"):
        measure_of(normal_loan(), "bad_debt_usd.pool")


@pytest.mark.parametrize(
    ("where", "index", "said"),
    [
        (lambda s: s.venues[0], (), "expected one leaf"),
        (lambda s: s.venues[0].accounts.category, (0,), "a leaf of int"),
        (lambda s: s.venues[0].accounts.debt, (0,), r"index \(0,\) into a leaf of shape \(1, 1\)"),
        (lambda s: s.venues[0].accounts.debt, (0, 1), r"index \(0, 1\) into a leaf"),
        (lambda s: s.keeper.minimum_return, (), "is 0: state the size of a bump"),
    ],
)
def test_leaves_that_are_no_parameters_are_refused(where, index, said):
    with pytest.raises(ValueError, match=said):
        leaf_parameter(normal_loan(), "it", where, index)


def test_functionals_of_a_known_sample():
    """Losses x + theta: every location moves by 1, a probability by the density."""
    rng = np.random.default_rng(0)
    losses = rng.normal(size=200_000)
    ones = np.ones_like(losses)
    for functional in (Functional(), Functional("es", 0.9)):
        derivative, _ = mean_and_error(functional.of_slopes(ones, losses))
        assert_close(derivative, 1.0, rtol=1e-4, atol=0.0)
    h = 0.01
    for functional, expected in (
        (Functional(), 1.0),
        (Functional("es", 0.9), 1.0),
        (Functional("var", 0.9), 1.0),
        (Functional("above", 1.0), NORMAL.pdf(1.0)),
    ):
        ends = functional.of_ends(losses - h, losses + h, losses) / (2.0 * h)
        derivative, error = mean_and_error(ends)
        assert abs(derivative - expected) <= 4.0 * error + 1e-3, functional
        # The law N(theta, 1) has the score x.
        derivative, error = mean_and_error(functional.of_scores(losses, losses))
        assert abs(derivative - expected) <= 4.0 * error + 0.02, functional
        assert error < 0.02, functional
    assert_close(density_at(losses, 0.9), NORMAL.pdf(NORMAL.inv_cdf(0.9)), rtol=0.03, atol=0.0)
    with pytest.raises(ValueError, match="is an atom of the losses"):
        density_at(np.zeros(100), 0.9)
