"""Every estimator against what it cannot know: quadrature, closed forms, bumps."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.gradient.bump import bumps
from jaxrisk.gradient.estimate import Estimate, Losses, averaged, point_of, total
from jaxrisk.gradient.ladder import closed_form
from jaxrisk.gradient.likelihood import likelihood
from jaxrisk.gradient.pathwise import pathwise
from jaxrisk.gradient.regime import regime
from jaxrisk.gradient.smoothed import smoothed
from jaxrisk.gradient.survival import survival
from jaxrisk.numerics.crossing import Hard, Stratified
from jaxrisk.numerics.fixed_point import fixed_point
from jaxrisk.numerics.keys import root_key, scenario_key
from tests import reference_one_loan
from tests.gradient_settings import (
    ONE_LOAN,
    ONE_LOAN_STEPS,
    ONE_SHOT,
    STEP_YEARS,
    TEN_STEPS,
    TWO_ASSETS,
    TwoAssets,
    normals,
    one_loan,
    one_loan_survival,
    one_shot,
    one_shot_at,
    one_shot_expected,
    pushed_out_loan,
    ten_steps,
    typed,
)
from tests.helpers import assert_close

KEY = root_key(1)
LOAN, SHOT, TEN, TWO = (typed(p) for p in (ONE_LOAN, ONE_SHOT, TEN_STEPS, TWO_ASSETS))


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    """Derivatives of one loan by quadrature."""
    return reference_one_loan.derivatives(ONE_LOAN, ONE_LOAN_STEPS, STEP_YEARS)


@pytest.fixture(scope="module")
def shock() -> Estimate:
    """Derivatives of one shock in closed form."""
    return closed_form(one_shot_expected, SHOT, second=True)


def assert_within(
    estimate: Estimate, expected: dict[str, float], *, errors: float, widest: float
) -> None:
    """Fail unless each derivative is so many standard errors from the truth, and errors narrow."""
    for name, derivative in expected.items():
        found, error = estimate.of(name)
        assert abs(found - derivative) <= errors * error, (name, found, error, derivative)
        assert error <= widest * abs(derivative), (name, found, error, derivative)


def as_dict(estimate: Estimate) -> dict[str, float]:
    return dict(zip(estimate.parameters, estimate.derivative.tolist(), strict=True))


def stratified_mean(at: dict[str, float], draws: jax.Array) -> float:
    """Return the mean loss of the one-shot simulation over given quantiles."""
    p = typed(at)
    loss = lambda z: jnp.sum(one_shot_at(p, z).lost)
    return float(jnp.mean(jax.jit(lambda z: jax.lax.map(loss, z, batch_size=4096))(draws)))


def test_survival_has_the_derivatives_of_the_quadrature(truth):
    found = survival(one_loan_survival, LOAN, KEY, scenarios=2**14)
    value = reference_one_loan.expected_loss(ONE_LOAN, ONE_LOAN_STEPS, STEP_YEARS)
    assert abs(found.value - value) <= 4.0 * found.value_error <= 0.04 * value
    assert_within(found, truth, errors=3.0, widest=0.02)


@pytest.mark.slow
def test_survival_has_second_derivatives(truth):
    found = survival(one_loan_survival, LOAN, KEY, scenarios=2**15, second=True)
    share = 2e-3
    for i, name in enumerate(found.parameters):
        h = share * ONE_LOAN[name]
        ends = [
            reference_one_loan.expected_loss(
                {**ONE_LOAN, name: ONE_LOAN[name] + s * h}, ONE_LOAN_STEPS, STEP_YEARS
            )
            for s in (1.0, 0.0, -1.0)
        ]
        expected = (ends[0] - 2.0 * ends[1] + ends[2]) / h**2
        assert found.second is not None
        assert found.second_error is not None
        error = found.second_error[i, i]
        assert abs(found.second[i, i] - expected) <= 4.0 * error + 1e-3 * abs(expected), name
        assert error <= 0.05 * abs(expected) or name in ("debt", "price"), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "loss"),
    [(regime, one_loan), (likelihood, pushed_out_loan)],
    ids=["regime score", "pushed-out likelihood ratio"],
)
def test_unbiased_estimators_have_the_derivatives_of_the_quadrature(estimator, loss, truth):
    found = estimator(loss, LOAN, KEY, scenarios=2**18)
    assert_within(found, truth, errors=3.0, widest=0.08)


@pytest.mark.slow
def test_the_smoothed_gate_is_right_once_extrapolated(truth):
    """At a width of a step's deviation the bias shows; two widths take most of it away."""
    width = 0.06
    raw = smoothed(one_loan, LOAN, KEY, scenarios=2**17, width=width, extrapolate=False)
    found = smoothed(one_loan, LOAN, KEY, scenarios=2**17, width=width)
    assert raw.estimator == "smoothed gate, width 0.06"
    assert found.estimator == "smoothed gate, width 0.06 and 0.03, extrapolated"
    assert_within(found, truth, errors=4.0, widest=0.3)
    off = [abs(raw.of(n)[0] - truth[n]) / raw.of(n)[1] for n in ("debt", "price", "volatility")]
    assert max(off) > 3.5, off


def test_closed_form_equals_its_bumps(shock):
    """The ladder's derivatives and the extrapolated bumps of its value, to nine digits."""
    at = point_of(SHOT)
    value = jax.jit(lambda v: one_shot_expected(at.unravel(v)))
    for i, name in enumerate(at.names):
        # Small, for the slope has kinks where a threshold meets the price at which a loan is short.
        h, ways = 2e-5 * float(at.values[i]), []
        for size in (h, 0.5 * h):
            up, down = (float(value(at.values.at[i].add(s * size))) for s in (1.0, -1.0))
            ways.append((up - down) / (2.0 * size))
        assert_close(shock.of(name)[0], (4.0 * ways[1] - ways[0]) / 3.0, rtol=1e-9, atol=0.0)
    assert shock.standard_error.tolist() == [0.0] * 4
    assert shock.second is not None
    assert_close(shock.second, shock.second.T, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_closed_form_is_the_simulations_mean(shock):
    """Half a million quantiles of the shock through the simulation, bumped by half a percent."""
    count = 2**19
    quantiles = (np.arange(count) + 0.5) / count
    draws = jnp.asarray(jax.scipy.special.ndtri(quantiles))
    assert_close(stratified_mean(ONE_SHOT, draws), shock.value, rtol=1e-5, atol=0.0)
    for name, value in ONE_SHOT.items():
        ends = [
            stratified_mean({**ONE_SHOT, name: value * (1.0 + s)}, draws) for s in (5e-3, -5e-3)
        ]
        assert_close((ends[0] - ends[1]) / (0.01 * value), shock.of(name)[0], rtol=5e-3, atol=0.0)


@pytest.mark.slow
def test_regime_score_of_one_shock_has_the_derivatives_of_the_closed_form(shock):
    found = regime(one_shot, SHOT, KEY, scenarios=2**16)
    assert_within(found, as_dict(shock), errors=3.0, widest=0.025)


def test_plain_differentiation_of_one_shock_is_wrong_whatever_the_sample(shock):
    found = pathwise(one_shot, SHOT, KEY, scenarios=2**14)
    assert found.of("threshold") == (0.0, 0.0)
    assert any(note.startswith("threshold: 0 in every scenario") for note in found.notes)
    for name in ("impact", "deviation", "price"):
        derivative, error = found.of(name)
        assert abs(derivative - shock.of(name)[0]) > 20.0 * error, name


@pytest.mark.parametrize(
    ("loss", "parameters"),
    [
        (one_shot, SHOT),
        pytest.param(one_loan, LOAN, marks=pytest.mark.slow),
        pytest.param(ten_steps, TEN, marks=pytest.mark.slow),
        pytest.param(TwoAssets(6, 2), TWO, marks=pytest.mark.slow),
    ],
    ids=["one shot", "one loan", "ten steps", "two assets"],
)
def test_the_value_of_the_regime_score_is_the_plain_simulation_bit_for_bit(loss, parameters):
    """Operation by operation, for compilers fuse products into sums as they like."""
    keys = jax.vmap(partial(scenario_key, KEY))(jnp.arange(1024))
    with jax.disable_jit():
        losses = jax.vmap(partial(loss, parameters))(keys).lost
        plain = jnp.sum(losses, axis=1)
        baseline = jnp.mean(losses, axis=0)
        scored = lambda p, own: total(loss(p, own, Stratified()), baseline)
        value, _ = jax.vmap(jax.value_and_grad(scored), in_axes=(None, 0))(parameters, keys)
    assert float(jnp.count_nonzero(plain)) > 2
    assert np.asarray(value).tobytes() == np.asarray(plain).tobytes()


def test_published_values_are_those_of_the_plain_program():
    """To the last bit, whatever the compiler makes of the differentiated one."""
    at = point_of(SHOT)
    plain = lambda values, own: jnp.sum(one_shot(at.unravel(values), own).lost)[None]
    (value,), (error,) = averaged(plain, at.values, KEY, 512)
    for estimator in (regime, likelihood):
        found = estimator(one_shot, SHOT, KEY, scenarios=512)
        assert (found.value, found.value_error) == (value, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "parameters", "narrow"),
    [
        (ten_steps, TEN, TEN_STEPS),
        (TwoAssets(6, 2), TWO, ("deviation", "impact", "first_threshold")),
    ],
    ids=["ten steps", "two assets"],
)
def test_cascades_with_feedback_agree_with_extrapolated_bumps(loss, parameters, narrow):
    """Under other draws than the bumps', so that the two are independent."""
    found = regime(loss, parameters, KEY, scenarios=2**16)
    *_, limit = bumps(loss, parameters, root_key(2), scenarios=2**16, steps=(0.04, 0.02))
    for name in found.parameters:
        (derivative, error), (bump, bump_error) = found.of(name), limit.of(name)
        gap = abs(derivative - bump)
        assert gap <= 3.5 * math.hypot(error, bump_error), (name, derivative, bump)
        assert error <= 0.04 * abs(derivative) or name not in narrow, (name, derivative, error)


@pytest.mark.slow
def test_float32_gradients_agree_with_float64_within_their_errors():
    wide = regime(ten_steps, TEN, KEY, scenarios=2**15)
    narrow = regime(ten_steps, typed(TEN_STEPS, np.float32), KEY, scenarios=2**15)
    # The same draws: rounding moves a few loans over a trigger, and nothing else.
    for name in wide.parameters:
        (double, error), (single, _) = wide.of(name), narrow.of(name)
        assert abs(double - single) <= 0.2 * error, (name, double, single, error)


def test_pathwise_goes_through_a_fixed_point_implicitly():
    """x = cos(a x) z: dx/da = -x z sin(a x) / (1 + a z sin(a x)), averaged."""

    def loss(p, key):
        z = 0.5 + 0.1 * jax.random.uniform(key)
        return fixed_point(lambda x: jnp.cos(p["a"] * x) * z, jnp.array(0.5), limit=200).value

    found = pathwise(loss, {"a": 0.7}, KEY, scenarios=16)
    keys = jax.vmap(partial(scenario_key, KEY))(jnp.arange(16))
    z = np.asarray(0.5 + 0.1 * jax.vmap(jax.random.uniform)(keys))
    x = np.asarray(jax.vmap(partial(loss, {"a": jnp.array(0.7)}))(keys))
    expected = -x * z * np.sin(0.7 * x) / (1.0 + 0.7 * z * np.sin(0.7 * x))
    assert_close(found.of("a")[0], expected.mean(), rtol=1e-9, atol=0.0)
    error = expected.std(ddof=1) / math.sqrt(16)
    assert_close(found.of("a")[1], error, rtol=1e-6, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "by"),
    [(regime, ("deviation", "mean", "trigger")), (likelihood, ("deviation", "mean"))],
    ids=["regime score", "likelihood ratio"],
)
def test_second_derivatives_across_a_trigger(estimator, by):
    """What is sold below a trigger: E[exp(x); x < b] = exp(m + s^2 / 2) Phi((b - m) / s - s)."""
    at = {"deviation": 0.4, "mean": 0.1, "trigger": -0.2}
    fixed = {name: jnp.asarray(value) for name, value in at.items() if name not in by}

    def loss(p, key, crossing=Hard()):  # noqa: B008
        p = {**fixed, **p}
        (draw,) = normals(key, 1, jnp.float64)
        edges = p["trigger"][None]
        x, score = crossing.normal(p["mean"], p["deviation"], draw, edges)
        return jnp.exp(score) * crossing.gate(p["trigger"] - x) * jnp.exp(x)

    def expected(v):
        p = {**fixed, **dict(zip(by, v, strict=True))}
        m, s = p["mean"], p["deviation"]
        return jnp.exp(m + 0.5 * s**2) * jax.scipy.stats.norm.cdf((p["trigger"] - m) / s - s)

    point = jnp.array([at[name] for name in by])
    found = estimator(loss, {name: at[name] for name in by}, KEY, scenarios=2**16, second=True)
    assert found.second is not None
    assert found.second_error is not None
    slope, bend = jax.grad(expected)(point), jax.hessian(expected)(point)
    assert (np.abs(found.derivative - slope) <= 3.0 * found.standard_error).all()
    assert (np.abs(found.second - bend) <= 3.0 * found.second_error + 1e-9).all()
    assert (found.second_error <= 0.05 * np.abs(np.asarray(bend)).max()).all()


def test_bumps_are_central_differences_and_their_limit():
    """Of a cubic: the differences are off by h^2 and the limit is exact; no noise anywhere."""
    cube = lambda p, key: p["x"] ** 3 + 0.0 * jax.random.uniform(key)
    coarse, fine, limit = bumps(cube, {"x": 2.0}, KEY, scenarios=4, steps=(0.1, 0.05), second=True)
    assert_close(coarse.of("x")[0], 12.0 + 0.2**2, rtol=1e-12, atol=0.0)
    assert_close(fine.of("x")[0], 12.0 + 0.1**2, rtol=1e-12, atol=0.0)
    assert_close(limit.of("x")[0], 12.0, rtol=1e-12, atol=0.0)
    assert limit.second is not None
    assert_close(limit.second, [[12.0]], rtol=1e-9, atol=0.0)
    (single,) = bumps(cube, {"x": 0.0}, KEY, scenarios=4, steps=(0.1,))
    assert_close(single.of("x")[0], 0.1**2, rtol=1e-12, atol=0.0)


def test_arrays_are_parameters_entry_by_entry():
    loss = lambda p, key: (
        jnp.sum(p["w"] * jnp.arange(4.0).reshape(2, 2)) * p["a"] + 0.0 * key_of(key)
    )
    key_of = jax.random.uniform
    found = pathwise(loss, {"w": jnp.ones((2, 2)), "a": 2.0}, KEY, scenarios=2)
    assert found.parameters == ("a", "w[0,0]", "w[0,1]", "w[1,0]", "w[1,1]")
    assert found.derivative.tolist() == [6.0, 0.0, 2.0, 4.0, 6.0]
    with pytest.raises(KeyError, match=r"no parameter 'w'; there are a, w\[0,0\]"):
        found.of("w")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (14, "'steps': 14 is of type int; a derivative needs a floating-point number"),
        ("ether", "'steps': 'ether' is of type str"),
        (np.arange(3), r"an array of int64"),
        (True, "of type bool"),
        (math.nan, "parameters are not finite"),
    ],
)
@pytest.mark.parametrize("estimator", [pathwise, regime, likelihood, survival, bumps])
def test_what_cannot_be_differentiated_by_is_refused(value, said, estimator):
    with pytest.raises(ValueError, match=said):
        estimator(one_loan, {**LOAN, "steps": value}, KEY, scenarios=8)


def test_a_loss_that_is_not_finite_is_refused_with_its_scenario():
    def loss(p, key):
        return jnp.where(jax.random.uniform(key) < 0.5, jnp.nan, 1.0) * p["a"]

    with pytest.raises(
        ValueError, match=r"\d+ of 64 scenarios are not finite; the first is \d+, in its loss"
    ):
        pathwise(loss, {"a": 1.0}, KEY, scenarios=64)
    root = lambda p, key: jnp.sqrt(p["a"] * 0.0) + 0.0 * jax.random.uniform(key)
    with pytest.raises(ValueError, match=r"the first is 0, in its derivatives"):
        pathwise(root, {"a": 1.0}, KEY, scenarios=64)


def test_no_parameters_and_no_sample_are_refused():
    with pytest.raises(ValueError, match="nothing to differentiate by"):
        pathwise(one_loan, {}, KEY, scenarios=8)
    with pytest.raises(ValueError, match="1 scenarios: a standard error needs at least 2"):
        pathwise(one_loan, LOAN, KEY, scenarios=1)


def test_a_width_too_small_for_the_sample_is_refused():
    with pytest.raises(ValueError, match=r"width 5e-07 is too small for 256 scenarios: 0 of them"):
        smoothed(one_loan, LOAN, KEY, scenarios=256, width=1e-6)
    with pytest.raises(ValueError, match="width 0: expected a positive one"):
        smoothed(one_loan, LOAN, KEY, scenarios=256, width=0.0)


@pytest.mark.parametrize("steps", [(0.01, 0.02), (0.02, 0.02), (), (0.02, 0.01, 0.005), (-0.01,)])
def test_steps_of_bumps_are_checked(steps):
    with pytest.raises(ValueError, match="steps"):
        bumps(one_loan, LOAN, KEY, scenarios=8, steps=steps)


def test_a_baseline_changes_noise_and_no_value():
    """A score of mean 0 times anything known before it has mean 0."""
    losses = Losses(lost=jnp.array([1.0, 2.0]), scores=jnp.zeros(2))
    assert float(total(losses)) == float(total(losses, jnp.array([5.0, 7.0]))) == 3.0
    slope = jax.grad(lambda s: total(Losses(lost=losses.lost, scores=s)))(losses.scores)
    assert slope.tolist() == [3.0, 2.0]
    against = lambda s: total(Losses(lost=losses.lost, scores=s), jnp.array([5.0, 7.0]))
    assert jax.grad(against)(losses.scores).tolist() == [-2.0, -5.0]
