"""Example configurations give the numbers they gave when they were written.

`python -m tests.test_examples NAME ...` writes the expected summary of examples anew.
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
from jaxrisk.run.load import load_config
from jaxrisk.run.summary import scenario_table
from jaxrisk.system.simulate import simulate
from jaxrisk.venue.presets import PRESETS
from tests.helpers import assert_close

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "tests" / "expected"
EXAMPLES = sorted(path.stem for path in EXPECTED.glob("*.json"))
SCENARIOS = 32
# An id, rounding, and a count that rounding may change.
NOT_COMPARED = {"scenario", "conservation_error_frac", "rounds"}


def summary(name: str) -> dict[str, float]:
    """Return the mean of every column over the first scenarios of an example."""
    config = load_config(ROOT / "configs" / f"{name}.toml", known_presets=PRESETS)
    system = build(config).system
    outcome = simulate(
        system,
        root_key(config.run.seed),
        scenarios=SCENARIOS,
        steps=config.run.steps,
        step_years=config.run.step_hours / HOURS_A_YEAR,
        rounds=config.run.rounds,
    )
    table = scenario_table(system, jax.device_get(outcome), 0)
    assert table["conservation_error_frac"].max() < 1e-9
    return {k: float(np.mean(v)) for k, v in table.items() if k not in NOT_COMPARED}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_its_expected_summary(name):
    expected = json.loads((EXPECTED / f"{name}.json").read_text())
    found = summary(name)
    assert list(found) == list(expected)
    assert expected["liquidated_usd"] > 0
    scale = max(map(abs, expected.values()))
    assert_close(list(found.values()), list(expected.values()), rtol=1e-6, atol=1e-12 * scale)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", 2)
    for example in sys.argv[1:]:
        (EXPECTED / f"{example}.json").write_text(json.dumps(summary(example), indent=1) + "\n")
