"""Bootstrap and replay of recorded returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrisk.market.history import (
    Bootstrap,
    Replay,
    log_returns,
    realised_volatility,
)
from jaxrisk.numerics.keys import root_key, scenario_key, step_key
from tests.helpers import assert_close

ROWS = 40
# Row t is (t, −t / 2): a drawn row tells its time index, and a mixed one would show.
TABLE = np.stack([np.arange(ROWS), -0.5 * np.arange(ROWS)], axis=1)


def log_return_paths(model, scenarios, steps):
    """Return log returns (scenario, step, asset), stepped as the engine does."""

    def one(scenario):
        key = scenario_key(root_key(1), scenario)
        numbers = jnp.arange(steps, dtype=jnp.int32)
        noise = jax.vmap(lambda step: model.noise(step_key(key, step), scenario, step))(numbers)
        _, moves = lax.scan(lambda s, n: model.advance(s, n, 1 / 8766), model.init(), noise)
        return moves.log_return

    return jax.jit(jax.vmap(one))(jnp.arange(scenarios, dtype=jnp.int32))


@pytest.fixture(scope="module")
def blocks():
    """Time indices of one long bootstrap path with mean block 5."""
    model = Bootstrap.from_history(TABLE, mean_block_steps=5.0)
    return np.asarray(log_return_paths(model, 1, 40_000))[0]


def test_bootstrap_keeps_the_cross_section(blocks):
    index = blocks[:, 0].astype(int)
    np.testing.assert_array_equal(blocks, TABLE[index])


def test_bootstrap_visits_all_times_equally(blocks):
    shares = np.bincount(blocks[:, 0].astype(int), minlength=ROWS) / len(blocks)
    # Visits come in blocks: the error of a share is at most √(2 · mean block) times the binomial.
    error = np.sqrt(10.0 * (1 / ROWS) * (1 - 1 / ROWS) / len(blocks))
    assert_close(shares, np.full(ROWS, 1 / ROWS), rtol=0.0, atol=4 * error)


def test_bootstrap_blocks_are_geometric_and_wrap(blocks):
    index = blocks[:, 0].astype(int)
    continues = index[1:] == (index[:-1] + 1) % ROWS
    assert continues[index[:-1] == ROWS - 1].any()
    # A new block looks like a continuation when it starts, by chance, at the next row.
    chance = 1 - (1 / 5) * (1 - 1 / ROWS)
    error = np.sqrt(chance * (1 - chance) / continues.size)
    assert_close(continues.mean(), chance, rtol=0.0, atol=4 * error)
    lengths = np.diff(np.flatnonzero(~continues))
    for length in (1, 2, 5, 10):
        share = (1 - chance) * chance ** (length - 1)
        error = np.sqrt(share * (1 - share) / lengths.size)
        assert_close(np.mean(lengths == length), share, rtol=0.0, atol=4 * error)


def test_bootstrap_with_blocks_of_one_is_independent():
    model = Bootstrap.from_history(TABLE, mean_block_steps=1.0)
    index = np.asarray(log_return_paths(model, 1, 20_000))[0, :, 0]
    continues = index[1:] == (index[:-1] + 1) % ROWS
    error = np.sqrt((1 / ROWS) * (1 - 1 / ROWS) / continues.size)
    assert_close(continues.mean(), 1 / ROWS, rtol=0.0, atol=4 * error)


def test_bootstrap_draws_the_same_times_in_both_precisions_and_any_batch():
    paths = [
        log_return_paths(
            Bootstrap.from_history(TABLE, mean_block_steps=3.0, dtype=dtype), count, 20
        )
        for dtype, count in ((jnp.float64, 16), (jnp.float32, 16), (jnp.float64, 1))
    ]
    assert [path.dtype for path in paths] == [jnp.float64, jnp.float32, jnp.float64]
    np.testing.assert_array_equal(np.asarray(paths[1], dtype=np.float64), paths[0])
    np.testing.assert_array_equal(paths[2][0], paths[0][0])
    assert not np.array_equal(paths[0][0], paths[0][1])


def test_bootstrap_derivative_in_the_table_counts_visits():
    model = Bootstrap.from_history(TABLE, mean_block_steps=4.0)
    path = np.asarray(log_return_paths(model, 3, 25))
    visits = np.bincount(path[..., 0].astype(int).ravel(), minlength=ROWS)

    def total(table):
        moved = Bootstrap(log_return=table, mean_block_steps=model.mean_block_steps)
        return jnp.sum(log_return_paths(moved, 3, 25)[..., 0])

    slope = jax.grad(total)(model.log_return)
    assert_close(slope, np.stack([visits, np.zeros(ROWS)], axis=1), rtol=0.0, atol=0.0)


def test_replay_is_the_record_in_every_scenario():
    model = Replay.from_history(TABLE, start=7, steps=20)
    paths = log_return_paths(model, 3, 20)
    np.testing.assert_array_equal(paths, np.broadcast_to(TABLE[7:27], (3, 20, 2)))


def test_replay_past_the_record_is_nan_not_a_repeated_row():
    model = Replay.from_history(TABLE, start=35, steps=5)
    path = np.asarray(log_return_paths(model, 1, 7))[0]
    np.testing.assert_array_equal(path[:5], TABLE[35:])
    assert np.isnan(path[5:]).all()


def test_tables_that_cannot_be_used_are_refused():
    holed = TABLE.copy()
    holed[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3, asset 1"):
        Bootstrap.from_history(holed, mean_block_steps=5.0)
    with pytest.raises(ValueError, match="expected \\(time, asset\\)"):
        Bootstrap.from_history(TABLE[:, 0], mean_block_steps=5.0)
    with pytest.raises(ValueError, match="at least 1"):
        Bootstrap.from_history(TABLE, mean_block_steps=0.5)
    with pytest.raises(ValueError, match="do not fit in 40 rows"):
        Replay.from_history(TABLE, start=21, steps=20)


def test_log_returns_undo_compounding():
    prices = np.array([[1.0, 50.0], [2.0, 40.0], [1.0, 60.0]])
    returns = log_returns(prices)
    assert_close(returns[:, 0], np.log([2.0, 0.5]), rtol=1e-14, atol=0.0)
    assert_close(prices[0] * np.exp(returns.sum(axis=0)), prices[-1], rtol=1e-14, atol=0.0)


def test_realised_volatility_is_that_of_a_sample():
    count, step_years = 50_000, 1 / 8766
    volatility = np.array([0.4, 0.9])
    normals = np.random.default_rng(1).standard_normal((count, 2))
    returns = volatility * np.sqrt(step_years) * normals
    error = 1 / np.sqrt(2 * count)
    assert_close(realised_volatility(returns, step_years), volatility, rtol=4 * error, atol=0.0)


def test_an_asset_that_never_moves_has_no_volatility():
    returns = np.array([[0.1, 0.0], [-0.2, 0.0]])
    assert realised_volatility(returns, 1.0)[1] == 0.0
