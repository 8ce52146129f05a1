"""Path models against closed forms; Monte Carlo tolerances are four standard errors."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrisk.market.correlation import correlation_factor, uniform_correlation
from jaxrisk.market.paths import Gbm, GivenMoves, JumpDiffusion, Pegged
from jaxrisk.market.shock import ParametrisedShock
from jaxrisk.numerics.keys import root_key, scenario_key, step_key
from tests.helpers import assert_close

HOUR = 1 / 8766
RHO = 0.6
DRIFT = np.array([0.05, 0.1, 0.0])
VOLATILITY = np.array([0.75, 0.9, 0.5])
LOADING = np.array([1.0, 1.3, 0.5])


def gbm(dtype=jnp.float64):
    return Gbm(
        drift=jnp.asarray(DRIFT, dtype),
        volatility=jnp.asarray(VOLATILITY, dtype),
        factor=correlation_factor(uniform_correlation(3, jnp.asarray(RHO, dtype))),
    )


def jump_diffusion(dtype=jnp.float64, *, intensity=12.0, mean=-0.04, volatility=0.05):
    return JumpDiffusion(
        diffusion=gbm(dtype),
        jump_intensity=jnp.asarray(intensity, dtype),
        jump_mean=jnp.asarray(mean, dtype),
        jump_volatility=jnp.asarray(volatility, dtype),
        jump_loading=jnp.asarray(LOADING, dtype),
    )


def pegged(dtype=jnp.float64, base=None):
    """Asset 2 follows asset 0."""
    return Pegged(
        base=jump_diffusion(dtype) if base is None else base,
        underlying=(-1, -1, 0),
        ratio_growth=jnp.asarray([0.0, 0.0, 0.03], dtype),
        basis_volatility=jnp.asarray([0.0, 0.0, 0.2], dtype),
        basis_half_life_years=jnp.asarray([0.0, 0.0, 24 * HOUR], dtype),
    )


def shock(dtype=jnp.float64, *, multiplier=0.0, hours=6.0, gap=0.0, gap_hours=3.0):
    return ParametrisedShock(
        diffusion=gbm(dtype),
        volatility_multiplier=jnp.asarray(multiplier, dtype),
        fall=jnp.asarray([0.3, 0.4, 0.3], dtype),
        basis_fall=jnp.asarray([0.0, 0.0, 0.05], dtype),
        fall_years=jnp.asarray(hours * HOUR, dtype),
        recovery=jnp.asarray(0.25, dtype),
        recovery_years=jnp.asarray(4 * HOUR, dtype),
        gap=jnp.asarray(gap, dtype),
        gap_years=jnp.asarray(gap_hours * HOUR, dtype),
    )


# Diffusion and jumps are inside the first.
MODELS = {"pegged": pegged, "shock": shock}


@functools.partial(jax.jit, static_argnames=("scenarios", "steps", "batch"))
def moves(model, *, scenarios, steps, step_years, batch=None):
    """Return a `Move` of arrays (scenario, step, asset), stepped as the engine does."""

    def one(scenario):
        key = scenario_key(root_key(1), scenario)
        numbers = jnp.arange(steps, dtype=jnp.int32)
        noise = jax.vmap(lambda step: model.noise(step_key(key, step), scenario, step))(numbers)
        _, path = lax.scan(lambda s, n: model.advance(s, n, step_years), model.init(), noise)
        return path

    ids = jnp.arange(scenarios, dtype=jnp.int32)
    return jax.vmap(one)(ids) if batch is None else lax.map(one, ids, batch_size=batch)


def totals(model, *, scenarios, steps, step_years):
    """Return log returns over the whole path, (scenario, asset)."""
    path = moves(model, scenarios=scenarios, steps=steps, step_years=step_years)
    return np.asarray(jnp.sum(path.log_return, axis=1))


def assert_mean(sample, expected):
    """Check the mean over the first axis within four of its standard errors."""
    error = np.max(np.std(sample, axis=0)) / np.sqrt(sample.shape[0])
    assert_close(sample.mean(axis=0), expected, rtol=0.0, atol=4 * error)


def test_gbm_moments():
    years = 0.5
    sample = totals(gbm(), scenarios=50_000, steps=2, step_years=years / 2)
    mean = (DRIFT - VOLATILITY**2 / 2) * years
    assert_mean(sample, mean)
    centred = sample - mean
    correlation = np.where(np.eye(3, dtype=bool), 1.0, RHO)
    covariance = correlation * np.outer(VOLATILITY, VOLATILITY) * years
    assert_mean(centred[:, :, None] * centred[:, None, :], covariance)
    assert_mean(np.exp(sample), np.exp(DRIFT * years))


def test_gbm_steps_are_independent():
    path = moves(gbm(), scenarios=50_000, steps=2, step_years=HOUR)
    scaled = np.asarray(path.log_return) / (VOLATILITY * np.sqrt(HOUR))
    assert_mean(scaled[:, 0] * scaled[:, 1], np.zeros(3))


def test_jump_diffusion_moments():
    intensity, size, spread, years = 12.0, -0.04, 0.05, 0.25
    sample = totals(jump_diffusion(), scenarios=50_000, steps=3, step_years=years / 3)
    compensator = intensity * np.expm1(LOADING * size + (LOADING * spread) ** 2 / 2)
    mean = (DRIFT - VOLATILITY**2 / 2 - compensator + intensity * LOADING * size) * years
    assert_mean(sample, mean)
    correlation = np.where(np.eye(3, dtype=bool), 1.0, RHO)
    jumps = intensity * (size**2 + spread**2) * np.outer(LOADING, LOADING)
    covariance = (correlation * np.outer(VOLATILITY, VOLATILITY) + jumps) * years
    centred = sample - mean
    assert_mean(centred[:, :, None] * centred[:, None, :], covariance)


def test_jumps_are_skewed():
    # Without diffusion the third cumulant is λ Δt E J³, which no Gaussian path has.
    quiet = Gbm(drift=jnp.zeros(3), volatility=jnp.zeros(3), factor=jnp.eye(3))
    model = JumpDiffusion(
        diffusion=quiet,
        jump_intensity=jnp.asarray(40.0),
        jump_mean=jnp.asarray(-0.04),
        jump_volatility=jnp.asarray(0.05),
        jump_loading=jnp.asarray(LOADING),
    )
    sample = totals(model, scenarios=100_000, steps=1, step_years=0.05)
    third = 40.0 * 0.05 * LOADING**3 * ((-0.04) ** 3 + 3 * (-0.04) * 0.05**2)
    compensator = 40.0 * np.expm1(LOADING * -0.04 + (LOADING * 0.05) ** 2 / 2) * 0.05
    mean = 40.0 * 0.05 * LOADING * -0.04 - compensator
    for asset in range(3):
        assert_mean((sample[:, asset] - mean[asset]) ** 3, third[asset])


@pytest.mark.parametrize("step_years", [HOUR, 0.1])
def test_compensated_jumps_leave_the_expected_price(step_years):
    model = jump_diffusion(intensity=60.0, mean=-0.05, volatility=0.1)
    sample = totals(model, scenarios=100_000, steps=2, step_years=step_years)
    assert_mean(np.exp(sample), np.exp(DRIFT * 2 * step_years))


@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float64, 3e-6), (jnp.float32, 3e-6)])
@pytest.mark.parametrize("mean", [12 * HOUR, 0.5, 3.0])
def test_jump_counts_are_poisson(mean, dtype, atol):
    # Jumps of log size 1 without noise: the move plus its compensator is the count. The arrivals
    # are the midpoints of equal cells, so shares are exact to a cell.
    cells = 400_000
    model = jump_diffusion(dtype, intensity=mean, mean=1.0, volatility=0.0)
    arrivals = jnp.asarray((np.arange(cells) + 0.5) / cells, dtype)
    zero = jnp.zeros((), dtype)
    still = jnp.zeros(3, dtype)

    def counted(arrival):
        _, move = model.advance((), (still, zero, arrival), 1.0)
        _, none = model.advance((), (still, zero, jnp.ones((), dtype)), 1.0)
        return move.log_return[0] - none.log_return[0]

    counts = np.rint(np.asarray(jax.jit(jax.vmap(counted))(arrivals))).astype(int)
    shares = np.bincount(counts, minlength=8)[:8] / cells
    law = np.exp(-mean) * mean ** np.arange(8) / np.array([1, 1, 2, 6, 24, 120, 720, 5040])
    assert_close(shares, law, rtol=0.0, atol=atol)


def test_the_rarest_arrival_is_still_a_few_jumps():
    model = jump_diffusion(jnp.float32, mean=1.0, volatility=0.0)
    still = jnp.zeros(3, jnp.float32)
    noise = (still, jnp.zeros((), jnp.float32), jnp.asarray(2.0**-33, jnp.float32))
    _, move = model.advance(model.init(), noise, HOUR)
    assert 1.5 < float(move.log_return[0]) < 3.5


def test_pegged_reference_is_the_underlying_and_its_growth():
    path = moves(pegged(), scenarios=50, steps=8, step_years=HOUR)
    market, reference = np.asarray(path.log_return), np.asarray(path.log_reference_return)
    assert_close(reference[..., 2], reference[..., 0] + 0.03 * HOUR, rtol=0.0, atol=1e-15)
    np.testing.assert_array_equal(market[..., :2], reference[..., :2])
    assert not np.allclose(market[..., 2], reference[..., 2], rtol=0.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 12])
def test_the_basis_is_an_ornstein_uhlenbeck_process_for_any_step(steps):
    years = 36 * HOUR
    path = moves(pegged(), scenarios=40_000, steps=steps, step_years=years / steps)
    changes = np.asarray(path.log_return - path.log_reference_return)[..., 2]
    basis = np.cumsum(changes, axis=1)
    reversion = np.log(2) / (24 * HOUR)
    variance = 0.2**2 * -np.expm1(-2 * reversion * years) / (2 * reversion)
    assert_mean(basis[:, -1] ** 2, variance)
    third = steps // 3
    early = 0.2**2 * -np.expm1(-2 * reversion * years / 3) / (2 * reversion)
    decay = np.exp(-reversion * years * 2 / 3)
    assert_mean(basis[:, third - 1] * basis[:, -1], early * decay)


def test_a_basis_the_base_model_gives_is_added():
    quiet = shock()
    model = pegged(base=quiet)
    silent = Pegged(
        base=quiet,
        underlying=model.underlying,
        ratio_growth=jnp.zeros(3),
        basis_volatility=jnp.zeros(3),
        basis_half_life_years=jnp.ones(3),
    )
    direct = moves(quiet, scenarios=1, steps=6, step_years=HOUR)
    wrapped = moves(silent, scenarios=1, steps=6, step_years=HOUR)
    basis = np.asarray(direct.log_return - direct.log_reference_return)[..., 2]
    assert_close(basis.sum(), -0.05, rtol=1e-12, atol=0.0)
    assert_close(
        wrapped.log_return[..., 2], direct.log_return[..., 0] + basis, rtol=0.0, atol=1e-15
    )


def test_given_moves_replay_the_table():
    table = np.random.default_rng(1).normal(size=(4, 5, 3))
    model = GivenMoves.from_table(jnp.asarray(table), scenarios=4, steps=5)
    path = moves(model, scenarios=4, steps=5, step_years=HOUR)
    np.testing.assert_array_equal(path.log_return, table)
    np.testing.assert_array_equal(path.log_reference_return, table)


def test_given_moves_outside_the_table_are_nan_and_refused_beforehand():
    table = jnp.ones((2, 3, 1))
    path = moves(GivenMoves(log_return=table), scenarios=3, steps=4, step_years=HOUR)
    inside = np.zeros((3, 4, 1), dtype=bool)
    inside[:2, :3] = True
    np.testing.assert_array_equal(np.isnan(path.log_return), ~inside)
    for scenarios, steps in ((3, 3), (2, 4)):
        with pytest.raises(ValueError, match="do not cover"):
            GivenMoves.from_table(table, scenarios=scenarios, steps=steps)
    with pytest.raises(ValueError, match="expected \\(scenario, step, asset\\)"):
        GivenMoves.from_table(table[0], scenarios=1, steps=1)


@pytest.mark.parametrize("hours", [6.0, 5.5, 0.5])
def test_shock_falls_then_recovers(hours):
    model = shock(hours=hours)
    drift = DRIFT * HOUR
    path = moves(model, scenarios=2, steps=12, step_years=HOUR)
    reference = np.cumsum(np.asarray(path.log_reference_return) - drift, axis=1)
    market = np.cumsum(np.asarray(path.log_return) - drift, axis=1)
    time = np.arange(1, 13)
    fallen = np.minimum(time / hours, 1.0)
    risen = np.clip((time - hours) / 4.0, 0.0, 1.0)
    share = (fallen - 0.25 * risen)[:, None]
    assert_close(reference[0], -share * [0.3, 0.4, 0.3], rtol=0.0, atol=1e-14)
    assert_close(market[1], -share * [0.3, 0.4, 0.35], rtol=0.0, atol=1e-14)


@pytest.mark.parametrize(("gap_hours", "step"), [(3.0, 2), (2.5, 2), (0.2, 0), (6.0, 5)])
def test_a_gap_comes_at_once_and_leaves_the_whole_fall_as_it_is(gap_hours, step):
    gap = 0.4
    model = shock(gap=gap, gap_hours=gap_hours)
    path = moves(model, scenarios=1, steps=12, step_years=HOUR).log_reference_return[0]
    fall = np.asarray(model.fall)
    steady = -(1 - gap) * fall / 6
    expected = np.zeros((12, 3))
    expected[:6] = steady
    expected[step] -= gap * fall
    expected[6:10] = 0.25 * fall / 4
    assert_close(np.asarray(path) - DRIFT * HOUR, expected, rtol=0.0, atol=1e-14)


def test_shock_noise_is_scaled_diffusion():
    sample = totals(shock(multiplier=2.0), scenarios=50_000, steps=1, step_years=HOUR)
    expected = (2.0 * VOLATILITY) ** 2 * HOUR
    assert_mean((sample - sample.mean(axis=0)) ** 2, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_paths_do_not_change_with_the_batch(name, dtype):
    model = MODELS[name](dtype)
    alone, few = (
        moves(model, scenarios=12, steps=6, step_years=HOUR, batch=batch) for batch in (1, 5)
    )
    # The draws are the same; the compiler may round a sum of products another way.
    rounding = 2 * float(jnp.finfo(dtype).eps)
    atol = rounding * float(jnp.max(jnp.abs(alone.log_return)))
    assert_close(few.log_return, alone.log_return, rtol=rounding, atol=atol)
    assert_close(few.log_reference_return, alone.log_reference_return, rtol=rounding, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_paths_agree_between_precisions(name):
    single, double = (
        moves(MODELS[name](dtype), scenarios=200, steps=12, step_years=HOUR)
        for dtype in (jnp.float32, jnp.float64)
    )
    assert single.log_return.dtype == jnp.float32
    assert double.log_return.dtype == jnp.float64
    # Shocks are equal, so only rounding differs: a few parts in 1e7 of the largest term.
    widened = np.asarray(single.log_return, dtype=np.float64)
    assert_close(widened, double.log_return, rtol=2e-5, atol=5e-8)


def test_derivative_of_a_move_in_volatility_is_exact():
    model = gbm()
    normal = jnp.asarray([0.3, -1.2, 0.8])

    def log_return(volatility):
        moved = Gbm(drift=model.drift, volatility=volatility, factor=model.factor)
        return moved.advance((), normal, 0.1)[1].log_return

    slope = jax.jacrev(log_return)(model.volatility)
    expected = -VOLATILITY * 0.1 + np.sqrt(0.1) * np.asarray(model.factor) @ np.asarray(normal)
    assert_close(slope, np.diag(expected), rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_derivative_of_the_second_moment_in_volatility():
    # E S² = exp((2 drift + volatility²) T) times a factor of the jumps alone, so the derivative
    # in a common multiplier of the volatilities is 2 volatility² T E S² at multiplier 1.
    model = jump_diffusion()
    years = 0.1

    def squared_prices(multiplier):
        diffusion = replace(model.diffusion, volatility=model.diffusion.volatility * multiplier)
        moved = replace(model, diffusion=diffusion)
        path = moves(moved, scenarios=40_000, steps=1, step_years=years)
        return jnp.exp(2 * path.log_return[:, 0, :])

    one = jnp.asarray(1.0)
    values, slopes = jax.jvp(squared_prices, (one,), (one,))
    gradient = jax.grad(lambda multiplier: jnp.mean(squared_prices(multiplier)[:, 0]))(one)
    assert_close(gradient, jnp.mean(slopes[:, 0]), rtol=1e-10, atol=0.0)

    single = np.expm1(LOADING * -0.04 + (LOADING * 0.05) ** 2 / 2)
    double = np.expm1(2 * LOADING * -0.04 + (2 * LOADING * 0.05) ** 2 / 2)
    second = np.exp((2 * DRIFT + VOLATILITY**2 + 12.0 * (double - 2 * single)) * years)
    assert_mean(np.asarray(values), second)
    assert_mean(np.asarray(slopes), 2 * VOLATILITY**2 * years * second)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_derivatives_in_every_parameter_are_finite(name):
    # At no jump √N has infinite slope, at zero half-life of a free asset the rate is infinite.
    def loss(model):
        path = moves(model, scenarios=8, steps=4, step_years=HOUR)
        return jnp.sum(jnp.exp(jnp.sum(path.log_return, axis=1)))

    for leaf in jax.tree.leaves(jax.grad(loss)(MODELS[name]())):
        assert np.isfinite(leaf).all()
