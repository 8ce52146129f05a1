"""Options on margin in the step: against a scalar reference, expiry, and how volatilities move."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.contract import Quotes, european_option, mark_price, perpetual, table
from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.margin_book import marks_at, opened, slot_of
from jaxrisk.venue.margin_accounts import VolatilityMoves
from jaxrisk.venue.option_requirement import FormulaMargin
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.size_margin import LinearSizeMargin
from jaxrisk.venue.venue import Pool
from tests import margin_systems, systems
from tests import reference_margin_step as reference
from tests.helpers import assert_close
from tests.margin_systems import EXPIRIES, MOVES, SHORT, STRIKES, USDC, VOLATILITY_MOVES
from tests.systems import STEP_YEARS
from tests.test_margin_play import check_against_reference
from tests.test_step import check_conservation, mid

KINDS = ("linear", "call", "call", "put")


def grid_of_losses(rules, held, ahead, quotes, world):
    """Margin of one account by every scenario, option by option."""
    worst = 0.0
    for move in MOVES:
        for level in VOLATILITY_MOVES:
            gain = 0.0
            for k, c in enumerate(rules.contracts):
                if held[k] == 0:
                    continue
                years = max(c.expiry - world.time, 1.0 / 365.0)
                power = 0.3 if years <= 30.0 / 365.0 else 0.13
                tenor = (30.0 / 365.0 / years) ** power
                change = {1.0: 0.5 * tenor, 0.0: 0.0, -1.0: -0.3 * tenor}[level]
                implied = world.implied[k] * max(1.0 + change, 0.0)
                quote = reference_quote(c, ahead[k] * (1.0 + move), implied, world.time)
                gain += held[k] * (c.worth(quote) - c.worth(quotes[k]))
            worst = max(worst, -gain * (0.5 if abs(move) > 0.3 else 1.0))
    shorts = sum(
        max(-q, 0.0) * SHORT * c.multiplier * f
        for q, c, f in zip(held, rules.contracts, ahead, strict=True)
        if c.kind != "linear"
    )
    return worst + shorts


def reference_quote(contract, forward, implied, time):
    """Price as quoted; without volatility an option is worth what it would pay."""
    if implied <= 0 and contract.kind != "linear":
        sign = 1.0 if contract.kind == "call" else -1.0
        return max(sign * (forward - contract.strike), 0.0)
    return contract.quote(forward, implied, time)


def reference_of(system):
    slot, venue = slot_of(system.venues[0]), system.venues[0]
    positions = venue.accounts.positions
    assert positions is not None
    assert slot.moves is not None
    size = np.asarray(positions.size)
    opening = np.asarray(slot.opening_volatility)
    skew, forward = np.asarray(slot.moves.skew), np.asarray(slot.opening_forward)
    variance = {"now": 0.7**2}

    def volatility(ahead, world):
        del world
        out = []
        for k in range(4):
            r = math.log(ahead[k] / forward[k])
            level = math.exp(-0.8 * r) * (variance["now"] / 0.49) ** 0.25
            out.append(max((opening[k] - 0.5 * skew[k] * r) * level, 0.05))
        return out

    rules = reference.Rules(
        contracts=[
            reference.Contract(kind, 1.0, 0, strike, expiry * STEP_YEARS)
            for kind, strike, expiry in zip(KINDS, (1.0, *STRIKES), (0.0, *EXPIRIES), strict=True)
        ],
        settlement=USDC, trigger=1.0, target=1.2, largest=1.0, fee=0.001,
        behind=slot.behind.value, funding=None, margin=grid_of_losses,
        depth=np.asarray(system.liquidity.depth.depth),
        coefficient=margin_systems.COEFFICIENT, permanent=margin_systems.PERMANENT,
        keep=0.5 ** (1.0 / 6.0), years=STEP_YEARS, volatility=volatility,
    )  # fmt: skip
    world = reference.World(
        price=np.asarray(system.market.price).copy(),
        displacement=np.zeros(3),
        size=size.copy(),
        opening=size,
        entry=np.asarray(positions.entry),
        collateral=np.asarray(venue.accounts.collateral)[0],
        cash=np.zeros(size.shape[1]),
        implied=opening,
        funds=np.asarray(venue.funds).tolist(),
        posted=np.zeros((0, size.shape[1])),
    )
    return rules, world, variance


on_option_systems = given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(-0.15, 0.15),
    log_depth=st.floats(7.0, 10.0),
    leverage=st.floats(0.5, 8.0),
)


def system_of(seed, fall, log_depth, leverage):
    venue = margin_systems.option_venue(seed, leverage=leverage)
    return margin_systems.random_system(seed, fall=fall, depth=10**log_depth, venues=(venue,))


@pytest.mark.slow
@on_option_systems
def test_steps_with_options_are_those_of_the_reference(**numbers):
    system = system_of(**numbers)
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    rules, world, variance = reference_of(system)
    assert isinstance(system.paths, GivenMoves)
    returns = np.asarray(system.paths.log_return)[0][:, 0]
    own_move = reference.move
    steps = iter(returns)

    def moved(rules, world, moves):
        r, memory = next(steps), 0.5 ** (1.0 / 24.0)
        squared = r**2 / STEP_YEARS
        variance["now"] = squared + memory * (variance["now"] - squared)
        own_move(rules, world, moves)

    check_against_reference(system, rules, world, stages, move=moved)


@pytest.mark.slow
@on_option_systems
def test_what_the_sheet_owes_is_what_accounts_have_with_options_too(**numbers):
    system = system_of(**numbers)
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    venue = system.venues[0]
    held = opened(venue, [venue.accounts])
    scale = 1e-12 * np.abs(np.asarray(held.size)).sum() * 3000.0
    for verb, state in stages:
        own = state.venues[0]
        if verb.startswith(("round", "accrue")):
            value = marks_at(venue, own.execution, jnp.asarray(mid(state))).value
            profit = float(held.profit(own.execution, value).sum())
            assert_close(own.pool[Pool.UNREALISED, 0], profit, rtol=1e-9, atol=scale)
        claims = float(held.collateral.sum() + own.execution.cash.sum())
        assert_close(own.pool[Pool.SUPPLIED, 0], claims, rtol=1e-9, atol=scale)


def test_expired_options_pay_what_they_are_worth_and_are_gone():
    system = system_of(5, 0.02, 10.0, 0.3)
    stages = systems.played_verb_by_verb(system)
    venue = system.venues[0]
    positions = venue.accounts.positions
    assert positions is not None
    size, entry = np.asarray(positions.size), np.asarray(positions.entry)
    accrued = [state for verb, state in stages if verb == "accrue"]
    first, second = accrued[0].venues[0].execution, accrued[1].venues[0].execution
    before = dict(stages[:7])["absorb"].venues[0].execution
    assert (first.fraction[1:] == 1.0)[:, np.abs(size[1:]).sum(axis=0) > 0].any()
    # Two steps have passed: the contracts of 2 and of 1.5 steps are settled.
    assert (second.fraction[[1, 2]] == 0).all()
    assert (second.fraction[3] == before.fraction[3]).all()
    forward = mid(accrued[1])[0] / mid(accrued[1])[USDC]
    payoff = np.maximum(forward - np.array(STRIKES[:2]), 0.0)
    due = size[[1, 2]] * before.fraction[[1, 2]] * (payoff[:, None] - entry[[1, 2]])
    assert_close(second.cash - before.cash, due.sum(axis=0), rtol=1e-9, atol=1e-6)


@given(r=st.floats(-0.5, 0.5), ratio=st.floats(0.2, 5.0), stickiness=st.floats(0.0, 1.0))
def test_volatilities_follow_returns_variance_and_the_smile(r, ratio, stickiness):
    one = lambda x: jnp.array([x])
    rule = VolatilityMoves(
        beta=one(-0.7), power=one(1.0), skew=one(-0.2), stickiness=jnp.array(stickiness),
        calm=one(0.25), floor=jnp.array(0.05),
    )  # fmt: skip
    ours = rule.now(one(0.6), one(r), one(0.25 * ratio))
    smile = lambda log_strike: 0.6 - 0.2 * log_strike
    # Sticky to the forward, a fixed strike moves up the smile's axis as the forward falls.
    at_strike = stickiness * smile(-r) + (1.0 - stickiness) * smile(0.0)
    expected = max(at_strike * math.exp(-0.7 * r) * math.sqrt(ratio), 0.05)
    assert_close(ours, [expected], rtol=1e-12, atol=0.0)


@pytest.mark.slow
@given(
    size=st.lists(st.floats(-50.0, 50.0), min_size=3, max_size=3), spot=st.floats(1500.0, 4500.0)
)
def test_margin_by_formula_is_that_of_each_short_option_without_its_price(size, spot):
    short = ShortOptionMargin(
        highest=jnp.array(0.15), lowest=jnp.array(0.1), call=jnp.array(0.075),
        put=jnp.array(0.075), put_of_mark=jnp.array(0.075), put_cover=jnp.array(1.0),
    )  # fmt: skip
    rates = jnp.array([[0.05] * 3, [0.03] * 3])[:, :, None]
    rule = FormulaMargin(
        short=short, futures=LinearSizeMargin(base=rates, slope=jnp.zeros_like(rates))
    )
    contracts = table(
        [
            perpetual(2.0),
            european_option(3000.0, 0.1, call=True),
            european_option(2500.0, 0.1, call=False, multiplier=0.5),
        ]
    )
    quotes = Quotes(
        forward=jnp.full(3, spot), volatility=jnp.full(3, 0.8), settlement=jnp.ones(3),
        time=jnp.array(0.0),
    )  # fmt: skip
    ours = jax.jit(rule.required)(jnp.asarray(size)[:, None], contracts, quotes)
    mark = np.asarray(mark_price(contracts, quotes))
    call = np.array([max(0.15 - max(3000.0 - spot, 0.0) / spot, 0.1) * spot, 0.075 * spot])
    least = max(0.075 * spot, 0.075 * mark[2])
    put = np.array([max(0.15 - max(spot - 2500.0, 0.0) / spot, 0.1) * spot, least])
    put[0] = max(put[0], put[1])
    expected = abs(size[0]) * 2.0 * spot * np.array([0.05, 0.03])
    expected = expected + max(-size[1], 0.0) * call + 0.5 * max(-size[2], 0.0) * put
    assert_close(ours[:, 0], expected, rtol=1e-9, atol=1e-6)


def test_a_hedged_portfolio_needs_less_by_the_grid():
    rule = margin_systems.grid_margin(jnp.asarray)
    slot = slot_of(margin_systems.option_venue(1))
    quotes = Quotes(
        forward=slot.opening_forward, volatility=slot.opening_volatility,
        settlement=jnp.ones(4), time=jnp.array(0.0),
    )  # fmt: skip
    size = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    alone, long_put, hedged = np.asarray(jax.jit(rule.required)(size, slot.contracts, quotes)[1])
    assert hedged < alone
    assert alone == pytest.approx(0.2 * 3000.0 / 0.999)
    assert long_put > 0
