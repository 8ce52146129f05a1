"""How fast is the whole engine on a dense cascade, against what people write by hand?

    python benchmarks/cascade_dense.py [--quick] [--json]

10,000 accounts x (4 collaterals + 2 debts) x 48 steps x 256 scenarios in float32, every account
tested at every step (`cascade_workload`). The peers of `cascade_peers` and the engine run in turns
in one process; the unit is one account in one step of one scenario. Beside each speed stands its
worst relative error in liquidated value against float64 NumPy and the share of the book it
liquidated, so that a fast run which liquidates nothing, or something else, is seen: such a run
exits with status 1. The published size is hard on speed and mild on losses (24 % of the book is
liquidated and no debt goes bad); `--quick` is small and violent, so that bad debt is checked too,
but too short for its ratios to mean anything on a busy machine.
"""

import sys
from collections.abc import Sequence

import cascade_peers
import numpy as np
from cascade_workload import Losses, Workload, make_workload
from harness import Measurement, configure_jax, measure, parse_options, publish, records

ACCURACY_LIMIT = 1e-3
"""Float32 flips a few accounts that sit on a trigger; beyond this it is another model."""


def liquidated_error(losses: Losses, reference: Losses) -> float:
    """Return the largest relative difference of liquidated value over the reference's scenarios."""
    expected = reference.liquidated
    difference = np.abs(losses.liquidated[: expected.size] - expected)
    return float(np.max(difference / np.maximum(expected, 1.0)))


def compare(
    measurements: Sequence[Measurement], workload: Workload
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the accuracy of each implementation, and its liquidated and bad-debt shares.

    All are taken over the scenarios of the NumPy reference, so they can be compared.
    """
    outputs = {m.implementation.name: m.outputs for m in measurements if m.outputs is not None}
    reference = outputs[cascade_peers.NUMPY_USER]
    subset = reference.liquidated.size
    accuracy = {name: liquidated_error(losses, reference) for name, losses in outputs.items()}
    debt_usd = workload.debt.sum()
    shares = {
        "liquidated_share": {
            name: float(losses.liquidated[:subset].mean() / workload.book_usd)
            for name, losses in outputs.items()
        },
        "bad_debt_share": {
            name: float(losses.bad_debt[:subset].mean() / debt_usd)
            for name, losses in outputs.items()
        },
    }
    return accuracy, shares


def disagreements(accuracy: dict[str, float], shares: dict[str, dict[str, float]]) -> list[str]:
    """Return one line for each implementation that does not compute the workload."""
    bad_debt = shares["bad_debt_share"]
    expected = bad_debt[cascade_peers.NUMPY_USER]
    problems = []
    for name, error in accuracy.items():
        if not error <= ACCURACY_LIMIT:
            problems.append(f"{name}: liquidated value is off by {error:.2g}")
        if not abs(bad_debt[name] - expected) <= ACCURACY_LIMIT * expected:
            problems.append(
                f"{name}: bad debt is {bad_debt[name]:.4g} of all debt, not {expected:.4g}"
            )
        if not shares["liquidated_share"][name] > 0.0:
            problems.append(f"{name}: nothing was liquidated")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("Dense cascade: the engine against hand-written peers.", arguments)
    configure_jax()
    # Imported here because the engine may use JAX while it is imported, after its set-up.
    import cascade_engine

    # At this stress the quick size leaves bad debt, which the published one does not.
    workload = (
        make_workload(accounts=2_000, steps=24, scenarios=32, stress=30.0)
        if options.quick
        else make_workload()
    )
    measurements = measure(
        [*cascade_peers.implementations(workload), *cascade_engine.implementations(workload)],
        repeats=3 if options.quick else 7,
    )
    accuracy, shares = compare(measurements, workload)
    rows = records(
        "cascade_dense",
        measurements,
        unit="updates",
        numpy_peer=cascade_peers.NUMPY_USER,
        numba_peer=cascade_peers.NUMBA_USER,
        accuracy=accuracy,
        shares=shares,
    )
    publish(rows, as_json=options.json)
    problems = disagreements(accuracy, shares)
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
