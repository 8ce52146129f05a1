"""Calibration: parameters come back, arbitrage is paid for, and real chains are fitted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.arbitrage import breaches
from jaxrisk.market.smile import Ssvi, Svi
from jaxrisk.market.surface_fit import fit_ssvi, fit_svi
from tests.chain import surfaces
from tests.helpers import assert_close

YEARS = jnp.array([0.02, 0.25, 1.0])
WIDTH = np.sqrt(np.array([0.01, 0.06, 0.2]))
SVI = jax.jit(fit_svi, static_argnames=("steps", "penalty"))
SSVI = jax.jit(fit_ssvi, static_argnames=("steps", "penalty"))
TRUE = Svi(
    a=jnp.array([0.004, 0.02, 0.09]), b=jnp.array([0.05, 0.12, 0.2]),
    rho=jnp.array([-0.3, -0.4, -0.2]), m=jnp.array([0.01, -0.05, 0.1]),
    sigma=jnp.array([0.08, 0.25, 0.4]),
)  # fmt: skip


def quotes(smile, size=25):
    """Return log-moneyness and volatility of three expiries, and weights with holes."""
    k = np.linspace(-3.0, 3.0, size)[None, :] * WIDTH[:, None]
    volatility = np.sqrt(np.asarray(smile.total_variance(k.T)).T / np.asarray(YEARS)[:, None])
    weight = np.ones_like(k)
    # Where there is no quote the numbers say nothing.
    weight[0, :6] = 0.0
    k[0, :6], volatility[0, :6] = 7.0, 0.5
    return jnp.asarray(k), jnp.asarray(volatility), jnp.asarray(weight)


@pytest.mark.slow
def test_the_smiles_that_made_the_quotes_come_back():
    k, volatility, weight = quotes(TRUE)
    found, error = SVI(YEARS, k, volatility, weight, steps=400)
    assert (np.asarray(error.rms) < 1e-5).all(), error
    assert (np.asarray(error.worst) < 5e-5).all(), error
    assert (np.asarray(error.butterfly) > 0).all()
    assert (np.asarray(error.calendar) > 0).all()
    for name in ("b", "rho", "m", "sigma"):
        assert_close(getattr(found, name), getattr(TRUE, name), rtol=5e-3, atol=2e-3)


@pytest.mark.slow
def test_the_surface_that_made_the_quotes_comes_back():
    true = Ssvi(
        theta=jnp.array([0.01, 0.06, 0.2]), rho=jnp.array(-0.35), eta=jnp.array(1.1),
        gamma=jnp.array(0.35),
    )  # fmt: skip
    k, volatility, weight = quotes(true)
    found, error = SSVI(YEARS, k, volatility, weight, steps=400)
    assert (np.asarray(error.rms) < 1e-5).all(), error
    for name in ("theta", "rho", "eta", "gamma"):
        assert_close(getattr(found, name), getattr(true, name), rtol=1e-3, atol=0.0)


@pytest.mark.slow
def test_quotes_with_arbitrage_are_fitted_without():
    # The last expiry is quoted below the one before: a calendar at every strike.
    k, volatility, weight = quotes(TRUE)
    volatility = volatility.at[2].multiply(0.3)
    on = jnp.linspace(-1.0, 1.0, 41)
    looked_at = lambda smile: breaches(
        YEARS, on, smile.total_variance(on[:, None]).T, tolerance=1e-4
    )
    free, before = SVI(YEARS, k, volatility, weight, penalty=0.0)
    assert {b.kind for b in looked_at(free)} == {"calendar"}
    assert float(before.calendar[1]) < -0.01
    bound, after = SVI(YEARS, k, volatility, weight, penalty=1e3)
    assert looked_at(bound) == []
    assert float(after.calendar[1]) > -1e-4
    assert float(jnp.sum(after.rms)) > float(jnp.sum(before.rms))
    for smile, error in (SSVI(YEARS, k, volatility, weight),):
        assert (np.asarray(error.butterfly) >= 0).all()
        assert (np.asarray(error.calendar) >= -1e-12).all()
        assert looked_at(smile) == []


@pytest.mark.slow
def test_real_chains_are_fitted_expiry_by_expiry(shared):
    """Every expiry of 44 recorded chains, whose marks are quoted to 0.01 of a volatility point."""
    lines, alone, together, lowest = [], [], [], []
    percent = lambda errors: " ".join(f"{1e2 * e:.2f}" for e in errors)
    for name, *chain in surfaces(shared):
        (_, svi), (_, ssvi) = SVI(*chain), SSVI(*chain)
        lines.append(f"{name}: SVI {percent(svi.rms)}; SSVI {percent(ssvi.rms)}")
        alone.extend(np.asarray(svi.rms))
        together.extend(np.asarray(ssvi.rms))
        lowest.append(min(float(jnp.min(svi.butterfly)), float(jnp.min(svi.calendar))))
    middle = lambda errors: percent(np.quantile(errors, [0.5, 0.9, 1.0]))
    report = "\n".join([
        "vega-weighted rms error by expiry, in volatility points", *lines,
        f"{len(alone)} expiries, median, 90 % and worst: SVI {middle(alone)}, "
        f"SSVI {middle(together)}; SVI's least density or rise {min(lowest):.2g}",
    ])  # fmt: skip
    print(report)
    assert (len(lines), len(alone)) == (44, 526), report
    assert np.median(alone) < 0.005, report
    assert np.quantile(alone, 0.9) < 0.012, report
    assert np.median(together) < 0.025, report
    assert min(lowest) > -1e-3, report
