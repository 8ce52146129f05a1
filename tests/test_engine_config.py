"""The configuration chooses an engine, the command line says which and why, results are one."""

import json

import pytest

from tests.command_line import CONFIG, Call, book, table, write_project
from tests.helpers import assert_close

POOL = CONFIG[CONFIG.index("[venues.pool]") : CONFIG.index("[venues.blue]")]
ONE_PAIR = CONFIG.replace(POOL, "").replace("scenarios = 1024", "scenarios = 64")
ONE_PAIR = ONE_PAIR.replace("[venues.blue]", "[keeper]\ncost_usd = 0.0\n\n[venues.blue]")
BLUE = "\n".join(row for row in book().splitlines() if ",pool," not in row) + "\n"


def written(tmp_path, config=ONE_PAIR, positions=BLUE):
    return write_project(tmp_path, config=config, positions=positions)


@pytest.mark.slow
def test_runs_on_both_engines_write_the_same_numbers(call: Call, tmp_path):
    config, tables = written(tmp_path), {}
    for engine in ("dense", "ladder"):
        out = tmp_path / engine
        ended = call("run", config, "--json", "--out", out, "--set", f'run.engine="{engine}"')
        assert ended.code == 0, ended.err
        assert f"engine of blue: {engine}" in ended.err
        assert json.loads(ended.out)["run"]["engines"][0]["engine"] == engine
        tables[engine] = table(out)
    assert tables["dense"]["liquidated_usd"].max() > 0.0
    for name, expected in tables["dense"].items():
        if name != "conservation_error_frac":
            # Two programs round the draws of prices differently; on given moves runs are equal to
            # 1e-12 (test_ladder_calls).
            assert_close(1.0 * tables["ladder"][name], 1.0 * expected, rtol=1e-8, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "setting", "text"),
    [
        (CONFIG, 'run.engine="ladder"', "run.engine: venue pool: no ladder, for accounts hold"),
        (ONE_PAIR, "keeper.cost_usd=30.0", "no ladder, for calls cost keepers something"),
        (ONE_PAIR, 'run.engine="fast"', "expected one of auto, dense, ladder"),
    ],
)
def test_a_ladder_that_does_not_apply_is_refused(call: Call, tmp_path, config, setting, text):
    path = written(tmp_path, config, book() if config is CONFIG else BLUE)
    ended = call("validate", path, "--set", 'run.engine="ladder"', "--set", setting)
    assert ended.code == 2
    assert text in ended.err
    assert "small.toml" in ended.err or "--set" in ended.err
