"""Critical points, gain and amplification, where they are known and against rounds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.impact import LinearImpact
from jaxrisk.measure.avalanche import amplification, critical_points, feedback_gain
from jaxrisk.system.avalanche import Triggers
from tests import ladders
from tests.helpers import assert_close

LAW, DEPTH = LinearImpact(coefficient=ladders.array([0.1])), ladders.array(100.0)


def even_book(gain, accounts=2000):
    """Return triggers spread evenly over a log fall of 0.5, with a given gain."""
    sold = gain * 0.5 / accounts / 0.1 * 100.0
    at = -np.arange(1, accounts + 1) * (0.5 / accounts)
    return Triggers.of(ladders.array(at), ladders.array(np.full(accounts, sold)))


def test_accounts_within_reach_of_each_other_s_sales_make_a_point():
    # Selling 10 lowers the log price by 0.01.
    at = [-0.100, -0.108, -0.115, -0.200, -0.300, -0.3099]
    sold = [10.0, 20.0, 5.0, 1.0, 10.0, 3.0]
    triggers = Triggers.of(ladders.array(at), ladders.array(sold))
    points = critical_points(triggers, LAW, DEPTH, log_price=0.02, deviation=0.04)
    # -0.3 + 0.036 of those before it; the last trigger is 0.0099 lower, for 0.01 of drop.
    assert_close(points.log_price, [-0.1, -0.264], rtol=1e-12, atol=0.0)
    assert points.accounts.tolist() == [3, 2]
    assert_close(points.sold, [35.0, 13.0], rtol=1e-12, atol=0.0)
    assert_close(points.log_drop, [0.035, 0.013], rtol=1e-12, atol=0.0)
    assert_close(points.distance, [3.0, 7.1], rtol=1e-12, atol=0.0)
    every = critical_points(triggers, LAW, DEPTH, log_price=0.02, deviation=0.04, least=1)
    assert every.accounts.tolist() == [3, 1, 2]


def test_each_point_falls_as_one_and_nobody_else_does():
    rng = np.random.default_rng(5)
    triggers = Triggers.of(
        ladders.array(-rng.exponential(0.3, 50)), ladders.array(rng.uniform(1.0, 30.0, 50))
    )
    points = critical_points(triggers, LAW, DEPTH, log_price=0.0, deviation=1.0)
    assert points.accounts.max() > 2
    above, _ = triggers.cleared(LAW, DEPTH, ladders.array(points.log_price + 1e-9))
    below, _ = triggers.cleared(LAW, DEPTH, ladders.array(points.log_price - 1e-9))
    assert (np.asarray(below - above) == points.accounts).all()


def test_the_published_book_of_fifty_positions():
    rng = np.random.default_rng(5)
    loan_to_value, size = rng.uniform(0.45, 0.76, 50), rng.lognormal(0.0, 1.0, 50)
    triggers = Triggers.of(
        ladders.array(np.log(loan_to_value / 0.8)), ladders.array(size / size.sum())
    )
    law, depth = LinearImpact(coefficient=ladders.array([0.35])), ladders.array(1.0)
    every = critical_points(triggers, law, depth, log_price=0.0, deviation=0.12, least=1)
    assert every.accounts.size == 20
    largest = every.accounts.argmax()
    assert every.accounts[largest] == 11
    assert_close(every.log_price[largest], -0.0763, rtol=0.0, atol=5e-5)


@pytest.mark.parametrize("gain", [0.0, 0.3, 0.8])
def test_a_fall_through_an_even_book_is_amplified_by_its_gain(gain):
    triggers = even_book(gain)
    found = feedback_gain(triggers, LAW, DEPTH, ladders.array([-0.01, -0.2]), ladders.array(0.1))
    assert_close(found, [gain, gain], rtol=1e-2, atol=1e-12)
    shock = 0.05
    _, left = triggers.cleared(LAW, DEPTH, ladders.array(-shock))
    assert_close(-left / shock, amplification(ladders.array(gain)), rtol=0.03, atol=0.0)


def test_from_a_gain_of_one_on_all_fall_together():
    triggers = even_book(1.01)
    points = critical_points(triggers, LAW, DEPTH, log_price=0.0, deviation=0.1)
    assert points.accounts.tolist() == [2000]
    assert amplification(jnp.array([0.5, 1.0, 1.01])).tolist() == [2.0, np.inf, np.inf]
