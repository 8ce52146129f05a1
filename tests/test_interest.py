"""Interest: kinked curves, growth factors, and a year of accrual in single precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from jaxrisk.system.simulate import Plan, cut_books, layouts
from jaxrisk.system.step import StepRules, accrue
from jaxrisk.system.system import opening_state
from jaxrisk.venue.interest import KinkedRate, linear_growth, taylor_growth, utilisation
from jaxrisk.venue.venue import Pool
from tests import reference, systems
from tests.helpers import assert_close

ETHER = {"base": 0.01, "slope1": 0.025, "slope2": 0.8, "optimal_utilisation": 0.92}

# Nothing, or at least a little: the compiler flushes subnormal numbers to zero.
UNITS = st.one_of(st.just(0.0), st.floats(1e-6, 1e9))


def curve(**changes):
    values = {**ETHER, "reserve_factor": 0.15, **changes}
    return KinkedRate(**{name: jnp.array([value]) for name, value in values.items()})


@given(use=st.floats(0.0, 1.0))
def test_the_borrow_rate_is_that_of_the_reference(use):
    expected = reference.kinked_rate(use, 0.92, 0.01, 0.025, 0.8)
    assert_close(curve().borrow_rate(jnp.array([use])), [expected], rtol=1e-13, atol=0.0)


def test_the_rate_is_continuous_at_the_kink_and_steeper_beyond():
    rate = lambda use: float(curve().borrow_rate(jnp.array([use]))[0])
    assert_close(rate(0.92), 0.035, rtol=1e-14, atol=0.0)
    assert_close(rate(np.nextafter(0.92, 1.0)), 0.035, rtol=1e-12, atol=0.0)
    assert_close(rate(0.93) - rate(0.92), 0.1, rtol=1e-9, atol=0.0)
    assert_close(rate(0.92) - rate(0.91), 0.025 / 92, rtol=1e-9, atol=0.0)


@given(cash=UNITS, debt=UNITS, deficit=UNITS)
def test_supply_earns_what_borrowers_pay_less_the_reserve(cash, debt, deficit):
    array = lambda x: jnp.array([x])
    use = utilisation(array(debt), array(cash))
    supply_use = utilisation(array(debt), array(cash), array(deficit))
    rate = float(curve().borrow_rate(use)[0])
    assert_close(use, [reference.borrow_utilisation(cash, debt)], rtol=1e-13, atol=0.0)
    expected = reference.supply_rate(rate, cash, debt, deficit, 0.15)
    assert_close(curve().supply_rate(use, supply_use), [expected], rtol=1e-12, atol=0.0)


def test_an_empty_pool_has_a_rate_and_a_derivative():
    zero = jnp.zeros(1)
    assert utilisation(zero, zero).tolist() == [0.0]
    slope = jax.grad(lambda d, c: curve().borrow_rate(utilisation(d, c))[0], argnums=(0, 1))
    for value in slope(zero, zero):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("x", [0.0, 1e-6, 0.01, 0.1, 0.5])
def test_contracts_compound_by_a_cubic_below_the_exponential(x):
    rate = jnp.array([x])
    expected = reference.compounded_growth(x, 1.0)
    assert_close(taylor_growth(rate), [expected], rtol=1e-15, atol=0.0)
    missing = np.exp(x) - float(taylor_growth(rate)[0])
    assert -1e-15 <= missing <= x**4 / 24 * np.exp(x) + 1e-15
    assert_close(linear_growth(rate), [reference.linear_growth(x, 1.0)], rtol=0.0, atol=0.0)


def accrued_for_a_year(dtype):
    """Return (debt by the index, debt by the pool) in units after a year of hours, by venue."""
    system = systems.random_system(5, dtype=dtype)
    plan = Plan(steps=1, health_groups=1)
    books = cut_books(system, layouts(system, plan))
    opening = opening_state(system, books)
    rules = StepRules(step_years=jnp.asarray(systems.STEP_YEARS, dtype))

    @jax.jit
    def year(state):
        hour = lambda s, _: (accrue(system, books, rules, s), None)
        return lax.scan(hour, state, length=8760)[0]

    closing = year(opening)
    by_index, by_pool = [], []
    for before, after in zip(opening.venues, closing.venues, strict=True):
        index = np.asarray(after.log_index, np.float64)
        by_index.append(np.asarray(before.pool[Pool.DEBT], np.float64) * np.exp(index))
        by_pool.append(np.asarray(after.pool[Pool.DEBT], np.float64))
    return np.concatenate(by_index), np.concatenate(by_pool)


@pytest.fixture(scope="module")
def years():
    return {dtype: accrued_for_a_year(dtype) for dtype in (np.float32, np.float64)}


def test_index_and_pool_agree_on_a_year_of_interest(years):
    by_index, by_pool = years[np.float64]
    assert (by_index > 1.001 * np.concatenate(_opening_debts())).all()
    assert_close(by_pool, by_index, rtol=1e-12, atol=0.0)


def test_a_year_of_hours_in_float32_drifts_less_than_a_millionth(years):
    by_index, _ = years[np.float32]
    assert_close(by_index, years[np.float64][0], rtol=1e-6, atol=0.0)


def test_the_pool_agrees_with_its_accounts_after_a_year_in_float32(years):
    by_index, by_pool = years[np.float32]
    assert_close(by_pool, by_index, rtol=1e-6, atol=0.0)


def test_interest_is_split_between_suppliers_and_the_protocol():
    system = systems.random_system(6)
    before, after = (s for verb, s in systems.played_verb_by_verb(system)[1:3])
    for venue, old, new in zip(system.venues, before.venues, after.venues, strict=True):
        change = new.pool - old.pool
        interest = change[Pool.DEBT]
        assert isinstance(venue.interest, KinkedRate)
        kept = interest * np.asarray(venue.interest.reserve_factor)
        assert (interest > 0).all()
        assert_close(change[Pool.TREASURY], kept, rtol=1e-6, atol=1e-9)
        assert_close(change[Pool.SUPPLIED], interest - kept, rtol=1e-6, atol=1e-9)
        for row in (Pool.CASH, Pool.UNSETTLED, Pool.DEFICIT):
            assert (change[row] == 0).all()
        same = dataclasses.replace(new, pool=old.pool, flows=old.flows, log_index=old.log_index)
        for x, y in zip(jax.tree.leaves(same), jax.tree.leaves(old), strict=True):
            np.testing.assert_array_equal(x, y)


def _opening_debts():
    system = systems.random_system(5)
    return [np.asarray(venue.pool[Pool.DEBT]) for venue in system.venues]
