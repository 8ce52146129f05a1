"""Tail measures against closed forms; their standard errors against repetition."""

import math
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.measure.tail import (
    exceedance_probability,
    expected_shortfall,
    expected_shortfall_and_error,
    mean_and_error,
    tail_summary,
    value_at_risk,
    value_at_risk_and_error,
)
from tests.helpers import assert_close

NORMAL = NormalDist()


def test_value_at_risk_is_the_order_statistic():
    losses = np.random.default_rng(1).permutation(np.arange(1.0, 101.0))
    assert value_at_risk(losses, 0.99) == 99.0
    assert value_at_risk(losses, 0.985) == 99.0
    assert value_at_risk(losses, 0.999) == 100.0
    # 100 * 0.55 is 55.00000000000001 in floating point.
    assert value_at_risk(losses, 0.55) == 55.0
    assert value_at_risk(losses, 1e-6) == 1.0


def test_expected_shortfall_is_the_mean_of_the_worst():
    losses = np.random.default_rng(1).permutation(np.arange(1.0, 101.0))
    assert_close(
        expected_shortfall(losses, 0.95), np.mean([96, 97, 98, 99, 100]), rtol=1e-12, atol=0
    )
    # Half a scenario of the tail comes from the quantile: (100 + 99 / 2) / 1.5.
    assert_close(expected_shortfall(losses, 0.985), (100 + 49.5) / 1.5, rtol=1e-12, atol=0)


def test_expected_shortfall_splits_an_atom_at_the_quantile():
    losses = np.array([0.0] * 90 + [10.0] * 8 + [50.0] * 2)
    assert value_at_risk(losses, 0.95) == 10.0
    # Worst 5 %: 2 scenarios of 50 and 3 of the 8 of 10. The mean beyond the VaR would be 50.
    assert_close(expected_shortfall(losses, 0.95), (2 * 50 + 3 * 10) / 5, rtol=1e-12, atol=0)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.975])
def test_expected_shortfall_minimises_rockafellar_uryasev(confidence):
    losses = np.random.default_rng(2).standard_t(3, size=301)
    levels = losses[:, None]
    objective = levels[:, 0] + np.maximum(losses[None, :] - levels, 0).mean(axis=1) / (
        1 - confidence
    )
    assert_close(expected_shortfall(losses, confidence), objective.min(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("confidence", [0.9, 0.99])
@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_measures_of_known_laws(law, confidence):
    # The midpoints of equally likely cells: no Monte Carlo error, only that of the grid.
    count = 200_000
    chances = (np.arange(count) + 0.5) / count
    if law == "normal":
        losses = np.array([NORMAL.inv_cdf(chance) for chance in chances])
        quantile = NORMAL.inv_cdf(confidence)
        shortfall = NORMAL.pdf(quantile) / (1 - confidence)
    else:
        losses = -np.log1p(-chances)
        quantile = -math.log(1 - confidence)
        shortfall = quantile + 1.0
    assert_close(value_at_risk(losses, confidence), quantile, rtol=2e-4, atol=0)
    assert_close(expected_shortfall(losses, confidence), shortfall, rtol=2e-4, atol=0)


@pytest.mark.parametrize(
    ("measure", "truth"),
    [
        (mean_and_error, 1.0),
        (lambda losses: value_at_risk_and_error(losses, 0.95), -math.log(0.05)),
        (lambda losses: expected_shortfall_and_error(losses, 0.95), 1.0 - math.log(0.05)),
        (lambda losses: exceedance_probability(losses, 3.0), math.exp(-3.0)),
    ],
    ids=["mean", "value at risk", "expected shortfall", "exceedance"],
)
def test_standard_errors_cover(measure, truth):
    samples = np.random.default_rng(3).exponential(size=(800, 4000))
    estimates, errors = np.array([measure(sample) for sample in samples]).T
    covered = np.mean(np.abs(estimates - truth) <= 1.96 * errors)
    # 0.95 ± 4 binomial errors of 800 samples, and a little for the skewed tail.
    assert 0.91 < covered < 0.98
    assert_close(np.mean(errors), np.std(estimates), rtol=0.12, atol=0)


def test_no_event_does_not_claim_certainty():
    for share, losses in ((0.0, np.zeros(1000)), (1.0, np.ones(1000))):
        probability, error = exceedance_probability(losses, 0.5)
        assert probability == share
        assert_close(1.96 * error, 3 / 1000, rtol=5e-3, atol=0)


def test_exceedance_is_strict_and_its_error_grows_with_the_count():
    assert exceedance_probability([0.0, 0.0, 1.0, 2.0], 0.0)[0] == 0.5
    assert exceedance_probability([0.0, 0.0, 1.0, 2.0], 1.0)[0] == 0.25
    events = [exceedance_probability(np.arange(500) < count, 0.5)[1] for count in range(10)]
    assert events == sorted(events)


def test_a_sample_too_small_for_its_tail_has_infinite_error():
    losses = np.arange(50.0)
    assert value_at_risk_and_error(losses, 0.99) == (49.0, math.inf)
    assert expected_shortfall_and_error(losses, 0.99) == (49.0, math.inf)
    assert mean_and_error([2.0]) == (2.0, math.inf)


def test_losses_may_be_any_array_and_numbers_come_back():
    losses = np.random.default_rng(4).exponential(size=1000).astype(np.float32)
    for measure in (value_at_risk, expected_shortfall):
        from_numpy = measure(losses, 0.9)
        assert type(from_numpy) is float
        assert measure(jnp.asarray(losses), 0.9) == from_numpy
        assert measure(losses.tolist(), 0.9) == from_numpy


def test_measures_move_and_scale_with_the_loss():
    losses = np.random.default_rng(5).normal(size=2000)
    for measure in (value_at_risk_and_error, expected_shortfall_and_error):
        value, error = measure(losses, 0.95)
        moved, moved_error = measure(3.0 * losses + 2.0, 0.95)
        assert_close(moved, 3.0 * value + 2.0, rtol=1e-12, atol=0)
        assert_close(moved_error, 3.0 * error, rtol=1e-10, atol=0)


def test_summary_has_the_names_of_the_result_files():
    losses = np.random.default_rng(6).exponential(size=5000)
    summary = tail_summary(jnp.asarray(losses), [0.95, 0.99])
    measured = {"mean", "var_0.95", "es_0.95", "var_0.99", "es_0.99"}
    errors = {"standard_error"} | {f"{name}_standard_error" for name in measured - {"mean"}}
    assert set(summary) == measured | errors
    assert (summary["mean"], summary["standard_error"]) == mean_and_error(np.sort(losses))
    assert summary["es_0.99"] == expected_shortfall(losses, 0.99)
    assert summary["var_0.95_standard_error"] == value_at_risk_and_error(losses, 0.95)[1]
    assert all(value > 0 for value in summary.values())


@pytest.mark.parametrize("confidence", [0.0, 1.0, 99.0, math.nan])
def test_a_confidence_that_is_no_fraction_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        value_at_risk([1.0, 2.0], confidence)


@pytest.mark.parametrize("losses", [[], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]])
def test_losses_that_cannot_be_measured_are_refused(losses):
    with pytest.raises(ValueError, match="losses"):
        expected_shortfall(losses, 0.9)
