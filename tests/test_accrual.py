"""Rules of interest in the step: against formulas, with memory, and over a year of hours."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import (
    AdaptiveInterest,
    CurveInterest,
    DriftingInterest,
    SpreadInterest,
)
from jaxrisk.venue.adaptive_rate import AdaptiveRate
from jaxrisk.venue.drifting_rate import DriftingRate
from jaxrisk.venue.exponential_rate import LogLinearRate
from jaxrisk.venue.interest import Balance, KinkedRate
from jaxrisk.venue.presets import morpho_blue
from jaxrisk.venue.slope_rate import SlopeRate, TwoSlopeRates
from jaxrisk.venue.stability_fee import StabilityFee
from tests.helpers import assert_close

HOUR = 1.0 / 8760.0
OWED, CASH = (3e6, 9.05e6), (2e6, 0.95e6)


def array(*values):
    return jnp.asarray(values, jnp.float64)


def drifting(*_):
    one = lambda x: array(x, x)
    return DriftingRate(
        low=one(0.3),
        calm_below=one(0.4),
        calm_above=one(0.8),
        critical=one(0.9),
        minimum_rate=one(0.01),
        minimum_slope=one(0.02),
        maximum_slope=one(0.6),
        steepening=one(2.0),
        fall=one(0.05),
        fall_gain=one(0.1),
        rise=one(0.1),
        rise_gain=one(0.4),
        maximum_rise=one(0.3),
        growth_cap=one(1.0),
        rate_cap=one(1.0),
    )


def slope(base, below, above, kink):
    one = lambda x: array(x, x)
    return SlopeRate(base=one(base), slope_below=one(below), slope_above=one(above), kink=one(kink))


RULES = {
    "kinked": KinkedRate(
        base=array(0.0, 0.01),
        slope1=array(0.04, 0.05),
        slope2=array(0.6, 0.8),
        optimal_utilisation=array(0.9, 0.8),
        reserve_factor=array(0.1, 0.2),
    ),
    "log_linear": CurveInterest(
        curve=LogLinearRate(minimum=array(0.01, 0.005), maximum=array(0.3, 0.5)),
        reserve_factor=array(0.0, 0.1),
    ),
    "stability_fee": CurveInterest(
        curve=StabilityFee(per_second=array(1e-9, 2e-9)), reserve_factor=array(1.0, 1.0)
    ),
    "spread": SpreadInterest(
        rates=TwoSlopeRates(
            borrow=slope(0.015, 0.035, 0.25, 0.8), supply=slope(0.0, 0.0325, 0.4, 0.8)
        )
    ),
    "adaptive": AdaptiveInterest(
        curve=AdaptiveRate(
            target_utilisation=array(0.9, 0.9),
            steepness=array(4.0, 4.0),
            speed=array(50.0, 50.0),
            initial_rate=array(0.04, 0.04),
            minimum_rate=array(0.001, 0.001),
            maximum_rate=array(2.0, 2.0),
        ),
        reserve_factor=array(0.0, 0.05),
        rate_at_target=array(0.04, 0.04),
    ),
    "drifting": DriftingInterest(
        curve=drifting(), reserve_factor=array(0.15, 0.15), slope=array(0.1, 0.1)
    ),
}


def a_year_of_hours(rule, dtype):
    """Return (log index, state) after a year at the utilisation of a balance that stays."""
    cast = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)
    rule, balance = cast(rule), cast(balance_of(OWED, CASH))
    years = jnp.asarray(HOUR, dtype)

    def hour(carry, _):
        log_index, lost, state = carry
        accrued = rule.advance(state, balance, years)
        growth = accrued.log_growth - lost
        total = log_index + growth
        return (total, (total - log_index) - growth, accrued.state), None

    zero = jnp.zeros(2, dtype)
    (log_index, _, state), _ = lax.scan(hour, (zero, zero, rule.opening()), None, length=8760)
    return np.asarray(log_index, np.float64), state


def balance_of(debt, cash):
    owed, left = array(*debt), array(*cash)
    return Balance(debt=owed, cash=left, supplied=owed + left)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_year_of_hours_in_float32_drifts_less_than_a_millionth(name):
    wide, _ = a_year_of_hours(RULES[name], jnp.float64)
    narrow, _ = a_year_of_hours(RULES[name], jnp.float32)
    assert (wide > 0).all()
    assert_close(np.exp(narrow), np.exp(wide), rtol=1e-6, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_no_time_and_no_debt_give_finite_rates_and_derivatives(name):
    rule = RULES[name]

    def growth(debt, years):
        balance = Balance(debt=debt, cash=array(1.0, 0.0), supplied=debt + array(1.0, 0.0))
        accrued = rule.advance(rule.opening(), balance, years)
        return jnp.sum(accrued.log_growth) + jnp.sum(accrued.kept)

    for debt in (array(0.0, 0.0), array(2.0, 3.0)):
        value, slopes = jax.value_and_grad(growth, argnums=(0, 1))(debt, jnp.asarray(HOUR))
        assert np.isfinite(value)
        assert all(np.isfinite(s).all() for s in slopes)
    still = rule.advance(rule.opening(), balance_of(OWED, CASH), jnp.asarray(0.0))
    assert (np.asarray(still.log_growth) == 0.0).all()


def test_the_stability_fee_of_a_year_is_its_yearly_rate():
    log_index, _ = a_year_of_hours(RULES["stability_fee"], jnp.float64)
    expected = [(1.0 + fee) ** 31_536_000 for fee in (1e-9, 2e-9)]
    assert_close(np.exp(log_index), expected, rtol=1e-7, atol=0.0)


def test_suppliers_and_the_protocol_share_what_borrowers_pay():
    balance = balance_of(OWED, CASH)
    accrued = RULES["spread"].advance(None, balance, jnp.asarray(HOUR))
    for d, (owed, cash) in enumerate(zip(OWED, CASH, strict=True)):
        use = owed / (owed + cash)
        borrow = 0.015 + 0.035 * min(use, 0.8) + 0.25 * max(use - 0.8, 0.0)
        supply = 0.0325 * min(use, 0.8) + 0.4 * max(use - 0.8, 0.0)
        paid = owed * math.expm1(borrow * HOUR)
        earned = (owed + cash) * math.expm1(supply * HOUR)
        assert_close(accrued.log_growth[d], borrow * HOUR, rtol=1e-12, atol=0.0)
        assert_close(accrued.kept[d], 1.0 - earned / paid, rtol=1e-9, atol=0.0)


def test_rates_with_memory_rise_where_use_is_high_and_fall_where_it_is_low():
    for name in ("adaptive", "drifting"):
        rule = RULES[name]
        _, high = a_year_of_hours(rule, jnp.float64)
        calm = dataclasses.replace(balance_of((1e6, 1e6), (9e6, 9e6)))
        low = rule.opening()
        for _ in range(100):
            low = rule.advance(low, calm, jnp.asarray(HOUR)).state
        assert float(high.total[1]) > float(rule.opening().total[1]) > float(low.total[1])


def test_the_adaptive_rate_in_log_space_is_the_recorded_rule():
    """`AdaptiveRate.borrow_rate` is replayed against the contract; the step must agree with it."""
    rule = RULES["adaptive"]
    state, target = rule.opening(), rule.rate_at_target
    for debt in (OWED, (1e6, 1e6), (9e6, 9.4e6), (0.0, 9.5e6)):
        balance, years = balance_of(debt, CASH), array(0.05, 0.05)
        use = np.asarray(balance.debt / balance.supplied)
        rate, target = rule.curve.borrow_rate(jnp.asarray(use), target, years)
        accrued = rule.advance(state, balance, jnp.asarray(0.05))
        state = accrued.state
        assert_close(accrued.log_growth, rate * 0.05, rtol=1e-12, atol=0.0)
        assert_close(np.exp(state.total), target, rtol=1e-12, atol=0.0)


def test_a_market_may_take_the_adaptive_rate():
    venue = isolated_market(rate="adaptive")
    assert isinstance(venue.interest, AdaptiveInterest)
    first = venue.interest.advance(
        venue.interest.opening(), balance_of((9e5,), (1e5,)), jnp.asarray(HOUR)
    )
    # 90 % utilisation is its target: 4 % a year.
    assert_close(first.log_growth, [0.04 * HOUR], rtol=1e-9, atol=0.0)
    with pytest.raises(ValueError, match="expected fixed_curve or adaptive"):
        isolated_market(rate="adaptiv")
    with pytest.raises(ValueError, match="slope1 cannot be overridden"):
        isolated_market(rate="adaptive", overrides={"USDC": {"slope1": 0.1}})


def isolated_market(**options):
    accounts = Accounts(
        collateral=array(1.0)[None],
        debt=array(2000.0)[None],
        category=jnp.zeros(1, jnp.int32),
        collateral_assets=(0,),
        debt_assets=(1,),
    )
    return morpho_blue(accounts, ("WETH", "USDC"), liquidation_loan_to_value=0.86, **options)
