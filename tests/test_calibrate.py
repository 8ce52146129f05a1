"""Fits against what is known: optima, the errors of a normal model, steps taken by hand."""

import pickle
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrisk as jr
from jaxrisk.gradient.calibrate import Stop
from jaxrisk.gradient.estimate import Losses
from jaxrisk.numerics.bounded import from_unbounded, to_unbounded
from jaxrisk.numerics.keys import random_words, root_key, scenario_key, standard_normal
from tests.conftest import ROOT
from tests.helpers import assert_close
from tests.test_participation import RECORD

LOW = jnp.array([-jnp.inf, 1.0, -jnp.inf, -2.0])
HIGH = jnp.array([jnp.inf, jnp.inf, 3.0, 5.0])
BOUNDS = {"a.low": (0.0, None), "a.high": (None, 4.0), "both": (-1.0, 2.0)}
START = {"a": {"low": 1.0, "high": 1.0}, "both": jnp.array([0.0, 0.5]), "free": 0.0}
TARGET = {"a": {"low": 0.3, "high": 3.5}, "both": jnp.array([1.8, -0.7]), "free": -6.0}


def distance(p):
    gaps = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), p, TARGET)
    return sum(jax.tree.leaves(gaps))


def draw(key):
    return standard_normal(random_words(key, 1), jnp.float64)[0]


def noisy(p, key):
    return (p["mean"] - 3.0 - draw(key)) ** 2


def test_unbounded_numbers_stand_for_values_within_bounds_and_back():
    raw = jnp.tile(jnp.linspace(-30.0, 30.0, 61)[:, None], (1, 4))
    value = jax.vmap(lambda r: from_unbounded(r, LOW, HIGH))(raw)
    assert (value.min(axis=0) >= LOW).all()
    assert (value.max(axis=0) <= HIGH).all()
    assert (jnp.diff(value, axis=0) > 0).all()
    middle = raw[25:36]
    back = jax.vmap(lambda v: to_unbounded(v, LOW, HIGH))(value[25:36])
    assert_close(back, middle, rtol=0.0, atol=1e-10)
    # Far out no branch that is not taken spoils the slope.
    far = jnp.array([1e6, -1e6, 1e6, 1e6])
    slope = jax.grad(lambda r: jnp.sum(from_unbounded(r, LOW, HIGH)))
    assert_close(slope(far), [1.0, 0.0, 0.0, 0.0], rtol=0.0, atol=0.0)
    assert_close(slope(jnp.zeros(4)), [1.0, 1.0, 1.0, 1.75], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("optimiser", [None, optax.lbfgs()], ids=["adam", "lbfgs"])
def test_a_known_optimum_is_found_within_its_bounds(optimiser):
    fit = jr.calibrate(
        distance, START, bounds=BOUNDS, steps=5_000, optimiser=optimiser, tolerance=1e-8
    )
    assert fit.why is Stop.TOLERANCE
    assert fit.parameters == ("a.high", "a.low", "both[0]", "both[1]", "free")
    assert_close(fit.point, [3.5, 0.3, 1.8, -0.7, -6.0], rtol=0.0, atol=1e-6)
    assert_close(fit.values["both"], TARGET["both"], rtol=0.0, atol=1e-6)
    assert fit.losses[0] == float(distance(START))
    assert fit.losses[-1] < 1e-12
    # The second derivative by every value is 2 at the minimum, whatever its bounds.
    assert_close(fit.standard_error, np.full(5, 0.5**0.5), rtol=1e-5, atol=0.0)


def test_standard_errors_are_those_of_a_normal_model():
    seen = np.random.default_rng(1).normal(2.0, 0.7, 400)

    def surprise(p):
        z = (jnp.asarray(seen) - p["mean"]) / p["deviation"]
        return jnp.sum(0.5 * z**2 + jnp.log(p["deviation"]))

    fit = jr.calibrate(
        surprise, {"mean": 0.0, "deviation": 1.0}, bounds={"deviation": (0.0, None)},
        optimiser=optax.lbfgs(), tolerance=1e-7,
    )  # fmt: skip
    deviation = seen.std()
    known = {
        "mean": (seen.mean(), deviation / 20.0),
        "deviation": (deviation, deviation / 800**0.5),
    }
    for name, pair in known.items():
        assert_close(fit.of(name), pair, rtol=1e-6, atol=0.0)
    assert "deviation" in str(fit)
    with pytest.raises(KeyError, match="no parameter 'sigma'; there are deviation, mean"):
        fit.of("sigma")


def test_a_step_plays_its_own_scenarios():
    key, states = root_key(5), []
    jr.calibrate(
        noisy, {"mean": 0.0}, key=key, batch=8, steps=2, optimiser=optax.sgd(0.25),
        progress=states.append, standard_errors=False,
    )  # fmt: skip
    mean = 0.0
    for step, state in enumerate(states):
        draws = [float(draw(scenario_key(key, i))) for i in range(8 * step, 8 * step + 8)]
        gaps = mean - 3.0 - np.array(draws)
        assert_close(state.losses[step], (gaps**2).mean(), rtol=1e-12, atol=0.0)
        mean -= 0.25 * 2.0 * gaps.mean()
        assert_close(state.raw, [mean], rtol=1e-12, atol=0.0)
    assert [len(state.losses) for state in states] == [1, 2]


def test_a_mean_over_scenarios_is_fitted():
    rate = optax.cosine_decay_schedule(0.2, 300)
    fit = jr.calibrate(
        noisy, {"mean": 0.0}, key=root_key(2), batch=64, steps=300, learning_rate=rate,
        standard_errors=False,
    )  # fmt: skip
    assert fit.why is Stop.STEPS
    assert_close(fit.point, [3.0], rtol=0.0, atol=0.05)


def test_scores_count_in_the_slope_and_not_in_the_loss():
    def scored(p, key):
        x = jax.lax.stop_gradient(p) + draw(key)
        score = -0.5 * (x - p) ** 2
        zero = score - jax.lax.stop_gradient(score)
        return Losses(lost=jnp.exp(0.5 * x)[None], scores=zero[None])

    key = root_key(3)
    fit = jr.calibrate(
        scored, 0.2, key=key, batch=16, steps=1, optimiser=optax.sgd(1.0), standard_errors=False
    )
    draws = np.array([float(draw(scenario_key(key, i))) for i in range(16)])
    lost = np.exp(0.5 * (0.2 + draws))
    assert_close(fit.losses[0], lost.mean(), rtol=1e-12, atol=0.0)
    assert_close(fit.point, [0.2 - (lost * draws).mean()], rtol=1e-12, atol=0.0)
    assert fit.parameters == ("parameter",)
    assert np.isnan(fit.standard_error).all()


@pytest.mark.parametrize("kind", ["minibatches", "lbfgs"])
def test_a_resumed_fit_is_the_uninterrupted_one_bit_for_bit(kind):
    if kind == "lbfgs":
        loss, start = distance, START
        options = {"bounds": BOUNDS, "optimiser": optax.lbfgs(), "tolerance": 1e-6}
    else:
        loss, start = noisy, {"mean": 1.0}
        options = {"bounds": {"mean": (0.0, 9.0)}, "key": root_key(7), "batch": 4}
    whole = jr.calibrate(loss, start, steps=20, **options)
    stop = lambda state: len(state.losses) == 7
    first = jr.calibrate(loss, start, steps=20, progress=stop, standard_errors=False, **options)
    assert first.why is Stop.ASKED
    assert len(first.losses) == 8
    saved = pickle.loads(pickle.dumps(first.state))
    rest = jr.calibrate(loss, start, steps=20, resume=saved, **options)
    assert rest.why is whole.why
    np.testing.assert_array_equal(rest.losses, whole.losses)
    np.testing.assert_array_equal(rest.point, whole.point)
    np.testing.assert_array_equal(rest.standard_error, whole.standard_error)


@pytest.mark.parametrize(
    ("start", "bounds", "text"),
    [
        ({"a": {"low": -1.0}}, {"a.low": (0.0, None)}, "'a.low' starts at -1: .* 0 and inf"),
        ({"x": jnp.array([0.5, 2.0])}, {"x": (0.0, 2.0)}, r"'x\[1\]' starts at 2: .* 0 and 2"),
        ({"x": float("nan")}, {}, "'x' starts at nan"),
        ({"x": 1.0}, {"y": (0.0, None)}, "bounds of 'y': the parameters are x"),
        ({"x": 1.0}, {"x": (2.0, 0.0)}, "bounds of 'x': 2 is not below 0"),
        ({"x": 2}, {}, "'x': 2 is of type int; a fit needs a floating-point"),
        ({"law": "linear"}, {}, "'law': 'linear' is of type str"),
        ({"n": np.arange(2)}, {}, "'n': .* is an array of int64"),
        ({"x": jnp.float32(1.0), "y": 1.0}, {}, "of float32 and float64: give them one type"),
        ({}, {}, "nothing to fit"),
    ],
)
def test_parameters_that_cannot_be_fitted_are_named(start, bounds, text):
    with pytest.raises(ValueError, match=text):
        jr.calibrate(lambda p: jnp.sum(p["x"]), start, bounds=bounds)


def test_a_loss_that_is_not_finite_is_reported_with_its_parameters():
    broken = lambda p: jnp.log(p["x"]) + 0.0 * p["y"]
    with pytest.raises(ValueError, match=r"step 1, at x = -0\.5, y = 2: the loss is nan$"):
        jr.calibrate(broken, {"x": 0.5, "y": 2.0}, optimiser=optax.sgd(0.5))
    steep = lambda p: jnp.sqrt(p["x"] - 1.0) + p["y"]
    with pytest.raises(ValueError, match=r"step 0, at x = 1, y = 2: the slope by x is not finite$"):
        jr.calibrate(steep, {"x": 1.0, "y": 2.0})


def test_a_scenario_that_is_not_finite_is_named():
    key = root_key(11)
    draws = np.array([float(draw(scenario_key(key, i))) for i in range(200)])
    first = int((draws > 1.8).argmax())
    step = first // 10
    broken = lambda p, own: p["x"] ** 2 + jnp.log(1.8 - draw(own))
    text = f"step {step}, at x = .*: the loss is nan in scenarios {10 * step} to {10 * step + 9}"
    with pytest.raises(ValueError, match=f"{text}, first in {first}$"):
        jr.calibrate(broken, {"x": 0.5}, key=key, batch=10)


def test_what_the_loss_does_not_determine_has_no_standard_error():
    fit = jr.calibrate(lambda p: (p["x"] - 1.0) ** 2 + 0.0 * p["idle"], {"x": 0.0, "idle": 2.0})
    assert np.isnan(fit.standard_error).all()
    assert fit.notes == ("no standard errors: the loss has no minimum here, mostly along 'idle'",)


def test_a_state_of_another_fit_is_refused():
    state = jr.calibrate(distance, START, steps=3, standard_errors=False).state
    with pytest.raises(ValueError, match="has made 3 steps of 2"):
        jr.calibrate(distance, START, steps=2, resume=state)
    with pytest.raises(ValueError, match="other parameters or another optimiser"):
        jr.calibrate(lambda p: p["x"], {"x": 1.0}, resume=state)
    with pytest.raises(ValueError, match="other parameters or another optimiser"):
        jr.calibrate(distance, START, resume=state, optimiser=optax.sgd(0.1))
    with pytest.raises(ValueError, match="-1 steps of 64 scenarios"):
        jr.calibrate(distance, START, steps=-1)


@pytest.mark.slow
def test_keepers_fitted_to_four_fifths_of_the_record_tell_the_rest(shared, capsys):
    runpy.run_path(str(ROOT / "docs/examples/calibrate_keepers.py"))["main"](shared / RECORD)
    lines = capsys.readouterr().out.splitlines()
    number = lambda text: float(text.replace(",", ""))
    told = {line[:24].strip(): line[24:].split() for line in lines}
    recorded = 0.0
    for part in ("fitted auctions", "every fifth, kept back"):
        expected, real = (number(x) for x in told[part][:2])
        assert_close(expected, real, rtol=0.05, atol=0.0)
        recorded += real
    assert_close(recorded, 62_843.0, rtol=0.0, atol=1.0)
    (ended,) = [line for line in lines if line.startswith("loss ")]
    assert ended.endswith(Stop.TOLERANCE)
    least = number(told["gradients"][0])
    assert_close(number(told["finite differences"][0]), least, rtol=1e-6, atol=0.0)
