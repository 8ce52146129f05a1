"""Every example configuration that has an expected summary still gives it.

To write the summary of a new example: `python -m tests.test_examples NAME`.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrisk.numerics.keys import root_key
from jaxrisk.run.build import build
from jaxrisk.run.build_market import HOURS_A_YEAR
from jaxrisk.run.job import simulation_plan
from jaxrisk.run.load import load_config
from jaxrisk.run.summary import scenario_table
from jaxrisk.system.simulate import cut_books, layouts, simulator, step_rules
from tests.helpers import assert_close

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "tests" / "expected"
NAMES = sorted(path.stem for path in EXPECTED.glob("*.json"))
SCENARIOS = 32
NOT_COMPARED = ("scenario", "conservation_error_frac", "rounds")


def means(name: str) -> dict[str, float]:
    """Return the mean of every scenario column over the first scenarios."""
    config = load_config(ROOT / "configs" / f"{name}.toml", [])
    built = build(config)
    plan = simulation_plan(config, built.system)
    rules = step_rules(built.system, plan, config.run.step_hours / HOURS_A_YEAR)
    books = cut_books(built.system, layouts(built.system, plan))
    key = root_key(config.run.seed)
    outcome = simulator(plan)(built.system, books, rules, key, np.arange(SCENARIOS))
    table = scenario_table(built.system, jax.device_get(outcome), 0, built.vaults)
    assert table["conservation_error_frac"].max() < 1e-9
    return {
        column: float(np.mean(values))
        for column, values in table.items()
        if column not in NOT_COMPARED
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_gives_its_expected_summary(name):
    expected = json.loads((EXPECTED / f"{name}.json").read_text())
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        found = means(name)
    assert list(found) == list(expected)
    scale = max(abs(value) for value in expected.values())
    assert any(value > 0 for value in expected.values())
    assert_close(list(found.values()), list(expected.values()), rtol=1e-6, atol=1e-12 * scale)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", 2)
    for example in sys.argv[1:]:
        text = json.dumps(means(example), indent=1)
        (EXPECTED / f"{example}.json").write_text(text + "\n")
