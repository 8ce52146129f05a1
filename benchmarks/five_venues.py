"""What do several venues in one system cost, beside the same accounts on one venue?

    python benchmarks/five_venues.py [--quick] [--json]

10,000 accounts that hold ether and owe dollars, 48 hourly steps, 128 scenarios, float32, three
rounds: all of them in one shared pool, and 2,000 on each of five venues whose rules differ (a
shared pool, target health, an isolated market, a named close factor, a discount that is the lack of
health). All venues see and sell into the same markets, in one jitted step. The unit is one account
in one step of one scenario; the single pool is the yardstick: there is no hand-written peer.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from harness import (
    Implementation,
    compile_ahead,
    configure_jax,
    measure,
    parse_options,
    publish,
    records,
)

ONE, FIVE = "one venue", "five venues"
ASSETS = ("WETH", "USDC")
PRICE = {"WETH": 3000.0, "USDC": 1.0}
THRESHOLD = 0.82
CURVE = {
    "base_rate": 0.0,
    "slope1": 0.04,
    "slope2": 0.6,
    "optimal_utilisation": 0.9,
    "reserve_factor": 0.1,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "aave_v3": {},
    "aave_v4": {},
    "morpho_blue": {"liquidation_loan_to_value": THRESHOLD},
    "compound_v2": {"overrides": {"USDC": CURVE, "WETH": {"liquidation_threshold": THRESHOLD}}},
    "euler_v2": {},
}


def build_system(kinds: Sequence[str], accounts: int, steps: int, scenarios: int) -> Any:
    """Return the accounts split evenly over venues of these kinds, in one market."""
    import jaxrisk as jr
    from jaxrisk.market.paths import GivenMoves

    rng = np.random.default_rng(0)
    size = rng.pareto(1.3, accounts) + 0.05
    size *= 1e9 / size.sum()
    debt = size * THRESHOLD / (1.03 + rng.lognormal(-1.0, 0.9, accounts))
    moves = rng.normal(0.0, 0.03, (scenarios, steps, 1)) * np.array([1.0, 0.0])
    f32 = lambda x: jnp.asarray(x, jnp.float32)
    venues = []
    for k, kind in enumerate(kinds):
        own = slice(k, None, len(kinds))
        book = jr.Accounts(
            collateral=f32(size[None, own] / PRICE["WETH"]),
            debt=f32(debt[None, own]),
            category=jnp.zeros(len(size[own]), jnp.int32),
            collateral_assets=(0,),
            debt_assets=(1,),
        )
        venues.append(jr.presets.PRESETS[kind].build(book, ASSETS, name=kind, **OPTIONS[kind]))
    return jr.System(
        market=jr.Market.opening(PRICE, dtype=jnp.float32),
        paths=GivenMoves(log_return=f32(moves)),
        liquidity=jr.Liquidity(
            law=jr.SquareRootImpact(coefficient=f32([0.1, 0.02])),
            depth=jr.ConstantDepth(depth=f32([4e8, 1e10])),
            permanent_share=f32(0.3),
            recovery_rate=f32(1e3),
            variance_rate=f32(1e2),
        ),
        venues=tuple(venues),
        keeper=jr.Keeper(minimum_return=f32(0.0), choice=jr.ProRata()),
    )


def implementation(name: str, kinds: Sequence[str], size: dict[str, int]) -> Implementation:
    """Return the run of a system over venues of these kinds."""
    from jaxrisk.numerics.keys import root_key
    from jaxrisk.numerics.mapping import mapped
    from jaxrisk.system.simulate import Plan, cut_books, layouts, playing, step_rules

    def prepare() -> Any:
        system = build_system(kinds, **size)
        plan = Plan(steps=size["steps"], rounds=3)
        rules = step_rules(system, plan, 1.0 / 8760.0)
        arguments = (system, cut_books(system, layouts(system, plan)), rules, root_key(0))
        ids = jnp.arange(size["scenarios"], dtype=jnp.uint32)
        run = mapped(functools.partial(playing, plan), plan.side_by_side)
        return compile_ahead(run, arguments, ids, live_scenarios=1)

    return Implementation(
        name=name,
        prepare=prepare,
        outputs=lambda outcome: np.asarray(outcome.liquidated, np.float64).sum(axis=1),
        work=size["accounts"] * size["steps"] * size["scenarios"],
        relative_to=None if name == ONE else ONE,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("Five venues in one step beside one.", arguments)
    configure_jax()
    size = (
        {"accounts": 500, "steps": 12, "scenarios": 16}
        if options.quick
        else {"accounts": 10_000, "steps": 48, "scenarios": 128}
    )
    measurements = measure(
        [implementation(ONE, ["aave_v3"], size), implementation(FIVE, list(OPTIONS), size)],
        repeats=3 if options.quick else 7,
    )
    liquidated = {m.implementation.name: float(m.outputs.mean() / 1e9) for m in measurements}
    rows = records(
        "five_venues",
        measurements,
        unit="updates",
        numpy_peer=ONE,
        numba_peer=ONE,
        accuracy={},
        shares={"liquidated_share": liquidated},
    )
    note = "no hand-written peer: ratios are to one venue"
    publish([dataclasses.replace(row, note=row.note or note) for row in rows], as_json=options.json)
    return 0 if all(value > 0 for value in liquidated.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
