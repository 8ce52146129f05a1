"""What people write instead: NumPy twice, Numba twice, and the obvious JAX program.

Each peer is the cascade of `cascade_workload` in the style its author would choose, and each is
meant to be good of its kind: the "user" versions are what a competent analyst writes first, the
"careful" and "expert" ones are what a performance engineer makes of them.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cascade_workload import COLLATERAL_ASSETS, DEBT_ASSETS, Losses, Workload
from harness import Implementation, Prepared, compile_ahead

NUMPY_USER = "numpy user float64"
NUMBA_USER = "numba user float32"


def numpy_user(workload: Workload, scenarios: int) -> Losses:
    """NumPy as a user writes it: account-first float64, whole-array `where`, loops outside."""
    w = workload
    bonus = 1.0 + w.liquidation_bonus
    bad_debt = np.zeros(scenarios)
    liquidated = np.zeros(scenarios)
    final_price = np.ones((scenarios, COLLATERAL_ASSETS))
    for scenario in range(scenarios):
        collateral, debt = w.collateral.copy(), w.debt.copy()
        price, debt_price = np.ones(COLLATERAL_ASSETS), np.ones(DEBT_ASSETS)
        for step in range(w.steps):
            price = price * w.growth[scenario, step, :COLLATERAL_ASSETS]
            debt_price = debt_price * w.growth[scenario, step, COLLATERAL_ASSETS:]
            value = collateral @ price
            backing = collateral @ (price * w.liquidation_threshold)
            owed = debt @ debt_price
            health = np.where(owed > 0, backing / np.maximum(owed, 1e-12), np.inf)
            hit = health < 1
            close_factor = np.where(health < w.full_close_below, 1.0, w.close_factor)
            wanted = close_factor * owed * bonus
            seized = np.where(hit, np.minimum(wanted, value), 0.0)
            seized_share = np.where(value > 0, seized / np.maximum(value, 1e-12), 0.0)
            repaid_share = np.where(owed > 0, seized / (bonus * np.maximum(owed, 1e-12)), 0.0)
            sold = (collateral * seized_share[:, None]).sum(axis=0)
            collateral = collateral * (1 - seized_share)[:, None]
            debt = debt * (1 - repaid_share)[:, None]
            exhausted = hit & (wanted >= value)
            bad_debt[scenario] += ((1 - repaid_share) * owed)[exhausted].sum()
            debt[exhausted] = 0.0
            liquidated[scenario] += seized.sum()
            impact = w.impact_coefficient * np.sqrt(sold * price / w.daily_volume_usd)
            price = price * np.exp(-impact)
        final_price[scenario] = price
    return Losses(bad_debt=bad_debt, liquidated=liquidated, final_price=final_price)


def numpy_careful(workload: Workload, scenarios: int) -> Losses:
    """NumPy with care: asset-first float32, BLAS health test, only liquidated accounts touched."""
    w, f32 = workload, np.float32
    bonus = f32(1.0 + w.liquidation_bonus)
    threshold = w.liquidation_threshold.astype(f32)
    book = np.ascontiguousarray(w.collateral.T.astype(f32))
    owed_book = np.ascontiguousarray(w.debt.T.astype(f32))
    growth = w.growth[:scenarios].astype(f32)
    bad_debt = np.zeros(scenarios)
    liquidated = np.zeros(scenarios)
    final_price = np.ones((scenarios, COLLATERAL_ASSETS))
    for scenario in range(scenarios):
        collateral, debt = book.copy(), owed_book.copy()
        price, debt_price = np.ones(COLLATERAL_ASSETS, f32), np.ones(DEBT_ASSETS, f32)
        for step in range(w.steps):
            price *= growth[scenario, step, :COLLATERAL_ASSETS]
            debt_price *= growth[scenario, step, COLLATERAL_ASSETS:]
            backing = (price * threshold) @ collateral
            owed = debt_price @ debt
            hit = np.flatnonzero(backing < owed)
            if hit.size == 0:
                continue
            held, due = collateral[:, hit], owed[hit]
            value = price @ held
            full = backing[hit] < f32(w.full_close_below) * due
            wanted = np.where(full, f32(1), f32(w.close_factor)) * due * bonus
            seized = np.minimum(wanted, value)
            seized_share, repaid_share = seized / value, seized / (bonus * due)
            sold = held @ seized_share
            exhausted = wanted >= value
            bad_debt[scenario] += ((1 - repaid_share) * due)[exhausted].sum()
            liquidated[scenario] += seized.sum()
            collateral[:, hit] = held * (1 - seized_share)
            debt[:, hit] *= np.where(exhausted, f32(0), 1 - repaid_share)
            impact = w.impact_coefficient * np.sqrt(sold * price / w.daily_volume_usd)
            price = (price * np.exp(-impact)).astype(f32)
        final_price[scenario] = price
    return Losses(bad_debt=bad_debt, liquidated=liquidated, final_price=final_price)


def numba_or_stop() -> Any:
    """Return the numba module, or stop with the command that installs it."""
    try:
        import numba
    except ModuleNotFoundError:
        message = "numba is not installed; the peers need the bench extra: pip install '.[bench]'"
        raise SystemExit(message) from None
    return numba


@functools.cache
def numba_user_kernel() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return Numba as a user writes it: account-first float32, branches, scenarios in parallel."""
    numba = numba_or_stop()
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def kernel(book, owed_book, growth, threshold, impact, volume, bonus, part, full_below):
        scenarios, steps, _ = growth.shape
        bad_debt, liquidated = np.zeros(scenarios), np.zeros(scenarios)
        final_price = np.zeros((scenarios, 4))
        for scenario in prange(scenarios):
            collateral, debt = book.copy(), owed_book.copy()
            price, debt_price = np.ones(4, np.float32), np.ones(2, np.float32)
            for step in range(steps):
                for a in range(4):
                    price[a] *= growth[scenario, step, a]
                for a in range(2):
                    debt_price[a] *= growth[scenario, step, 4 + a]
                sold = np.zeros(4)
                for n in range(collateral.shape[0]):
                    value = backing = np.float32(0)
                    for a in range(4):
                        held = collateral[n, a] * price[a]
                        value += held
                        backing += held * threshold[a]
                    owed = debt[n, 0] * debt_price[0] + debt[n, 1] * debt_price[1]
                    if backing < owed:
                        close_factor = np.float32(1) if backing < full_below * owed else part
                        wanted = close_factor * owed * bonus
                        seized = min(wanted, value)
                        seized_share, repaid_share = seized / value, seized / (bonus * owed)
                        for a in range(4):
                            sold[a] += collateral[n, a] * seized_share
                            collateral[n, a] *= 1 - seized_share
                        if wanted >= value:
                            bad_debt[scenario] += (1 - repaid_share) * owed
                            debt[n, 0] = debt[n, 1] = 0
                        else:
                            debt[n, 0] *= 1 - repaid_share
                            debt[n, 1] *= 1 - repaid_share
                        liquidated[scenario] += seized
                for a in range(4):
                    price[a] *= np.exp(-impact[a] * np.sqrt(sold[a] * price[a] / volume[a]))
            final_price[scenario] = price
        return bad_debt, liquidated, final_price

    return kernel


def _health_surplus(collateral, debt, weight, debt_price, surplus):
    """Write backing minus debt of every account: no branch, so the compiler makes SIMD of it."""
    c0, c1, c2, c3 = collateral[0], collateral[1], collateral[2], collateral[3]
    d0, d1 = debt[0], debt[1]
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    p0, p1 = debt_price[0], debt_price[1]
    for n in range(surplus.size):
        backing = c0[n] * w0 + c1[n] * w1 + c2[n] * w2 + c3[n] * w3
        surplus[n] = backing - d0[n] * p0 - d1[n] * p1


def _close_block(span, collateral, debt, price, debt_price, surplus, sold, rules):
    """Close what is under water in one block; return its liquidated value and bad debt."""
    bonus, part, full_below = rules
    liquidated = bad_debt = 0.0
    for n in range(span[0], span[1]):
        if surplus[n] >= 0:
            continue
        value = collateral[0, n] * price[0] + collateral[1, n] * price[1]
        value += collateral[2, n] * price[2] + collateral[3, n] * price[3]
        owed = debt[0, n] * debt_price[0] + debt[1, n] * debt_price[1]
        full = surplus[n] + owed < full_below * owed
        wanted = (np.float32(1) if full else part) * owed * bonus
        seized = min(wanted, value)
        seized_share, repaid_share = seized / value, seized / (bonus * owed)
        for a in range(4):
            sold[a] += collateral[a, n] * seized_share
            collateral[a, n] *= 1 - seized_share
        liquidated += seized
        if wanted >= value:
            bad_debt += (1 - repaid_share) * owed
            repaid_share = np.float32(1)
        debt[0, n] *= 1 - repaid_share
        debt[1, n] *= 1 - repaid_share
    return liquidated, bad_debt


@functools.cache
def numba_expert_kernel() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return Numba by an expert: asset-first float32, SIMD health test, branches where it hit.

    The test runs without branches over the whole book; only blocks of 64 accounts with a negative
    surplus are looked into.
    """
    numba = numba_or_stop()
    prange, block = numba.prange, 64
    health_surplus = numba.njit(fastmath=True)(_health_surplus)
    close_block = numba.njit(fastmath=True)(_close_block)

    @numba.njit(parallel=True, fastmath=True)
    def kernel(book, owed_book, growth, threshold, impact, volume, bonus, part, full_below):
        scenarios, steps, _ = growth.shape
        accounts = book.shape[1]
        rules = (bonus, part, full_below)
        bad_debt, liquidated = np.zeros(scenarios), np.zeros(scenarios)
        final_price = np.zeros((scenarios, 4))
        for scenario in prange(scenarios):
            collateral, debt = book.copy(), owed_book.copy()
            surplus = np.empty(accounts, np.float32)
            price, debt_price = np.ones(4, np.float32), np.ones(2, np.float32)
            for step in range(steps):
                price *= growth[scenario, step, :4]
                debt_price *= growth[scenario, step, 4:]
                health_surplus(collateral, debt, price * threshold, debt_price, surplus)
                sold = np.zeros(4)
                for first in range(0, accounts, block):
                    span = (first, min(first + block, accounts))
                    worst = np.float32(0)
                    for n in range(span[0], span[1]):
                        worst = min(worst, surplus[n])
                    if worst < 0:
                        seized, lost = close_block(
                            span, collateral, debt, price, debt_price, surplus, sold, rules
                        )
                        liquidated[scenario] += seized
                        bad_debt[scenario] += lost
                for a in range(4):
                    price[a] *= np.exp(-impact[a] * np.sqrt(sold[a] * price[a] / volume[a]))
            final_price[scenario] = price
        return bad_debt, liquidated, final_price

    return kernel


def jax_user(workload: Workload) -> tuple[Callable[..., Any], tuple[jax.Array, ...]]:
    """Return the JAX program as users write it, one scenario vmapped over all, and its inputs."""
    w, f32 = workload, jnp.float32
    threshold = jnp.asarray(w.liquidation_threshold, f32)
    impact = jnp.asarray(w.impact_coefficient, f32)
    volume = jnp.asarray(w.daily_volume_usd, f32)
    bonus = 1.0 + w.liquidation_bonus

    def step(state, growth):
        collateral, debt, price, debt_price, bad_debt, liquidated = state
        price = price * growth[:COLLATERAL_ASSETS]
        debt_price = debt_price * growth[COLLATERAL_ASSETS:]
        value = collateral @ price
        owed = debt @ debt_price
        health = jnp.where(
            owed > 0, collateral @ (price * threshold) / jnp.maximum(owed, 1e-12), jnp.inf
        )
        hit = health < 1
        wanted = jnp.where(health < w.full_close_below, 1.0, w.close_factor) * owed * bonus
        seized = jnp.where(hit, jnp.minimum(wanted, value), 0.0)
        seized_share = jnp.where(value > 0, seized / jnp.maximum(value, 1e-12), 0.0)
        repaid_share = jnp.where(owed > 0, seized / (bonus * jnp.maximum(owed, 1e-12)), 0.0)
        exhausted = hit & (wanted >= value)
        sold = (collateral * seized_share[:, None]).sum(axis=0)
        bad_debt += jnp.where(exhausted, (1 - repaid_share) * owed, 0.0).sum()
        collateral = collateral * (1 - seized_share)[:, None]
        debt = debt * jnp.where(exhausted, 0.0, 1 - repaid_share)[:, None]
        price = price * jnp.exp(-impact * jnp.sqrt(sold * price / volume))
        return (collateral, debt, price, debt_price, bad_debt, liquidated + seized.sum()), None

    def scenario(collateral, debt, growth):
        prices = jnp.ones(COLLATERAL_ASSETS, f32), jnp.ones(DEBT_ASSETS, f32)
        start = (collateral, debt, *prices, jnp.zeros((), f32), jnp.zeros((), f32))
        (_, _, price, _, bad_debt, liquidated), _ = jax.lax.scan(step, start, growth)
        return bad_debt, liquidated, price

    inputs = tuple(jnp.asarray(x, f32) for x in (w.collateral, w.debt, w.growth))
    return jax.vmap(scenario, in_axes=(None, None, 0)), inputs


def losses(raw: Any) -> Losses:
    """Return the raw triple of a compiled peer as losses on the host, in float64."""
    bad_debt, liquidated, final_price = (np.asarray(x, np.float64) for x in raw)
    return Losses(bad_debt=bad_debt, liquidated=liquidated, final_price=final_price)


def prepare_numba(
    kernel: Callable[[], Callable[..., Any]], workload: Workload, *, asset_first: bool
) -> Prepared:
    """Return a Numba kernel compiled on one scenario, with float32 inputs in its layout."""
    w, f32 = workload, np.float32
    book, debt = (w.collateral.T, w.debt.T) if asset_first else (w.collateral, w.debt)
    book, debt = (np.ascontiguousarray(x.astype(f32)) for x in (book, debt))
    growth = w.growth.astype(f32)
    rules = (
        *(x.astype(f32) for x in (w.liquidation_threshold, w.impact_coefficient)),
        w.daily_volume_usd.astype(f32),
        *(f32(x) for x in (1.0 + w.liquidation_bonus, w.close_factor, w.full_close_below)),
    )
    compiled = kernel()
    start = time.perf_counter()
    compiled(book, debt, growth[:1], *rules)
    seconds = time.perf_counter() - start
    return Prepared(lambda: compiled(book, debt, growth, *rules), seconds)


def implementations(workload: Workload, *, numpy_scenarios: int = 16) -> list[Implementation]:
    """Return all peers; the NumPy ones run the first `numpy_scenarios` scenarios only."""
    subset = min(numpy_scenarios, workload.scenarios)

    def prepare_jax() -> Prepared:
        function, inputs = jax_user(workload)
        return compile_ahead(function, *inputs, live_scenarios=workload.scenarios)

    def numpy_peer(name: str, function: Callable[[Workload, int], Losses]) -> Implementation:
        return Implementation(
            name=name,
            prepare=lambda: Prepared(lambda: function(workload, subset)),
            outputs=lambda result: result,
            work=workload.updates(subset),
        )

    def compiled_peer(name: str, prepare: Callable[[], Prepared]) -> Implementation:
        return Implementation(name=name, prepare=prepare, outputs=losses, work=workload.updates())

    user = functools.partial(prepare_numba, numba_user_kernel, workload, asset_first=False)
    expert = functools.partial(prepare_numba, numba_expert_kernel, workload, asset_first=True)
    return [
        numpy_peer(NUMPY_USER, numpy_user),
        numpy_peer("numpy careful float32", numpy_careful),
        compiled_peer(NUMBA_USER, user),
        compiled_peer("numba expert float32", expert),
        compiled_peer("jax vmap user float32", prepare_jax),
    ]
