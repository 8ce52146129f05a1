"""The replay of recorded contract calls, and that it can fail."""

import json
import shutil

import jax
import pytest

from tests.conformance.__main__ import ADAPTERS
from tests.conformance.__main__ import main as strict_main


def main(arguments):
    """Run the command under the settings it has outside of this suite."""
    with jax.numpy_rank_promotion("allow"):
        return strict_main(arguments)


@pytest.fixture
def vectors(shared):
    folder = shared / "vectors"
    missing = [name for name in ADAPTERS if not (folder / f"{name}.json").is_file()]
    if missing:
        pytest.skip(f"no recorded vectors of {', '.join(missing)}")
    return folder


QUICK = ("aave_v3_accrual", "aave_v3_liquidation", "aave_v3_rate_strategy", "morpho_blue_liquidate")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ADAPTERS]
)
def test_every_recorded_case_passes(vectors, name, capsys):
    assert main([str(vectors), "--only", name, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["file"] == name
    assert row["cases"] > 20
    assert (row["passed"], row["skipped"]) == (row["cases"], 0)
    assert row["worst_relative_error"] < 1e-9


def test_files_are_listed_one_a_line(vectors, capsys):
    assert main([str(vectors), "--only", "aave_v3_accrual,aave_v3_rate_strategy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["aave_v3_accrual", "aave_v3_rate_strategy"]
    assert all(len(line.split()) == 5 for line in lines)


def test_an_unknown_file_fails(vectors, tmp_path, capsys):
    shutil.copy(vectors / "aave_v3_rate_strategy.json", tmp_path / "no_such_rule.json")
    assert main([str(tmp_path)]) == 1
    assert "unknown file" in capsys.readouterr().out


def test_a_file_that_is_not_there_fails(vectors, tmp_path, capsys):
    shutil.copy(vectors / "aave_v3_rate_strategy.json", tmp_path)
    assert main([str(tmp_path), "--only", "aave_v3_rate_strategy,absent"]) == 1
    assert "absent: no such file" in capsys.readouterr().err
    assert main([str(tmp_path / "empty")]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("aave_v3_rate_strategy", lambda c: _scale(c, "variableBorrowRate")),
        ("aave_v3_accrual", lambda c: _scale(c, "variableBorrowIndexAfter")),
        ("aave_v3_liquidation", lambda c: _scale(c, "debtRepaid")),
        ("morpho_blue_liquidate", lambda c: _scale(c, "seizedAssets")),
        ("crvusd_liquidation", lambda c: _scale(c, "collateralReceived")),
        ("crvusd_llamma", lambda c: _scale(c["steps"][-1]["after"], "p")),
        ("uniswap_v2_swaps", lambda c: _scale(c, "maxAmountOut")),
        ("uniswap_v3_swaps", lambda c: _scale(c, "sqrtPriceX96After")),
        ("curve_stableswap_ng_swaps", lambda c: _scale(c, "virtualPriceAfter")),
        ("opyn_naked_margin", lambda c: _scale(c, "marginRequired")),
        ("opyn_spread_margin", lambda c: _scale(c, "excess")),
        ("perp_curie_liquidation", lambda c: _scale(c["after"], "owedRealizedPnl")),
        ("perp_curie_funding", lambda c: _scale(c, "twPremiumX96After")),
        ("synthetix_v3_margins", lambda c: _scale(c, "maintenanceMargin")),
        ("synthetix_v3_funding_sequences", lambda c: _scale(c["steps"][-1], "nextFunding")),
        ("gmx_v2_swap_price_impact", lambda c: _scale(c, "priceImpactUsd")),
        ("gmx_v2_funding_update", lambda c: c.update(longsPayShorts=not c["longsPayShorts"])),
        ("gmx_v2_position_liquidatable", lambda c: c.update(reason="< 0")),
        ("derive_black76", lambda c: _scale(c, "put")),
        ("derive_dutch_auction", lambda c: _scale(c, "bidPrice")),
        ("derive_irm", lambda c: _scale(c, "borrowRate")),
        ("derive_perp_funding", lambda c: _scale(c["steps"][-1], "aggregatedFunding")),
        ("derive_srm", lambda c: _scale(c, "maintenanceMargin")),
        ("derive_pmrm_v1", lambda c: _scale(c["out"], "initialMargin")),
        ("derive_pmrm_v2", lambda c: _scale(c["out"], "maintenanceMargin")),
        ("aave_v3_liquidation", lambda c: c.update(reverted=True, branch=_REVERT)),
        ("derive_dutch_auction", lambda c: c.update(reverted=True, revertReason=_ENDED)),
        ("morpho_blue_liquidate", lambda c: c.update(reverted=True, branch=_HEALTHY)),
    ],
)
def test_one_wrong_number_or_verdict_fails(vectors, tmp_path, capsys, name, change):
    content = json.loads((vectors / f"{name}.json").read_text())
    position = next(i for i, case in enumerate(content["cases"]) if not case.get("reverted"))
    change(content["cases"][position])
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert main([str(tmp_path)]) == 1
    # That case and no other.
    assert capsys.readouterr().out.count(f"  case {position}: ") == 1
    assert main([str(tmp_path), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["failures"]) == 1


def test_a_file_that_cannot_be_read_does_not_hide_the_others(vectors, tmp_path, capsys):
    shutil.copy(vectors / "aave_v3_rate_strategy.json", tmp_path)
    (tmp_path / "aave_v3_accrual.json").write_text(json.dumps({"header": {}, "cases": [{}]}))
    assert main([str(tmp_path)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("aave_v3_accrual cannot be replayed: KeyError")
    assert second.startswith("aave_v3_rate_strategy 160 160 0")


def test_an_unlisted_reason_fails_its_case_and_no_other(vectors, tmp_path, capsys):
    content = json.loads((vectors / "aave_v3_liquidation.json").read_text())
    position = next(i for i, case in enumerate(content["cases"]) if case["reverted"])
    content["cases"][position]["branch"] = "revert:SomethingNew"
    (tmp_path / "aave_v3_liquidation.json").write_text(json.dumps(content))
    assert main([str(tmp_path), "--json"]) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert f"case {position}: " in failure
    assert "SomethingNew" in failure


_REVERT = "revert:MustNotLeaveDust"
_HEALTHY = "revert:position is healthy"
_ENDED = "DA_SolventAuctionEnded()"


def _scale(case, field):
    """Change a recorded integer by one part in a hundred million, and by 50 units."""
    value = int(case[field])
    case[field] = str(value + value // 10**8 + 50)
