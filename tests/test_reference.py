"""The scalar reference against figures worked out by hand or published with the rules."""

import math

import pytest

from tests import reference
from tests.helpers import assert_close

CENT = {"rtol": 0.0, "atol": 0.005}
EXACT = {"rtol": 1e-12, "atol": 0.0}

# One collateral of 10,000 USD, debt = LTV x 10,000, one maximal call by a liquidator who never
# pays more than the collateral is worth to them: (LTV, repaid, seized, bad debt). Worked out from
# the contracts' formulas; the first has liquidation threshold 0.83 and a bonus of 5 %.
CLOSE_FACTOR_CASES = [
    (0.85, 4_250.00, 4_462.50, 0.00),
    (0.90, 9_000.00, 9_450.00, 0.00),
    (0.95, 9_500.00, 9_975.00, 0.00),
    (0.98, 9_523.81, 10_000.00, 276.19),
    (1.05, 9_523.81, 10_000.00, 976.19),
]
# Liquidation loan-to-value 86 %.
FULL_CLOSE_CASES = [
    (0.90, 9_000.00, 9_394.57, 0.00),
    (0.95, 9_500.00, 9_916.49, 0.00),
    (0.98, 9_580.00, 10_000.00, 220.00),
    (1.05, 9_580.00, 10_000.00, 920.00),
]


def liquidate(collateral, debt, *, threshold=(0.83,), pair=(0, 0), fee=0.0, requested=math.inf):
    return reference.aave_v3_liquidation(
        collateral, debt, threshold, pair=pair, bonus=0.05, protocol_fee=fee, requested=requested
    )


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (1.1, 1.0),
        ([1.0, math.nan], [1.0, math.nan]),
        ([1.0, 1.0], 1.0),
        ([math.inf, math.inf], [math.inf, -math.inf]),
    ],
)
def test_what_is_not_close_is_not(actual, expected):
    with pytest.raises(AssertionError):
        assert_close(actual, expected, rtol=1e-3, atol=0.05)
    assert_close([1.04, math.inf], [1.0, math.inf], rtol=1e-3, atol=0.05)


@pytest.mark.parametrize(("loan_to_value", "repaid", "seized", "bad_debt"), CLOSE_FACTOR_CASES)
def test_aave_v3_call(loan_to_value, repaid, seized, bad_debt):
    call = liquidate((10_000.0,), (loan_to_value * 10_000.0,))
    assert_close([call.repaid, call.seized, call.bad_debt], [repaid, seized, bad_debt], **CENT)


@pytest.mark.parametrize(("loan_to_value", "repaid", "seized", "bad_debt"), FULL_CLOSE_CASES)
def test_morpho_blue_call(loan_to_value, repaid, seized, bad_debt):
    debt = loan_to_value * 10_000.0
    if debt * reference.liquidation_incentive_factor(0.86) <= 10_000.0:
        call = reference.morpho_blue_liquidation(10_000.0, debt, 0.86, repaid=debt)
    else:
        call = reference.morpho_blue_liquidation(10_000.0, debt, 0.86, seized=10_000.0)
    assert_close([call.repaid, call.seized, call.bad_debt], [repaid, seized, bad_debt], **CENT)


def test_morpho_blue_refuses_the_healthy_and_does_not_clamp():
    with pytest.raises(reference.RefusedError, match="healthy"):
        reference.morpho_blue_liquidation(10_000.0, 8_500.0, 0.86, repaid=1.0)
    with pytest.raises(reference.RefusedError, match="more than"):
        reference.morpho_blue_liquidation(10_000.0, 9_000.0, 0.86, repaid=9_000.01)
    with pytest.raises(reference.RefusedError, match="more than"):
        reference.morpho_blue_liquidation(10_000.0, 9_900.0, 0.86, seized=10_000.01)


@pytest.mark.parametrize(
    ("liquidation_loan_to_value", "factor"),
    [(0.385, 1.15), (0.625, 1.127), (0.77, 1.0741), (0.86, 1.0438), (0.945, 1.0168), (0.98, 1.006)],
)
def test_liquidation_incentive_factor(liquidation_loan_to_value, factor):
    actual = reference.liquidation_incentive_factor(liquidation_loan_to_value)
    assert_close(actual, factor, rtol=0.0, atol=5e-4)


def test_health_is_threshold_weighted_and_infinite_without_debt():
    assert_close(reference.health_factor((100.0, 50.0), (60.0, 20.0), (0.8, 0.6)), 1.375, **EXACT)
    assert reference.health_factor((100.0,), (0.0,), (0.8,)) == math.inf


def test_health_of_exactly_one_is_refused():
    with pytest.raises(reference.RefusedError, match="below 1"):
        liquidate((10_000.0,), (8_000.0,), threshold=(0.8,))


def test_the_close_factor_is_half_only_above_the_health_limit_and_both_sizes():
    # Health just above and just below 0.95: debt 7,800 and 7,900 against backing 7,470.
    assert liquidate((9_000.0,), (7_800.0,)).repaid == 3_900.0
    assert liquidate((9_000.0,), (7_900.0,)).repaid == 7_900.0
    # 2,000 USD of debt is large, a cent less is not.
    assert liquidate((2_400.0,), (2_000.0,)).repaid == 1_000.0
    assert liquidate((2_398.0,), (1_999.99,)).repaid == 1_999.99


def test_the_half_is_of_the_whole_debt_of_the_account():
    call = liquidate((12_000.0,), (4_000.0, 6_000.0), pair=(0, 0))
    assert call.repaid == 4_000.0
    assert call.debt == (0.0, 6_000.0)


def test_leftovers_below_a_thousand_are_refused_on_either_side():
    # Debt: 10,300 - 9,500 = 800 would be left. Collateral: 12,000 - 10,600 x 1.05 = 870.
    with pytest.raises(reference.RefusedError, match="1,000"):
        liquidate((11_500.0,), (10_300.0,), requested=9_500.0)
    with pytest.raises(reference.RefusedError, match="1,000"):
        liquidate((12_000.0,), (11_700.0,), requested=10_600.0)
    assert liquidate((11_500.0,), (10_300.0,), requested=9_300.0).debt == (1_000.0,)


def test_the_protocol_takes_its_share_of_the_bonus():
    call = liquidate((10_000.0,), (9_000.0,), fee=0.1)
    assert_close(call.protocol_fee, 45.0, **EXACT)


def test_the_deficit_takes_all_debts_and_waits_for_the_last_collateral():
    one_left = liquidate((5_000.0, 1_500.0), (6_000.0, 1_000.0), threshold=(0.8, 0.8), pair=(0, 0))
    assert one_left.bad_debt == 0.0
    assert one_left.collateral == (0.0, 1_500.0)
    last = liquidate((5_000.0, 0.0), (6_000.0, 1_000.0), threshold=(0.8, 0.8), pair=(0, 0))
    assert_close(last.bad_debt, 7_000.0 - 5_000.0 / 1.05, **EXACT)
    assert last.debt == (0.0, 0.0)


def test_the_borrow_rate_is_kinked_and_the_deficit_dilutes_supply():
    ether = {"optimal": 0.92, "base_rate": 0.0, "slope1": 0.025, "slope2": 0.08}
    rates = [reference.kinked_rate(u, **ether) for u in (0.0, 0.46, 0.92, 0.96, 1.0)]
    assert_close(rates, [0.0, 0.0125, 0.025, 0.065, 0.105], **EXACT)
    assert reference.borrow_utilisation(100.0, 300.0) == 0.75
    assert reference.borrow_utilisation(0.0, 0.0) == 0.0
    assert_close(reference.supply_rate(0.1, 100.0, 300.0, 100.0, 0.2), 0.048, **EXACT)
    assert reference.supply_rate(0.1, 100.0, 0.0, 0.0, 0.2) == 0.0


def test_debt_grows_by_the_cubic_of_the_exponential_and_supply_by_a_line():
    assert_close(reference.compounded_growth(0.3, 2.0), 1.0 + 0.6 + 0.18 + 0.036, **EXACT)
    shortfall = math.exp(0.1) - reference.compounded_growth(0.1, 1.0)
    assert 0.1**4 / 24 < shortfall < 1.03 * 0.1**4 / 24
    assert reference.linear_growth(0.1, 2.0) == 1.2


def test_the_waterfall_pays_in_order_and_leaves_a_residual():
    assert reference.waterfall(70.0, [50.0, 0.0, 30.0]) == ([50.0, 0.0, 20.0], 0.0)
    assert reference.waterfall(100.0, [50.0, 0.0, 30.0]) == ([50.0, 0.0, 30.0], 20.0)


def test_impact_laws():
    assert_close(reference.linear_impact(1e7, 0.1, 4e7), 0.025, **EXACT)
    assert_close(reference.square_root_impact(1e7, 0.1, 4e7), 0.05, **EXACT)
    assert reference.square_root_impact(0.0, 0.1, 4e7) == 0.0


def test_transient_impact_halves_in_a_half_life_and_the_rest_stays():
    path = reference.impact_path(
        [0.1, 0.0, 0.0, 0.04], permanent_share=0.3, half_life_years=0.5, step_years=0.5
    )
    assert_close(path, [0.1, 0.03 + 0.035, 0.03 + 0.0175, 0.042 + 0.00875 + 0.028], **EXACT)


def test_depth_falls_with_volatility_and_with_flow():
    depth = reference.depth_after_stress(1e6, 3.0, 0.5, 4e5, 0.5)
    assert_close(depth, 1e6 * math.exp(-1.0) * 0.8, **EXACT)
    assert reference.depth_after_stress(1e6, 0.5, 0.5, 0.0, 0.5) == 1e6
    assert reference.depth_after_stress(1e6, 1.0, 0.5, 3e6, 0.5) == 0.0


def test_debt_to_equity_delta_is_the_derivative_in_the_log_price():
    assets, debts, bump = [60.0, 40.0], [10.0, 50.0], 1e-6
    assert reference.debt_to_equity(assets, debts) == 1.5

    def bumped(asset, size):
        scale = [math.exp(size) if position == asset else 1.0 for position in range(2)]
        return reference.debt_to_equity(
            [a * s for a, s in zip(assets, scale, strict=True)],
            [d * s for d, s in zip(debts, scale, strict=True)],
        )

    for asset in range(2):
        slope = (bumped(asset, bump) - bumped(asset, -bump)) / (2 * bump)
        delta = reference.debt_to_equity_delta(assets, debts, asset)
        assert_close(delta, slope, rtol=1e-8, atol=0.0)


def test_debt_to_equity_delta_of_one_asset_and_of_a_loop():
    # Equity 1 at leverage 5: assets 5, debt 4 in another asset, so -D A / E^2 = -20 = -L (L - 1).
    assert reference.debt_to_equity_delta([5.0, 0.0], [0.0, 4.0], 0) == -20.0
    assert reference.loop_debt_to_equity_delta(5.0) == -20.0


def test_liquidation_price_brings_health_to_one():
    units, price, debt, threshold = (2.0, 10.0), (3_000.0, 50.0), (3_000.0,), (0.83, 0.6)
    level = reference.liquidation_price(units, price, debt, threshold, 0)
    assert_close(level, (3_000.0 - 0.6 * 500.0) / (2.0 * 0.83), rtol=1e-12, atol=0.0)
    assert reference.liquidation_price(units, price, (200.0,), threshold, 0) == 0.0
