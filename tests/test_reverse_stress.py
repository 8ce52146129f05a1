"""Reverse stress: from a loss back to what makes it, against closed forms and plain sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrisk as jr
from jaxrisk.gradient.importance import sampled_probability
from jaxrisk.gradient.kl_ball import worst_law
from jaxrisk.gradient.ladder import SortedLoans, loss_at
from jaxrisk.gradient.smallest_fall import smallest_fall
from jaxrisk.gradient.worst_case import worst_case
from jaxrisk.market.impact import LinearImpact
from jaxrisk.numerics.crossing import Hard
from jaxrisk.numerics.keys import root_key
from jaxrisk.numerics.normal import normal_cdf
from tests.helpers import assert_close

array = lambda *x: jnp.asarray(x, float)
KEY = root_key(3)
DEPTH = jnp.asarray(1.0)
DEVIATION = 0.12
SLOPE = array(3.0, -4.0, 12.0)


def book(seed: int, count: int = 40) -> SortedLoans:
    """Return loans on one unit of collateral, liquidated at four fifths of loan to value."""
    rng = np.random.default_rng(seed)
    ltv, held = rng.uniform(0.45, 0.76, count), rng.lognormal(0.0, 1.0, count)
    held = held / held.sum()
    return SortedLoans.of(
        array(*np.log(ltv / 0.8)), array(*held), array(*(0.94 * held)), array(*(held * ltv))
    )


def impact(strength: float) -> LinearImpact:
    """Return a law that lowers a log price by this when the whole book is sold."""
    return LinearImpact(coefficient=array(strength))


BOOK, SECOND, LAW = book(5), book(6), impact(0.35)


def one_price(z, crossing):
    """Return the loss of a book whose price is one factor."""
    return loss_at(BOOK, LAW, DEPTH, DEVIATION * z[0], crossing)


def two_prices(z, crossing):
    """Return the loss of two books on correlated prices."""
    second = 0.6 * z[0] + 0.8 * z[1]
    return one_price(z, crossing) + loss_at(SECOND, LAW, DEPTH, DEVIATION * second, crossing)


def tilted(z, crossing):
    """Return a loss without triggers."""
    return jnp.dot(SLOPE, z)


@pytest.mark.parametrize("target", [0.02, 0.35])
def test_one_loan_loses_a_target_at_a_price_known_by_hand(target):
    # It owes 0.7, falls below 0.9 and sells for 0.94 of a price that its sale lowers by 0.1.
    loan = SortedLoans.of(array(np.log(0.9)), array(1.0), array(0.94), array(0.7))
    found = smallest_fall(loan, impact(0.1), DEPTH, target, mean=0.0, deviation=DEVIATION)
    by_hand = min(np.log(0.9), np.log((0.7 - target) / 0.94) + 0.1)
    assert_close(found.log_price, by_hand, rtol=1e-14, atol=0.0)
    assert_close(found.loss, target, rtol=1e-12, atol=0.0)
    assert_close(found.probability, normal_cdf(array(by_hand / DEVIATION))[0], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("strength", [0.0, 0.35, 2.0])
def test_a_book_loses_the_target_below_the_price_found_and_not_above_it(strength):
    jumps = 0
    for target in (1e-6, 0.01, 0.1, 0.3, 0.55):
        law = impact(strength)
        found = smallest_fall(BOOK, law, DEPTH, target, mean=0.0, deviation=DEVIATION)
        below, above = (
            float(loss_at(BOOK, law, DEPTH, jnp.asarray(found.log_price + move)))
            for move in (-1e-9, 1e-9)
        )
        assert above < target <= below
        assert_close(found.loss, below, rtol=0.0, atol=1e-8)
        jumps += found.loss > target * 1.001
    # Impact takes the loss past small targets in one avalanche.
    assert (jumps > 0) == (strength > 0.0)


def test_accounts_that_are_never_closed_lose_nothing():
    never = SortedLoans.of(array(-0.1, -jnp.inf), array(0.5, 0.5), array(0.5, 0.5), array(0.4, 0.4))
    found = smallest_fall(never, LAW, DEPTH, 0.3, mean=0.0, deviation=DEVIATION)
    assert found.accounts == 1
    with pytest.raises(ValueError, match="loses less than"):
        smallest_fall(never, LAW, DEPTH, 0.5, mean=0.0, deviation=DEVIATION)


def test_on_one_price_the_search_finds_the_exact_answer():
    exact = smallest_fall(BOOK, LAW, DEPTH, 0.01, mean=0.0, deviation=DEVIATION)
    assert exact.loss > 0.015, "this target is passed in a jump"
    found = jr.reverse_stress(one_price, 0.01, KEY, factors=1, width=0.1, starts=1)
    assert_close(found.distance, exact.distance, rtol=1e-9, atol=0.0)
    assert_close(found.probability, exact.probability, rtol=1e-8, atol=0.0)
    assert_close(found.alignment, 1.0, rtol=1e-12, atol=0.0)
    assert_close(found.loss, exact.loss, rtol=1e-9, atol=0.0)


def test_on_a_plane_point_probability_and_worst_case_are_known():
    steep = float(jnp.linalg.norm(SLOPE))
    found = jr.reverse_stress(tilted, 39.0, KEY, factors=3, width=0.1, starts=2)
    assert_close(found.factors, 39.0 * np.asarray(SLOPE) / steep**2, rtol=1e-7, atol=1e-7)
    assert_close(found.distance, 3.0, rtol=1e-12, atol=0.0)
    assert_close(found.alignment, 1.0, rtol=1e-12, atol=0.0)
    exact = float(normal_cdf(array(-3.0))[0])
    assert_close(found.probability, exact, rtol=1e-10, atol=0.0)
    worst = worst_case(tilted, KEY, factors=3, radius=3.0, width=0.1, starts=2)
    assert_close(worst.loss, 39.0, rtol=1e-9, atol=0.0)
    # Of three factors: erf(k / sqrt 2) - sqrt(2 / pi) k exp(-k^2 / 2) at k = 3.
    assert_close(worst.coverage, 0.970709, rtol=1e-6, atol=0.0)
    drawn = sampled_probability(tilted, 39.0, KEY, centre=found.factors, scenarios=2**13)
    assert abs(drawn.probability - exact) < 3.0 * drawn.standard_error
    assert drawn.standard_error < 0.03 * exact


def test_the_corner_of_two_triggers_is_found():
    # Two of four factors must fall to -1, and plain slopes are 0 everywhere.
    called = lambda z, crossing: jnp.sum(crossing.gate(-1.0 - z))
    found = jr.reverse_stress(called, 2.0, KEY, factors=4, width=0.5, starts=4)
    assert_close(found.distance, np.sqrt(2.0), rtol=1e-9, atol=0.0)
    assert_close(np.sort(found.factors), [-1.0, -1.0, 0.0, 0.0], rtol=1e-6, atol=1e-6)


def test_two_books_are_as_probable_about_the_point_as_by_plain_sampling():
    found = jr.reverse_stress(two_prices, 0.15, KEY, factors=2, width=0.1, starts=6)
    around = sampled_probability(two_prices, 0.15, KEY, centre=found.factors, scenarios=2**12)
    plain = sampled_probability(two_prices, 0.15, root_key(4), centre=np.zeros(2), scenarios=2**14)
    apart = abs(around.probability - plain.probability)
    assert apart < 3.0 * np.hypot(around.standard_error, plain.standard_error)
    assert plain.standard_error < 0.1 * plain.probability
    # Per scenario the error is smaller than plain sampling's, or the centre helps nothing.
    assert around.standard_error < 2.0 * plain.standard_error
    # No nearer point: the worst loss a little inside of the distance is below the target.
    angle = np.linspace(0.0, 2.0 * np.pi, 721)
    ring = 0.99 * found.distance * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    losses = jax.vmap(lambda z: two_prices(z, Hard()))(jnp.asarray(ring))
    assert float(losses.max()) < 0.15 <= found.loss


def test_the_worst_law_of_a_normal_loss_is_the_shifted_normal():
    """Within k nats the mean moves by sqrt(2 k) deviations; weights are lognormal."""
    count, radius = 50_000, 0.5
    z = np.random.default_rng(1).standard_normal(count)
    found = worst_law(10.0 + 2.0 * z, radius)
    assert abs(found.mean - 12.0) < 3.0 * found.standard_error
    # The influence of a scenario is its weight over the tilt: exp(1) - 1 is their variance.
    error = 2.0 * np.sqrt(np.expm1(1.0) / count)
    assert_close(found.standard_error, error, rtol=0.05, atol=0.0)
    assert_close(found.tilt, 0.5, rtol=0.01, atol=0.0)
    assert_close(found.effective_scenarios / count, np.exp(-1.0), rtol=0.05, atol=0.0)
    entropy = np.sum(found.weights * np.log(np.maximum(found.weights * count, 1e-300)))
    assert_close(entropy, radius, rtol=1e-9, atol=0.0)


def idle(z, crossing):
    """Return a loss without its second factor."""
    return one_price(z, crossing)


def broken(z, crossing):
    """Return a loss that is no number far out."""
    return jnp.where(z[0] < -5.0, jnp.nan, z[0])


def hidden(z, crossing):
    """Return a loss that is no number about its likeliest scenario."""
    return jnp.where((z > 1.0).all(), jnp.nan, jnp.sum(z))


def stepped(z, crossing):
    """Return a loss that jumps without asking its crossing."""
    return (z[0] > 1.0).astype(z.dtype)


@pytest.mark.parametrize(
    ("loss", "target", "factors", "says"),
    [
        (one_price, 0.9, 1, "out of reach: within 8 deviations at most"),
        (one_price, 0.0, 1, "asks nothing"),
        (idle, 0.1, 2, r"does not depend on factors \[1\]"),
        (broken, 2.0, 1, "not finite at .* first at"),
        (hidden, 2.8, 2, "not finite at .* first at"),
        (stepped, 1.0, 1, "no slope at its edge"),
    ],
)
def test_what_cannot_be_answered_is_refused(loss, target, factors, says):
    with pytest.raises(ValueError, match=says):
        jr.reverse_stress(loss, target, KEY, factors=factors, width=0.1, starts=1)


def test_samples_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        worst_law(np.array([1.0, np.nan]), 0.1)
    with pytest.raises(ValueError, match="are all 2"):
        worst_law(np.full(9, 2.0), 0.1)
    with pytest.raises(ValueError, match="all weight on the largest"):
        worst_law(np.arange(8.0), 2.1)
    with pytest.raises(ValueError, match="none of 64 scenarios"):
        sampled_probability(tilted, 1e3, KEY, centre=np.zeros(3), scenarios=64)
    with pytest.raises(ValueError, match="scenarios are not finite"):
        sampled_probability(broken, 1.0, KEY, centre=np.full(1, -6.0), scenarios=64)
