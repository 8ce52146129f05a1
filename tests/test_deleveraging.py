"""Overshoot of auto-deleveraging by both definitions, and the replay of 10 October 2025."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.measure.deleveraging import realised_overshoot, removed_overshoot
from jaxrisk.venue.auto_deleverage import close_levelled, close_proportional, close_ranked
from tests.deleveraging_shocks import PUBLISHED, WITH_DEFICIT, WITHOUT_DEFICIT
from tests.helpers import assert_close

AMOUNTS = st.lists(st.floats(-100.0, 100.0), min_size=6, max_size=6)
DEFICITS = st.lists(st.floats(0.0, 200.0), min_size=2, max_size=2)

# By wave, dollars: needed at the marks, and equity that winners lost against not being closed.
# Source: pluriholonomic/autodeleveraging-analysis aae0be8 (MIT), two_pass_equity_delta_by_wave.csv.
NEEDED = (
    2266239.82024108, 1383878.3247609977, 1065843.446131001, 115496.57833500004,
    8055.871928000007, 1576039.2185530025, 44867.64211700003, 1622228.637648998,
    373726.4693789986, 5177.076339999994, 5584123.653720992, 1021113.0603779986,
    9400.221401000003, 1545.1890399999984, 671.6479340000006, 1262.7510999999936,
)  # fmt: skip
REMOVED = (
    414233.97059600416, 171137.10349601324, 407593.46572399896, 41011.40799004616,
    8995.08546499999, 11415047.961084986, 16097.974908007644, 1071568.1209779999,
    1202926.644864001, 7682.724308999046, 38449033.21386565, 6612642.338278045,
    243600.80162999948, 18544.059894000005, 17880.93671901287, 10339.518343000494,
)  # fmt: skip
PUBLISHED_OVERSHOOT = 45_028_665.72
LOSER_DEFICIT = 100_063_386.69


def rows(values):
    return jnp.asarray(values).reshape(2, 3)


@given(profit=AMOUNTS, deficit=DEFICITS)
def test_realised_profit_beyond_the_deficit(profit, deficit):
    found = realised_overshoot(rows(profit), jnp.asarray(deficit))
    pairs = zip((profit[:3], profit[3:]), deficit, strict=True)
    expected = [max(sum(p for p in shock if p > 0) - d, 0.0) for shock, d in pairs]
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(kept=AMOUNTS, left=AMOUNTS, needed=DEFICITS)
def test_equity_removed_beyond_what_was_needed(kept, left, needed):
    found = removed_overshoot(rows(kept), rows(left), jnp.asarray(needed))
    cost = np.maximum(np.subtract(kept, left), 0.0).reshape(2, 3).sum(axis=1)
    assert_close(found, cost - np.asarray(needed), rtol=1e-12, atol=1e-12)
    # Whoever is better off closed does not pay for the others.
    assert (np.asarray(found) >= -np.asarray(needed) - 1e-12).all()


def test_published_overshoot_of_equity_removed():
    """Source: arXiv 2512.01112v3: 45.0 million dollars at the end of the waves."""
    removed = jnp.asarray(REMOVED)[:, None]
    found = removed_overshoot(removed, jnp.zeros_like(removed), jnp.asarray(NEEDED))
    assert_close(jnp.sum(found), PUBLISHED_OVERSHOOT, rtol=0.0, atol=0.01)
    assert_close(found[0], -1852005.85, rtol=0.0, atol=0.01)


def test_published_overshoot_of_realised_profit():
    """Source: arXiv 2512.01112v3: 653.6 million dollars over 1,125 shocks."""
    deficit, profit = jnp.asarray(WITH_DEFICIT).T
    found = realised_overshoot(profit[:, None], deficit)
    assert deficit.shape == (170,)
    assert_close(jnp.sum(found) + WITHOUT_DEFICIT, PUBLISHED, rtol=0.0, atol=1.0)
    # Deficits in other shocks are not paid by what one realises beyond its own.
    together = realised_overshoot(profit[None, :], jnp.sum(deficit)[None])
    assert float(together[0]) < float(jnp.sum(found)) - 1e7


def test_rules_that_take_the_deficit_overshoot_by_neither_definition():
    """But a queue that closes positions whole realises what is left of the last one."""
    profit, deficit = jnp.asarray([50.0, 30.0, 20.0]), jnp.asarray(60.0)
    for rule, key in (
        (close_ranked, jnp.asarray([3.0, 2.0, 1.0])),
        (close_proportional, profit),
        (close_levelled, jnp.ones(3)),
    ):
        taken = rule(profit, key, deficit)
        found = removed_overshoot(profit[None], (profit - taken)[None], deficit[None])
        assert_close(found, [0.0], rtol=0.0, atol=1e-12)
    whole = jnp.where(close_ranked(profit, jnp.asarray([3.0, 2.0, 1.0]), deficit) > 0, profit, 0.0)
    assert_close(realised_overshoot(whole[None], deficit[None]), [20.0], rtol=0.0, atol=0.0)


@pytest.fixture(scope="module")
def event(shared):
    """The recorded tables of the event, as arrays by column."""
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = shared / "data" / "perps" / "hyperliquid_2025_10_10"
    names = {
        "user": "adl_by_user_REALTIME",
        "coin": "adl_by_coin_REALTIME",
        "volume": "adl_net_volume_full_12min",
    }
    paths = {key: folder / f"{name}.parquet" for key, name in names.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        pytest.skip(f"no record of the event: {', '.join(missing)}")
    read = lambda path: {k: np.array(v) for k, v in parquet.read_table(path).to_pydict().items()}
    return {key: read(path) for key, path in paths.items()}


@pytest.mark.slow
def test_totals_of_the_event(event):
    """Source: ConejoCapital/HyperMultiAssetedADL, README: 34,983 events, 2.10 billion, 834.3 m."""
    users, coins, volume = event["user"], event["coin"], event["volume"]
    assert (len(users["user"]), len(coins["coin"]), len(volume["ticker"])) == (19_337, 162, 162)
    for table, events, notional, profit in (
        (users, "num_adl_events", "adl_notional", "closed_pnl"),
        (coins, "num_events", "adl_notional", "closed_pnl"),
        (volume, "num_adl_events", "net_notional_usd", "total_pnl"),
    ):
        assert table[events].sum() == 34_983
        assert_close(table[notional].sum(), 2_103_111_430.86, rtol=0.0, atol=0.01)
        assert_close(table[profit].sum(), 834_295_749.29, rtol=0.0, atol=0.01)


def winners(users):
    """Return realised profit and rank score of each user: price over entry, times leverage."""
    value = users["account_value_realtime"]
    leverage = np.where(value > 0, users["adl_notional"] / np.where(value > 0, value, 1.0), np.inf)
    score = (1.0 + users["pnl_percent"] / 100.0) * leverage
    return jnp.asarray(np.maximum(users["closed_pnl"], 0.0)), jnp.asarray(score)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deficit", "queued", "levelled", "whole"),
    [(sum(NEEDED), 1683, 3, 16_659_968.33), (LOSER_DEFICIT, 2417, 8, 107_430_650.09)],
)
def test_replay_of_one_deficit_under_three_rules(event, deficit, queued, levelled, whole):
    profit, score = winners(event["user"])
    amount, total = jnp.asarray(deficit), float(jnp.sum(profit))
    taken = {
        "queue": jax.jit(close_ranked)(profit, score, amount),
        "pro rata": jax.jit(close_proportional)(profit, profit, amount),
        "level": jax.jit(close_levelled)(profit, jnp.ones_like(profit), amount),
    }
    touched = {}
    for name, part in taken.items():
        # Each rule takes the deficit and no more, of nobody more than he made.
        assert_close(jnp.sum(part), deficit, rtol=1e-12, atol=0.0)
        assert bool((part <= profit * (1.0 + 1e-12)).all())
        assert bool((part >= 0.0).all())
        left = profit - part
        found = removed_overshoot(profit[None], left[None], amount[None])
        assert_close(found, [0.0], rtol=0.0, atol=1e-6)
        touched[name] = int(jnp.sum(part > 1e-6))
    assert touched == {"queue": queued, "pro rata": 19_230, "level": levelled}
    # Independently: a queue walked in order, the largest profits down to one level, one share.
    made = np.asarray(profit)
    order = np.argsort(-np.asarray(score), kind="stable")
    reached = np.flatnonzero(np.cumsum(made[order]) >= deficit)[0]
    assert_close(made[order][: reached + 1].sum(), whole, rtol=0.0, atol=0.01)
    assert np.count_nonzero(made[order][: reached + 1] > 1e-6) == queued
    largest = np.sort(made)[::-1]
    level = (largest[:levelled].sum() - deficit) / levelled
    assert largest[levelled - 1] > level > largest[levelled]
    assert_close(jnp.max(profit - taken["level"]), level, rtol=1e-9, atol=0.0)
    assert_close(taken["pro rata"], made * deficit / total, rtol=1e-9, atol=1e-9)
    # What is realised: positions of the queue whole, and all that were closed on the day.
    positions = jnp.where(taken["queue"] > 0, profit, jnp.zeros_like(profit))
    for closed, expected in ((positions, whole), (profit, total)):
        found = realised_overshoot(closed[None], amount[None])
        assert_close(found, [expected - deficit], rtol=0.0, atol=0.01)
    assert_close(total, 834_554_147.76, rtol=0.0, atol=0.01)


@pytest.mark.slow
def test_what_the_recorded_tables_say_of_realised_profit(event):
    """They bound it from above: by account, or by coin, nothing says in which order it came."""
    deficit = sum(lacking for lacking, _ in WITH_DEFICIT)
    counted = sum(made for _, made in WITH_DEFICIT) + WITHOUT_DEFICIT
    for table in (event["user"], event["coin"]):
        profit = jnp.asarray(table["closed_pnl"])
        most = realised_overshoot(profit[None], jnp.zeros(1))
        # Positions closed before count for less each time they are closed again: a fifth of it all.
        assert 0.78 < counted / float(most[0]) < 0.80
        found = realised_overshoot(profit[None], jnp.asarray([deficit]))
        assert 1.2 < float(found[0]) / PUBLISHED < 1.3
