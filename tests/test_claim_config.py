"""Claims in configurations: what is read, what is refused, and what a run says of layers."""

import json

import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.formatting import layer_cells, less_cells
from jaxrisk.run.load import load_config
from jaxrisk.system.backing import AccountEquity, Deposits
from jaxrisk.system.claim_prices import Exit
from jaxrisk.venue.presets import PRESETS
from tests.command_line import Call
from tests.conftest import ROOT
from tests.helpers import assert_close

CONFIG = ROOT / "configs" / "three_layers.toml"


def config(*overrides: str):
    return load_config(CONFIG, overrides, known_presets=PRESETS)


def test_the_share_of_an_account_is_its_equity_in_as_many_units_as_its_price_makes():
    system = build(config()).system
    (claim,) = system.claims
    assert claim.backing == AccountEquity(venue=0, account=0)
    assert (system.assets[claim.asset], claim.exit) == ("vault_share", Exit.REDEEMED)
    equity = 12_000.0 * 3660.0 - 26_352_000.0
    assert system.market.issued is not None
    assert_close(system.market.issued[claim.asset], equity / 3000.0, rtol=1e-12, atol=0.0)
    with_units = build(config("claims.vault_share.units=11712.0")).system
    assert_close(with_units.market.price[claim.asset], equity / 11712.0, rtol=1e-12, atol=0.0)
    assert_close(np.exp(with_units.market.log_ratio[claim.asset]), 0.5, rtol=1e-12, atol=0.0)


def test_no_claims_is_a_plain_asset():
    system = build(config("claims={}")).system
    assert system.claims == ()
    assert system.market.issued is None


def test_receipts_and_vaults_are_deposits():
    receipt = 'claims={vault_share = {venue = "lending", exit = "sold"}}'
    (claim,) = build(config(receipt)).system.claims
    assert isinstance(claim.backing, Deposits)
    assert claim.exit is Exit.SOLD
    vault = "claims={vault_share = {deposits = {lending = 2.0e7}, idle = 1.0e6}}"
    built = build(config(vault)).system
    (claim,), issued = built.claims, built.market.issued
    assert issued is not None
    assert isinstance(claim.backing, Deposits)
    assert_close(issued[claim.asset], 2.1e7 / 3000.0, rtol=1e-12, atol=0.0)
    assert_close(claim.backing.units[0] * issued[claim.asset], 2e7, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('claims.vault_share.venue="lendin"', "no such venue"),
        ('claims.nothing={venue="lending"}', "no such asset"),
        ('claims.USDC={venue="lending"}', "assets.USDC.peg"),
        ("claims.vault_share.deposits={lending=1.0}", "either venue or deposits"),
        ("claims.vault_share.units=0", "a number above 0"),
        ("assets.vault_share.ratio_growth=0.1", "drop ratio_growth"),
        ('claims.vault_share.exit="door"', "sold"),
    ],
)
def test_a_section_that_cannot_be_is_refused_where_it_stands(override, said):
    with pytest.raises(ConfigError, match=said):
        config(override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('claims.vault_share.account="vaul"', r"claims.vault_share.account: .*did you mean vault"),
        ('claims.vault_share={venue="perps"}', "claims.vault_share: perps takes margin"),
        ('claims.vault_share={venue="perps",account="s01"}', "claims.vault_share: what accounts"),
        ('claims.vault_share={venue="lending",asset="WETH"}', "claims.vault_share.asset: "),
        ("claims.vault_share.units=1000.0", "are collateral and only 1000 are out"),
    ],
)
def test_a_claim_that_cannot_be_is_refused_by_name(override, said):
    with pytest.raises(ConfigError, match=said):
        build(config(override))


@pytest.mark.slow
def test_a_run_says_how_layers_stand_and_what_one_less_would_lose(call: Call, tmp_path):
    out = tmp_path / "out"
    few = ("--set", "steps=12", "--set", "report.fan_scenarios=16")
    result = call("run", str(CONFIG), "--scenarios", "16", "--out", str(out), *few)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text())
    assert [row["layer"] for row in summary["layers"]] == ["vault_share", "perps"]
    claims = summary["claims"]["vault_share"]
    assert claims["opening_rate"] == pytest.approx(1.0)
    assert claims["lowest_rate"] < 0.9
    as_it_is, plain = summary["one_layer_less"]
    assert (as_it_is["without"], plain["without"]) == (None, "vault_share")
    assert as_it_is["bad_debt_usd"] > plain["bad_debt_usd"]
    mean = summary["measures"]["bad_debt_usd"]["mean"]
    assert as_it_is["bad_debt_usd"] == pytest.approx(mean, rel=1e-9)
    assert "layers through claims" in result.out
    html = (out / "report.html").read_text()
    for heads, rows in (layer_cells(summary), less_cells(summary)):
        assert rows
        assert all(cell in html for cell in (*heads[1:], *rows[0][1:]))
