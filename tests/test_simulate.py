"""Many scenarios: the same numbers however they are cut, in both precisions and both loop forms."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.simulate import (
    Outcome,
    Plan,
    cut_books,
    lanes_for,
    layouts,
    simulate,
    simulator,
    step_rules,
)
from tests import systems
from tests.helpers import assert_close

IDS = np.arange(21)
PLAN = Plan(steps=4, rounds=2)
ROOT = Path(__file__).resolve().parent.parent


def play(system, plan=PLAN, *, ids=IDS, seed=1) -> Outcome:
    rules = step_rules(system, plan, systems.STEP_YEARS)
    run = simulator(plan)
    return jax.device_get(
        run(system, cut_books(system, layouts(system, plan)), rules, root_key(seed), ids)
    )


def fields(outcome: Outcome) -> dict[str, np.ndarray]:
    names = [f.name for f in dataclasses.fields(outcome)]
    names += [n for n, p in vars(Outcome).items() if isinstance(p, property)]
    values = {name: getattr(outcome, name) for name in names}
    return {name: np.asarray(value) for name, value in values.items() if value is not None}


def assert_identical(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    differ = [name for name in expected if not np.array_equal(actual[name], expected[name])]
    assert not differ, f"differ: {', '.join(differ)}"


def assert_close_outcomes(actual: Outcome, expected: Outcome, *, rtol: float, atol: float) -> None:
    for name, values in fields(expected).items():
        if name != "conservation_error":
            assert_close(fields(actual)[name].astype(float), values, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def whole() -> Outcome:
    return play(systems.stochastic_system(3))


def test_the_scenarios_are_worth_comparing(whole):
    assert len(jax.local_devices()) == 2
    assert (whole.liquidated.sum(axis=0) > 0).all()
    assert whole.bad_debt.sum() > 0
    assert whole.paid.sum() > 0
    assert len(np.unique(whole.price[:, 0])) == len(IDS)
    assert whole.conservation_error.max() < 1e-12


@pytest.fixture(scope="module")
def chunked() -> Outcome:
    # 21 scenarios on 2 devices do not divide by 4 either.
    return play(systems.stochastic_system(3), dataclasses.replace(PLAN, chunk=4))


def test_results_do_not_depend_on_the_chunk(whole, chunked):
    assert_identical(fields(chunked), fields(whole))


@pytest.mark.parametrize("ids", [[20, 3, 7], [0, 0, 1]])
def test_any_choice_of_scenarios_gives_the_same_rows(whole, ids):
    outcome = play(systems.stochastic_system(3), ids=np.array(ids))
    assert_identical(fields(outcome), {n: v[ids] for n, v in fields(whole).items()})


def test_simulate_is_the_simulator_with_a_plan(whole):
    outcome = simulate(
        systems.stochastic_system(3),
        root_key(1),
        scenarios=3,
        steps=PLAN.steps,
        step_years=systems.STEP_YEARS,
        rounds=PLAN.rounds,
    )
    assert_identical(fields(outcome), {n: v[:3] for n, v in fields(whole).items()})


@pytest.mark.slow
def test_side_by_side_a_scenario_is_the_same_in_any_company():
    """A small book in one round is played in lanes; neighbours and place must not matter."""
    system = systems.stochastic_system(3)
    plan = dataclasses.replace(PLAN, rounds=1, lanes=lanes_for(system, 1))
    assert plan.lanes > 1
    together = fields(play(system, plan))
    for ids in ([20, 3, 7], [0], list(range(20, -1, -1))):
        apart = fields(play(system, plan, ids=np.array(ids)))
        assert_identical(apart, {n: v[ids] for n, v in together.items()})


def test_another_seed_gives_other_scenarios(whole):
    other = play(systems.stochastic_system(3), seed=2)
    assert not np.isin(other.price[:, 0], whole.price[:, 0]).any()


@pytest.mark.multiprocess
def test_results_do_not_depend_on_the_number_of_devices(whole, tmp_path):
    code = (
        "import sys\n"
        "import tests.conftest\n"
        "import jax\n"
        "jax.config.update('jax_num_cpu_devices', 1)\n"
        "import numpy as np\n"
        "from tests import systems, test_simulate as t\n"
        "assert jax.local_device_count() == 1\n"
        "np.savez(sys.argv[1], **t.fields(t.play(systems.stochastic_system(3))))\n"
    )
    target = tmp_path / "outcome.npz"
    subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=ROOT, env=os.environ, check=True, timeout=120
    )
    with np.load(target) as alone:
        assert_identical(dict(alone), fields(whole))


def test_both_loop_forms_agree(whole):
    outcome = play(systems.stochastic_system(3), dataclasses.replace(PLAN, differentiable=True))
    assert_close_outcomes(outcome, whole, rtol=1e-12, atol=1e-8)


def test_a_cascade_that_is_cut_off_says_so(whole):
    single = play(systems.stochastic_system(3), dataclasses.replace(PLAN, rounds=1))
    assert (single.rounds == 1.0).all()
    # With one round allowed, every step that sold anything is cut off.
    sold = single.liquidated.sum(axis=1) > 0
    assert (single.unconverged[sold] > 0).all()
    assert (single.unconverged[~sold] == 0).all()
    assert (whole.rounds <= PLAN.rounds).all()
    assert whole.unconverged.sum() < single.unconverged.sum()


@pytest.mark.slow
def test_single_precision_agrees(whole):
    single = play(systems.stochastic_system(3, dtype=np.float32))
    assert single.price.dtype == np.float32
    size = float(whole.liquidated.max())
    for name in ("liquidated", "repaid", "bad_debt", "borrower_loss", "interest", "price"):
        values, exact = fields(single)[name].astype(float), fields(whole)[name]
        assert_close(values, exact, rtol=2e-5, atol=1e-6 * size)
    # Proceeds of small sales cancel in single precision, and profit is a difference of those.
    assert_close(single.keeper_profit.astype(float), whole.keeper_profit, rtol=0, atol=2e-5 * size)
    assert single.conservation_error.max() < 1e-5


@pytest.mark.slow
def test_skipping_what_is_out_of_reach_changes_nothing():
    both = systems.stochastic_system(3, repeat=20)
    system = dataclasses.replace(both, venues=both.venues[:1])
    dense, skipping = (
        play(system, dataclasses.replace(PLAN, health_groups=groups)) for groups in (1, 3)
    )
    assert dense.liquidated.sum() > 0
    assert_close_outcomes(skipping, dense, rtol=1e-10, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 6, 8, 1000])
def test_every_account_is_in_one_tranche_whatever_the_number_of_groups(groups):
    system = systems.stochastic_system(3, repeat=2)
    cuts = layouts(system, dataclasses.replace(PLAN, health_groups=groups))
    for venue, cut in zip(system.venues, cuts, strict=True):
        assert sorted(cut.order) == list(range(venue.accounts.count))
        assert all(len(members) > 0 for members in cut.members)
