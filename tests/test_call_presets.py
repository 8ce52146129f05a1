"""One round of each preset, in a market without impact, against the exact rule of a single call."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.system.book import Layout
from jaxrisk.system.cascade import cascade_round
from jaxrisk.system.simulate import Plan, cut_books, layouts
from jaxrisk.system.system import Flow, StepRules, System, VenueState, opening_state
from jaxrisk.venue.call import exact_call, repay_call
from jaxrisk.venue.early_close import EarlyThenFullBonus, early_call
from jaxrisk.venue.health_bonus import AssetHealthBonus, HealthLinearBonus
from jaxrisk.venue.health_discount import HealthDiscount, ShortfallDiscount
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.level_close import LevelBonus
from jaxrisk.venue.offered_call import OfferedClose
from jaxrisk.venue.position import Position
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.stranding_call import stranding_call
from jaxrisk.venue.target_close import TargetClose
from jaxrisk.venue.target_health import TargetPosition, target_call
from jaxrisk.venue.venue import Pool, Venue
from jaxrisk.venue.water_level import LevelBook, WaterLevel
from jaxrisk.venue.whole_account import WholeAccount, WholeClose
from tests import call_venues, systems
from tests.helpers import assert_close

ACCOUNTS = 5
CLOSE = {"rtol": 1e-12, "atol": 1e-6}


@jax.jit
def _round(system: System, layout: tuple[Layout, ...]) -> tuple[VenueState, ...]:
    books = cut_books(system, layout)
    state = opening_state(system, books)
    rules = StepRules(step_years=jnp.asarray(0.0))
    return cascade_round(system, books, rules, state)[0].venues


class Moves(NamedTuple):
    """What a round moved, in dollars: by account, and in all."""

    repaid: np.ndarray
    seized: np.ndarray
    bad_debt: float
    fee: float
    refund: float


def moves(venue: Venue, policy: str = "pro_rata") -> tuple[Moves, np.ndarray]:
    """Return what one round moves, and `(collateral_asset, account)` fractions seized."""
    system = call_venues.without_impact((venue,), policy)
    (state,) = _round(system, layouts(system, Plan(steps=1, health_groups=1)))
    accounts, flows = venue.accounts, np.asarray(state.flows)
    price = np.array([systems.PRICE[systems.ASSETS[i]] for i in accounts.collateral_assets])
    held = np.asarray(accounts.collateral) * price[:, None]
    owed = np.asarray(accounts.debt)[0]
    taken = 1.0 - np.asarray(state.collateral[0])
    closed = owed * (1.0 - np.asarray(state.debt[0])[0])
    assert_close(flows[Flow.REPAID] + flows[Flow.BAD_DEBT], closed.sum(), rtol=1e-9, atol=1e-6)
    assert_close(state.pool[Pool.UNSETTLED].sum(), flows[Flow.BAD_DEBT], rtol=1e-9, atol=1e-6)
    return (
        Moves(
            repaid=closed,
            seized=(held * taken).sum(axis=0),
            bad_debt=flows[Flow.BAD_DEBT],
            fee=flows[Flow.FEE],
            refund=flows[Flow.REFUND],
        ),
        np.broadcast_to(taken, held.shape),
    )


def pair(venue: Venue, held: np.ndarray, owed: np.ndarray, credit: Any, chosen: Any = None):
    """Return the position of one called collateral, or of the only one."""
    threshold = np.asarray(venue.collateral.liquidation_threshold)[0]
    called = held[0] if chosen is None else held[chosen, np.arange(len(owed))]
    weight = threshold[0] if chosen is None else threshold[chosen]
    array = jnp.asarray
    position = Position(
        collateral=array(called),
        debt=array(owed),
        total_collateral=array(held.sum(axis=0)),
        total_debt=array(owed),
        backing=array((held * threshold[:, None]).sum(axis=0)),
        credit=array(np.broadcast_to(credit, called.shape)),
        fee_share=array(np.full(called.shape, fee_share(venue))),
    )
    return position, jnp.broadcast_to(array(weight), called.shape)


def fee_share(venue: Venue) -> float:
    return float(np.asarray(getattr(venue.incentive, "fee_share", 0.0)).flat[0])


def credit_of(venue: Venue, held: np.ndarray, owed: np.ndarray, chosen: Any) -> np.ndarray:
    """Return 1 + the bonus of the called collateral, from the rules that state it."""
    incentive = venue.incentive
    index = np.zeros(len(owed), int) if chosen is None else chosen
    if isinstance(incentive, AssetHealthBonus):
        weights = np.asarray(venue.collateral.liquidation_threshold)[0]
        rule = HealthLinearBonus(
            maximum_bonus=incentive.maximum_bonus[0][index],
            minimum_share=incentive.minimum_share,
            health_for_maximum=incentive.health_for_maximum,
        )
        return 1.0 + np.asarray(rule.bonus(jnp.asarray((held * weights[:, None]).sum(0) / owed)))
    bonus = np.asarray(getattr(incentive, "bonus", 0.0))
    return 1.0 + (bonus[0][index] if bonus.ndim == 2 else np.full(len(owed), bonus))


def exact(kind: str, venue: Venue, held: np.ndarray, owed: np.ndarray, chosen: Any = None):
    """Return repaid and written off together, seized, bad debt, fee and refund of exact calls."""
    position, weight = pair(venue, held, owed, credit_of(venue, held, owed, chosen), chosen)
    everything = jnp.full(len(owed), jnp.inf)
    close: Any = venue.close
    if kind == "aave_v3_legacy":
        return stranding_call(close, position, jnp.ones(len(owed), bool), everything)
    if kind == "aave_v4":
        target = TargetPosition(
            pair=position, collateral_weight=weight, premium=jnp.zeros(len(owed))
        )
        return target_call(close, target, everything)
    if kind == "compound_v2":
        assert isinstance(close, OfferedClose)
        offer = jnp.minimum(close.close_factor * owed, position.collateral / position.credit)
        call = close.call(position, offer * (1.0 - 1e-15))
        assert set(np.asarray(call.refusal)) <= {Refusal.NONE, Refusal.HEALTHY}
        return call
    if kind == "euler_v2":
        assert isinstance(venue.incentive, ShortfallDiscount)
        assert isinstance(venue.recognition, AtZeroCollateral)
        minimum = venue.recognition.minimum
        assert minimum is not None
        rule = HealthDiscount(
            maximum_discount=venue.incentive.maximum_discount,
            socialises=jnp.array(True),
            minimum_socialised=minimum,
        )
        # At health 1 a call is allowed, at no discount: nobody makes it.
        pays = position.backing < position.debt
        return jax.tree.map(
            lambda x: jnp.where(pays, x, jnp.zeros_like(x)), rule.call(position, everything)
        )
    if kind == "silo_v2":
        assert isinstance(close, TargetClose)
        part = position.collateral / position.credit
        offer = jnp.where(position.debt < position.collateral, position.debt, part)
        call = close.call(position, offer)
        assert set(np.asarray(call.refusal)) <= {Refusal.NONE, Refusal.HEALTHY}
        return call
    assert kind == "gearbox_v3"
    assert isinstance(close, WholeClose)
    zero = jnp.zeros(len(owed))
    account = WholeAccount(
        value=position.total_collateral,
        backing=position.backing,
        principal=position.debt,
        interest=zero,
        fees=zero,
    )
    call = close.call(account)
    done = call.refusal == 0
    return jax.tree.map(lambda x: jnp.where(done, x, jnp.zeros_like(x)), call)


def compare(actual: Moves, call: Any) -> None:
    assert_close(actual.seized, call.seized, **CLOSE)
    assert_close(actual.repaid, call.repaid + call.bad_debt, **CLOSE)
    assert_close(actual.bad_debt, call.bad_debt.sum(), **CLOSE)
    assert_close(actual.fee, call.fee.sum(), **CLOSE)
    assert_close(actual.refund, call.refund.sum(), **CLOSE)


# Never exactly on a threshold, where the last digit decides whether an account may be called.
RATIO = st.floats(0.7, 1.4).map(lambda ratio: ratio + 1.7e-6)
RATIOS = st.lists(RATIO, min_size=ACCOUNTS, max_size=ACCOUNTS)
SIZES = st.lists(st.floats(1.5e3, 1e6), min_size=ACCOUNTS, max_size=ACCOUNTS)
KINDS = ["aave_v3_legacy", "aave_v4", "compound_v2", "euler_v2", "silo_v2", "gearbox_v3"]


@pytest.mark.parametrize("kind", KINDS)
@given(ratio=RATIOS, size=SIZES)
def test_a_round_is_the_exact_call_on_every_account(kind, ratio, size):
    held, owed = np.array(size)[None], np.array(size) * np.array(ratio)
    venue = call_venues.built(kind, held, owed, ("wstETH",))
    compare(moves(venue)[0], exact(kind, venue, held, owed))


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("silo_v2", "gearbox_v3")])
@given(ratio=RATIOS, size=SIZES, mix=st.floats(0.1, 0.9))
def test_a_round_of_chosen_pairs_is_the_exact_call_on_that_pair(kind, ratio, size, mix):
    held = np.array(size) * np.array([[mix], [1.0 - mix]])
    owed = np.array(size) * np.array(ratio)
    venue = call_venues.built(kind, held, owed, call_venues.SEVERAL)
    actual, taken = moves(venue, "best_pair")
    compare(actual, exact(kind, venue, held, owed, np.argmax(taken, axis=0)))


@given(ratio=RATIOS, size=SIZES, mix=st.floats(0.1, 0.9))
def test_whole_accounts_are_taken_whole_whatever_pairs_keepers_choose(ratio, size, mix):
    held = np.array(size) * np.array([[mix], [1.0 - mix]])
    owed = np.array(size) * np.array(ratio)
    venue = call_venues.built("gearbox_v3", held, owed, call_venues.SEVERAL)
    for policy in systems.POLICIES:
        compare(moves(venue, policy)[0], exact("gearbox_v3", venue, held, owed))


@given(ratio=RATIOS, size=SIZES)
def test_a_vault_is_drawn_down_to_its_level(ratio, size):
    held, owed = np.array(size), np.array(size) * np.array(ratio)
    venue = call_venues.built("fluid", held[None], owed, ("wstETH",))
    assert isinstance(venue.incentive, LevelBonus)
    rule = WaterLevel(
        liquidation_threshold=venue.collateral.liquidation_threshold[0, 0],
        absorption_threshold=venue.incentive.absorption_threshold,
        penalty=venue.incentive.penalty,
        ticks=None,
        minimum_amount=jnp.array(0.0),
        minimum_share=jnp.array(0.0),
    )
    zero, price = jnp.array(0.0), jnp.array(systems.PRICE["wstETH"])
    book = LevelBook(
        debt=jnp.asarray(owed),
        collateral=jnp.asarray(held) / price,
        absorbed_debt=zero,
        absorbed_collateral=zero,
    )
    above = owed > float(rule.absorption_threshold) * held
    worth = held[above].sum() > owed[above].sum()
    most = jnp.asarray(10.0 * owed.sum())
    call = rule.call(book, price, most, jnp.array(worth))
    repaid = np.where(call.absorbed, np.where(worth, owed, 0.0), call.account_repaid)
    seized = np.where(call.absorbed, np.where(worth, held, 0.0), call.account_seized * price)
    actual, _ = moves(venue)
    assert_close(actual.repaid, repaid, **CLOSE)
    assert_close(actual.seized, seized, **CLOSE)
    assert_close([actual.bad_debt, actual.fee, actual.refund], np.zeros(3), **CLOSE)
    if call.refusal == 0:
        assert_close(actual.repaid.sum(), call.repaid, **CLOSE)
        assert_close(actual.seized.sum(), call.seized * price, **CLOSE)


def test_a_vault_is_one_however_large_books_are_cut():
    """What is taken over is sold together or not at all: here together it is under water."""
    held, owed = np.full(6, 1e5), 1e5 * np.array([0.89, 0.9, 0.93, 0.94, 1.1, 1.3])
    venue = call_venues.built("fluid", held[None], owed, ("wstETH",))
    system = call_venues.without_impact((venue,))
    cuts = [layouts(system, Plan(steps=1, health_groups=groups)) for groups in (1, 3)]
    one, several = (np.asarray(_round(system, cut)[0].flows) for cut in cuts)
    assert one[Flow.LIQUIDATED] > 0
    assert_close(several, one, **CLOSE)


@given(ratio=RATIOS, size=SIZES)
def test_accounts_are_closed_early_within_the_band_and_whole_above_it(ratio, size):
    held, owed = np.array(size), np.array(size) * np.array(ratio)
    venue = call_venues.built("morpho_pre_liquidation", held[None], owed, ("wstETH",))
    incentive = venue.incentive
    assert isinstance(incentive, EarlyThenFullBonus)
    band, none = incentive.band, jnp.zeros(ACCOUNTS)
    collateral, debt = jnp.asarray(held), jnp.asarray(owed)
    progress = band.progress(collateral, debt)
    offer = band.close_factor(progress) * debt
    early = early_call(band, collateral, debt, offer, none)
    in_band = np.asarray(early.refusal == Refusal.NONE)
    above = owed > float(band.upper) * held
    assert set(np.asarray(early.refusal)[~in_band & ~above]) <= {Refusal.HEALTHY}
    position = Position(
        collateral=collateral,
        debt=debt,
        total_collateral=collateral,
        total_debt=debt,
        backing=band.upper * collateral,
        credit=jnp.full(ACCOUNTS, 1.0 + incentive.bonus),
    )
    short = position.affordable < debt
    full, _ = exact_call(position, jnp.where(short, none, debt), jnp.where(short, collateral, none))
    left = AtZeroCollateral().write_off(full.seized >= collateral, debt - full.repaid)
    actual, _ = moves(venue)
    seized = np.where(in_band, early.seized, np.where(above, full.seized, 0.0))
    closed = np.where(in_band, early.repaid, np.where(above, full.repaid + left, 0.0))
    assert_close(actual.seized, seized, **CLOSE)
    assert_close(actual.repaid, closed, **CLOSE)
    assert_close(actual.bad_debt, np.where(above, left, 0.0).sum(), **CLOSE)


def test_calls_on_all_collateral_in_proportion_restore_the_target():
    held = np.array([[4e4, 5e4, 9e4], [6e4, 5e4, 1e4]])
    weights = np.array([0.83, 0.80])
    owed = (held * weights[:, None]).sum(axis=0) / np.array([0.99, 0.97, 0.95])
    venue = call_venues.built("aave_v4", held, owed, call_venues.SEVERAL, target_health=1.05)
    actual, taken = moves(venue)
    left = (held * (1.0 - taken) * weights[:, None]).sum(axis=0) / (owed - actual.repaid)
    assert_close(left, np.full(3, 1.05), rtol=1e-12, atol=0.0)


def test_the_uniform_bonus_stays_a_number():
    """The path of one bonus for all must not grow an account axis."""
    venue = call_venues.built("morpho_blue", np.full((1, 3), 1e4), np.full(3, 9e3), ("wstETH",))
    assert isinstance(venue.incentive, UniformBonus)
    three = jnp.ones(3)
    assert venue.incentive.credit(0, three, three, three).shape == (1, 1)


@pytest.mark.slow
def test_the_comparison_is_not_of_nothing():
    held, owed = np.array([[1e5, 1e5, 1e5]]), np.array([8e4, 9.2e4, 1.2e5])
    for kind in KINDS:
        venue = call_venues.built(kind, held, owed, ("wstETH",))
        actual, _ = moves(venue)
        assert (actual.seized > 0).sum() >= 2, kind
        wrong = exact(kind, venue, held, owed * 1.001)
        with pytest.raises(AssertionError, match="values are off"):
            compare(actual, wrong)


def test_repay_call_and_the_round_agree_on_what_the_collateral_pays_for():
    held, owed = np.array([[1e4, 1e4]]), np.array([9.7e3, 9.9e3])
    venue = call_venues.built("aave_v3", held, owed, ("wstETH",))
    position, _ = pair(venue, held, owed, credit_of(venue, held, owed, None))
    close: Any = venue.close
    call = repay_call(close, position, jnp.full(2, jnp.inf))
    actual, _ = moves(venue)
    assert_close(actual.seized, call.seized, **CLOSE)
