"""How fast is a book of options revalued over a grid of scenarios, against what people use?

    python benchmarks/options_grid.py [--quick] [--json]

100,000 European options x 100 scenarios (20 price moves x 5 volatility moves), in float32 and
float64, options shared among the cores; the gradient is that of the worst scenario's loss in every
volatility and size. The peers of `options_peers` run in turns in the same process; the unit is one
option in one scenario. Errors are the worst over scenarios against SciPy in float64, as a share of
the book's gross value, and an implementation that is off by more exits with status 1. QuantLib is
left out, with a word on stderr, where it is not installed.
"""

import dataclasses
import functools
import importlib.util
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import options_peers
from harness import (
    Implementation,
    Measurement,
    Prepared,
    compile_ahead,
    configure_jax,
    measure,
    parse_options,
    publish,
    records,
)
from options_workload import Workload, make_workload

ACCURACY_LIMIT = {"float32": 1e-5, "float64": 1e-12}
ENGINE = "jaxrisk {}"


def engine(w: Workload, dtype: type) -> list[Implementation]:
    """Return the value and the gradient through jaxrisk in one precision."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from jaxrisk.market.option_grid import OptionBook, book_values

    mesh = jax.make_mesh((len(jax.devices()),), ("option",), axis_types=(AxisType.Auto,))
    by_option, everywhere = PartitionSpec("option"), PartitionSpec()
    put = lambda x: jax.device_put(jnp.asarray(x, dtype), NamedSharding(mesh, by_option))
    book = OptionBook(
        forward=put(w.forward), strike=put(w.strike), years=put(w.years),
        volatility=put(w.volatility), sign=put(w.sign), size=put(w.size),
    )  # fmt: skip
    factors = tuple(jnp.asarray(x, dtype) for x in (w.price_factor, w.volatility_factor))
    values = jax.shard_map(
        lambda *a: jax.lax.psum(book_values(*a), "option"),
        mesh=mesh,
        in_specs=(by_option, everywhere, everywhere),
        out_specs=everywhere,
    )

    def worst(volatility: jax.Array, size: jax.Array, book: OptionBook, *factors: jax.Array):
        changed = dataclasses.replace(book, volatility=volatility, size=size)
        return -jnp.min(values(changed, *factors))

    def prepare_gradient() -> Prepared:
        slopes = jax.value_and_grad(worst, argnums=(0, 1))
        return compile_ahead(slopes, book.volatility, book.size, book, *factors)

    name = ENGINE.format(np.dtype(dtype).name)
    return [
        Implementation(
            name=name,
            prepare=functools.partial(compile_ahead, values, book, *factors),
            outputs=options_peers.as_float64,
            work=w.revaluations,
        ),
        Implementation(
            name=f"{name} gradient",
            prepare=prepare_gradient,
            outputs=lambda _: None,
            work=w.revaluations,
            relative_to=name,
        ),
    ]


def errors(
    measurements: Sequence[Measurement], whole: Workload, part: Workload
) -> dict[str, float]:
    """Return the worst error of each implementation over scenarios, of the gross value."""
    result = {}
    for m in measurements:
        if m.outputs is None:
            continue
        book = part if m.outputs.size == part.scenarios else whole
        off = np.abs(m.outputs - options_peers.scipy_grid(book))
        result[m.implementation.name] = float(off.max() / options_peers.gross_value(book))
    return result


def rates_to(measurements: Sequence[Measurement], peer: str) -> Mapping[str, float]:
    """Return how many times faster than `peer` each is; empty where the peer did not run."""
    rate = {
        m.implementation.name: m.implementation.work / max(m.seconds_wall, 1e-9)
        for m in measurements
    }
    return {name: value / rate[peer] for name, value in rate.items()} if peer in rate else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("Options over a grid of scenarios, against other libraries.", arguments)
    configure_jax()
    import jax

    jax.config.update("jax_enable_x64", True)
    whole = make_workload(options=4_000 if options.quick else 100_000)
    # QuantLib's part: fewer options and scenarios, of other numbers than the whole has.
    part = make_workload(options=200 if options.quick else 2_000, prices=4)
    quantlib = importlib.util.find_spec("QuantLib") is not None
    if not quantlib:
        print("QuantLib is not installed: its rows are left out", file=sys.stderr)
    measurements = measure(
        [
            *options_peers.implementations(whole, part, quantlib=quantlib),
            *engine(whole, np.float32),
            *engine(whole, np.float64),
        ],
        repeats=3 if options.quick else 7,
    )
    accuracy = errors(measurements, whole, part)
    rows = records(
        "options_grid",
        measurements,
        unit="revaluations",
        numpy_peer=options_peers.SCIPY,
        numba_peer=options_peers.NUMBA,
        accuracy=accuracy,
        shares={"ratio_to_quantlib": rates_to(measurements, options_peers.QUANTLIB)},
    )
    publish(rows, as_json=options.json)
    problems = [
        f"{name}: values are off by {error:.2g} of the gross value"
        for name, error in accuracy.items()
        if not error <= ACCURACY_LIMIT["float32" if "float32" in name else "float64"]
    ]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
