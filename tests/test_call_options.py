"""Presets closed by calls as a configuration sees them: options, tables, refusals, books."""

import math

import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.aave_v4 import SPOKES
from jaxrisk.venue.presets.euler_v2 import PRIME_CURVES, PRIME_WEIGHTS
from jaxrisk.venue.presets.fluid import VAULTS
from tests import call_venues
from tests.call_venues import CASH, CURVE, HELD, LENT

HEAD = """
[run]
scenarios = 4
[book.synthetic]
venue = "lender"
accounts = 6
collateral = { wstETH = 1.0 }
debt = { USDC = 1.0 }
[market]
model = "gbm"
[assets.wstETH]
price = 3600.0
volatility = 0.8
depth_usd = 1e8
[assets.USDC]
price = 1.0
volatility = 0.01
depth_usd = 1e8
[venues.lender]
"""
RATE = """
[venues.lender.assets.USDC]
base_rate = 0.01
slope1 = 0.04
slope2 = 0.6
optimal_utilisation = 0.8
"""
PAIR = 'collateral = "wstETH"\nloan = "USDC"\n'
WEIGHT = "[venues.lender.assets.wstETH]\nliquidation_threshold = 0.79\n"
VENUES = {
    "aave_v3_legacy": 'preset = "aave_v3_legacy"\n',
    "aave_v4": 'preset = "aave_v4"\ndeployment = "ethereum_main"\noptions.target_health = 1.1\n',
    "compound_v2": 'preset = "compound_v2"\noptions.close_factor = 0.6\n' + RATE + WEIGHT,
    "euler_v2": 'preset = "euler_v2"\nloan = "USDC"\noptions.socialisation = "off"\n',
    "fluid": 'preset = "fluid"\ndeployment = "ether_stable"\n' + PAIR + RATE,
    "gearbox_v3": 'preset = "gearbox_v3"\noptions.liquidation_premium = 0.04\n'
    "options.liquidation_fee = 0.015\n" + RATE + WEIGHT,
    "silo_v2": 'preset = "silo_v2"\nliquidation_loan_to_value = 0.85\n'
    "options.target_loan_to_value = 0.7\noptions.liquidation_fee = 0.05\n" + PAIR + RATE,
    "morpho_blue": 'preset = "morpho_blue"\nliquidation_loan_to_value = 0.86\n'
    + "".join(f"options.{k} = {v}\n" for k, v in call_venues.PRE_LIQUIDATION.items())
    + PAIR,
}


@pytest.mark.parametrize("kind", VENUES)
def test_a_configuration_builds_the_venue_and_a_solvent_synthetic_book(kind, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(HEAD + VENUES[kind])
    built = build(load_config(path, known_presets=PRESETS))
    (venue,) = built.system.venues
    assert venue.name == "lender"
    health = np.asarray(health_factor(venue, built.system.market.mid))
    assert (health > 1.0).all()
    assert np.median(health) < 5.0


@pytest.mark.parametrize("kind", ["silo_v2", "euler_v2", "gearbox_v3", "fluid", "morpho_blue"])
def test_a_configuration_without_what_the_preset_needs_says_so(kind, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(HEAD + f'preset = "{kind}"\n')
    with pytest.raises(ConfigError, match=r"missing; preset .* needs it"):
        build(load_config(path, known_presets=PRESETS))


def venue(kind, held=("wstETH",), **options):
    count = len(held)
    collateral = np.full((count, 2), 1e4 / count)
    return call_venues.built(kind, collateral, np.full(2, 5e3), held, **options)


def own(asset, **changes):
    """Return overrides of a venue without tables, one asset changed."""
    table = {"wstETH": dict(HELD["wstETH"]), "USDC": dict(LENT["USDC"])}
    table[asset] |= changes
    return {"overrides": table}


REFUSALS = {
    "swapped weights": (
        "aave_v3_legacy",
        {"overrides": {"wstETH": {"loan_to_value": 0.83, "liquidation_threshold": 0.8}}},
        "wstETH: loan_to_value 0.83 is above liquidation_threshold 0.8.*swapped",
    ),
    "current pool, bonus too large": (
        "aave_v3",
        {"overrides": {"wstETH": {"liquidation_bonus": 0.3}}},
        r"wstETH: .*above 1: a liquidation at the threshold.*at most 0\.2346",
    ),
    "target below 1": (
        "aave_v4",
        {"target_health": 0.9},
        r"target_health = 0\.9: expected a number in \[1, 2\]",
    ),
    "spoke without collateral table": (
        "aave_v4",
        {"deployment": "ethereum_lido"},
        "wstETH: no parameter table has it as collateral; also give liquidation_threshold",
    ),
    "bonus grows below zero health": (
        "aave_v4",
        {"health_for_maximum_bonus": 1.0},
        r"health_for_maximum_bonus = 1: expected a number in \]0, 1\[",
    ),
    "unknown parameter": (
        "aave_v4",
        {"overrides": {"USDC": {"ramp": 1.0}}},
        "USDC: no such parameter ramp; known: available_liquidity",
    ),
    **{
        f"one factor for borrowing and liquidation, {kind}": (
            kind,
            {**own("wstETH", loan_to_value=0.7)},
            "wstETH: no such parameter loan_to_value; known: available_liquidity",
        )
        for kind in ("aave_v4", "compound_v2", "gearbox_v3")
    },
    "percent for a fraction": (
        "compound_v2",
        {"close_factor": 50},
        r"close_factor = 50: expected a number in \[0\.05, 0\.9\]; did you mean 0\.5\?",
    ),
    "no curve": (
        "compound_v2",
        {"overrides": HELD},
        "USDC: no parameter table has it as debt; also give base_rate",
    ),
    "bonus too large for the factor": (
        "compound_v2",
        {**own("wstETH", liquidation_threshold=0.95)},
        r"wstETH: liquidation_threshold 0\.95 times 1 \+ bonus 0\.08 is above 1",
    ),
    "kink outside": (
        "compound_v2",
        {**own("USDC", optimal_utilisation=80.0)},
        r"optimal_utilisation = 80: expected between 0 and 1.*did you mean 0\.8",
    ),
    "negative slope": (
        "gearbox_v3",
        {**own("USDC", slope2=-0.1)},
        r"USDC: slope2 = -0\.1: expected 0 or more",
    ),
    "discount of all": (
        "euler_v2",
        {"maximum_discount": 1.0},
        r"maximum_discount = 1: expected a number in \[0, 1\[",
    ),
    "not a number": (
        "euler_v2",
        {"maximum_discount": "high"},
        "maximum_discount = 'high': expected a number",
    ),
    "another loan": ("euler_v2", {"loan": "USDT"}, "the book owes USDC, the venue lends USDT"),
    "neither on nor off": ("euler_v2", {"socialisation": "yes"}, 'expected "on" or "off"'),
    "premium eats the threshold": (
        "gearbox_v3",
        {"liquidation_premium": 0.25},
        "wstETH: liquidation_threshold 0.79 is above 1 - liquidation_premium",
    ),
    "target above the threshold": (
        "silo_v2",
        {"target_loan_to_value": 0.9},
        r"target_loan_to_value = 0\.9: expected a number in \[0, 0\.85\[",
    ),
    "fee too large": ("silo_v2", {"liquidation_fee": 0.2}, "a liquidation at the threshold"),
    "terms of the collateral": (
        "silo_v2",
        {"overrides": {**LENT, **HELD}},
        "takes no parameters here, only the loan asset USDC does",
    ),
    "limit below the threshold": (
        "fluid",
        {"max_limit": 0.8},
        r"max_limit = 0\.8: expected a number in \[0\.88, 1\[",
    ),
    "penalty too large": ("fluid", {"penalty": 0.09}, "drawing an account down would make it"),
    "penalty not known": ("fluid", {"deployment": "risky"}, "fluid: also give penalty"),
    "no limits at all": (
        "fluid",
        {"deployment": None},
        "also give liquidation_loan_to_value, max_limit, penalty",
    ),
    "no such vault": ("fluid", {"deployment": "calm"}, "'calm': expected stable, staked_ether"),
    "band above the threshold": (
        "morpho_pre_liquidation",
        {"pre_liquidation_loan_to_value": 0.9},
        r"pre_liquidation_loan_to_value = 0\.9: expected a number in \]0, 0\.86\[",
    ),
    "credit above what collateral pays": (
        "morpho_pre_liquidation",
        {"pre_liquidation_credit_upper": 1.2},
        r"pre_liquidation_credit_upper = 1\.2: expected a number in \[1, 1\.16279\]",
    ),
    "half of the terms": (
        "morpho_blue",
        {"pre_liquidation_loan_to_value": 0.8},
        "pre_liquidation_close_factor_lower is missing",
    ),
    "misspelt terms": (
        "morpho_blue",
        {"pre_liquidation_ltv": 0.8},
        "no such option pre_liquidation_ltv",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_parameter_is_refused_by_name(case):
    kind, options, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        venue(kind, **options)


@pytest.mark.parametrize("kind", ["silo_v2", "fluid", "morpho_blue"])
def test_an_isolated_market_has_one_collateral(kind):
    with pytest.raises(ValueError, match="one collateral and one loan asset"):
        venue(kind, call_venues.SEVERAL)


def test_shipped_tables_are_sensible():
    assert all(s.target_health > 1 for s in SPOKES.values())
    for deployment, vault in VAULTS.items():
        penalty = 0.02 if vault.penalty is None else vault.penalty
        built = venue("fluid", deployment=deployment, penalty=penalty)
        assert float(built.collateral.liquidation_threshold[0, 0]) == vault.liquidation_threshold
    assert set(PRIME_WEIGHTS) == set(PRIME_CURVES)
    # Yields are stated a year, compounded; the curve is a rate.
    dollar = PRIME_CURVES["USDC"]
    assert math.isclose(math.expm1(dollar["slope1"]), 0.065)
    assert math.isclose(math.expm1(dollar["slope1"] + dollar["slope2"]), 0.13)
    prime = venue("euler_v2", overrides=CASH)
    assert float(prime.collateral.liquidation_threshold[0, 0]) == 0.84
    assert float(prime.collateral.loan_to_value[0, 0]) == pytest.approx(0.82)
    assert CURVE.items() <= LENT["USDC"].items()
