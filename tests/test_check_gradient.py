"""The referee passes what is right, and fails what is wrong, wide or without effect."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxrisk.gradient.check import Verdict, against_bumps, check_gradient, verdict
from jaxrisk.gradient.pathwise import pathwise
from jaxrisk.gradient.regime import regime
from jaxrisk.numerics.keys import root_key
from tests.gradient_settings import ONE_SHOT, one_shot, typed

KEY = root_key(4)
SHOT = typed(ONE_SHOT)
SCENARIOS = 2**16


@pytest.mark.slow
def test_the_regime_score_passes_and_plain_differentiation_is_rejected():
    """The negative control: the same check, the same loss, the same draws."""
    right = check_gradient(one_shot, SHOT, KEY, scenarios=SCENARIOS, steps=(0.04, 0.02))
    assert right.passed, str(right)
    wrong = check_gradient(
        one_shot, SHOT, KEY, scenarios=SCENARIOS, steps=(0.04, 0.02), estimator=pathwise
    )
    assert not wrong.passed
    assert set(wrong.verdicts) == {Verdict.DISAGREES}, str(wrong)
    assert "disagrees" in str(wrong)
    assert "threshold: 0 in every scenario" in str(wrong)


def test_with_few_scenarios_nothing_passes():
    """Also what is right: an error that wide would let anything through."""
    few = check_gradient(one_shot, SHOT, KEY, scenarios=512)
    assert not few.passed
    assert set(few.verdicts) == {Verdict.TOO_WIDE}


def smooth(p, key):
    """A loss with a constant, a parameter that does nothing, and one that does."""
    return p["a"] ** 2 * (1.0 + 0.1 * jax.random.uniform(key, dtype=p["a"].dtype))


def test_a_parameter_without_effect_is_named_and_does_not_pass():
    found = check_gradient(smooth, {"a": 2.0, "idle": 1.0}, KEY, scenarios=64, estimator=pathwise)
    assert found.verdicts == (Verdict.AGREES, Verdict.NO_DEPENDENCE)
    assert not found.passed
    assert "idle: 0 in every scenario; the loss does not depend on it" in str(found)


def test_bumps_are_in_float64_whatever_the_estimate_is_in():
    single = {"a": jnp.asarray(2.0, jnp.float32)}
    found = check_gradient(smooth, single, KEY, scenarios=64, estimator=pathwise)
    assert found.passed
    # A difference of float32 losses over half a per mille would keep three digits.
    exact = 2.0 * 2.0 * (found.limit.value / 4.0)
    assert abs(found.limit.of("a")[0] / exact - 1.0) < 1e-10


def test_a_derivative_that_is_off_by_a_tenth_is_found():
    """The error of the shortcut is smaller than the spread over scenarios."""
    off = lambda p, key: 1.1 * smooth(p, key) - 0.1 * jax.lax.stop_gradient(smooth(p, key))
    estimate = pathwise(off, {"a": 2.0}, KEY, scenarios=4096)
    assert against_bumps(estimate, smooth, {"a": 2.0}, KEY, scenarios=4096).verdicts == (
        Verdict.DISAGREES,
    )


def test_losses_that_are_refused_are_refused_by_the_check():
    broken = lambda p, key: p["a"] * jnp.nan * jax.random.uniform(key)
    with pytest.raises(ValueError, match="64 of 64 scenarios are not finite"):
        check_gradient(broken, {"a": 1.0}, KEY, scenarios=64, estimator=pathwise)
    with pytest.raises(ValueError, match="'name': 'ether' is of type str"):
        check_gradient(smooth, {"name": "ether"}, KEY, scenarios=64, estimator=regime)


@pytest.mark.parametrize(
    ("estimate", "referee", "expected"),
    [
        ((1.00, 0.02), (1.02, 0.02), "agrees"),
        ((1.00, 0.02), (1.20, 0.02), "disagrees"),  # 7 combined errors apart
        ((1.00, 0.04), (1.02, 0.02), "too wide"),
        ((1.00, 0.02), (1.02, 0.04), "too wide"),
        ((1.00, math.inf), (1.00, math.inf), "too wide"),  # a single scenario
        ((0.00, 0.00), (1.00, 0.02), "disagrees"),  # autodiff through a trigger
        ((1.00, 0.02), (0.00, 0.00), "too wide"),
        ((1.00, 0.00), (0.00, 0.00), "disagrees"),
        ((0.00, 0.00), (0.00, 0.00), "no dependence"),
        ((math.nan, 0.02), (1.00, 0.02), "disagrees"),
        ((1.00, math.nan), (1.00, 0.02), "too wide"),
        ((-1.0, 0.0), (-1.0 + 1e-13, 0.0), "agrees"),  # rounding needs no error bars
    ],
)
def test_verdicts(estimate, referee, expected):
    assert verdict(estimate, referee) == expected


def test_the_verdict_is_as_strict_as_it_is_asked_to_be():
    judge = partial(verdict, (1.0, 0.05), (1.0, 0.0))
    assert (judge(), judge(widest=0.1)) == (Verdict.TOO_WIDE, Verdict.AGREES)
