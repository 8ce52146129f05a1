"""Liquidity pools: constant product, concentrated liquidity and stable swaps, as recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market import concentrated_liquidity, constant_product, stable_swap
from jaxrisk.market.concentrated_liquidity import ConcentratedPool, liquidity_at
from jaxrisk.market.constant_product import ConstantProductPool
from jaxrisk.market.pool_swap import SwapRefusal
from jaxrisk.market.stable_swap import StablePool, prices, traded_values, virtual_price
from tests.conformance.comparison import RAW_UNITS, Replay

X96 = 2.0**96
# Ends of the price axis, TickMath MIN_SQRT_RATIO and MAX_SQRT_RATIO.
LOWEST, HIGHEST = 4295128739, 1461446703485210103287273052203988822378723970342
WORD_ROUNDING = 20.0
ADMIN_SHARE = 0.5
LARGEST_RECORDED_PRICE = 2.0


def uniswap_v2(header: dict, cases: list[dict]) -> Replay:
    """Replay `swap` with the largest output the pair accepts.

    That one unit more reverts is recorded too; a unit is below what float64 tells apart here.
    """
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray([float(c[name]) for c in cases])
    pool = ConstantProductPool(
        base=column("reserveIn"), quote=column("reserveOut"), fee=jnp.full(len(cases), 0.003)
    )
    sells, unit = jnp.ones(len(cases), bool), jnp.ones(len(cases))

    @jax.jit
    def run(pool: ConstantProductPool, amount: jax.Array) -> tuple:
        return constant_product.swap(pool, amount, sells, base_unit=unit, quote_unit=unit)

    done, after = run(pool, column("amountIn"))
    indices = np.arange(len(cases))
    for what, actual in (
        ("maxAmountOut", done.received),
        ("reserveInAfter", after.base),
        ("reserveOutAfter", after.quote),
    ):
        replay.compare(what, indices, actual, column(what))
    refused = [SwapRefusal(int(r)).name for r in done.refusal]
    replay.compare_labels("refusal", indices, refused, ["NONE"] * len(cases))
    return replay


def uniswap_v3(header: dict, cases: list[dict]) -> Replay:
    """Replay `swap` of a pool given by its ranges."""
    del header
    replay = Replay(len(cases))
    column = lambda values: jnp.asarray(np.array(list(values), np.float64))
    longest = max(len(c["ticks"]) for c in cases) + 2
    edges, liquidity = np.zeros((longest, len(cases))), np.zeros((longest - 1, len(cases)))
    for i, case in enumerate(cases):
        roots = [LOWEST, *(int(t["sqrtPriceX96"]) for t in case["ticks"]), HIGHEST]
        ranges = [0, *np.cumsum([int(t["liquidityNet"]) for t in case["ticks"]], dtype=object)]
        edges[:, i] = [x / X96 for x in roots + [HIGHEST] * (longest - len(roots))]
        liquidity[: len(ranges), i] = [float(x) for x in ranges]
    pool = ConcentratedPool(
        root_price=column(int(c["sqrtPriceX96"]) / X96 for c in cases),
        edges=jnp.asarray(edges),
        liquidity=jnp.asarray(liquidity),
        fee=column(c["fee"] / 1e6 for c in cases),
    )
    amount = column(abs(int(c["amountSpecified"])) for c in cases)
    sells = jnp.asarray([c["zeroForOne"] for c in cases])
    exact_output = jnp.asarray([int(c["amountSpecified"]) < 0 for c in cases])
    limit = column(int(c["sqrtPriceLimitX96"]) / X96 for c in cases)
    unit = jnp.ones(len(cases))

    @jax.jit
    def run(pool: ConcentratedPool) -> tuple:
        done, after = concentrated_liquidity.swap(
            pool, amount, sells, limit, exact_output, base_unit=unit, quote_unit=unit
        )
        return done, after, liquidity_at(pool, sells), liquidity_at(after, sells), after.tick()

    done, after, before, left, tick = jax.tree.map(np.asarray, run(pool))
    recorded = ["PRICE_LIMIT" if c["reverted"] else "NONE" for c in cases]
    replay.compare_labels(
        "refusal", np.arange(len(cases)), [SwapRefusal(int(r)).name for r in done.refusal], recorded
    )
    moved = np.flatnonzero([not c["reverted"] for c in cases])
    expected = lambda name: np.array([float(cases[i][name]) for i in moved])
    sold = np.asarray(sells)
    slack = _slack(pool, np.maximum(before, left))
    for what, side in (("amount0", sold), ("amount1", ~sold)):
        actual = np.where(side, done.paid, -done.received)
        replay.compare(what, moved, actual[moved], expected(what), raw_units=slack[what][moved])
    replay.compare(
        "sqrtPriceX96After", moved, np.asarray(after.root_price)[moved] * X96,
        expected("sqrtPriceX96After"),
    )  # fmt: skip
    replay.compare("liquidityAfter", moved, left[moved], expected("liquidityAfter"))
    # A tick is the logarithm rounded down; at an edge, a falling price belongs to the one below.
    replay.compare(
        "tickAfter", moved, tick[moved], expected("tickAfter") + 0.5, relative=0.0,
        raw_units=0.5 + 1e-5,
    )  # fmt: skip
    return replay


def _slack(pool: ConcentratedPool, liquidity: np.ndarray) -> dict[str, np.ndarray]:
    """Return what amounts may differ by, in units, beside the relative tolerance.

    The contract also stops, and rounds, at the ends of its tick bitmap's words, which are no edges:
    up to twenty units. And where the price stands so close to an edge that float64 does not tell
    how far, amounts carry the rounding of the price times the reserves that the range stands for.
    """
    price, edges = np.asarray(pool.root_price), np.asarray(pool.edges)
    close = np.min(np.abs(edges / price - 1.0), axis=0) < 1e-6
    rounding = np.where(close, 2.0 * np.finfo(np.float64).eps * liquidity, 0.0)
    return {
        "amount0": WORD_ROUNDING + rounding / price,
        "amount1": WORD_ROUNDING + rounding * price,
    }


def stable_swap_ng(header: dict, cases: list[dict]) -> Replay:
    """Replay `exchange`: output, balances net of admin fees, virtual price, spot price."""
    del header
    replay = Replay(len(cases))
    for coins in sorted({len(c["balances"]) for c in cases}):
        chosen = np.flatnonzero([len(c["balances"]) == coins for c in cases])
        _stable_swaps(replay, chosen, [cases[i] for i in chosen])
    return replay


def _stable_swaps(replay: Replay, indices: np.ndarray, cases: list[dict]) -> None:
    column = lambda values: jnp.asarray(np.array(list(values), np.float64))
    table = lambda name: column([float(x) for x in c[name]] for c in cases).T
    whole = lambda name: jnp.asarray([c[name] for c in cases], jnp.int32)
    pool = StablePool(
        balance=table("balances"),
        rate=table("rates") / 1e36,
        amplification=column(c["A"] for c in cases),
        fee=column(c["fee"] / 1e10 for c in cases),
        off_peg_multiplier=column(c["offpegFeeMultiplier"] / 1e10 for c in cases),
        admin_share=jnp.full(len(cases), ADMIN_SHARE),
    )
    amount, sold, bought = column(float(c["dx"]) for c in cases), whole("i"), whole("j")
    shares = column(float(c["totalSupply"]) / 1e18 for c in cases)
    fee_unit = jnp.full(len(cases), 1e-10)

    @jax.jit
    def run(pool: StablePool) -> tuple:
        done, after = stable_swap.swap(
            pool, amount, sold, bought, unit=jnp.ones_like(pool.balance), fee_unit=fee_unit
        )
        traded, d = traded_values(pool, amount, sold, bought)
        spot = prices(traded, pool.amplification, d)
        return done, after, virtual_price(pool, shares), virtual_price(after, shares), spot

    done, after, before_price, after_price, spot = jax.tree.map(np.asarray, run(pool))
    # Differences of balances: their error scales with the value of the pool.
    slack = RAW_UNITS + 1e-14 * np.asarray(pool.values().sum(axis=0)) / np.asarray(pool.rate)
    bought_slack = slack[np.asarray(bought), np.arange(len(cases))]
    replay.compare(
        "dy", indices, done.received, [float(c["dy"]) for c in cases], raw_units=bought_slack
    )
    for k in range(pool.balance.shape[0]):
        expected = [float(c["balancesAfter"][k]) for c in cases]
        replay.compare(
            f"balancesAfter {k}", indices, after.balance[k], expected, raw_units=slack[k]
        )
    for what, actual in (("virtualPrice", before_price), ("virtualPriceAfter", after_price)):
        replay.compare(what, indices, actual * 1e18, [float(c[what]) for c in cases])
    # The price of the coin bought in the first one; of the first one itself none is recorded.
    told = np.flatnonzero([c["lastPriceAfter"] is not None for c in cases])
    capped = np.minimum(spot[np.asarray(bought), np.arange(len(cases))], LARGEST_RECORDED_PRICE)
    replay.compare(
        "lastPriceAfter", indices[told], capped[told] * 1e18,
        [float(cases[k]["lastPriceAfter"]) for k in told],
    )  # fmt: skip


ADAPTERS = {
    "uniswap_v2_swaps": uniswap_v2,
    "uniswap_v3_swaps": uniswap_v3,
    "curve_stableswap_ng_swaps": stable_swap_ng,
}
