"""How fast is a portfolio margin by scenario grid, against what people write by hand?

    python benchmarks/portfolio_margin.py [--quick] [--json]

Portfolios of 64 options (8 expiries x 8) and a perpetual, each with strikes and volatilities of
its own. Every option is priced 40 times: as it stands, with the forward up and down, and in 37
scenarios of spot, volatility and smile, some of them damped; gains are summed by expiry,
discounted, and the worst is taken. Peers are NumPy and Numba as a user writes them
(`portfolio_margin_peers`); beside the margin of jaxrisk stand its gradient in every forward, time,
strike and volatility, and the same accounts on one chain, as they stand on an exchange. The unit
is one margin of one portfolio. A run whose maintenance surplus is off from NumPy's exits with
status 1.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import (
    Implementation,
    Prepared,
    compile_ahead,
    configure_jax,
    cores,
    measure,
    parse_options,
    publish,
    records,
)
from portfolio_margin_peers import (
    EXPIRIES,
    NUMBA_USER,
    NUMPY_USER,
    SPOT,
    Workload,
    make_workload,
    numpy_user,
    prepare_numba,
)

ENGINE, SINGLE = "jaxrisk float64", "jaxrisk float32"
GRADIENT, SHARED = "jaxrisk gradient float64", "jaxrisk one chain float64"
MORE_TAILS = (6.0, 7.0, 8.0, 9.0)
LIMIT = {ENGINE: 1e-9, SINGLE: 1e-3, SHARED: 1e-9}
"""Largest error allowed, relative to the median requirement."""


def terms(dtype: np.dtype | type) -> Any:
    """Return the margin terms: 37 scenarios."""
    from jaxrisk.venue.presets.derive import portfolio_terms_2

    base = portfolio_terms_2(dtype)
    more = np.array(MORE_TAILS)
    extra = {"move": more, "volatility": np.ones(4), "weight": 0.1386 / more}
    rows = {
        field.name: jnp.concatenate(
            [
                getattr(base.grid.scenarios, field.name),
                jnp.asarray(extra.get(field.name, np.zeros(4)), dtype),
            ]
        )
        for field in dataclasses.fields(base.grid.scenarios)
    }
    scenarios = dataclasses.replace(base.grid.scenarios, **rows)
    return dataclasses.replace(base, grid=dataclasses.replace(base.grid, scenarios=scenarios))


def scenario_rows() -> np.ndarray:
    """Return `(scenario, 5)`: move, volatility, tilt, wings and weight."""
    return np.stack([np.asarray(x, float) for x in jax.tree.leaves(terms(np.float64))[:5]], axis=1)


def market_and_holdings(w: Workload, dtype: np.dtype | type, *, shared: bool) -> tuple[Any, Any]:
    """Return one market and holdings: mapped over portfolios, or all of them on the first chain."""
    from jaxrisk.market.chain import OptionChain
    from jaxrisk.venue.portfolio_margin import PortfolioHoldings, PortfolioMarket

    count = len(w.perpetual)
    number = lambda x: jnp.asarray(x, dtype)
    each = lambda x: number(x if shared else np.broadcast_to(x, (count, *np.shape(x))))
    own = lambda x: x[0] if shared else x
    chain = OptionChain(
        years=each(w.years),
        forward=each(w.forward),
        fixed=each(np.zeros(EXPIRIES)),
        discount=each(w.discount),
        strike=number(own(w.strike)),
        volatility=number(own(w.volatility)),
        is_call=jnp.asarray(own(w.is_call)),
    )
    market = PortfolioMarket(
        spot=each(SPOT),
        perpetual=each(SPOT),
        currency=each(1.0),
        chain=chain,
        rate=each(np.zeros(EXPIRIES)),
        confidence=each(1.0),
        expiry_confidence=each(np.ones(EXPIRIES)),
        collateral_confidence=each(np.ones(1)),
    )
    accounts = (count,) if shared else (count, 1)
    none = np.zeros((1, count) if shared else (count, 1, 1))
    held = PortfolioHoldings(
        cash=number(np.zeros(accounts)),
        perpetual=number(w.perpetual.reshape(accounts)),
        earned=number(np.zeros(accounts)),
        options=number(np.moveaxis(w.amount, 0, -1) if shared else w.amount[..., None]),
        collateral=number(none),
        charged=number(none),
        haircut=each(np.zeros((2, 1))),
        cancels=jnp.zeros(1 if shared else (count, 1), bool),
    )
    return market, held


def prepare_engine(w: Workload, dtype: np.dtype | type, *, gradient: bool = False) -> Prepared:
    """Return the margins of all portfolios, in blocks, on as many devices as there are cores."""
    from jax.sharding import AxisType, PartitionSpec

    from jaxrisk.venue.portfolio_margin import portfolio_margin

    rule = terms(dtype)

    def surplus(chain: Any, market: Any, held: Any) -> jax.Array:
        there = dataclasses.replace(market, chain=chain)
        return portfolio_margin(rule, there, held).surplus[1, 0]

    def one(pair: tuple[Any, Any]) -> Any:
        market, held = pair
        if not gradient:
            return surplus(market.chain, market, held)
        return jax.value_and_grad(surplus, allow_int=True)(market.chain, market, held)

    block = 16
    devices = cores()
    mesh = jax.make_mesh((devices,), ("device",), axis_types=(AxisType.Auto,))
    along = PartitionSpec("device")
    everyone = jax.shard_map(
        lambda pair: jax.lax.map(one, pair, batch_size=block),
        mesh=mesh,
        in_specs=along,
        out_specs=along,
    )
    pair = market_and_holdings(w, dtype, shared=False)
    placed = jax.device_put(pair, jax.NamedSharding(mesh, along))
    return compile_ahead(jax.jit(everyone), placed, live_scenarios=block)


def prepare_shared(w: Workload) -> Prepared:
    """Return the margins of all accounts on one chain: it is priced once."""
    from jaxrisk.venue.portfolio_margin import portfolio_margin

    rule = terms(np.float64)
    run = lambda market, held: portfolio_margin(rule, market, held).surplus[1]
    return compile_ahead(run, *market_and_holdings(w, np.float64, shared=True))


def implementations(w: Workload) -> list[Implementation]:
    """Return peers, the engine in both precisions, its gradient, and one chain for all."""
    work, rows = float(len(w.perpetual)), scenario_rows()
    float64 = np.float64

    def entry(name: str, prepare: Callable[[], Prepared], outputs: Any = np.asarray, **more: Any):
        return Implementation(name=name, prepare=prepare, outputs=outputs, work=work, **more)

    return [
        entry(NUMPY_USER, lambda: Prepared(lambda: numpy_user(w, rows))),
        entry(NUMBA_USER, lambda: prepare_numba(w, rows)),
        entry(ENGINE, lambda: prepare_engine(w, float64)),
        entry(SINGLE, lambda: prepare_engine(w, np.float32)),
        entry(
            GRADIENT,
            lambda: prepare_engine(w, float64, gradient=True),
            outputs=lambda _: None,
            relative_to=ENGINE,
        ),
        entry(SHARED, lambda: prepare_shared(w), relative_to=ENGINE),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = parse_options("Portfolio margin by scenario grid, against peers.", arguments)
    configure_jax()
    jax.config.update("jax_enable_x64", True)
    w = make_workload(256 if options.quick else 8_192)
    measurements = measure(implementations(w), repeats=3 if options.quick else 7)
    outputs = {m.implementation.name: m.outputs for m in measurements if m.outputs is not None}
    one_chain = dataclasses.replace(
        w, **{n: np.broadcast_to(getattr(w, n)[:1], w.strike.shape)
              for n in ("strike", "volatility", "is_call")}
    )  # fmt: skip
    truth = {SHARED: numpy_user(one_chain, scenario_rows())}
    accuracy = {}
    for name, values in outputs.items():
        expected = truth.get(name, outputs[NUMPY_USER])
        error = np.max(np.abs(values - expected)) / np.median(np.abs(expected))
        accuracy[name] = float(error)
    publish(
        records(
            "portfolio_margin",
            measurements,
            unit="margins",
            numpy_peer=NUMPY_USER,
            numba_peer=NUMBA_USER,
            accuracy=accuracy,
            shares={},
        ),
        as_json=options.json,
    )
    problems = [
        f"{name}: off by {accuracy[name]:.2g} of the median surplus"
        for name, limit in LIMIT.items()
        if not accuracy[name] <= limit
    ]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
